import torch

from graphdiff.graph.self_looped_graph import self_looped_graph


def dense(graph):
    return graph.matrix.to_dense()


def test_the_looped_graph_is_symmetrically_normalised():
    user, item = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 2])
    adjacency = torch.eye(5)
    adjacency[user, item + 2] = adjacency[item + 2, user] = 1
    degree = adjacency.sum(dim=1)
    expected = adjacency / (degree[:, None] * degree[None]).sqrt()
    torch.testing.assert_close(dense(self_looped_graph(user, item, 2, 3)), expected)


def test_kept_edges_are_scaled_and_drawn_one_by_one():
    user = torch.arange(300)
    whole = dense(self_looped_graph(user, user, 300, 300))
    kept = dense(self_looped_graph(user, user, 300, 300, 0.5, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(kept[kept > 0], 2 * whole[kept > 0])
    assert abs((kept > 0).sum() / (whole > 0).sum() - 0.5) < 0.05
    assert not torch.equal(kept, kept.t())
