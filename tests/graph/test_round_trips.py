"""Round trips over the user-item graph without weights of interactions."""

import pytest
import torch

from graphdiff.graph import RecGraph
from graphdiff.graph.message_graphs import item_to_user_graph, similarity_graph
from graphdiff.graph.round_trips import UnweightedRoundTrip, smoothed
from graphdiff.models import LD4MRec
from graphdiff.nn.signals import ModalitySignal
from tests.conftest import random_data


@pytest.fixture
def graph():
    """A graph with users without interactions, first and last, and items without any."""
    graph = RecGraph.from_data(random_data(60, 25, {"image": 6}))
    rowptr = torch.cat([torch.zeros(2).long(), graph.rowptr, graph.rowptr[-1:]])
    x, has = graph.features("image")
    x, has = torch.cat([x, x[:2]]), torch.cat([has, has[:2]])
    return RecGraph(rowptr, graph.col, graph.num_items + 2, {"image": x}, {"image": has})


def dense_round_trip(graph):
    """The matrix of a round trip, in double precision."""
    matrix = torch.from_numpy(graph.to_normalized_scipy().toarray())
    return matrix.T @ matrix


def test_a_round_trip_is_the_product_with_a_dense_matrix(graph):
    table = torch.randn(graph.num_items, 8, dtype=torch.float64)
    before = table.clone()
    found = UnweightedRoundTrip(graph)(table)
    torch.testing.assert_close(found, dense_round_trip(graph) @ table, rtol=1e-9, atol=1e-12)
    assert torch.equal(table, before)
    single = UnweightedRoundTrip(graph)(table.float())
    torch.testing.assert_close(single, found.float())
    half = UnweightedRoundTrip(graph)(table.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), found, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_smoothing_is_the_mean_of_all_layers(graph, num_layers):
    table = torch.randn(graph.num_items, 8, dtype=torch.float64)
    before, trip = table.clone(), dense_round_trip(graph)
    layers = [torch.linalg.matrix_power(trip, n) @ table for n in range(num_layers + 1)]
    found = smoothed(graph, table, num_layers)
    torch.testing.assert_close(found, sum(layers) / len(layers), rtol=1e-9, atol=1e-12)
    assert torch.equal(table, before)
    assert found.data_ptr() != table.data_ptr()


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_scaling_the_content_table_is_scaling_the_weights_of_edges(num_layers):
    graph = RecGraph.from_data(random_data(60, 25, {"image": 6}))
    table, has = torch.randn(25, 8, dtype=torch.float64), graph.features("image")[1]
    signal = ModalitySignal(num_layers, weight=4.0)  # its roots are exact
    scaled = similarity_graph(graph, {"image": signal.edge_share})
    expected = signal(table, has, scaled)
    found = signal(table, has, similarity_graph(graph, {"image": 1.0}), scaled=False)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_propagating_between_steps_copies_no_weights_of_messages():
    data, tables = random_data(60, 25, {"image": 6}), []
    for every in (0, 2):
        torch.manual_seed(0)
        settings = {"hidden_channels": 8, "propagation.every": every}
        model = LD4MRec.from_data(data, **settings)
        model.start_epoch(torch.Generator().manual_seed(0))
        tables.append(model.tables())
        held = {key[0] for key in model.graph._memo}
        assert (item_to_user_graph in held) == (every == 0)
        if every:
            used = model.graph.cached(similarity_graph, {"image": 1.0}).matrix
            index, weight = model.graph.similar("image")
            assert used.values().data_ptr() == weight.data_ptr()
            assert used.col_indices().data_ptr() == index.data_ptr()
    torch.testing.assert_close(tables[0].row_encoder, tables[1].row_encoder)
    torch.testing.assert_close(tables[0].item, tables[1].item)
