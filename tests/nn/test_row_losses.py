"""Both losses of rows, and their gradients, against dense rows and simple operations."""

import math

import pytest
import torch

from graphdiff.nn import losses
from graphdiff.nn.cosine_ranking import cosine_ranking
from graphdiff.nn.pairs import Pairs
from graphdiff.nn.reconstruction import sum_item_table
from graphdiff.nn.whole_row_error import whole_row_error

NUM_ITEMS, WIDTH = 7, 3
ROW, ITEM, NUM_ROWS = torch.tensor([0, 0, 2, 2, 2]), torch.tensor([1, 5, 0, 2, 6]), 3
WEIGHT = torch.tensor([0.5, 1, 0, 1, 1]).double()


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def double(*size):
    return torch.randn(size, dtype=torch.float64, requires_grad=True)


def assert_equal_with_gradients(found, expected, inputs):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    outer = torch.linspace(1, 2, NUM_ROWS, dtype=torch.float64)
    pairs = zip(
        torch.autograd.grad((found * outer).sum(), inputs),
        torch.autograd.grad((expected * outer).sum(), inputs),
        strict=True,
    )
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("softened", [False, True])
def test_the_error_is_that_of_whole_rows(num_heads, softened):
    hidden, table = double(NUM_ROWS, num_heads, WIDTH), double(NUM_ITEMS, num_heads, WIDTH)
    residual, log_scale, unobserved = double(NUM_ITEMS), double(), 0.2
    excess = torch.rand(len(ROW), dtype=torch.float64) if softened else None
    pairs = Pairs(ROW, ITEM, NUM_ROWS, NUM_ITEMS)

    def error(hidden, table, residual, log_scale):
        sums = sum_item_table(table.flatten(1), None, residual, None, num_heads)
        return whole_row_error(
            hidden.flatten(1), sums, residual, log_scale, pairs, ITEM, WEIGHT, unobserved, excess
        )

    gap = residual - log_scale.exp() * torch.einsum("bhd,ihd->hbi", hidden, table)
    added, weight = torch.zeros(NUM_ROWS, NUM_ITEMS).double(), torch.full_like(gap[0], unobserved)
    added[ROW, ITEM] = 1 if excess is None else excess
    weight = weight.index_put((ROW, ITEM), WEIGHT)
    expected = (weight * (added + gap).square()).sum(dim=(0, 2))
    inputs = hidden, table, residual, log_scale
    assert_equal_with_gradients(error(*inputs), expected, inputs)
    assert torch.autograd.gradcheck(error, inputs)


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("log_temperature", [-1.0, -6.0])  # the second is below the bound
@pytest.mark.parametrize("kept", [True, False])
def test_the_ranking_is_a_softmax_of_cosines(num_heads, log_temperature, kept, monkeypatch):
    if not kept:  # two rows of products at a time
        monkeypatch.setattr(losses, "_KEPT_ENTRIES", 1)
        monkeypatch.setattr(losses, "_CACHED_ENTRIES", 6 * num_heads)
    hidden, table = double(NUM_ROWS, num_heads, WIDTH), double(NUM_ITEMS, num_heads, WIDTH)
    bias = double(NUM_ITEMS)
    log_temperature = torch.tensor(log_temperature, dtype=torch.float64, requires_grad=True)
    negative, log_chance = torch.tensor([3, 0, 3]), torch.randn(3, dtype=torch.float64)
    pairs = Pairs(ROW, ITEM, NUM_ROWS, NUM_ITEMS)

    def ranking(hidden, table, *scalars):
        flat = hidden.flatten(1), table.flatten(1)
        return cosine_ranking(*flat, *scalars, pairs, WEIGHT, negative, log_chance, num_heads)

    query = hidden / (hidden.square().sum(dim=-1, keepdim=True) + 0.05**2).sqrt()
    unit = torch.nn.functional.normalize(table, dim=-1)
    temperature = log_temperature.clamp(min=math.log(0.02)).exp()
    score = torch.einsum("bhd,ihd->hbi", query, unit) / temperature + bias
    against = (score[..., negative] - log_chance).logsumexp(dim=-1, keepdim=True)
    weight = torch.zeros(NUM_ROWS, NUM_ITEMS).double()
    weight[ROW, ITEM] = WEIGHT
    expected = (weight * (against - score)).sum(dim=(0, 2))
    inputs = hidden, table, bias, log_temperature
    assert_equal_with_gradients(ranking(*inputs), expected, inputs)
    assert ranking(*inputs)[1] == 0  # an empty row


def test_vectors_of_length_zero_have_finite_gradients():
    hidden = torch.zeros(NUM_ROWS, 2 * WIDTH, requires_grad=True)
    table = torch.zeros(NUM_ITEMS, 2 * WIDTH, requires_grad=True)
    pairs = Pairs(ROW, ITEM, NUM_ROWS, NUM_ITEMS)
    args = torch.zeros(NUM_ITEMS), torch.zeros(()), pairs, WEIGHT.float()
    args = *args, torch.tensor([0, 1]), torch.zeros(2), 2
    cosine_ranking(hidden, table, *args).sum().backward()
    assert hidden.grad.isfinite().all()
    assert table.grad.isfinite().all()
