"""Recall and NDCG on held-out pairs, for what models set by validation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.nn.topk import largest_of_rows

#: Length of the recommendation lists.
LENGTH = 20
#: Largest number of users that are looked at.
MOST_USERS = 2048
#: Largest number of users, and of scores, that are held at a time.
BLOCK, BLOCK_SCORES = 256, 2**25

#: Scores ``[stop - start, I]`` of the users from ``start`` to ``stop``.
Scorer = Callable[[int, int], Tensor]


class HeldOut:
    """Users with their histories and held-out items.

    Args:
        graph: Training interactions.
        pairs: Held-out pairs (user, item), long ``[2, P]``.
        most: Largest number of users, which are drawn with a fixed seed; 2,048 by default.
    """

    def __init__(self, graph: RecGraph, pairs: Tensor, most: int | None = None) -> None:
        users, most = pairs[0].unique(), most or MOST_USERS
        if users.numel() > most:
            generator = torch.Generator().manual_seed(0)
            chosen = torch.randperm(users.numel(), generator=generator)[:most]
            users = users[chosen.sort().values.to(users.device)]
        self.user = users
        self.seen = graph.rows(users)
        place = torch.searchsorted(users, pairs[0]).clamp(max=users.numel() - 1)
        own = users[place] == pairs[0]
        order = place[own].argsort(stable=True)
        self.target = Rows(place[own][order], pairs[1][own][order], users.numel())
        self.num_items = graph.num_items

    def blocks(self) -> list[tuple[int, int]]:
        """Return the bounds of blocks of users."""
        num, size = self.user.numel(), max(1, min(BLOCK, BLOCK_SCORES // self.num_items))
        return [(start, min(start + size, num)) for start in range(0, num, size)]

    def recall(self, scorer: Scorer) -> Tensor:
        """Return the recall@20 of scores, a scalar."""
        total = torch.zeros((), device=self.user.device)
        for start, stop in self.blocks():
            score = scorer(start, stop).masked_fill(self.histories(start, stop), -torch.inf)
            total += sums_of_metrics(score, self.targets(start, stop))[0]
        return total / self.user.numel()

    def histories(self, start: int, stop: int) -> Tensor:
        """Return the items of the users from ``start`` to ``stop``, bool ``[B, I]``."""
        return self._block(self.seen, start, stop)

    def targets(self, start: int, stop: int) -> Tensor:
        """Return their held-out items, bool ``[B, I]``."""
        return self._block(self.target, start, stop)

    def _block(self, rows: Rows, start: int, stop: int) -> Tensor:
        low, high = torch.searchsorted(rows.row, rows.row.new_tensor([start, stop])).tolist()
        row, item = rows.row[low:high] - start, rows.item[low:high]
        shape = (stop - start, self.num_items)
        dense = torch.zeros(shape, dtype=torch.bool, device=row.device)
        dense[row, item] = True
        return dense


def sums_of_metrics(score: Tensor, target: Tensor) -> Tensor:
    """Return the sums of the recall@20 and the NDCG@20 of users, ``[2]``.

    Args:
        score: Their scores, ``[B, I]``; -inf for items that are not ranked.
        target: Their held-out items, bool ``[B, I]``.
    """
    num = target.sum(dim=1)
    value, top = largest_of_rows(score, min(LENGTH, score.size(1)))
    gain = torch.arange(2, LENGTH + 2, device=num.device).log2().reciprocal()
    hits = (target.gather(1, top) & value.isfinite()).to(gain.dtype)
    recall = hits.sum(dim=1) / num
    ndcg = hits @ gain[: hits.size(1)] / gain.cumsum(0)[num.clamp(max=LENGTH) - 1]
    return torch.stack([recall.sum(), ndcg.sum()])
