"""Nearest neighbours and their scores against dense matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from graphdiff.graph import Rows
from graphdiff.nn import neighbors
from graphdiff.nn.neighbors import (
    Neighbors,
    content_neighbors,
    interaction_neighbors,
    neighbor_scorer,
)


def random_matrix(num_users, num_items, seed, density=0.4):
    generator = np.random.default_rng(seed)
    return (generator.random((num_users, num_items)) < density).astype(float)


def dense(found, num_items):
    """``[item, neighbour]``."""
    out = np.zeros((num_items, num_items), dtype=np.float32)
    for item in range(num_items):
        for neighbor, weight in zip(found.item[item], found.weight[item], strict=True):
            out[item, int(neighbor)] += float(weight)
    return out


def largest(similarity, k):
    """The k largest positive entries of each row, of equal ones the first."""
    out = np.zeros_like(similarity)
    for item, row in enumerate(similarity):
        best = np.argsort(-row, kind="stable")[:k]
        out[item, best] = np.maximum(row[best], 0)
    return out


@given(
    st.integers(1, 8),
    st.integers(1, 9),
    st.integers(1, 5),
    st.sampled_from([(0.0, 0.0), (2.5, 0.0), (1.0, 0.5)]),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_neighbors_by_shared_users(num_users, num_items, k, constants, seed):
    shrinkage, exponent = constants
    x = random_matrix(num_users, num_items, seed)
    scaled = x / np.maximum(x.sum(axis=1, keepdims=True), 1) ** exponent
    norm = np.linalg.norm(scaled, axis=0)
    similarity = scaled.T @ scaled / np.maximum(np.outer(norm, norm) + shrinkage, 1e-12)
    np.fill_diagonal(similarity, 0)
    found = interaction_neighbors(csr_matrix(x), k, shrinkage, exponent)
    assert found.item.shape == found.weight.shape == (num_items, k)
    assert (found.weight.diff(dim=1) <= 0).all()
    # Rounding may order near-equal neighbours either way, but not change their similarities.
    expected = np.sort(largest(similarity, k), axis=1)
    np.testing.assert_allclose(np.sort(dense(found, num_items), axis=1), expected, atol=1e-6)
    listed = found.weight > 0
    place = np.arange(num_items)[:, None].repeat(k, axis=1)
    np.testing.assert_allclose(
        similarity[place[listed], found.item[listed]], found.weight[listed], rtol=1e-5
    )


def test_the_matrix_is_left_as_it_was():
    x = csr_matrix(random_matrix(6, 5, 0))
    before = x.toarray()
    interaction_neighbors(x, 2, row_exponent=1.0)
    np.testing.assert_array_equal(x.toarray(), before)


def test_of_equally_similar_items_the_first_come_first():
    x = csr_matrix(np.ones((3, 5)))
    found = interaction_neighbors(x, 2)
    assert found.item.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]


def content(seed, missing=0.3):
    generator = np.random.default_rng(seed)
    out = []
    for width in (4, 3):
        x, has = generator.standard_normal((8, width)), generator.random(8) > missing
        out.append((torch.from_numpy(x * has[:, None]).float(), torch.from_numpy(has)))
    return out


def mean_cosine(features, shares):
    total, weight = np.zeros((8, 8)), np.zeros((8, 8))
    for (x, has), share in zip(features, shares, strict=True):
        unit = torch.nn.functional.normalize(x.double(), dim=1).numpy()
        both = np.outer(has, has)
        total += share * both * (unit @ unit.T)
        weight += share * both
    similarity = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    np.fill_diagonal(similarity, 0)
    return similarity


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.1, 0.9)])
def test_neighbors_by_content(seed, shares):
    features = content(seed)
    found = content_neighbors(features, shares, k=3)
    expected = largest(mean_cosine(features, shares), 3)
    np.testing.assert_allclose(dense(found, 8), expected, atol=1e-6)


def test_items_without_a_common_modality_are_not_neighbours():
    x, has = torch.ones(4, 2), torch.tensor([True, True, False, False])
    found = content_neighbors([(x * has[:, None], has), (x * ~has[:, None], ~has)], [0.5, 0.5], 3)
    assert found.item[:, 0].tolist() == [1, 0, 3, 2]
    torch.testing.assert_close(found.weight, torch.tensor([[1.0, 0, 0]]).expand(4, 3))


@pytest.mark.parametrize("constant", ["_TERMS", "_COSINES"])
def test_the_size_of_a_block_does_not_matter(monkeypatch, constant):
    features, x = content(1), csr_matrix(random_matrix(9, 8, 3))

    def found():
        return [*content_neighbors(features, (0.5, 0.5), 3), *interaction_neighbors(x, 3, 1.0)]

    expected = found()
    monkeypatch.setattr(neighbors, constant, 17)
    for one, other in zip(found(), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_scores_are_sums_over_the_neighbours_in_the_history():
    x = random_matrix(5, 8, 2)
    found = interaction_neighbors(csr_matrix(x), 3)
    x[3] = 0
    row, item = map(torch.from_numpy, x.nonzero())
    score_block = neighbor_scorer(Rows(row, item, 5), found)
    expected = x @ dense(found, 8).T
    np.testing.assert_allclose(score_block(0, 8), expected, atol=1e-6)
    np.testing.assert_allclose(score_block(2, 5), expected[:, 2:5], atol=1e-6)


def test_padding_is_no_neighbour():
    padded = Neighbors(
        torch.zeros(3, 2, dtype=torch.long), torch.tensor([[0.5, 0], [0, 0], [0, 0]])
    )
    rows = Rows(torch.tensor([0, 1]), torch.tensor([0, 1]), 2)
    assert neighbor_scorer(rows, padded)(0, 3).tolist() == [[0.5, 0, 0], [0, 0, 0]]
