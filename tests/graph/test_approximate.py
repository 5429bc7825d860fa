"""Approximate neighbours are nearly the exact ones."""

import pytest
import torch

from graphdiff.graph.approximate import approximate_neighbors
from graphdiff.schema import build_data, similar, validate
from graphdiff.transforms import ModalityGraph

pytest.importorskip("faiss")


def features(num: int = 3000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(40, 16, generator=generator)
    kind = torch.randint(40, (num,), generator=generator)
    return centres[kind] + torch.randn(num, 16, generator=generator)


def test_most_neighbours_are_found_and_the_share_is_printed(capfd):
    data = build_data(1, 3000, [[0], [0]], features={"image": features()})
    data["item"].has_image[7] = False
    data["item"].x_image[7] = 0
    exact = ModalityGraph(k=5)(data.clone())
    near = ModalityGraph(k=5, exact_up_to=100)(data.clone())
    validate(near)
    pairs = [
        set(map(tuple, graph[similar("image")].edge_index.t().tolist())) for graph in (exact, near)
    ]
    assert len(pairs[1]) == 2999 * 5
    assert not any(7 in pair for pair in pairs[1])
    assert len(pairs[0] & pairs[1]) > 0.93 * len(pairs[0])
    assert near[similar("image")].recall >= 0.95
    assert "of the 5 nearest items found" in capfd.readouterr().err


def test_an_item_is_never_its_own_neighbour_even_among_copies():
    x = features(500).repeat_interleave(3, dim=0)
    neighbor, found = approximate_neighbors(x, k=2, recall=0.9)
    assert not (neighbor == torch.arange(1500).unsqueeze(1)).any()
    assert (neighbor[:, 0] < neighbor[:, 1]).all()
    assert 0 < found <= 1


def test_items_in_tiny_cells_get_all_their_neighbours():
    x = features(400)
    neighbor, _ = approximate_neighbors(x, k=60, recall=0.1)
    assert neighbor.min() >= 0
    assert neighbor.shape == (400, 60)
    assert (neighbor.diff(dim=1) > 0).all()
