"""Gram matrix, regression and scores of linear item-item models against dense algebra."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.errors import ConfigError
from graphdiff.graph import RecGraph, Rows
from graphdiff.nn import item_regression
from graphdiff.nn.item_regression import (
    check_dense,
    gram,
    item_item_scorer,
    multiply_rows,
    solving_device,
    zero_diagonal_regression,
)
from graphdiff.nn.reconstruction import encode_rows


def interactions(num_users, num_items, seed):
    x = np.random.default_rng(seed).random((num_users, num_items)) < 0.4
    rowptr = np.concatenate([[0], x.sum(axis=1).cumsum()])
    graph = RecGraph(torch.from_numpy(rowptr), torch.from_numpy(x.nonzero()[1]), num_items)
    return x.astype(float), graph


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.sampled_from([1, 5, 1000]))
@settings(max_examples=60, deadline=None)
def test_gram_counts_shared_users(num_users, num_items, seed, pairs):
    x, graph = interactions(num_users, num_items, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_regression, "_PAIRS", pairs)
        found = gram(graph)
    assert found.dtype == torch.float64
    np.testing.assert_array_equal(found, x.T @ x)


@pytest.mark.parametrize("ridge", [0.1, 10.0])
def test_regression_predicts_each_item_from_the_others(ridge):
    x, graph = interactions(30, 7, 0)
    found = zero_diagonal_regression(gram(graph), ridge).numpy()
    np.testing.assert_array_equal(found.diagonal(), 0)
    for item in range(7):
        others = np.arange(7) != item
        left = x[:, others].T @ x[:, others] + ridge * np.eye(6)
        expected = np.linalg.solve(left, x[:, others].T @ x[:, item])
        np.testing.assert_allclose(found[others, item], expected, rtol=1e-9, atol=1e-12)


def sparse_rows(seed):
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[x < 0.5] = 0
    x[2] = 0
    row, item = x.nonzero().t()
    return x, row, item


def test_rows_are_multiplied_with_a_table():
    x, row, item = sparse_rows(0)
    table = torch.randn(6, 3, dtype=torch.float64)
    found = multiply_rows(table, row, item, x[row, item], 5)
    torch.testing.assert_close(found, x @ table)
    torch.testing.assert_close(found, encode_rows(table, row, item, x[row, item], 5))
    none = torch.empty(0, dtype=torch.long)
    assert torch.equal(
        multiply_rows(table, none, none, none.double(), 2), torch.zeros(2, 3, dtype=torch.float64)
    )


def test_scores_are_rows_of_ones_times_the_weights():
    x, row, item = sparse_rows(1)
    weight = torch.randn(6, 6, dtype=torch.float64)
    score_block = item_item_scorer(Rows(row, item, 5), weight)
    expected = (x > 0).double() @ weight
    torch.testing.assert_close(score_block(0, 6), expected)
    torch.testing.assert_close(score_block(1, 4), expected[:, 1:4])


def test_a_catalogue_too_large_for_a_dense_matrix_is_refused():
    check_dense(30_000, "EASE")
    with pytest.raises(ConfigError, match=r"EASE .* 40,000 items take 6\.4 GB to store and 25\.6"):
        check_dense(40_000, "EASE")


@pytest.mark.parametrize(("device", "expected"), [("cpu", "cpu"), ("cuda", "cuda"), ("mps", "cpu")])
def test_double_precision_needs_a_device_that_has_it(device, expected):
    assert solving_device(torch.device(device)).type == expected
