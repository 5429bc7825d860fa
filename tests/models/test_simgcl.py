"""SimGCL against its paper's equations in plain torch."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff import SimGCL
from graphdiff.graph.negatives import sample_negatives
from tests.conftest import random_data
from tests.models.test_lightgcn import dense_adjacency


def dense_embeddings(model, generator=None):
    adjacency, x = dense_adjacency(model), model.embedding.weight
    layers = []
    for _ in range(model.config.num_layers):
        x = adjacency @ x
        if generator is not None:
            r = torch.rand(x.shape, generator=generator)
            x = x + model.config.noise * r / r.norm(dim=1, keepdim=True) * torch.sign(x)
        layers.append(x)
    return torch.stack(layers).mean(dim=0)


def dense_contrast(view, other, temperature):
    cosine = F.cosine_similarity(view[:, None], other[None], dim=-1) / temperature
    return -(cosine.diag().exp() / cosine.exp().sum(dim=1)).log().mean()


def test_scores_exclude_layer_zero_and_noise(plain_data):
    model = SimGCL.from_data(plain_data, hidden_channels=4, num_layers=3)
    out = dense_embeddings(model)
    torch.testing.assert_close(model(torch.arange(12)), out[:12] @ out[12:].t())


@pytest.mark.parametrize("contrast", [0.0, 0.7])
def test_loss_follows_the_paper(contrast):
    model = SimGCL.from_data(
        random_data(density=0.6),
        hidden_channels=4,
        num_layers=2,
        contrast=contrast,
        noise=0.3,
        temperature=0.4,
        regularization=0.1,
    )
    batch = torch.tensor([0, 1, 2, 5, 9, 20])
    loss = model.loss(batch, torch.Generator().manual_seed(3))

    generator = torch.Generator().manual_seed(3)
    user, positive = model.graph.user[batch], model.graph.col[batch]
    assert user.unique().numel() < user.numel(), "the batch is to hold a user twice"
    negative = sample_negatives(model.graph, user, generator)
    users, items = dense_embeddings(model).split([12, 9])
    difference = (users[user] * (items[positive] - items[negative])).sum(dim=1)
    expected = F.softplus(-difference).mean()
    nodes = torch.cat([user, positive + 12, negative + 12])
    expected += 0.1 / 2 * model.embedding.weight[nodes].square().sum() / len(batch)
    view, other = dense_embeddings(model, generator), dense_embeddings(model, generator)
    for index in (sorted(set(user.tolist())), sorted({i + 12 for i in positive.tolist()})):
        expected += contrast * dense_contrast(view[index], other[index], 0.4)
    torch.testing.assert_close(loss, expected)


def test_noise_has_the_set_length_and_keeps_the_orthant(plain_data):
    model = SimGCL.from_data(plain_data, hidden_channels=4, num_layers=1, noise=0.3)
    clean = model._first_hop()
    noise = model._encode(clean, torch.Generator().manual_seed(0)) - clean
    reached = clean.abs().sum(dim=1) > 0
    assert not reached.all(), "the last item has no interaction"
    torch.testing.assert_close(noise.norm(dim=1)[reached], torch.full_like(noise[reached, 0], 0.3))
    assert (noise * clean >= 0).all()
    assert (noise[~reached] == 0).all()
