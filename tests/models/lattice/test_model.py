"""LATTICE against its paper's equations in plain torch."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff import LATTICE
from graphdiff.errors import ConfigError
from graphdiff.graph.negatives import sample_negatives
from tests.models.lattice.test_learned_graph import dense_graph
from tests.models.test_lightgcn import dense_adjacency


def make(data, **settings):
    torch.manual_seed(0)
    settings = {"hidden_channels": 4, "content_channels": 3, "num_neighbors": 3, **settings}
    model = LATTICE.from_data(data, skip=0.7, **settings)
    with torch.no_grad():
        model.modality_logits.copy_(torch.tensor([0.5, -1.0]))
    return model


def dense_item_graph(model, data):
    share = model.modality_logits.exp() / model.modality_logits.exp().sum()
    total, k = 0, model.config.num_neighbors
    for alpha, name in zip(share, ("image", "text"), strict=True):
        x, has = data["item"][f"x_{name}"], data["item"][f"has_{name}"]
        item = has.nonzero().flatten()
        layer = model.project[name]
        learned = dense_graph(x @ layer.weight.t() + layer.bias, item, k)
        total = total + alpha * (0.7 * dense_graph(x, item, k) + 0.3 * learned)
    return total


def dense_embeddings(model, item_graph):
    adjacency = dense_adjacency(model)
    layers = [torch.cat([model.user_embedding.weight, model.item_embedding.weight])]
    for _ in range(model.config.num_layers):
        layers.append(adjacency @ layers[-1])
    user, item = torch.stack(layers).mean(dim=0).split([12, 9])
    h = model.item_embedding.weight
    for _ in range(model.config.num_item_layers):
        h = item_graph @ h
    return user, item + h / h.norm(dim=1, keepdim=True)


def dense_loss(model, item_graph, batch, seed):
    users, items = dense_embeddings(model, item_graph)
    user, positive = model.graph.user[batch], model.graph.col[batch]
    negative = sample_negatives(model.graph, user, torch.Generator().manual_seed(seed))
    u, p, n = users[user], items[positive], items[negative]
    penalty = (u.square() + p.square() + n.square()).sum() / 2 / len(batch)
    loss = F.softplus(-(u * (p - n)).sum(dim=1)).mean()
    return loss + model.config.regularization * penalty


@pytest.mark.parametrize("num_item_layers", [1, 2])
def test_scores_follow_the_paper(multimodal_data, num_item_layers):
    model = make(multimodal_data, num_item_layers=num_item_layers)
    user, item = dense_embeddings(model, dense_item_graph(model, multimodal_data))
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t())


def gradients(loss, model):
    return torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)


def test_loss_follows_the_paper_and_the_graph_learns_in_the_first_step(multimodal_data):
    model = make(multimodal_data, regularization=0.1)
    batch = torch.arange(model.graph.num_interactions)
    model.start_epoch(torch.Generator())
    graph = dense_item_graph(model, multimodal_data)
    for seed in (1, 2):
        loss = model.loss(batch, torch.Generator().manual_seed(seed))
        expected = dense_loss(model, graph, batch, seed)
        torch.testing.assert_close(loss, expected)
        for found, dense in zip(gradients(loss, model), gradients(expected, model), strict=True):
            assert (found is None) == (dense is None)
            if found is not None:
                torch.testing.assert_close(found, dense, rtol=1e-4, atol=1e-6)
        graph = graph.detach()  # frozen from the second step on


def test_the_item_graph_is_built_once_per_epoch(multimodal_data):
    model = make(multimodal_data)
    batch = torch.arange(5)
    model.start_epoch(torch.Generator())
    old = dense_item_graph(model, multimodal_data).detach()
    model.loss(batch, torch.Generator())
    with torch.no_grad():
        for layer in model.project.values():
            layer.weight.mul_(-1).add_(0.5)
    new = dense_item_graph(model, multimodal_data).detach()
    assert not torch.allclose(old, new)
    for graph in (old, new):
        loss = model.loss(batch, torch.Generator().manual_seed(0))
        torch.testing.assert_close(loss, dense_loss(model, graph, batch, 0))
        # Ranking uses the current weights, not the graph of the epoch.
        user, item = dense_embeddings(model, new)
        torch.testing.assert_close(model(torch.arange(12)), user @ item.t())
        model.start_epoch(torch.Generator())


def test_an_item_without_content_keeps_its_own_embedding(multimodal_data):
    multimodal_data["item"].has_text[3] = False
    multimodal_data["item"].x_text[3] = 0
    model = make(multimodal_data)
    layers = [torch.cat([model.user_embedding.weight, model.item_embedding.weight])]
    for _ in range(2):
        layers.append(dense_adjacency(model) @ layers[-1])
    torch.testing.assert_close(model.tables().item[3], torch.stack(layers).mean(dim=0)[15])


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="LATTICE needs at least one modality"):
        LATTICE.from_data(plain_data)
