"""The part of a graph that one of several processes holds: items, and all that leads to them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.sharded_messages import ItemHop, RoundTrip
from graphdiff.graph.store import RecGraph


class SharedRows(NamedTuple):
    """Rows of which each process knows the items that it holds.

    Attributes:
        own: The rows with the own items, numbered from 0.
        position: Position of each own item in the graph's ``col``, long ``[nnz]``.
        place: Position of each own item among all items of the rows, long ``[nnz]``.
        row: Row of each of all items, ascending, long ``[N]``.
    """

    own: Rows
    position: Tensor
    place: Tensor
    row: Tensor


class ItemShard(RecGraph):
    """The interactions with some consecutive items, their features, and the edges to them.

    Items are numbered from 0; sources of the edges of the modality graphs keep their numbers among
    all items.

    Args:
        graph: The whole graph.
        part: The items.

    Attributes:
        part: The items.
        num_all_items: Number of items of all shards.
        num_all_interactions: Number of interactions of all shards.
        num_trained: Number of items of all shards with an interaction.
        trained_before: How many of them come before this shard's.
        largest_degree: Interactions of the most popular item of all shards.
        row_degree: Number of items of each user, long ``[U]``.
        items_before: How many of them come before this shard's, long ``[U]``.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1]), num_items=3)
        >>> shard = ItemShard(graph, slice(1, 3))
        >>> shard.col.tolist(), shard.rowptr.tolist(), shard.items_before.tolist()
        ([1, 0], [0, 1, 2], [1, 0])
    """

    row_degree: Tensor
    items_before: Tensor

    def __init__(self, graph: RecGraph, part: slice) -> None:
        user, col = graph.user, graph.col
        own = (col >= part.start) & (col < part.stop)
        count = torch.bincount(user[own], minlength=graph.num_users)
        features = {name: graph.features(name) for name in graph.modalities}
        super().__init__(
            torch.cat([count.new_zeros(1), count.cumsum(0)]),
            col[own] - part.start,
            part.stop - part.start,
            # Copies: a view would hold the whole.
            {name: x[part].clone() for name, (x, _) in features.items()},
            {name: has[part].clone() for name, (_, has) in features.items()},
            {name: _edges_to(graph, name, part) for name in graph.modalities},
        )
        degree, trained = graph.item_degree(), graph.trained_items()
        self.part, self.num_all_items = part, graph.num_items
        self.num_all_interactions = graph.num_interactions
        self.num_trained, self.largest_degree = trained.numel(), int(degree.max())
        self.trained_before = int((trained < part.start).sum())
        before = torch.bincount(user[col < part.start], minlength=graph.num_users)
        self.register_buffer("row_degree", graph.user_degree())
        self.register_buffer("items_before", before)

    def shared_rows(self, user_index: Tensor) -> SharedRows:
        """Return the rows of a batch of users, ``user_index`` long ``[B]``."""
        own, position = self.located_rows(user_index)
        degree = self.row_degree[user_index]
        start = degree.cumsum(0) - degree + self.items_before[user_index]
        number = torch.arange(own.row.numel(), device=own.row.device) - own.starts()[own.row]
        row = torch.arange(own.num, device=own.row.device).repeat_interleave(degree)
        return SharedRows(own, position, start[own.row] + number, row)


def round_trip(graph: RecGraph, channels: int) -> RoundTrip:
    """Return the round trip over the user-item graph; see
    :func:`~graphdiff.graph.message_graphs.item_to_user_graph`. The graph is a shard."""
    shard = _as_shard(graph)
    user = shard.user
    weight = (shard.item_degree().float()[shard.col] * shard.row_degree.float()[user]).rsqrt()
    return _trip(shard, weight, channels)


def unweighted_round_trip(graph: RecGraph, channels: int) -> RoundTrip:
    """Return the round trip that weighs vectors in place of messages, as
    :class:`~graphdiff.graph.round_trips.UnweightedRoundTrip` does. The graph is a shard."""
    shard = _as_shard(graph)
    degrees = shard.item_degree(), shard.row_degree
    return _trip(shard, torch.ones_like(shard.col, dtype=torch.float32), channels, degrees)


def round_trip_without(
    shard: ItemShard, position: Tensor, user: Tensor, number: Tensor, channels: int
) -> RoundTrip:
    """Return the round trip as if some interactions did not exist; see
    :func:`~graphdiff.graph.message_graphs.item_to_user_graph_without`.

    Args:
        shard: The shard.
        position: Positions of those of the own items in ``shard.col``, long ``[n]``.
        user: Different users, long ``[B]``.
        number: How many interactions each of them loses, with items of all shards, long ``[B]``.
        channels: Width of the table.
    """
    weight = torch.ones_like(shard.col, dtype=torch.float32).index_fill_(0, position, 0)
    degree = shard.row_degree.index_add(0, user, number, alpha=-1)
    weight *= degree.clamp(min=1).rsqrt()[shard.user]
    degree = shard.item_degree()
    degree = degree - torch.bincount(shard.col[position], minlength=degree.numel())
    weight *= degree.clamp(min=1).rsqrt()[shard.col]
    return _trip(shard, weight, channels)


def item_hop(graph: RecGraph, modality: str, share: float) -> ItemHop:
    """Return a hop over a modality's graph, with its edge weights times ``share``. The graph is a
    shard."""
    shard = _as_shard(graph)
    edge_index, edge_weight = shard.similar(modality)
    return ItemHop(edge_index, share * edge_weight, shard.num_all_items)


def _as_shard(graph: RecGraph) -> ItemShard:
    assert isinstance(graph, ItemShard)
    return graph


def _trip(
    shard: ItemShard,
    weight: Tensor,
    channels: int,
    degrees: tuple[Tensor, Tensor] | None = None,
) -> RoundTrip:
    sizes = shard.num_users, shard.num_items
    return RoundTrip(shard.user, shard.col, weight, *sizes, channels, degrees)


def _edges_to(graph: RecGraph, modality: str, part: slice) -> tuple[Tensor, Tensor]:
    (source, target), weight = graph.similar(modality)
    own = (target >= part.start) & (target < part.stop)
    return torch.stack([source[own], target[own] - part.start]), weight[own]
