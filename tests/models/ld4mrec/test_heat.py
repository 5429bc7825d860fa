"""Heat on item graphs, compared with dense matrices."""

import numpy as np
import pytest
import torch

from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.heat import ContentHeatProcess, HeatProcess
from graphdiff.nn import EncodedRows
from tests.conftest import random_data


def graph_of(features=None):
    return RecGraph.from_data(random_data(14, 10, features or {}), num_neighbors=3)


def dense_filter(graph, keep, largest=None):
    """Return A of the interactions ``keep`` in float64, and its largest eigenvalue unscaled."""
    x = np.zeros((graph.num_users, graph.num_items))
    x[graph.user[keep], graph.col[keep]] = 1
    user, item = np.maximum(x.sum(1), 1), np.maximum(x.sum(0), 1)
    r = user[:, None] ** -0.25 * x * item[None] ** -0.5
    a = r.T @ r
    largest = np.linalg.eigvalsh(a).max() if largest is None else largest
    return torch.from_numpy(a / largest), largest


@pytest.mark.parametrize("some", [False, True])
def test_heat_is_a_product_with_the_normalised_co_occurrence(some):
    graph = graph_of()
    every = torch.arange(graph.num_interactions)
    withheld = every[::3] if some else None
    _, largest = dense_filter(graph, every)
    keep = every[torch.isin(every, withheld, invert=True)] if some else every
    expected, _ = dense_filter(graph, keep, largest)
    table = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)).double()
    found = HeatProcess(3).smooth(table, graph, torch.empty(10, 0), withheld)
    torch.testing.assert_close(found, expected @ table, rtol=1e-5, atol=1e-6)


def test_content_heat_is_the_mean_of_the_neighbours_in_each_modality():
    data = random_data(14, 10, {"image": 6, "text": 5})
    data["item"].has_text[2] = False
    for name in ("image", "text"):
        data["item"][f"has_{name}"][3] = False
    graph = RecGraph.from_data(data, num_neighbors=3)
    weights = torch.full((10, 2), 0.5)
    weights[2] = torch.tensor([1.0, 0.0])
    weights[3] = 0
    expected = torch.zeros(10, 10)
    for m, name in enumerate(("image", "text")):
        (source, target), weight = graph.similar(name)
        expected[target, source] += weights[target, m] * weight
    expected[3, 3] = 1
    found = ContentHeatProcess(3).smooth(torch.eye(10), graph, weights, None)
    torch.testing.assert_close(found, expected)


def test_rows_are_smoothed_and_walk_back_as_dense_rows_do():
    process, graph = HeatProcess(4, strength=1.2), graph_of()
    smooth = process.smooth(torch.eye(10).double(), graph, torch.empty(10, 0), None)
    x, noisy = torch.rand(2, 5, 10, generator=torch.Generator().manual_seed(0)).double()
    table = torch.randn(10, 3, generator=torch.Generator().manual_seed(1)).double()

    def at(x, t):
        return x + 1.2 * t[:, None] / 4 * (x @ smooth - x)

    t = torch.tensor([4, 3, 2, 1, 1])
    whole = t.double()
    rows = EncodedRows(x @ table, x @ smooth @ table, table.T @ table, torch.ones(5))
    found = process.corrupt(rows, t, torch.zeros(5, 3))
    torch.testing.assert_close(found, at(x, whole) @ table, rtol=1e-9, atol=1e-9)
    expected = at(x, whole - 1) + 0.5 * (noisy - at(x, whole))
    found = process.step(rows, noisy @ table, t)
    torch.testing.assert_close(found, expected @ table, rtol=1e-9, atol=1e-9)
