"""Graphs with more interactions, or without some users and items, made from an existing graph."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.store import RecGraph


def with_interactions(
    graph: RecGraph, user: Tensor, item: Tensor, num_users: int
) -> tuple[RecGraph, Tensor]:
    """Add interactions and users to a graph. Pairs that it has already are not added twice.

    Args:
        graph: The graph; not modified, and its item content is shared.
        user: User of each interaction to add, long ``[n]``.
        item: Item of each, long ``[n]``.
        num_users: Number of users of the result, at least that of ``graph``.

    Returns:
        The graph, and the users of the interactions that are new to it, long ``[m]``, one entry for
        each.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 2]), torch.tensor([0, 1]), num_items=3)
        >>> with_interactions(graph, torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]), num_users=2)
        (RecGraph(2 users, 3 items, 4 interactions, modalities=[]), tensor([0, 1]))
    """
    size = graph.num_items
    old = graph.user * size + graph.col
    new = (user * size + item).unique()
    new = new[~torch.isin(new, old)]
    key = torch.cat([old, new]).sort().values
    return _rebuilt(graph, key // size, key % size, num_users), new // size


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
    return _rebuilt(graph, user, item, int(users.sum()), items)


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
    return _rebuilt(graph, graph.user[~removed], graph.col[~removed], graph.num_users)


def _rebuilt(
    graph: RecGraph, user: Tensor, item: Tensor, num_users: int, kept: Tensor | None = None
) -> RecGraph:
    """Return a graph of interactions sorted by user, then item, with the content of ``graph``, or
    of its items ``kept``, bool ``[I]``."""
    rowptr = item.new_zeros(num_users + 1)
    rowptr[1:] = torch.bincount(user, minlength=num_users).cumsum(0)
    xs, masks, edges = {}, {}, {}
    for name in graph.modalities:
        x, has = graph.features(name)
        xs[name], masks[name] = (x, has) if kept is None else (x[kept], has[kept])
        if hasattr(graph, f"similar_{name}_index"):
            edges[name] = _edges(*graph.similar(name), kept)
    num_items = graph.num_items if kept is None else int(kept.sum())
    return RecGraph(rowptr, item, num_items, xs, masks, edges or None)


def _edges(index: Tensor, weight: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    if kept is None:
        return index, weight
    both = kept[index].all(dim=0)
    return (kept.cumsum(0) - 1)[index[:, both]], weight[both]
