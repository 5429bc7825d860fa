"""GUME against its paper's equations in plain torch."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F

from graphdiff import GUME
from graphdiff.errors import ConfigError
from graphdiff.graph.negatives import sample_negatives
from tests.conftest import random_data
from tests.models.dense import bpr, info_nce, interactions, similarity


def make(data, **settings):
    torch.manual_seed(0)
    return GUME.from_data(data, hidden_channels=4, num_neighbors=4, **settings)


def enhanced(model, data):
    """Return the normalised graph with item-item edges, ``[U + I, U + I]``."""
    a = interactions(model)
    num_users, num_items = a.shape
    shared = torch.ones(num_items, num_items)
    for name in model.graph.modalities:
        x, has = F.normalize(data["item"][f"x_{name}"].double()), data["item"][f"has_{name}"]
        cosine = x @ x.t()
        cosine[:, ~has] = -torch.inf
        near = torch.zeros_like(shared)
        for i in has.nonzero().flatten().tolist():
            near[i, cosine[i].topk(4).indices] = 1
        shared *= near
    shared.fill_diagonal_(0)
    top = torch.cat([torch.zeros(num_users, num_users), a], dim=1)
    whole = torch.cat([top, torch.cat([a.t(), shared], dim=1)])
    degree = whole.sum(1)
    scale = torch.where(degree > 0, degree.rsqrt(), 0)
    return scale[:, None] * whole * scale[None, :], int(shared.sum())


def mean_of_layers(adjacency, x, num_layers):
    layers = [x]
    for _ in range(num_layers):
        layers.append(adjacency @ layers[-1])
    return torch.stack(layers).mean(0)


def dense_parts(model, data):
    """Return ID, side, extended and explicit embeddings of all nodes from dense matrices."""
    adjacency, _ = enhanced(model, data)
    num_users, layers = model.num_users, model.config.num_layers
    ids = torch.cat([model.user_embedding.weight, model.item_embedding.weight])
    content = mean_of_layers(adjacency, ids, layers)
    views, extended, has = [], [], []
    for name in model.graph.modalities:
        projected = model.project[name](data["item"][f"x_{name}"])
        view = model.item_embedding.weight * model.purify[name](projected).sigmoid()
        for _ in range(model.config.num_item_layers):
            view = similarity(data, name, 4) @ view
        to_user = adjacency[:num_users, num_users:]
        views.append(torch.cat([to_user @ view, view]))
        both = torch.cat([model.user_views[name], view])
        extended.append(mean_of_layers(adjacency, both, layers))
        item = data["item"][f"has_{name}"].float()
        has.append(torch.cat([(to_user @ item > 0).float(), item]))
    weight = [has[n] * model.attention(view).squeeze(1).exp() for n, view in enumerate(views)]
    total = sum(weight)
    share = [torch.where(total > 0, w / total, 0)[:, None] for w in weight]
    shared = sum(s * view for s, view in zip(share, views, strict=True))
    side = shared
    for n, name in enumerate(model.graph.modalities):
        side = side + model.prefer[name](content).sigmoid() * has[n][:, None] * (views[n] - shared)
    return content, side / (sum(has)[:, None] + 1), sum(extended) / len(extended), views


@pytest.mark.parametrize("names", [["image"], ["image", "text"], ["audio", "image", "text"]])
def test_scores_follow_the_paper(names):
    data = random_data(features=dict.fromkeys(names, 3))
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    model = make(data)
    assert enhanced(model, data)[1] > 0
    content, side, *_ = dense_parts(model, data)
    user, item = (content + side).split([12, 9])
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t())


@pytest.mark.parametrize("names", [["image", "text"], ["audio", "image", "text"]])
def test_loss_and_gradients_follow_the_paper(names):
    data = random_data(features=dict.fromkeys(names, 3))
    model = make(
        data, regularization=0.1, contrastive=0.5, temperature=0.3, alignment=0.7,
        user_contrastive=0.4, user_temperature=0.2, user_regularization=0.3, noise=0.15,
    )  # fmt: skip
    graph, batch = model.graph, torch.tensor([0, 5, 7, 1, 12, 5])
    loss = model.loss(batch, torch.Generator().manual_seed(3))
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}

    generator = torch.Generator().manual_seed(3)
    user, positive = graph.user[batch], graph.col[batch]
    negative = sample_negatives(graph, user, generator)
    content, side, extended, views = dense_parts(model, data)
    final = content + side
    chosen = [final[user], final[12 + positive], final[12 + negative]]
    expected = bpr(*chosen) + 0.1 / 2 * sum(x.square().sum() for x in chosen) / 6
    expected = expected + 0.3 / 2 * extended[12 + positive].square().sum() / 6
    for one, other in combinations(views, 2):
        expected = expected + 0.7 * (one.var() - other.var()).abs()
        expected = expected + 0.7 * (one.mean() - other.mean()).abs()
    for nodes in (user, 12 + positive):
        expected = expected + 0.5 * info_nce(side[nodes], content[nodes], 0.3).mean()
    expected = expected + 0.4 * info_nce(extended[user], side[user], 0.2).mean()
    users, row = user.unique(return_inverse=True)
    for table in (side, extended):
        x = table[users]
        noise = [torch.rand(x.shape, generator=generator) for _ in range(2)]
        one, other = ((x + 0.15 * x.sign() * F.normalize(r, dim=1))[row] for r in noise)
        expected = expected + 0.4 * info_nce(one, other, 0.2).mean()
    torch.testing.assert_close(loss, expected)
    parameters = {n: p for n, p in model.named_parameters() if not n.startswith("features")}
    gradients = torch.autograd.grad(expected, list(parameters.values()))
    for name, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
    assert found["features.text"].any()


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="GUME needs at least one modality"):
        GUME.from_data(plain_data)
