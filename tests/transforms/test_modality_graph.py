"""The modality graphs link each item to its nearest, however they are computed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch_geometric.data import HeteroData
from torch_geometric.nn import SimpleConv

import graphdiff.graph.item_similarity as module
from graphdiff.errors import ConfigError
from graphdiff.schema import build_data, similar, validate
from graphdiff.transforms import ModalityGraph

NAN = float("nan")


def items(**features):
    size = len(next(iter(features.values())))
    return build_data(1, size, [[0], [0]], features=features)


def edges(data, modality="image"):
    return list(zip(*data[similar(modality)].edge_index.tolist(), strict=True))


def random_features(size=40, channels=6, seed=0):
    return np.random.default_rng(seed).normal(size=(size, channels))


def brute_force(x, k):
    """(neighbour, item) pairs, by sorting (−cosine, index) for each item."""
    norm = np.linalg.norm(x, axis=1)
    there = [i for i in range(len(x)) if norm[i] > 0 and not np.isnan(norm[i])]
    found = []
    for i in there:
        cosine = {j: (x[i] / norm[i]) @ (x[j] / norm[j]) for j in there if j != i}
        nearest = sorted(cosine, key=lambda j: (-round(cosine[j], 9), j))[:k]
        found += [(j, i) for j in sorted(nearest)]
    return found


@given(
    arrays(np.int8, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=st.integers(-2, 2)),
    st.integers(1, 10),
    st.integers(1, 30),
)
@settings(max_examples=150, deadline=None)
def test_it_is_what_sorting_gives_ties_included(x, k, block):
    # Small integers make ties, opposite, identical and zero rows.
    before = module.BLOCK_ENTRIES
    try:
        module.BLOCK_ENTRIES = block
        data = ModalityGraph(k)(items(image=x))
    finally:
        module.BLOCK_ENTRIES = before
    validate(data)
    assert edges(data) == brute_force(x.astype(float), k)


def test_random_features_in_blocks_or_whole(monkeypatch):
    x = random_features()
    graphs = []
    for entries in (1, 40 * 7, 2**22):
        monkeypatch.setattr(module, "BLOCK_ENTRIES", entries)
        graphs.append(edges(ModalityGraph(5)(items(image=x))))
    assert graphs[0] == graphs[1] == graphs[2] == brute_force(x, 5)


def test_every_item_has_k_neighbours_and_not_itself():
    source, target = ModalityGraph()(items(image=random_features()))[similar("image")].edge_index
    assert target.bincount().tolist() == [10] * 40
    assert (source != target).all()


def test_identical_items_take_the_lowest_indices():
    data = ModalityGraph(2)(items(image=np.full((5, 3), 0.1)))
    assert edges(data) == [(1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2)] + [
        (j, i) for i in (3, 4) for j in (0, 1)
    ]


def test_only_the_direction_counts():
    x = random_features()
    scaled = x * np.random.default_rng(1).uniform(0.01, 100, size=(40, 1))
    assert edges(ModalityGraph()(items(image=scaled))) == edges(ModalityGraph()(items(image=x)))


def test_relabelling_items_relabels_the_graph():
    x, order = random_features(), np.random.default_rng(1).permutation(40)
    relabelled = {(order[j], order[i]) for j, i in edges(ModalityGraph()(items(image=x[order])))}
    assert relabelled == set(edges(ModalityGraph()(items(image=x))))


@pytest.mark.parametrize("k", [3, 4, 100])
def test_a_small_catalogue_is_linked_completely(k):
    data = ModalityGraph(k)(items(image=random_features(4)))
    assert edges(data) == [(j, i) for i in range(4) for j in range(4) if j != i]
    assert data[similar("image")].edge_weight.tolist() == pytest.approx([1 / 3] * 12)


@pytest.mark.parametrize("x", [[[1.0]], [[NAN], [1.0], [NAN]], [[0.0], [0.0]]])
def test_with_one_item_or_none_there_is_an_empty_graph(x):
    data = ModalityGraph()(items(image=x))
    validate(data)
    assert data[similar("image")].edge_index.shape == (2, 0)
    assert data[similar("image")].edge_weight.shape == (0,)


def test_items_without_the_modality_have_no_edges():
    x = random_features()
    x[[3, 17]] = NAN
    x[21] = 0
    data = ModalityGraph(4)(items(image=x, text=random_features(seed=1)))
    linked = data[similar("image")].edge_index.unique().tolist()
    assert linked == [i for i in range(40) if i not in (3, 17, 21)]
    assert data[similar("text")].edge_index.unique().numel() == 40


def test_missing_rows_of_an_unprepared_graph_are_seen():
    data = HeteroData()
    data["item"].x_image = torch.tensor([[1.0, 0.0], [NAN, NAN], [1.0, 0.1], [0.0, 1.0]])
    data["item"].num_nodes = 4
    data = ModalityGraph(1)(data)
    assert edges(data) == [(2, 0), (0, 2), (2, 3)]
    assert data["item"].x_image[1].isnan().all()


def test_messages_are_the_mean_of_the_neighbours():
    x = random_features()
    data = ModalityGraph(5)(items(image=x))
    graph = data[similar("image")]
    assert graph.edge_weight.dtype == torch.float32
    value = torch.arange(40.0)[:, None]
    smoothed = SimpleConv()(value, graph.edge_index, graph.edge_weight)
    for i in range(40):
        neighbours = [j for j, target in brute_force(x, 5) if target == i]
        assert smoothed[i].item() == pytest.approx(np.mean(neighbours), rel=1e-5)


def test_the_argument_is_left_as_it_was_and_old_graphs_are_replaced():
    data = items(image=random_features())
    once = ModalityGraph(3)(data)
    assert similar("image") not in data.edge_types
    twice = ModalityGraph(2)(once)
    assert len(edges(once)) == 120
    assert len(edges(twice)) == 80


def test_without_modalities_nothing_is_added():
    data = build_data(1, 3, [[0], [0]])
    assert ModalityGraph()(data).edge_types == data.edge_types


def test_its_settings_show_and_are_checked():
    assert str(ModalityGraph(k=7)) == "ModalityGraph(k=7)"
    with pytest.raises(ConfigError, match="k is 0; an item needs at least 1 neighbour"):
        ModalityGraph(k=0)


@pytest.mark.gpu
def test_the_graph_of_a_gpu_is_that_of_the_cpu():
    data = items(image=random_features(300, 16))
    on_gpu = ModalityGraph()(data.to("cuda")).cpu()
    assert edges(on_gpu) == edges(ModalityGraph()(data.cpu()))


@pytest.mark.parametrize("k", [1, 4, 100])
def test_a_weighted_graph_is_the_normalised_matrix_of_cosines(k):
    x = random_features(12)
    x[5] = NAN
    data = ModalityGraph(k, weighted=True)(items(image=x))
    validate(data)
    there = [i for i in range(12) if i != 5]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    matrix = np.zeros((12, 12))
    for i in there:
        # The item is nearest to itself.
        nearest = sorted(there, key=lambda j, i=i: -(unit[i] @ unit[j]))[:k]
        assert nearest[0] == i
        matrix[i, nearest] = np.maximum(unit[nearest] @ unit[i], 0)
    degree = np.where(matrix.sum(axis=1) > 0, matrix.sum(axis=1), 1)
    graph = data[similar("image")]
    found = torch.zeros(12, 12)
    found[graph.edge_index[1], graph.edge_index[0]] = graph.edge_weight
    np.testing.assert_allclose(found, matrix / np.sqrt(np.outer(degree, degree)), rtol=1e-5)
    assert graph.edge_index.size(1) == 11 * min(k, 11)
    assert str(ModalityGraph(k, weighted=True)) == f"ModalityGraph(k={k}, weighted=True)"
