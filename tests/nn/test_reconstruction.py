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
    noise_factor,
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
    sums = sum_item_table(table - 1, torch.ones_like(table), bias, prior, item, num_heads=1)
    everywhere = Quadratic(
        weight=ALPHA,
        matrix=sums.gram[0],
        linear=(sums.prior - sums.bias)[0],
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
def test_item_table_sums_and_their_gradients(monkeypatch, num_heads):
    p = problem(5, 7, 4, seed=1)
    table, bias = p["table"].requires_grad_(), p["bias"].requires_grad_()
    index = torch.tensor([2, 0, 2, 6])
    shift = torch.linspace(-1, 1, 28, dtype=torch.float64).view(7, 4)
    monkeypatch.setitem(reconstruction.PIECE, "cpu", 12)  # three items at a time

    def parts(table, bias):
        return tuple(sum_item_table(table, shift, bias, p["prior"], index, num_heads))

    assert torch.autograd.gradcheck(parts, (table, bias))
    sums = sum_item_table(table, shift, bias, p["prior"], index, num_heads)
    table = table + shift
    torch.testing.assert_close(sums.rows, table[index])
    torch.testing.assert_close(sums.gram, head_blocks(table.t() @ table, num_heads))
    torch.testing.assert_close(sums.bias.flatten(), table.t() @ bias)
    torch.testing.assert_close(sums.prior.flatten(), table.t() @ p["prior"])


def test_encoded_noise_is_distributed_as_dense_noise():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    factor = noise_factor(table.t() @ table)
    num = 200_000
    encoded = torch.randn(num, 4, generator=generator, dtype=torch.float64) @ factor.t()
    dense = torch.randn(num, 30, generator=generator, dtype=torch.float64) @ table
    # Standard errors at this size are below 0.015 for means and 0.2 for covariances near 30.
    torch.testing.assert_close(encoded.mean(0), dense.mean(0), rtol=0, atol=0.08)
    torch.testing.assert_close(encoded.t().cov(), dense.t().cov(), rtol=0.02, atol=0.5)
    torch.testing.assert_close(factor @ factor.t(), table.t() @ table, rtol=1e-5, atol=1e-5)


def test_noise_factor_passes_gradients():
    table = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: noise_factor(x.t() @ x), table)


def low_rank(rows, columns, rank, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator)
    return left @ torch.randn(rank, columns, generator=generator)


@pytest.mark.parametrize(
    "table",
    [
        torch.ones(5, 3),
        torch.ones(1, 64),
        low_rank(2000, 64, 1),
        low_rank(2000, 64, 63),
        torch.cat([torch.eye(4), torch.zeros(4, 60)], dim=1),
        torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * 10.0 ** -torch.arange(8),
        torch.full((10_000, 64), 999.0),
    ],
    ids=["ones", "one row", "rank 1", "rank 63", "axes", "steep", "large"],
)
@pytest.mark.parametrize("scale", [1.0, 1e-10, 1e10])
def test_noise_factor_survives_any_table(table, scale):
    table = (table * scale).requires_grad_()
    factor = noise_factor(table.t() @ table)
    assert factor.isfinite().all()
    unit = table.detach().double() / scale
    found = (factor.detach().double() / scale) @ (factor.detach().double() / scale).t()
    gram = unit.t() @ unit
    assert (found - gram).abs().max() <= 1e-4 * gram.diagonal().max()
    (factor / scale).sum().backward()
    assert table.grad.isfinite().all()


def test_noise_factor_of_zeros():
    table = torch.zeros(5, 3, requires_grad=True)
    factor = noise_factor(table.t() @ table)
    assert factor.abs().max() < 1e-15
    factor.sum().backward()
    assert table.grad.isfinite().all()


def test_the_ridge_grows_until_it_is_enough(monkeypatch):
    tried = []
    cholesky = torch.linalg.cholesky_ex

    def stubborn(gram):
        tried.append(gram.diagonal().mean().item())
        factor, failed = cholesky(gram)
        return factor, failed if len(tried) > 3 else torch.ones_like(failed)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", stubborn)
    assert noise_factor(torch.ones(2, 2)).isfinite().all()
    assert len(tried) == 4
    assert tried[-1] == pytest.approx(1.001, rel=1e-6)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_noise_factor_of_a_table_that_is_not_finite_is_nan(bad):
    table = torch.ones(4, 3)
    table[1, 1] = bad
    assert noise_factor(table.t() @ table).isnan().all()


def test_noise_factor_in_mixed_precision():
    gram = low_rank(20, 4, 4).t() @ low_rank(20, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        factor = noise_factor(gram)
    assert torch.equal(factor, noise_factor(gram))
    assert noise_factor(gram.bfloat16()).dtype == torch.float32
