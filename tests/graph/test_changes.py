"""Graphs with more interactions, or without some users and items."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.graph.changes import with_interactions, without_nodes
from graphdiff.graph.store import RecGraph
from tests.conftest import random_data

PAIRS = st.lists(st.tuples(st.integers(0, 13), st.integers(0, 8)), max_size=30)


def pairs_of(graph):
    return set(zip(graph.user.tolist(), graph.col.tolist(), strict=True))


def make():
    return RecGraph.from_data(random_data(features={"image": 6, "text": 5}), num_neighbors=3)


@settings(max_examples=30, deadline=None)
@given(PAIRS)
def test_added_interactions_are_a_union_of_pairs(pairs):
    graph = make()
    before = pairs_of(graph)
    user, item = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(dim=1)
    changed, new = with_interactions(graph, user, item, num_users=14)
    assert pairs_of(changed) == before | set(pairs)
    assert sorted(map(tuple, new.t().tolist())) == sorted(set(pairs) - before)
    assert changed.num_users == 14
    for name in graph.modalities:
        assert changed.features(name)[0] is graph.features(name)[0]
        assert changed.similar(name)[0] is graph.similar(name)[0]
    # Rows are sorted, as those of a graph that was read from data.
    rows = changed.rows(torch.arange(14))
    assert (rows.row * 9 + rows.item).diff().gt(0).all()
    assert pairs_of(graph) == before


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 11), max_size=5), st.sets(st.integers(0, 8), max_size=5))
def test_removed_users_and_items_leave_nothing(users, items):
    graph = make()
    keep_users, keep_items = torch.ones(12, dtype=torch.bool), torch.ones(9, dtype=torch.bool)
    keep_users[list(users)], keep_items[list(items)] = False, False
    changed = without_nodes(graph, keep_users, keep_items)
    old_user = keep_users.nonzero().flatten().tolist()
    old_item = keep_items.nonzero().flatten().tolist()
    assert {(old_user[u], old_item[i]) for u, i in pairs_of(changed)} == {
        (u, i) for u, i in pairs_of(graph) if u not in users and i not in items
    }
    for name in graph.modalities:
        assert torch.equal(changed.features(name)[0], graph.features(name)[0][keep_items])
        found, weight = changed.similar(name)
        edges = {(old_item[s], old_item[t]) for s, t in found.t().tolist()}
        source, target = graph.similar(name)[0]
        assert edges == {
            (s, t)
            for s, t in zip(source.tolist(), target.tolist(), strict=True)
            if s not in items and t not in items
        }
        assert weight.numel() == found.size(1)
