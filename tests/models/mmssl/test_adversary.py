"""MMSSL's critic and its inputs against dense rows."""

import torch
import torch.nn.functional as F

from graphdiff.graph.rows import Rows
from graphdiff.models.mmssl.adversary import (
    RowCritic,
    encode_similarities,
    gumbel_rows,
    similarity_rows,
)

ROWS = Rows(torch.tensor([0, 0, 2]), torch.tensor([1, 4, 3]), 3)


def seed(value):
    return torch.Generator().manual_seed(value)


def dense_critic(critic, rows):
    def normalise(x, norm):
        x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
        return x * norm.weight + norm.bias

    hidden = F.leaky_relu(rows @ critic.encoder + critic.bias)
    hidden = F.leaky_relu(critic.inner(normalise(hidden, critic.norms[0])))
    return 100 * torch.sigmoid(critic.outer(normalise(hidden, critic.norms[1]))).flatten()


def make(num_items=7):
    torch.manual_seed(0)
    critic = RowCritic(num_items, 6, (0.0, 0.0)).double()
    for p in critic.parameters():
        torch.nn.init.normal_(p)
    return critic


def test_the_critic_follows_the_paper():
    critic, rows = make(), torch.randn(5, 7).double()
    torch.testing.assert_close(critic(rows @ critic.encoder, seed(0)), dense_critic(critic, rows))


def test_loss_and_gradients_equal_those_of_dense_rows():
    critic = make()
    real, fake = torch.rand(5, 7).double(), torch.rand(5, 7).double()
    loss = critic.loss(real @ critic.encoder, fake @ critic.encoder, 0.3, seed(1))
    share = torch.rand(5, 1, generator=seed(1))
    between = (share * real + (1 - share) * fake).requires_grad_()
    (grad,) = torch.autograd.grad(dense_critic(critic, between).sum(), between, create_graph=True)
    expected = (
        dense_critic(critic, fake).mean()
        - dense_critic(critic, real).mean()
        + 0.3 * (grad.norm(dim=1) - 1).square().mean()
    )
    torch.testing.assert_close(loss, expected)
    parameters = list(critic.parameters())
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)


def test_similarities_are_encoded_without_rows():
    user = torch.randn(3, 4).double().requires_grad_()
    item = torch.randn(7, 4).double().requires_grad_()
    table = torch.randn(7, 5).double().requires_grad_()
    rows = similarity_rows(user, item, ROWS)
    assert not rows[ROWS.row, ROWS.item].any()
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3).double())
    expected, found = rows @ table, encode_similarities(user, item, ROWS, table)
    torch.testing.assert_close(found, expected)
    weight = torch.randn(3, 5).double()
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), (user, item, table)),
        torch.autograd.grad((expected * weight).sum(), (user, item, table)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_row_of_seen_items_only_is_zero():
    item = torch.zeros(7, 4)
    item[[1, 4]] = torch.randn(2, 4)
    user = torch.randn(3, 4).requires_grad_()
    found = encode_similarities(user, item, ROWS, torch.randn(7, 5))
    assert not found[0].any()
    assert found[1].any()
    (grad,) = torch.autograd.grad(found.sum(), user)
    assert grad.isfinite().all()


def test_soft_rows_without_noise_are_a_softmax_of_the_row():
    rows = gumbel_rows(ROWS, 6, 0.0, 0.5, seed(0))
    observed = torch.zeros(3, 6)
    observed[ROWS.row, ROWS.item] = 1
    torch.testing.assert_close(rows, (observed / 0.5).softmax(dim=1))


def test_the_noise_is_gumbel():
    # With noise of scale 1 and temperature near 0, an item is drawn with its softmax weight.
    num = 20000
    rows = Rows(torch.arange(num), torch.zeros(num, dtype=torch.long), num)
    drawn = gumbel_rows(rows, 3, 1.0, 0.01, seed(0)).argmax(dim=1)
    share = torch.bincount(drawn, minlength=3) / num
    expected = torch.tensor([1.0, 0.0, 0.0]).softmax(dim=0)
    torch.testing.assert_close(share, expected, rtol=0, atol=0.015)
