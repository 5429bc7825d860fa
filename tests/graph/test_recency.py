"""The order of a user's interactions, and weights from it."""

from functools import partial

import numpy as np
import pytest
import torch

from graphdiff.graph import RecGraph, recency
from graphdiff.graph.changes import with_interactions, without_interactions, without_nodes
from graphdiff.graph.recency import ages, last_places, recency_weights
from graphdiff.graph.rows import Rows
from graphdiff.schema import INTERACTS, pairs
from tests.conftest import random_data


def timed_data(seed=0, most=None, **sizes):
    """Random data whose interactions happened in random order, at ``most`` different times."""
    data = random_data(**sizes, seed=seed)
    num = data[INTERACTS].edge_index.size(1)
    generator = torch.Generator().manual_seed(seed)
    time = torch.randperm(num, generator=generator)
    data[INTERACTS].time = time if most is None else time % most
    return data


def later(user, time):
    """For each interaction, later ones of its user, and half of those at the same time."""
    same = user[:, None] == user
    after = (same & (time > time[:, None])).sum(axis=1)
    return after + ((same & (time == time[:, None])).sum(axis=1) - 1) / 2


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
@pytest.mark.parametrize("most", [1, 4, 1000])
def test_ages_count_later_interactions(dtype, most):
    rng = np.random.default_rng(0)
    user, time = rng.integers(9, size=200), rng.integers(most, size=200).astype(dtype)
    found = ages(torch.from_numpy(user), torch.from_numpy(time))
    np.testing.assert_allclose(found, later(user, time))


def test_ages_block_by_block(monkeypatch):
    user = torch.arange(50).repeat_interleave(7)
    time = torch.randint(9, (350,), generator=torch.Generator().manual_seed(0))
    whole = ages(user, time)
    monkeypatch.setattr(recency, "whole_groups", partial(pairs.whole_groups, size=10))
    assert torch.equal(ages(user, time), whole)


def test_ages_of_nothing():
    none = torch.empty(0, dtype=torch.long)
    assert ages(none, none).shape == (0,)


def test_a_graph_has_the_ages_of_its_interactions_in_any_order_of_edges():
    data = timed_data(most=7)
    store = data[INTERACTS]
    (user, item), time = store.edge_index.numpy(), store.time.numpy()
    expected = {
        (int(u), int(i)): age for u, i, age in zip(user, item, later(user, time), strict=True)
    }
    for order in (torch.arange(len(time)), torch.arange(len(time)).flip(0)):
        store.edge_index, store.time = store.edge_index[:, order], store.time[order]
        graph = RecGraph.from_data(data)
        found = zip(graph.user.tolist(), graph.col.tolist(), strict=True)
        assert dict(zip(found, graph.age.tolist(), strict=True)) == expected
        for users in (torch.tensor([3]), torch.tensor([5, 0, 5])):
            rows = graph.rows(users)
            found = zip(
                users[rows.row].tolist(), rows.item.tolist(), rows.age.tolist(), strict=True
            )
            assert all(expected[u, i] == age for u, i, age in found)


def test_a_graph_without_times_knows_no_order():
    graph = RecGraph.from_data(random_data())
    assert graph.age is None
    assert graph.rows(torch.tensor([0, 1])).age is None
    assert "age" not in graph.state_dict()
    changed, _ = with_interactions(graph, torch.tensor([0]), torch.tensor([8]), num_users=12)
    assert changed.age is None


def test_parts_of_rows_keep_their_ages():
    rows = RecGraph.from_data(timed_data()).rows(torch.arange(12))
    part = rows.part(slice(2, 5))
    assert torch.equal(part.age, rows.age[rows.entries(slice(2, 5))])
    index = torch.arange(0, rows.item.numel(), 2)
    assert torch.equal(rows.select(index).age, rows.age[index])


def in_order(graph, user):
    """The items of a user, the latest first."""
    rows = graph.rows(torch.tensor([user]))
    return rows.item[rows.age.argsort(stable=True)].tolist()


def test_new_interactions_are_the_latest_in_their_order():
    graph = RecGraph.from_data(timed_data())
    before = in_order(graph, 4)
    known, fresh = before[-1], [i for i in range(9) if i not in before][:3]
    items = torch.tensor([fresh[1], known, fresh[0], fresh[2], fresh[0]])
    changed, _ = with_interactions(graph, torch.full((5,), 4), items, num_users=13)
    assert in_order(changed, 4) == [fresh[0], fresh[2], fresh[1], *before]
    assert in_order(changed, 3) == in_order(graph, 3)
    assert changed.rows(torch.tensor([4])).age.sort().values.tolist() == list(
        range(len(before) + 3)
    )


def test_the_order_stays_when_others_are_removed():
    graph = RecGraph.from_data(timed_data(num_items=20))
    before = in_order(graph, 4)
    removed = graph.col == before[1]
    assert in_order(without_interactions(graph, removed), 4) == [before[0], *before[2:]]
    items = torch.ones(20, dtype=torch.bool)
    items[before[0]] = False
    changed = without_nodes(graph, torch.arange(12) != 2, items)
    expected = [item - (item > before[0]) for item in before[1:]]
    assert in_order(changed, 3) == expected  # user 4 has moved up


def test_weights_fall_with_age_and_have_a_mean_of_one():
    rows = Rows(
        torch.tensor([0, 0, 0, 2]), torch.tensor([1, 2, 3, 0]), 3, torch.tensor([2.0, 0, 1, 0])
    )
    weight = recency_weights(rows, 0.5)
    expected = torch.tensor([3.0, 1.0, 2.0]).rsqrt()
    torch.testing.assert_close(weight[:3], 3 * expected / expected.sum())
    assert weight[3] == 1
    assert recency_weights(rows, 0.0) is None
    assert recency_weights(rows._replace(age=None), 0.5) is None


def test_of_repeats_the_last_place_counts():
    key = torch.tensor([4, 1, 4, 9, 1])
    values, place = last_places(key)
    assert (values.tolist(), place.tolist()) == ([1, 4, 9], [4, 2, 3])


def test_changes_of_a_graph_keep_the_precision_of_its_ages():
    for dtype in (torch.float32, torch.float64):
        graph = RecGraph.from_data(timed_data(num_items=20)).to(dtype)
        items = torch.tensor([8, 9, 10])
        changed, _ = with_interactions(graph, torch.tensor([0, 3, 3]), items, num_users=12)
        everything = torch.ones(12, dtype=torch.bool), torch.arange(20) != 2
        others = without_nodes(graph, *everything), without_interactions(graph, graph.col == 1)
        assert [one.age.dtype for one in (changed, *others)] == [dtype] * 3
        assert ages(graph.user.flip(0), -graph.age.flip(0), dtype).dtype == dtype


def test_the_order_of_very_many_new_interactions_is_known():
    graph = RecGraph(torch.tensor([0, 1]), torch.tensor([0]), 4, age=torch.zeros(1))
    # Place 2^24 + 1 is no float32.
    item = torch.zeros(2**24 + 3, dtype=torch.long)
    item[2**24 :] = torch.tensor([2, 1, 3])
    changed, _ = with_interactions(graph, torch.zeros_like(item), item, num_users=1)
    assert changed.age.tolist() == [3, 1, 2, 0]
    assert in_order(changed, 0) == [3, 1, 2, 0]
