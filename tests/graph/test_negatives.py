"""Negative items are uniform over what a user has not interacted with."""

import torch

from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.store import RecGraph
from graphdiff.schema import build_data
from tests.conftest import random_data


def test_negatives_are_never_training_items():
    graph = RecGraph.from_data(random_data(30, 8, density=0.8))
    trained = graph.col.unique()
    assert graph.trained_items().tolist() == trained.tolist() == list(range(7))
    users = torch.arange(30).repeat(50)
    negative = sample_negatives(graph, users, torch.Generator().manual_seed(0))
    seen = torch.zeros(30, 8, dtype=torch.bool)
    seen[graph.user, graph.col] = True
    some_left = ~seen[:, trained].all(dim=1)
    assert some_left.sum() > 20
    assert not seen[users, negative][some_left[users]].any()
    # All remaining items are sampled, but never untouched items.
    drawn = torch.zeros(30, 8, dtype=torch.bool)
    drawn[users, negative] = True
    assert torch.equal(drawn[some_left][:, trained], ~seen[some_left][:, trained])
    assert not drawn[:, 7].any()


def test_negatives_of_a_user_who_has_everything():
    graph = RecGraph(torch.tensor([0, 2]), torch.tensor([0, 1]), num_items=2)
    negative = sample_negatives(graph, torch.zeros(5, dtype=torch.long), torch.Generator())
    assert ((negative >= 0) & (negative < 2)).all()


def test_negatives_skip_untrained_items_anywhere_in_the_catalogue():
    pairs = [[0, 0, 1, 2, 2], [1, 4, 6, 1, 9]]
    graph = RecGraph.from_data(build_data(3, 11, pairs), content=False)
    negative = sample_negatives(
        graph, torch.arange(3).repeat(200), torch.Generator().manual_seed(0)
    ).view(200, 3)
    counts = [column.unique(return_counts=True) for column in negative.t()]
    assert [item.tolist() for item, _ in counts] == [[6, 9], [1, 4, 9], [4, 6]]
    assert min(int(count.min()) for _, count in counts) > 45


def test_negatives_from_the_whole_catalogue():
    graph = RecGraph.from_data(build_data(2, 5, [[0, 0, 1], [1, 4, 1]]), content=False)
    negative = sample_negatives(
        graph, torch.arange(2).repeat(400), torch.Generator().manual_seed(0), untouched=True
    ).view(400, 2)
    counts = [column.unique(return_counts=True) for column in negative.t()]
    assert [item.tolist() for item, _ in counts] == [[0, 2, 3], [0, 2, 3, 4]]
    assert min(int(count.min()) for _, count in counts) > 60


def test_negatives_of_a_user_who_has_nearly_everything():
    free = [0, 499, 500, 999]
    has = [item for item in range(1000) if item not in free]
    pairs = [[0] * 996 + [1, 1] + [2] * 4, [*has, 3, 7, *free]]
    graph = RecGraph.from_data(build_data(3, 1000, pairs), content=False)
    generator = torch.Generator().manual_seed(0)
    users = torch.tensor([0, 1]).repeat(4000)
    negative = sample_negatives(graph, users, generator)
    assert negative[0::2].unique().tolist() == free
    counts = torch.bincount(negative[0::2], minlength=1000)[free]
    assert counts.min() > 850  # of 1000 expected, with a standard deviation of 27
    assert not {3, 7} & set(negative[1::2].tolist())
