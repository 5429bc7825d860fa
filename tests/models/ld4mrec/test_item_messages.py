"""Message passing over both kinds of graphs, against dense matrices."""

import pytest
import torch

from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec import item_messages
from graphdiff.models.ld4mrec.item_messages import ItemMessages
from tests.conftest import random_data

NUM_USERS, NUM_ITEMS, CHANNELS = 12, 9, 4
SHARES = torch.tensor([0.25, 0.75])


@pytest.fixture
def graph():
    """Item 2 lacks an image, item 3 a text, item 4 both."""
    data = random_data(NUM_USERS, NUM_ITEMS, {"image": 6, "text": 5})
    for name, lacking in (("image", [2, 4]), ("text", [3, 4])):
        data["item"][f"has_{name}"][lacking] = False
        data["item"][f"x_{name}"][lacking] = 0
    return RecGraph.from_data(data, num_neighbors=3)


def interactions(graph, without=()):
    matrix = torch.zeros(NUM_USERS, NUM_ITEMS)
    kept = [n for n in range(graph.num_interactions) if n not in set(without)]
    matrix[graph.user[kept], graph.col[kept]] = 1
    degrees = matrix.sum(1, keepdim=True).clamp(min=1) * matrix.sum(0).clamp(min=1)
    return matrix / degrees.sqrt()


def similar(graph, name):
    (source, target), weight = graph.similar(name)
    matrix = torch.zeros(NUM_ITEMS, NUM_ITEMS)
    matrix[target, source] = weight
    return matrix


def dense_tables(graph, items, num_layers, num_item_layers, weight, without=()):
    """Z, C and the M_m."""
    normed = interactions(graph, without)
    trip = normed.t() @ normed
    powers = [torch.linalg.matrix_power(trip, n) @ items for n in range(num_layers + 1)]
    tables = [torch.stack(powers).mean(dim=0)]
    mask = torch.stack([graph.features(name)[1] for name in graph.modalities], dim=1)
    share = mask * SHARES
    share = share / share.sum(dim=1, keepdim=True).clamp(min=1e-12)
    for name, has in zip(graph.modalities, mask.unbind(1), strict=True):
        smoothed = torch.linalg.matrix_power(similar(graph, name), num_item_layers) @ items
        tables.append(weight * smoothed * has.unsqueeze(1))
    mixed = sum(share[:, m : m + 1] * tables[1 + m] for m in range(2))
    return tables[0] + mixed, tables


@pytest.mark.parametrize(("num_layers", "num_item_layers"), [(0, 0), (1, 1), (2, 1), (3, 2)])
def test_tables_are_those_of_dense_matrices(graph, num_layers, num_item_layers):
    items = torch.randn(NUM_ITEMS, CHANNELS)
    messages = ItemMessages(num_layers, num_item_layers, content_weight=1.7)
    encoder, tables = messages(items, graph, SHARES)
    expected, dense = dense_tables(graph, items, num_layers, num_item_layers, 1.7)
    torch.testing.assert_close(encoder, expected)
    for table, expected in zip(tables, dense, strict=True):
        torch.testing.assert_close(table, expected)


def test_withheld_interactions_carry_no_message(graph):
    items, withheld = torch.randn(NUM_ITEMS, CHANNELS), torch.tensor([0, 3, 7, 8])
    messages = ItemMessages(2, 1, content_weight=1.7, every=0)
    table, shift, tables, _ = messages.for_step(items, graph, SHARES, withheld)
    expected, dense = dense_tables(graph, items, 2, 1, 1.7, withheld.tolist())
    assert shift is None
    torch.testing.assert_close(table, expected)
    torch.testing.assert_close(tables, torch.cat(dense, dim=1))
    collaborative = tables[:, :CHANNELS]
    assert not torch.allclose(collaborative, dense_tables(graph, items, 2, 1, 1.7)[1][0])


def test_every_step_has_the_gradient_of_propagation(graph):
    items = torch.randn(NUM_ITEMS, CHANNELS, requires_grad=True)
    messages = ItemMessages(2, 1, content_weight=1.7, every=0)
    weight = torch.randn(NUM_ITEMS, CHANNELS)
    table = messages.for_step(items, graph, SHARES).table
    (found,) = torch.autograd.grad((table * weight).sum(), items)
    expected, _ = dense_tables(graph, items, 2, 1, 1.7)
    (reference,) = torch.autograd.grad((expected * weight).sum(), items)
    torch.testing.assert_close(found, reference)


def test_between_two_propagations_the_table_moves_as_the_embeddings_do(graph):
    items = torch.randn(NUM_ITEMS, CHANNELS, requires_grad=True)
    messages = ItemMessages(2, 1, content_weight=1.7, every=2)
    first = messages.for_step(items, graph, SHARES)
    expected, _ = dense_tables(graph, items, 2, 1, 1.7)
    torch.testing.assert_close(first.table + first.shift, expected)
    assert first.table is items
    assert not first.shift.requires_grad
    moved = items + 1
    second = messages.for_step(moved, graph, SHARES)
    assert second.shift is first.shift
    third = messages.for_step(moved, graph, SHARES)
    expected, _ = dense_tables(graph, moved, 2, 1, 1.7)
    torch.testing.assert_close(third.table + third.shift, expected)
    messages.invalidate()
    assert messages.for_step(moved, graph, SHARES).shift is not third.shift


def test_small_graphs_propagate_in_every_step(graph, monkeypatch):
    messages = ItemMessages(2, 1, content_weight=1.0)
    assert messages.steps_between(graph) == 0
    monkeypatch.setattr(item_messages, "SMALL_GRAPH", 10)
    assert messages.steps_between(graph) == 100
    assert ItemMessages(2, 1, 1.0, every=7).steps_between(graph) == 7


def test_an_item_has_weights_for_the_modalities_it_has(graph):
    weight = ItemMessages(1, 1, 1.0).modality_weights(graph, SHARES)
    assert weight[1].tolist() == [0.25, 0.75]
    assert weight[2].tolist() == [0, 1]
    assert weight[3].tolist() == [1, 0]
    assert weight[4].tolist() == [0, 0]
    chosen = ItemMessages(1, 1, 1.0).modality_weights(graph, SHARES, torch.tensor([3, 1]))
    assert torch.equal(chosen, weight[[3, 1]])


def test_graphs_without_modalities():
    graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2]), num_items=3)
    encoder, tables = ItemMessages(1, 1, 1.0)(torch.eye(3), graph, torch.ones(0))
    assert len(tables) == 1
    assert torch.equal(encoder, tables[0])
