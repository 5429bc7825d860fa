"""Features of any magnitude that the schema allows."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.graph import RecGraph, similar_items
from graphdiff.graph.approximate import approximate_neighbors, has_faiss
from graphdiff.graph.scaling import inverse_scale, unit_rows
from graphdiff.models.lattice.learned_graph import cosine_graph
from graphdiff.models.mmssl.adversary import encode_similarities
from graphdiff.nn.modalities import standardised
from graphdiff.nn.neighbors import content_neighbors
from tests.conftest import random_data

# A product with a power of two is exact, so that results can be compared bit by bit.
EXPONENTS = [-100, -83, -60, -40, 0, 40, 46]
HAS = torch.tensor([True] * 11 + [False])


def features(width=5):
    x = torch.randn(12, width, generator=torch.Generator().manual_seed(0))
    x[4] = x[2]
    x[7] = 0
    return x * HAS[:, None]


@given(st.integers(0, 99), st.integers(1, 40), st.floats(-11, 14))
@settings(deadline=None)
def test_kind_h_rows_of_usual_size_are_normalised_as_by_torch(seed, width, exponent):
    x = torch.randn(6, width, generator=torch.Generator().manual_seed(seed))
    x[:, 0] = 1
    x = x * 10.0**exponent
    assert torch.equal(unit_rows(x), F.normalize(x, dim=1))


@given(st.floats(-44, 15), st.floats(-44, 15), st.integers(1, 9))
@settings(deadline=None)
def test_kind_h_rows_have_length_one_at_any_magnitude(first, second, width):
    x = torch.ones(3, width)
    x[0] *= 10.0**first
    x[1] *= 10.0**second
    x[2] = 0
    x.requires_grad_()
    unit = unit_rows(x)
    torch.testing.assert_close(unit[:2].norm(dim=1), torch.ones(2))
    assert not unit[2].any()
    assert torch.autograd.grad(unit[:2].sum(), x)[0][:2].isfinite().all()


@given(st.floats(-44, 38), st.integers(1, 5))
@settings(deadline=None)
def test_kind_h_scales_are_powers_of_two(exponent, width):
    x = torch.zeros(2, width)
    x[0, 0] = 10.0**exponent
    scale = inverse_scale(x)
    assert scale.isfinite()
    assert torch.frexp(scale).mantissa == 0.5
    if -37 < exponent < 37:
        assert 0.5 <= x[0, 0] * scale < 1
    assert inverse_scale(x, dim=1).shape == (2, 1)
    assert inverse_scale(x, dim=1)[1] == 1


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_kind_h_similar_items_do_not_depend_on_the_scale(exponent, weighted):
    expected = similar_items(features(), HAS, 3, weighted)
    found = similar_items(features() * 2.0**exponent, HAS, 3, weighted)
    assert torch.equal(found.edge_index, expected.edge_index)
    torch.testing.assert_close(found.edge_weight, expected.edge_weight)
    assert expected.edge_index.size(1) == 10 * 3


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_kind_h_neighbours_of_new_items_do_not_depend_on_the_scale(exponent):
    data = random_data(features={"image": 5})
    graph = RecGraph.from_data(data, num_neighbors=3)
    new = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
    expected = graph.with_items({"image": new}, 2, 3).similar("image")[0]
    data["item"].x_image = data["item"].x_image * 2.0**exponent
    graph = RecGraph.from_data(data, num_neighbors=3)
    found = graph.with_items({"image": new * 2.0**exponent}, 2, 3).similar("image")[0]
    assert torch.equal(found, expected)
    assert expected[1, -6:].tolist() == [9] * 3 + [10] * 3


@pytest.mark.skipif(not has_faiss(), reason="faiss not installed")
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_kind_h_the_approximate_search_does_not_depend_on_the_scale(exponent):
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    expected, _ = approximate_neighbors(x, 5)
    assert torch.equal(approximate_neighbors(x * 2.0**exponent, 5)[0], expected)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_kind_h_content_neighbours_do_not_depend_on_the_scale(exponent):
    expected = content_neighbors([(features(), HAS)], [1.0], 3)
    found = content_neighbors([(features() * 2.0**exponent, HAS)], [1.0], 3)
    torch.testing.assert_close(found.weight, expected.weight)
    assert torch.equal(found.item, expected.item)
    assert (expected.weight[:4] > 0).any()


@pytest.mark.parametrize("exponent", [-100, -83, -60, 0, 40])
def test_kind_h_standardised_features_do_not_depend_on_the_scale(exponent):
    found = standardised(features() * 2.0**exponent, HAS)
    torch.testing.assert_close(found, standardised(features(), HAS))


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_kind_h_the_learned_graph_does_not_depend_on_the_scale(exponent):
    item = HAS.nonzero().flatten()
    item = item[item != 7]
    index, weight = cosine_graph(features() * 2.0**exponent, item, 3)
    expected_index, expected_weight = cosine_graph(features(), item, 3)
    assert torch.equal(index, expected_index)
    torch.testing.assert_close(weight, expected_weight)


@pytest.mark.parametrize("exponent", [-83, -30, 0, 30, 46])
def test_kind_h_generated_rows_do_not_depend_on_the_scale(exponent):
    generator = torch.Generator().manual_seed(0)
    user, item, table = (
        torch.randn(*size, generator=generator) for size in ((3, 4), (9, 4), (9, 2))
    )
    rows = RecGraph(torch.tensor([0, 2, 3, 5]), torch.tensor([1, 4, 0, 2, 3]), 9).rows(
        torch.arange(3)
    )
    expected = encode_similarities(user, item, rows, table)
    user = (user * 2.0**exponent).requires_grad_()
    found = encode_similarities(user, item * 2.0**exponent, rows, table)
    assert torch.equal(found, expected)
    (grad,) = torch.autograd.grad(found.sum(), user)
    assert grad.isfinite().all()
