"""Lists in which items without training interactions have places of their own."""

from __future__ import annotations

import math
from numbers import Real
from typing import Protocol

import torch
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.store import RecGraph


class TopK(Protocol):
    """A function that returns the best items of each user."""

    def __call__(self, k: int, *, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return scores and item indices, ``[B, k]`` each, best first, with -inf and -1 at the end.

        Args:
            k: Number of items.
            allowed: Items that may be returned, bool ``[I]``, or None for all.
        """


def explored(
    best: TopK, k: int, explore: float, graph: RecGraph, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the top-k items of which a share is new, where there are so many.

    An item is new if it has no training interactions. Those among the top k by their score count;
    the best others take the places of the last items that are not new. The list is ordered by
    score. This rule is ours.

    Args:
        best: The top-k items by score.
        k: Number of items.
        explore: Share of the list that new items take at least, from 0 (by score alone) to 1; the
            number of their places is rounded up.
        graph: Training interactions.
        allowed: Items that may be returned, bool ``[I]``, or None for all.

    Returns:
        Scores and indices, ``[B, k]`` each.

    Raises:
        ConfigError: If ``explore`` is not a number from 0 to 1.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 2]), torch.tensor([0, 1]), num_items=4)
        >>> score = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
        >>> def best(k, *, allowed):
        ...     return (score if allowed is None else score.masked_fill(~allowed, -1)).topk(k)
        >>> explored(best, 2, 0.5, graph)[1]
        tensor([[0, 2]])
    """
    if not isinstance(explore, Real) or isinstance(explore, bool) or not 0 <= explore <= 1:
        raise ConfigError(f"explore is {explore!r}; give a share of the list from 0 to 1")
    score, item = best(k, allowed=allowed)
    places = math.ceil(explore * k)
    if not places:
        return score, item
    new = graph.cached(untrained_items)
    new_score, new_item = best(places, allowed=new if allowed is None else new & allowed)
    twice = (item.unsqueeze(2) == new_item.unsqueeze(1)).any(dim=2)
    scores = torch.cat([score.masked_fill(twice, -torch.inf), new_score], dim=1)
    items = torch.cat([item.masked_fill(twice, -1), new_item], dim=1)
    first = torch.full_like(new_score, torch.inf).masked_fill(new_item < 0, -torch.inf)
    chosen = torch.cat([scores[:, :k], first], dim=1).topk(k).indices
    scores, items = scores.gather(1, chosen), items.gather(1, chosen)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores, items.gather(1, order)


def untrained_items(graph: RecGraph) -> Tensor:
    """Return which items have no training interactions, bool ``[I]``."""
    return graph.item_degree() == 0
