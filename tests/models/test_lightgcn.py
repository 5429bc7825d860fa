"""LightGCN against its paper's equations in plain torch."""

import torch
import torch.nn.functional as F

from graphdiff import LightGCN
from graphdiff.graph.negatives import sample_negatives


def dense_adjacency(model):
    adjacency = torch.zeros(model.num_users + model.num_items, model.num_users + model.num_items)
    user, item = model.graph.user, model.graph.col + model.num_users
    adjacency[user, item] = adjacency[item, user] = 1
    degree = adjacency.sum(dim=1).clamp(min=1)
    return adjacency / (degree[:, None] * degree[None, :]).sqrt()


def dense_embeddings(model):
    adjacency, x = dense_adjacency(model), model.net.embedding.weight
    layers = [x]
    for _ in range(model.config.num_layers):
        layers.append(adjacency @ layers[-1])
    return torch.stack(layers).mean(dim=0)


def test_scores_follow_the_paper(plain_data):
    model = LightGCN.from_data(plain_data, hidden_channels=4, num_layers=3)
    out = dense_embeddings(model)
    user, item = out[: model.num_users], out[model.num_users :]
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t())


def test_loss_follows_the_paper(plain_data):
    model = LightGCN.from_data(plain_data, hidden_channels=4, num_layers=2, regularization=0.1)
    batch = torch.arange(model.graph.num_interactions)
    loss = model.loss(batch, torch.Generator().manual_seed(3))
    user, positive = model.graph.user, model.graph.col
    negative = sample_negatives(model.graph, user, torch.Generator().manual_seed(3))
    out, x = dense_embeddings(model), model.net.embedding.weight
    shift = model.num_users
    difference = (out[user] * (out[positive + shift] - out[negative + shift])).sum(dim=-1)
    nodes = torch.cat([user, positive + shift, negative + shift])
    expected = -F.logsigmoid(difference).mean() + 0.1 * x[nodes].square().sum() / len(batch)
    torch.testing.assert_close(loss, expected)


def test_repr_shows_the_sizes(plain_data):
    model = LightGCN.from_data(plain_data, hidden_channels=4)
    assert str(model) == "LightGCN(12, 9, hidden_channels=4, parameters=84)"
