"""MMHCL against its paper's equations in plain torch."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff import MMHCL
from graphdiff.errors import ConfigError
from graphdiff.graph.negatives import sample_negatives
from graphdiff.models.mmhcl import contrast_with_all
from graphdiff.nn.losses import two_sided_contrast_loss
from tests.conftest import random_data
from tests.models.dense import bpr, interactions, lightgcn


def make(data, **settings):
    torch.manual_seed(0)
    return MMHCL.from_data(data, hidden_channels=4, num_neighbors=3, **settings)


def power(matrix, x, times):
    for _ in range(times):
        x = matrix @ x
    return x


def dense_embeddings(model, data):
    """Return final and hypergraph embeddings of users and items from dense matrices."""
    a = interactions(model)
    of_users = (a @ a.t()).fill_diagonal_(0)
    rows = of_users.sum(1, keepdim=True)
    of_users = torch.where(rows > 0, of_users / rows, 0)
    joined = []
    for name in model.graph.modalities:
        x, has = F.normalize(data["item"][f"x_{name}"].double()), data["item"][f"has_{name}"]
        cosine = x @ x.t()
        cosine[:, ~has] = -torch.inf
        near = torch.zeros_like(cosine)
        for i in has.nonzero().flatten().tolist():
            near[i, cosine[i].topk(3).indices] = 1
        joined.append(near * (cosine > 0))
    incidence = torch.cat(joined, dim=1).float()
    of_items = incidence @ incidence.t()
    rows = of_items.sum(1)
    scale = torch.where(rows > 0, rows.rsqrt(), 0)
    of_items = scale[:, None] * of_items * scale[None, :]
    user_hyper = power(of_users, model.user_hyper.weight, model.config.num_user_layers)
    item_hyper = power(of_items, model.item_hyper.weight, model.config.num_item_layers)
    user, item = lightgcn(model).split([model.num_users, model.num_items])
    return user + F.normalize(user_hyper), item + F.normalize(item_hyper), user_hyper, item_hyper


def contrast(view, other, temperature):
    """Return one term per node, contrasted with all nodes of both views."""
    view, other = F.normalize(view), F.normalize(other)
    between = (view @ other.t() / temperature).exp()
    own = torch.eye(len(view), dtype=torch.bool)
    within = (view @ view.t() / temperature).exp().masked_fill(own, 0)
    return -(between.diagonal() / (between.sum(1) + within.sum(1))).log()


@pytest.mark.parametrize("names", [["image"], ["image", "text"], ["audio", "image", "text"]])
def test_scores_follow_the_paper(names):
    data = random_data(features=dict.fromkeys(names, 5))
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    model = make(data)
    user, item, _, _ = dense_embeddings(model, data)
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t())


def test_loss_and_gradients_follow_the_paper(multimodal_data):
    model = make(
        multimodal_data, user_contrastive=0.5, item_contrastive=0.8, temperature=0.3,
        regularization=0.1, num_contrasted=5,
    )  # fmt: skip
    graph, batch = model.graph, torch.tensor([0, 5, 7, 1, 12, 5])
    loss = model.loss(batch, torch.Generator().manual_seed(3))
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}

    generator = torch.Generator().manual_seed(3)
    user, positive = graph.user[batch], graph.col[batch]
    negative = sample_negatives(graph, user, generator)
    users, items, user_hyper, item_hyper = dense_embeddings(model, multimodal_data)
    chosen = [users[user], items[positive], items[negative]]
    expected = bpr(*chosen) + 0.1 / 2 * sum(x.square().sum() for x in chosen) / 6
    for weight, view, other in ((0.5, users, user_hyper), (0.8, items, item_hyper)):
        node = torch.randint(len(view), (5,), generator=generator)
        expected = expected + weight * contrast(view, other, 0.3)[node].mean()
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_the_contrast_of_all_nodes_is_the_two_sided_loss():
    generator = torch.Generator().manual_seed(0)
    view, other = torch.randn(2, 7, 3, generator=generator)
    found = contrast_with_all(view, other, torch.arange(7), 0.4)
    torch.testing.assert_close(found, two_sided_contrast_loss(view, other, 0.4))


def test_a_user_without_neighbours_and_an_item_without_features():
    data = random_data(features={"image": 5})
    data["user", "interacts", "item"].edge_index = torch.tensor([[0, 1, 1], [0, 1, 2]])
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    model = make(data)
    user, item, user_hyper, item_hyper = dense_embeddings(model, data)
    assert not user_hyper.any()
    assert not item_hyper[3].any()
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t())
    loss = model.loss(torch.arange(3), torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="MMHCL needs at least one modality"):
        MMHCL.from_data(plain_data)
