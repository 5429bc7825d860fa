"""Cosine graphs against dense matrices."""

import torch

from graphdiff.models.lattice import learned_graph
from graphdiff.models.lattice.learned_graph import cosine_graph


def dense_graph(x, item, k):
    """Return the normalised matrix, target by source, entry by entry."""
    adjacency = torch.zeros(len(x), len(x), dtype=x.dtype)
    for i in item.tolist():
        cosine = {j: torch.cosine_similarity(x[i], x[j], dim=0) for j in item.tolist()}
        for j in sorted(cosine, key=lambda j: -cosine[j].item())[:k]:
            adjacency[i, j] = cosine[j].clamp(min=0)
    degree = adjacency.sum(dim=1).clamp(min=1e-12)
    return adjacency / (degree[:, None] * degree[None, :]).sqrt()


def as_matrix(x, edge_index, edge_weight):
    out = torch.zeros(len(x), len(x), dtype=edge_weight.dtype)
    return out.index_put((edge_index[1], edge_index[0]), edge_weight)


def test_weights_and_gradients_equal_the_dense_graph():
    x = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    item = torch.tensor([0, 1, 3, 4, 5, 8, 10, 11])
    probe = torch.randn(12, 12, dtype=torch.float64)
    found, expected = as_matrix(x, *cosine_graph(x, item, 4)), dense_graph(x, item, 4)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((m * probe).sum(), x)[0] for m in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_the_block_size_does_not_matter(monkeypatch):
    x, item = torch.randn(30, 4), torch.arange(30)
    whole = cosine_graph(x, item, 5)
    monkeypatch.setattr(learned_graph, "BLOCK_ENTRIES", 70)
    for found, expected in zip(cosine_graph(x, item, 5), whole, strict=True):
        torch.testing.assert_close(found, expected)


def test_few_items_and_none():
    x = torch.rand(4, 3)
    edge_index, _ = cosine_graph(x, torch.tensor([1, 2]), 5)
    assert sorted(edge_index.t().tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]
    edge_index, edge_weight = cosine_graph(x, torch.tensor([], dtype=torch.long), 5)
    assert edge_index.shape == (2, 0)
    assert edge_weight.shape == (0,)
