"""Message graphs against dense matrices."""

import torch

from graphdiff.graph.message_graphs import (
    item_to_user_graph,
    item_to_user_graph_without,
    similarity_graph,
    strongest_similarity_graph,
    user_item_graph,
)
from graphdiff.graph.propagation import FixedConv
from graphdiff.graph.store import RecGraph
from graphdiff.schema import build_data


def test_the_user_item_graph_is_symmetrically_normalised(plain_data):
    graph = RecGraph.from_data(plain_data)
    adjacency = torch.zeros(21, 21)
    adjacency[graph.user, graph.col + 12] = adjacency[graph.col + 12, graph.user] = 1
    kept = torch.arange(0, graph.num_interactions, 2)
    part = torch.zeros(21, 21)
    user, item = graph.user[kept], graph.col[kept] + 12
    part[user, item] = part[item, user] = 1
    for found, matrix in (
        (user_item_graph(graph), adjacency),
        (user_item_graph(graph, kept), part),
    ):
        scale = matrix.sum(dim=1).clamp(min=1).rsqrt()
        expected = scale[:, None] * matrix * scale
        torch.testing.assert_close(FixedConv()(torch.eye(21), found), expected)


def test_items_send_to_their_users(plain_data):
    graph = RecGraph.from_data(plain_data)
    x = graph.rows(torch.arange(12)).dense(9)
    torch.testing.assert_close(
        FixedConv()(torch.eye(9), item_to_user_graph(graph, normalized=False)), x
    )
    scale = x.sum(dim=1, keepdim=True).rsqrt() * x.sum(dim=0).clamp(min=1).rsqrt()
    torch.testing.assert_close(FixedConv()(torch.eye(9), item_to_user_graph(graph)), scale * x)


def test_removed_interactions_do_not_count(plain_data):
    graph = RecGraph.from_data(plain_data)
    user = torch.tensor([3, 0, 7])
    rows, position = graph.located_rows(user)
    assert torch.equal(rows.item, graph.col[position])
    assert torch.equal(user[rows.row], graph.user[position])
    left = position[::2]
    kept = torch.ones(graph.num_interactions, dtype=torch.bool)
    kept[left] = False
    pairs = torch.stack([graph.user, graph.col])[:, kept]
    without = RecGraph.from_data(build_data(graph.num_users, graph.num_items, pairs))
    for found, expected in (
        (item_to_user_graph_without(graph, left), item_to_user_graph(without)),
        (graph.cached(item_to_user_graph), item_to_user_graph(graph)),
    ):
        for one, other in ((found, expected), (found.reversed(), expected.reversed())):
            x = torch.randn(one.num_sources, 5)
            torch.testing.assert_close(FixedConv()(x, one), FixedConv()(x, other))


def test_an_edge_of_several_graphs_gets_its_largest_weight(multimodal_data):
    graph = RecGraph.from_data(multimodal_data, num_neighbors=4, weighted=True)
    whole = torch.zeros(2, 9, 9)
    for n, name in enumerate(graph.modalities):
        (source, target), weight = graph.similar(name)
        whole[n, target, source] = weight
    union = strongest_similarity_graph(graph)
    found = FixedConv()(torch.eye(9), union)
    assert torch.equal(found, whole.amax(dim=0))


def test_similarity_graphs_are_scaled_by_share(multimodal_data):
    graph = RecGraph.from_data(multimodal_data, num_neighbors=2)
    mixed = similarity_graph(graph, {"image": 0.25, "text": 0.75}).matrix
    expected = torch.zeros(9, 9)
    for name, share in (("image", 0.25), ("text", 0.75)):
        (source, target), weight = graph.similar(name)
        expected[target, source] += share * weight
    torch.testing.assert_close(mixed.to_dense(), expected)
