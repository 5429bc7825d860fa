"""The exact sparse objective against plain dense rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.nn import reconstruction
from graphdiff.nn.heads import head_blocks
from graphdiff.nn.reconstruction import (
    Quadratic,
    encode_rows,
    reconstruction_error,
    sum_item_table,
)

ALPHA = 0.3


def problem(num_rows: int, num_items: int, channels: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def rand(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    row, item = (torch.rand(num_rows, num_items, generator=generator) < 0.3).nonzero().t()
    return {
        "hidden": rand(num_rows, channels),
        "table": rand(num_items, channels),
        "bias": rand(num_items),
        "prior": rand(num_items),
        "row": row,
        "item": item,
        "target": rand(row.numel()),
        "weight": rand(row.numel()).abs(),
    }


def dense_error(p: dict[str, torch.Tensor]) -> torch.Tensor:
    score = p["hidden"] @ p["table"].t() + p["bias"]
    target = p["prior"].expand_as(score).clone()
    weight = torch.full_like(score, ALPHA)
    target[p["row"], p["item"]] = p["target"]
    weight[p["row"], p["item"]] = p["weight"]
    return (weight * (target - score).square()).sum(dim=-1)


def sparse_error(p: dict[str, torch.Tensor]) -> torch.Tensor:
    table, bias, prior, row, item = (p[n] for n in ("table", "bias", "prior", "row", "item"))
    sums = sum_item_table(table - 1, torch.ones_like(table), prior - bias, item, num_heads=1)
    everywhere = Quadratic(
        weight=ALPHA,
        matrix=sums.gram[0],
        linear=sums.residual[0],
        constant=(prior - bias).square().sum(),
    )
    score = (p["hidden"][row] * sums.rows).sum(dim=-1) + bias[item]
    return reconstruction_error(
        p["hidden"], everywhere, row, score, p["target"], p["weight"], prior[item]
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(1, 12), st.integers(1, 5), st.integers(0, 10_000))
def test_error_and_gradients_equal_dense(num_rows, num_items, channels, seed):
    p = problem(num_rows, num_items, channels, seed)
    leaves = [p[name].requires_grad_() for name in ("hidden", "table", "bias")]
    sparse, dense = sparse_error(p), dense_error(p)
    torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-9)
    outer = torch.linspace(1, 2, num_rows, dtype=torch.float64)
    sparse_grads = torch.autograd.grad((sparse * outer).sum(), leaves)
    dense_grads = torch.autograd.grad((dense * outer).sum(), leaves)
    for found, expected in zip(sparse_grads, dense_grads, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_encode_rows_equals_dense_product():
    p = problem(5, 7, 3, seed=1)
    dense = torch.zeros(5, 7, dtype=torch.float64)
    dense[p["row"], p["item"]] = p["weight"]
    encoded = encode_rows(p["table"], p["row"], p["item"], p["weight"], 5)
    torch.testing.assert_close(encoded, dense @ p["table"])


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("index", [None, torch.tensor([2, 0, 2, 6])], ids=["all", "some"])
@pytest.mark.parametrize("piece", [12, 2**20])  # entries: three items at a time, or all
def test_item_table_sums_and_their_gradients(monkeypatch, num_heads, shifted, index, piece):
    p = problem(5, 7, 4, seed=1)
    table, residual = p["table"].requires_grad_(), p["bias"].requires_grad_()
    shift = torch.linspace(-1, 1, 28, dtype=torch.float64).view(7, 4) if shifted else None
    monkeypatch.setitem(reconstruction.PIECE, "cpu", piece)

    def parts(table, residual):
        return tuple(sum_item_table(table, shift, residual, index, num_heads))

    assert torch.autograd.gradcheck(parts, (table, residual))
    sums = sum_item_table(table, shift, residual, index, num_heads)
    table = table if shift is None else table + shift
    torch.testing.assert_close(sums.rows, table if index is None else table[index])
    torch.testing.assert_close(sums.gram, head_blocks(table.t() @ table, num_heads))
    torch.testing.assert_close(sums.residual.flatten(), table.t() @ residual)


def test_a_table_that_is_used_once_has_the_same_gradient(monkeypatch):
    monkeypatch.setitem(reconstruction.PIECE, "cpu", 12)  # three items at a time
    p = problem(5, 7, 4, seed=1)
    weight, residual, shift = p["table"].requires_grad_(), p["bias"], p["table"].detach().flip(0)
    found = []
    for once in (False, True):
        sums = sum_item_table(2 * weight, shift, residual, torch.tensor([2, 0, 2]), 2, once)
        loss = sums.rows.sin().sum() + sums.gram.sin().sum() + sums.residual.sin().sum()
        found += torch.autograd.grad(loss, weight)
    assert torch.equal(*found)
