"""Uniform negative sampling without false negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from graphdiff.graph.store import RecGraph

# Rejection rounds before the remaining negatives are drawn exactly.
REDRAWS = 16


def sample_negatives(
    graph: RecGraph, user_index: Tensor, generator: torch.Generator, untouched: bool = False
) -> Tensor:
    """Draw one item per user, uniformly over the items that the user has not interacted with,
    among those with a training interaction (:meth:`RecGraph.trained_items`).

    All models that train on negatives draw them here. An item without interactions carries no
    information about any user's taste: as a negative it would only teach that new items are bad,
    and models that score items by their features would rank them last. (MMRec, the toolbox that
    most of the multimodal models are compared with, draws among the same items.)

    Args:
        graph: Training interactions.
        user_index: Long ``[B]``; repeats are allowed.
        generator: Source of randomness, on the graph's device.
        untouched: Draw among all items of the catalogue, including those without interactions.

    Returns:
        Long ``[B]``. A user who has interacted with all of these items gets any of them.

    Example:
        >>> import torch
        >>> from graphdiff.graph import RecGraph
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 3]), num_items=5)
        >>> sample_negatives(graph, torch.tensor([0, 0]), torch.Generator().manual_seed(0))
        tensor([3, 3])
    """
    # CSR order keeps the flat keys sorted.
    pool, key = _pool(graph, untouched), graph.cached(_pool_keys, untouched)
    device, size = graph.col.device, pool.numel()
    place = torch.randint(size, user_index.shape, generator=generator, device=device)
    open_ = torch.arange(user_index.numel(), device=device)
    open_ = open_[graph.user_degree()[user_index] < size]
    for _ in range(REDRAWS):
        wanted = user_index[open_] * size + place[open_]
        found = torch.searchsorted(key, wanted).clamp(max=key.numel() - 1)
        open_ = open_[key[found] == wanted]
        if open_.numel() == 0:
            return pool[place]
        place[open_] = torch.randint(size, open_.shape, generator=generator, device=device)
    place[open_] = _draw_exactly(graph, user_index[open_], generator, untouched)
    return pool[place]


class Triples(NamedTuple):
    """Training interactions, each with a negative; long ``[B]`` each.

    Attributes:
        user: Users.
        positive: Their items.
        negative: Items that they have not interacted with.
    """

    user: Tensor
    positive: Tensor
    negative: Tensor


def draw_triples(
    graph: RecGraph, interaction: Tensor, generator: torch.Generator, part: slice = slice(None)
) -> Triples:
    """Return a batch of interactions with a negative each, drawn by :func:`sample_negatives`.

    Args:
        graph: Training interactions.
        interaction: Positions in ``graph.col``, long ``[B]``.
        generator: Source of randomness, on the graph's device.
        part: Which of them to return; negatives are drawn for all.

    Example:
        >>> import torch
        >>> from graphdiff.graph import RecGraph
        >>> graph = RecGraph(torch.tensor([0, 1, 2]), torch.tensor([0, 1]), num_items=2)
        >>> draw_triples(graph, torch.tensor([1]), torch.Generator())
        Triples(user=tensor([1]), positive=tensor([1]), negative=tensor([0]))
    """
    user = graph.user_of(interaction)
    negative = sample_negatives(graph, user, generator)
    return Triples(user[part], graph.col[interaction][part], negative[part])


def _draw_exactly(
    graph: RecGraph, user_index: Tensor, generator: torch.Generator, untouched: bool
) -> Tensor:
    """Draw without rejection, for users who have nearly every item: positions in the pool."""
    device, size = graph.col.device, _pool(graph, untouched).numel()
    # Before a user's n-th item (from 0), at position p of the pool, lie p - n items that the user
    # does not have.
    number = torch.arange(graph.num_interactions, device=device) - graph.rowptr[graph.user]
    key = graph.cached(_pool_keys, untouched) - number
    free = size - graph.user_degree()[user_index]
    share = torch.rand(free.shape, generator=generator, device=device)
    rank = torch.minimum((share * free).long(), free - 1)
    wanted = user_index * size + rank
    return rank + torch.searchsorted(key, wanted, right=True) - graph.rowptr[user_index]


def _pool(graph: RecGraph, untouched: bool) -> Tensor:
    """Return the items that negatives are drawn from, long, ascending."""
    return graph.cached(_all_items) if untouched else graph.trained_items()


def _all_items(graph: RecGraph) -> Tensor:
    return torch.arange(graph.num_items, device=graph.col.device)


def _pool_keys(graph: RecGraph, untouched: bool) -> Tensor:
    """Return one ascending number per interaction: user times the size of the pool plus the item's
    position in the pool."""
    pool = _pool(graph, untouched)
    return graph.user * pool.numel() + torch.searchsorted(pool, graph.col)
