"""Graphs with more interactions, or without some users and items, made from an existing graph."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.recency import ages, last_places
from graphdiff.graph.store import RecGraph


def with_interactions(
    graph: RecGraph, user: Tensor, item: Tensor, num_users: int
) -> tuple[RecGraph, Tensor]:
    """Add interactions and users to a graph. Pairs that it has already are not added twice.

    Where the graph knows the order of a user's interactions, the new ones are the latest, in the
    order in which they are given.

    Args:
        graph: The graph; not modified, and its item content is shared.
        user: User of each interaction to add, long ``[n]``.
        item: Item of each, long ``[n]``.
        num_users: Number of users of the result, at least that of ``graph``.

    Returns:
        The graph, and the interactions (user, item) that are new to it, long ``[2, m]``.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 2]), torch.tensor([0, 1]), num_items=3)
        >>> user, item = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
        >>> graph, added = with_interactions(graph, user, item, num_users=2)
        >>> graph.num_interactions, added.tolist()
        (4, [[0, 1], [2, 2]])
    """
    size = graph.num_items
    old = graph.user * size + graph.col
    new, place = last_places(user * size + item)
    unknown = ~torch.isin(new, old)
    new, place = new[unknown], place[unknown]
    key, order = torch.cat([old, new]).sort()
    time = None
    if graph.age is not None:
        # Integers, since float32 does not distinguish places from 2^24 on.
        rank = (-graph.age).unique(return_inverse=True)[1]
        time = torch.cat([rank - old.numel(), place])[order]
    added = torch.stack([new // size, new % size])
    return _rebuilt(graph, key // size, key % size, num_users, time=time), added


def without_nodes(graph: RecGraph, users: Tensor, items: Tensor) -> RecGraph:
    """Remove users and items from a graph, with their interactions, features and edges.

    The others keep their order and are numbered from 0 on.

    Args:
        graph: The graph; not modified.
        users: Users to keep, bool ``[U]``.
        items: Items to keep, bool ``[I]``.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)
        >>> without_nodes(graph, torch.tensor([True, True]), torch.tensor([False, True]))
        RecGraph(2 users, 1 items, 2 interactions, modalities=[])
    """
    kept = users[graph.user] & items[graph.col]
    user = (users.cumsum(0) - 1)[graph.user[kept]]
    item = (items.cumsum(0) - 1)[graph.col[kept]]
    time = None if graph.age is None else -graph.age[kept]
    return _rebuilt(graph, user, item, int(users.sum()), items, time)


def without_interactions(graph: RecGraph, removed: Tensor) -> RecGraph:
    """Remove interactions from a graph; users, items and their content stay.

    Args:
        graph: The graph; not modified, and its item content is shared.
        removed: Interactions to remove, bool ``[E]``.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 2]), torch.tensor([0, 1]), num_items=2)
        >>> without_interactions(graph, torch.tensor([True, False]))
        RecGraph(1 users, 2 items, 1 interactions, modalities=[])
    """
    user, item = graph.user[~removed], graph.col[~removed]
    time = None if graph.age is None else -graph.age[~removed]
    return _rebuilt(graph, user, item, graph.num_users, time=time)


def _rebuilt(
    graph: RecGraph,
    user: Tensor,
    item: Tensor,
    num_users: int,
    kept: Tensor | None = None,
    time: Tensor | None = None,
) -> RecGraph:
    """Return a graph of interactions sorted by user, then item, in the order of ``time``, with the
    content of ``graph``, or of its items ``kept``, bool ``[I]``."""
    rowptr = item.new_zeros(num_users + 1)
    rowptr[1:] = torch.bincount(user, minlength=num_users).cumsum(0)
    xs, masks, edges = {}, {}, {}
    for name in graph.modalities:
        x, has = graph.features(name)
        xs[name], masks[name] = (x, has) if kept is None else (x[kept], has[kept])
        if hasattr(graph, f"similar_{name}_index"):
            edges[name] = _edges(*graph.similar(name), kept)
    num_items = graph.num_items if kept is None else int(kept.sum())
    # A model in double precision stays one.
    age = None if time is None or graph.age is None else ages(user, time, graph.age.dtype)
    return RecGraph(rowptr, item, num_items, xs, masks, edges or None, age)


def _edges(index: Tensor, weight: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    if kept is None:
        return index, weight
    both = kept[index].all(dim=0)
    return (kept.cumsum(0) - 1)[index[:, both]], weight[both]
