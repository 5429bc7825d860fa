"""MGCN against its paper's equations in plain torch."""

import pytest
import torch

from graphdiff import MGCN
from graphdiff.errors import ConfigError
from graphdiff.graph.negatives import sample_negatives
from tests.conftest import random_data
from tests.models.dense import bpr, info_nce, lightgcn, normalized_adjacency, similarity


def make(data, **settings):
    torch.manual_seed(0)
    return MGCN.from_data(data, hidden_channels=4, num_neighbors=3, **settings)


def dense_embeddings(model, data):
    """Return LightGCN's and side embeddings, ``[U + I, d]`` each, from dense matrices."""
    content = lightgcn(model)
    to_user = normalized_adjacency(model)[: model.num_users, model.num_users :]
    views, has = [], []
    for name in model.graph.modalities:
        projected = model.project[name](data["item"][f"x_{name}"])
        view = model.item_embedding.weight * model.purify[name](projected).sigmoid()
        view = view * data["item"][f"has_{name}"][:, None]
        for _ in range(model.config.num_item_layers):
            view = similarity(data, name, model.config.num_neighbors) @ view
        views.append(torch.cat([to_user @ view, view]))
        item = data["item"][f"has_{name}"].float()
        has.append(torch.cat([(to_user @ item > 0).float(), item]))
    weight = [has[n] * model.attention(view).squeeze(1).exp() for n, view in enumerate(views)]
    total = sum(weight)
    share = [torch.where(total > 0, w / total, 0)[:, None] for w in weight]
    shared = sum(s * view for s, view in zip(share, views, strict=True))
    side = shared
    for n, name in enumerate(model.graph.modalities):
        preference = model.prefer[name](content).sigmoid() * has[n][:, None]
        side = side + preference * (views[n] - shared)
    return content, side / (sum(has)[:, None] + 1)


@pytest.mark.parametrize("names", [["image"], ["image", "text"], ["audio", "image", "text"]])
@pytest.mark.parametrize("num_item_layers", [0, 1, 2])
def test_scores_follow_the_paper(names, num_item_layers):
    data = random_data(features=dict.fromkeys(names, 5))
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    model = make(data, num_item_layers=num_item_layers)
    user, item = sum(dense_embeddings(model, data)).split([12, 9])
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t())


def test_loss_follows_the_paper(multimodal_data):
    model = make(multimodal_data, regularization=0.1, contrastive=0.5, temperature=0.3)
    graph = model.graph
    batch = torch.tensor([0, 5, 7, 1, 12, 5])
    loss = model.loss(batch, torch.Generator().manual_seed(3))
    user, positive = graph.user[batch], graph.col[batch]
    negative = sample_negatives(graph, user, torch.Generator().manual_seed(3))
    content, side = dense_embeddings(model, multimodal_data)
    final = content + side
    chosen = [final[user], final[12 + positive], final[12 + negative]]
    expected = bpr(*chosen) + 0.1 / 2 * sum(x.square().sum() for x in chosen) / 6
    for nodes in (user, 12 + positive):
        expected = expected + 0.5 * info_nce(side[nodes], content[nodes], 0.3).mean()
    torch.testing.assert_close(loss, expected)


def test_gradients_follow_the_paper(multimodal_data):
    model = make(multimodal_data, regularization=0.0, contrastive=1.0)
    batch = torch.arange(model.graph.num_interactions)
    user, positive = model.graph.user, model.graph.col
    generator = torch.Generator().manual_seed(3)
    negative = sample_negatives(model.graph, user, generator)
    model.loss(batch, torch.Generator().manual_seed(3)).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    content, side = dense_embeddings(model, multimodal_data)
    final = content + side
    loss = bpr(final[user], final[12 + positive], final[12 + negative])
    for nodes in (user, 12 + positive):
        loss = loss + info_nce(side[nodes], content[nodes], 0.2).mean()
    # The features are learned, too.
    parameters = {n: p for n, p in model.named_parameters() if not n.startswith("features")}
    expected = torch.autograd.grad(loss, list(parameters.values()))
    for name, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(found[name], gradient)
    assert found["features.text"].any()
    assert not found["features.image"][3].any()


def test_an_item_without_a_modality_receives_no_messages_of_it(multimodal_data):
    model = make(multimodal_data)
    before = model.tables().item
    with torch.no_grad():
        model.features["image"][3] += 5
    torch.testing.assert_close(model.tables().item, before)


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="MGCN needs at least one modality"):
        MGCN.from_data(plain_data)
