"""Item clusters: items with common users share a cluster, deterministically."""

import torch

from graphdiff.graph.store import RecGraph
from graphdiff.models.ldiffrec.item_clusters import item_clusters
from graphdiff.schema import build_data
from tests.conftest import random_data


def blocks(sizes, num_users=30, seed=0):
    """Return a graph whose users have items of one block each, shuffled, and the blocks."""
    generator = torch.Generator().manual_seed(seed)
    block = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    block = block[torch.randperm(len(block), generator=generator)]
    taste = torch.arange(num_users) % len(sizes)
    likes = torch.rand(num_users, len(block), generator=generator) < 0.7
    pairs = (likes & (taste[:, None] == block[None])).nonzero().t().contiguous()
    return RecGraph.from_data(build_data(num_users, len(block), pairs)), block


def same_groups(one, other):
    return torch.equal(one[:, None] == one[None], other[:, None] == other[None])


def test_blocks_of_items_are_found():
    graph, block = blocks([12, 8, 10])
    assert same_groups(item_clusters(graph, 3), block)
    assert same_groups(item_clusters(graph, 3, channels=4), block)  # by ARPACK


def test_clusters_are_deterministic():
    graph = RecGraph.from_data(random_data(60, 50))
    first = item_clusters(graph, 4, channels=8)
    torch.manual_seed(1)
    assert torch.equal(item_clusters(graph, 4, channels=8), first)


def test_cluster_numbers_are_contiguous():
    graph = RecGraph.from_data(random_data())
    for wanted in (1, 2, 5, 9, 20):
        label = item_clusters(graph, wanted)
        assert label.shape == (9,)
        assert label.unique().tolist() == list(range(int(label.max()) + 1))
        assert label.max() < wanted
    assert item_clusters(graph, 1).tolist() == [0] * 9


def test_identical_items_form_one_cluster():
    everything = torch.cartesian_prod(torch.arange(3), torch.arange(4)).t()
    graph = RecGraph.from_data(build_data(3, 4, everything))
    assert item_clusters(graph, 2).unique().numel() <= 2
