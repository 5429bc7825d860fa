"""The linear path is EASE in two item tables."""

import pytest
import torch

from graphdiff.models import Popularity
from graphdiff.models.ld4mrec.linear_path import LinearPath
from graphdiff.nn.item_regression import gram, zero_diagonal_regression
from tests.conftest import make_model, random_data


def solved(rank, ridge=3.0):
    graph = make_model(Popularity, random_data(40, 12)).graph
    path = LinearPath(graph.num_items, rank, ridge, weight=1.0)
    path.solve(graph)
    return graph, path


def test_with_all_singular_values_it_is_ease_for_unseen_items():
    graph, path = solved(12)
    x = torch.from_numpy(graph.to_scipy().toarray())
    expected = x @ zero_diagonal_regression(gram(graph), 3.0).double()
    found = (x @ path.row_encoder.double()) @ path.item.double().t()
    for of_ease, of_path, seen in zip(expected, found, x > 0, strict=True):
        # Up to a constant for all items, which no ranking sees.
        gap = (of_ease - of_path)[~seen]
        torch.testing.assert_close(gap, gap.mean().expand_as(gap), atol=1e-4, rtol=0)


@pytest.mark.parametrize("rank", [4, 12, 16])
def test_a_user_vector_of_length_one_gives_scores_of_deviation_one(rank):
    _, path = solved(rank)
    covariance = torch.cov(path.item.t(), correction=0)
    used = path.item.abs().sum(dim=0) > 0
    # Twelve items, centred, span eleven dimensions.
    assert used.sum() == min(rank, 11)
    torch.testing.assert_close(covariance, torch.diag(used.float()), atol=1e-4, rtol=0)


def test_it_keeps_the_directions_of_the_largest_singular_values():
    graph, path = solved(3)
    x = torch.from_numpy(graph.to_scipy().toarray())
    _, s, v = torch.linalg.svd(x, full_matrices=False)
    share = s[:3].square() / (s[:3].square() + 3.0)
    low = v[:3].t() * share @ v[:3]
    expected = x @ low / (1 - low.diagonal())
    found = (x @ path.row_encoder.double()) @ path.item.double().t()
    gap = expected - found
    torch.testing.assert_close(gap, gap.mean(dim=1, keepdim=True).expand_as(gap), atol=1e-4, rtol=0)


def test_it_is_solved_once_and_grows():
    graph, path = solved(4)
    before = path.row_encoder.clone()
    path.row_encoder.mul_(2)
    path.solve(graph)
    assert torch.equal(path.row_encoder, 2 * before)
    path.change(None, 3)
    assert path.row_encoder.shape == path.item.shape == (15, 4)
    assert not path.item[12:].any()
    kept = torch.arange(15) != 3
    expected = path.item[kept]
    path.change(kept, 1)
    assert torch.equal(path.item[:14], expected)
    assert path.row_encoder.shape == (15, 4)
    path.discard()
    assert not path.item.any()
