"""iALS against the paper's objective and equations in float64 numpy."""

import numpy as np
import pytest
import torch

from graphdiff import IALS
from graphdiff.models import ials
from tests.conftest import random_data
from tests.models.test_linear import check, dense

SETTINGS = {"regularization": 0.02, "unobserved_weight": 0.3, "frequency_exponent": 0.7}


def ridge(count, others):
    return 0.02 * (count + 0.3 * others) ** 0.7


def half_step(matrix, fixed):
    """One side for fixed factors of the other, by weighted least squares row by row."""
    num, width = len(matrix), fixed.shape[1]
    out = np.zeros((num, width))
    for row in range(num):
        weight = matrix[row] + 0.3
        left = fixed.T @ (weight[:, None] * fixed)
        left += ridge(matrix[row].sum(), len(fixed)) * np.eye(width)
        out[row] = np.linalg.solve(left, fixed.T @ matrix[row])
    return out


@pytest.mark.parametrize("block", [2**23, 40])
@pytest.mark.parametrize("num_iterations", [1, 4])
def test_scores_follow_the_paper(num_iterations, block, monkeypatch):
    monkeypatch.setattr(ials, "BLOCK_ENTRIES", block)
    data = random_data(25, 14, density=0.5)
    x = dense(data)
    model = IALS.from_data(data, hidden_channels=5, num_iterations=num_iterations, **SETTINGS)
    model.solve()
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(14, 5, generator=generator).double().numpy() * 0.1 / 5**0.5
    for _ in range(num_iterations):
        users = half_step(x, items)
        items = half_step(x.T, users)
    np.testing.assert_allclose(model.factors.numpy(), items, rtol=1e-3, atol=1e-6)
    check(model, half_step(x, items) @ items.T)


def test_every_pass_lowers_the_objective_to_a_stationary_point():
    data = random_data(25, 14, density=0.5)
    x = torch.from_numpy(dense(data))

    def objective(users, items):
        scores = users @ items.t()
        loss = (x * (scores - 1) ** 2).sum() + 0.3 * (scores**2).sum()
        of_users = ridge(x.sum(1), 14) * (users**2).sum(1)
        of_items = ridge(x.sum(0), 25) * (items**2).sum(1)
        return loss + of_users.sum() + of_items.sum()

    values = []
    for num_iterations in (1, 2, 5, 200):
        model = IALS.from_data(data, hidden_channels=5, num_iterations=num_iterations, **SETTINGS)
        model.solve()
        items = model.factors.double().requires_grad_()
        users = torch.from_numpy(half_step(x.numpy(), items.detach().numpy())).requires_grad_()
        value = objective(users, items)
        values.append(value.item())
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]
    for gradient in torch.autograd.grad(value, (users, items)):
        assert gradient.abs().max() < 1e-2
    assert users.detach().abs().max() > 0.1


def test_a_history_of_nothing_scores_nothing():
    model = IALS.from_data(random_data(25, 14, density=0.5), hidden_channels=4)
    model.solve()
    assert not model.recommend(history_index=[[]], k=3)[1].any()
