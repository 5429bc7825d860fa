"""Sums and inner products over pairs, against dense matrices."""

import pytest
import torch

from graphdiff.nn import pairs as module
from graphdiff.nn.pairs import Pairs, distinct, pair_products, sum_pairs

ROW, PLACE = torch.tensor([0, 0, 2, 2, 2, 3]), torch.tensor([4, 1, 4, 0, 2, 4])
NUM_ROWS, NUM_PLACES = 5, 6


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(params=["kernels", "gathered"])
def pairs(request, monkeypatch):
    if request.param == "gathered":
        monkeypatch.setattr(module, "DEVICES", ())
    return Pairs(ROW, PLACE, NUM_ROWS, NUM_PLACES)


def double(*size):
    return torch.randn(*size, dtype=torch.float64, requires_grad=True)


def test_sums_and_their_gradient_equal_a_dense_product(pairs):
    table, dense = double(NUM_PLACES, 3), torch.zeros(NUM_ROWS, NUM_PLACES).double()
    dense[ROW, PLACE] = 1
    torch.testing.assert_close(sum_pairs(table, pairs), dense @ table)
    assert torch.autograd.gradcheck(lambda x: sum_pairs(x, pairs), [table])


def test_weighted_sums_and_their_gradient_equal_a_dense_product(pairs):
    table, weight = double(NUM_PLACES, 3), torch.randn(len(ROW), dtype=torch.float64)
    dense = torch.zeros(NUM_ROWS, NUM_PLACES).double()
    dense[ROW, PLACE] = weight
    torch.testing.assert_close(sum_pairs(table, pairs, weight), dense @ table)
    assert torch.autograd.gradcheck(lambda x: sum_pairs(x, pairs, weight), [table])


@pytest.mark.parametrize("num_heads", [1, 3])
def test_products_and_their_gradients_equal_a_dense_product(pairs, num_heads):
    left, right = double(NUM_ROWS, num_heads, 4), double(NUM_PLACES, num_heads, 4)
    expected = torch.einsum("bhd,jhd->hbj", left, right)[:, ROW, PLACE]
    torch.testing.assert_close(pair_products(left, right, pairs), expected)
    assert torch.autograd.gradcheck(lambda x, y: pair_products(x, y, pairs), [left, right])


def test_no_pairs():
    none = torch.zeros(0, dtype=torch.long)
    pairs = Pairs(none, none, NUM_ROWS, NUM_PLACES)
    table, left = double(NUM_PLACES, 3), double(NUM_ROWS, 2, 3)
    assert not sum_pairs(table, pairs).any()
    products = pair_products(left, double(NUM_PLACES, 2, 3), pairs)
    assert products.shape == (2, 0)
    (sum_pairs(table, pairs).sum() + products.sum()).backward()
    assert not table.grad.any()
    assert not left.grad.any()


def test_distinct_values_and_places():
    index = torch.tensor([5, 0, 5, 3, 0, 4, 5])
    values, place = distinct(index, 6)
    assert values is None
    assert torch.equal(place, index)
    values, place = distinct(index, 100)
    assert torch.equal(values[place], index)
    assert values.unique().numel() == values.numel()
