"""Truncated singular value decompositions against numpy's dense one."""

import numpy as np
import pytest
import torch
from scipy.sparse import block_diag, csr_matrix, diags, random_array

from graphdiff.nn import spectral
from graphdiff.nn.spectral import right_singular_vectors


def scattered(*sizes, density=0.3, normalized=True, seed=0):
    """Blocks of users and items in random order: a graph of at least so many components."""
    rng = np.random.default_rng(seed)
    blocks = [random_array(size, density=density, rng=rng) for size in sizes]
    matrix = csr_matrix(block_diag([(block > 0) * 1.0 for block in blocks]))
    if normalized:
        user, item = (np.maximum(np.asarray(matrix.sum(axis=axis)).ravel(), 1) for axis in (1, 0))
        matrix = csr_matrix(diags(user**-0.5) @ matrix @ diags(item**-0.5))
    rows, columns = (rng.permutation(size) for size in matrix.shape)
    return matrix[rows][:, columns]


def largest(matrix, num):
    _, value, vectors = np.linalg.svd(matrix.toarray(), full_matrices=False)
    return value[:num], vectors[:num].T


@pytest.mark.parametrize("cells", [0, spectral._DENSE_CELLS])
def test_several_components_against_the_dense_decomposition(cells, monkeypatch):
    monkeypatch.setattr(spectral, "_DENSE_CELLS", cells)
    sizes = [(60, 40), (30, 50), (1, 6), (5, 1), (3, 4), (3, 4), (3, 4), (0, 2), (2, 0)]
    matrix = scattered(*sizes, density=0.4)
    value = largest(matrix, 60)[0]
    assert (value > 1 - 1e-9).sum() > 5  # a copy for each component
    gaps = np.flatnonzero(-np.diff(value) > 1e-6) + 1  # where the subspace is well defined
    assert len(gaps) > 10
    for num in gaps[[0, 5, -1]]:
        got = right_singular_vectors(matrix, int(num)).double().numpy()
        expected = largest(matrix, num)[1]
        np.testing.assert_allclose(got @ got.T, expected @ expected.T, atol=1e-5)
        lengths = np.linalg.norm(matrix @ got, axis=0)
        np.testing.assert_allclose(lengths, value[:num], atol=1e-5)
        np.testing.assert_allclose(got.T @ got, np.eye(num), atol=1e-5)
        assert (got.max(axis=0) >= -got.min(axis=0)).all()


def test_always_the_same_where_copies_are_cut_off():
    matrix = scattered(*[(40, 30)] * 3, *[(4, 3)] * 30, density=0.5)
    for num in (2, 5, 20):
        first = right_singular_vectors(matrix, num)
        right_singular_vectors(scattered((50, 60)), 7)  # whatever else was decomposed
        assert torch.equal(right_singular_vectors(matrix, num), first)


def test_of_equal_values_the_larger_component_comes_first_then_the_first_row():
    small, large = np.full((1, 2), 2**-0.5), np.full((2, 3), 6**-0.5)
    matrix = csr_matrix(block_diag([small, large, small]))
    got = right_singular_vectors(matrix, 3)
    expected = torch.zeros(7, 3)
    expected[2:5, 0], expected[0:2, 1], expected[5:7, 2] = 3**-0.5, 2**-0.5, 2**-0.5
    torch.testing.assert_close(got, expected)


def test_beyond_the_rank_there_is_nothing():
    got = right_singular_vectors(csr_matrix(np.ones((4, 5))), 4)
    torch.testing.assert_close(got[:, 0], torch.full((5,), 5**-0.5))
    assert not got[:, 1:].any()
    assert not right_singular_vectors(csr_matrix((4, 5)), 3).any()


def test_equal_components_are_decomposed_in_chunks(monkeypatch):
    matrix = scattered(*[(4, 3)] * 20, density=0.9)
    whole = right_singular_vectors(matrix, 50)
    monkeypatch.setattr(spectral, "_STACKED_CELLS", 25)
    torch.testing.assert_close(right_singular_vectors(matrix, 50), whole)
