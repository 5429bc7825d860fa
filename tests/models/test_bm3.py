"""BM3 against its paper's equations in plain torch."""

import pytest
import torch

from graphdiff import BM3
from graphdiff.errors import ConfigError
from tests.conftest import random_data
from tests.models.test_lightgcn import dense_adjacency


def dense_embeddings(model):
    adjacency = dense_adjacency(model)
    x = torch.cat([model.user_embedding.weight, model.item_embedding.weight])
    layers = [x]
    for _ in range(model.config.num_layers):
        layers.append(adjacency @ layers[-1])
    out = sum(layers) / len(layers)
    return out[: model.num_users], out[model.num_users :] + model.item_embedding.weight


def cosine(a, b):
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def predict(model, x):
    return x @ model.predictor.weight.t() + model.predictor.bias


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_scores_follow_the_paper(multimodal_data, num_layers):
    model = BM3.from_data(multimodal_data, hidden_channels=4, num_layers=num_layers)
    user, item = dense_embeddings(model)
    expected = predict(model, user) @ predict(model, item).t()
    torch.testing.assert_close(model(torch.arange(12)), expected)


def test_loss_and_gradients_follow_the_paper(multimodal_data):
    model = BM3.from_data(
        multimodal_data,
        hidden_channels=4,
        num_layers=2,
        dropout=0.0,
        alignment=0.7,
        regularization=0.3,
    )
    batch = torch.arange(0, model.graph.num_interactions, 2)
    loss = model.loss(batch, torch.Generator().manual_seed(3))

    users, items = dense_embeddings(model)
    user, item = users[model.graph.user[batch]], items[model.graph.col[batch]]
    expected = (1 - cosine(predict(model, user), item.detach())).mean()
    expected = expected + (1 - cosine(predict(model, item), user.detach())).mean()
    for name in ("image", "text"):
        has = multimodal_data["item"][f"has_{name}"][model.graph.col[batch]]
        linear = model.project[name]
        x = model.features[name][model.graph.col[batch]] @ linear.weight.t() + linear.bias
        online = predict(model, x)
        expected = expected + 0.7 * (1 - cosine(online, item.detach()))[has].mean()
        expected = expected + 0.7 * (1 - cosine(online, x.detach()))[has].mean()
    size = users.square().sum().sqrt() + items.square().sum().sqrt()
    expected = expected + 0.3 * size / model.num_items

    torch.testing.assert_close(loss, expected)
    parameters = list(model.parameters())
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)


def test_targets_are_perturbed_by_seed(multimodal_data):
    model = BM3.from_data(multimodal_data, hidden_channels=8, dropout=0.5)
    batch = torch.arange(8)
    losses = [model.loss(batch, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize("names", [["image"], ["audio", "image", "text"]])
def test_any_number_of_modalities(names):
    model = BM3.from_data(random_data(features=dict.fromkeys(names, 5)), hidden_channels=4)
    model.loss(torch.arange(9), torch.Generator().manual_seed(0)).backward()
    assert all(model.features[name].grad.any() for name in names)


def test_an_item_without_a_modality_is_left_out_of_its_loss(multimodal_data):
    model = BM3.from_data(multimodal_data, hidden_channels=4)
    batch = torch.arange(model.graph.num_interactions)
    assert (model.graph.col == 3).any()
    model.loss(batch, torch.Generator().manual_seed(0)).backward()
    assert not model.features["image"].grad[3].any()
    assert model.features["text"].grad[3].any()


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="BM3 needs at least one modality"):
        BM3.from_data(plain_data)
