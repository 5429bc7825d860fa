"""Thirds of the interactions, from popular to rare items."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.store import RecGraph


def popularity_groups(popularity: Tensor) -> Tensor:
    """Divide items by popularity into 0 for those without interactions, 1 for the tail, 2 for mid
    and 3 for the head.

    From the most popular down, items are the head until they have a third of all interactions, then
    mid until they have two thirds, then tail. Equally popular items are in the same group.

    Args:
        popularity: Interactions of each item, long ``[I]``.

    Returns:
        Long ``[I]``.

    Example:
        >>> popularity_groups(torch.tensor([0, 1, 1, 1, 3, 4]))
        tensor([0, 1, 1, 1, 2, 3])
    """
    level, size = popularity.unique(return_counts=True)
    held = level * size
    # Interactions of more popular items, in thirds of all: 0 is head, 1 mid, 2 tail.
    more_popular = held.sum() - held.cumsum(0)
    third = (3 * more_popular).div(held.sum().clamp(min=1), rounding_mode="floor")
    group_of_level = torch.where(level == 0, 0, 3 - third)
    return group_of_level[torch.searchsorted(level, popularity)]


def rare_items(graph: RecGraph) -> Tensor:
    """Return which items are in the tail or have no training interactions, bool ``[I]``."""
    return popularity_groups(graph.item_degree()) <= 1
