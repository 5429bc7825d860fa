"""Noise that is drawn in encoded form."""

import pytest
import torch

from graphdiff.nn.encoded_noise import noise_factor


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
        tried.append(gram.diagonal(dim1=-2, dim2=-1).mean().item())
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
