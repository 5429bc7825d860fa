"""BPRMF against its paper's equations in plain torch."""

import torch

from graphdiff import BPRMF
from graphdiff.graph.negatives import sample_negatives


def test_scores_are_inner_products(plain_data):
    model = BPRMF.from_data(plain_data, hidden_channels=4)
    expected = model.user_embedding.weight @ model.item_embedding.weight.t()
    torch.testing.assert_close(model(torch.arange(12)), expected)


def test_loss_follows_the_paper(plain_data):
    model = BPRMF.from_data(plain_data, hidden_channels=4, regularization=0.3)
    batch = torch.arange(model.graph.num_interactions)
    loss = model.loss(batch, torch.Generator().manual_seed(3))
    user, positive = model.graph.user, model.graph.col
    negative = sample_negatives(model.graph, user, torch.Generator().manual_seed(3))
    w, h = model.user_embedding.weight, model.item_embedding.weight
    expected = torch.zeros(())
    for u, i, j in zip(user, positive, negative, strict=True):
        expected = expected - torch.log(torch.sigmoid(w[u] @ h[i] - w[u] @ h[j]))
        for row in (w[u], h[i], h[j]):
            expected = expected + 0.3 / 2 * row.norm() ** 2
    torch.testing.assert_close(loss, expected / len(batch))
