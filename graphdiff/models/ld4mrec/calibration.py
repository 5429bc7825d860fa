"""What validation sets beside the epoch: how much LD4MRec's linear path counts, which of its epochs
is kept, how much more the latest items count, and the bias of cold items."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphdiff.graph.recency import recency_weights
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.linear_path import LinearPath
from graphdiff.models.ld4mrec.row_encoding import encode_scaled_rows
from graphdiff.models.table_cache import Tables

if TYPE_CHECKING:
    from graphdiff.models.ld4mrec.model import LD4MRec

#: Shares of the linear scores that are tried, both scores brought to one standard deviation.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
#: μ at the share 1, in ratios of the deviations: there the network only breaks ties.
ALONE = 1000.0
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
            total += self._recall(scorer(start, stop), start, stop)
        return total / self.user.numel()

    def recall_of_mixes(self, network: Scorer, path: Scorer) -> tuple[Tensor, Tensor]:
        """Return μ for each share and the recall@20 of the network's scores plus μ times the
        path's, ``[S]`` each."""
        recall = torch.zeros(len(SHARES), device=self.user.device)
        weight = recall
        for start, stop in self.blocks():
            by_network, by_path = network(start, stop), path(start, stop)
            if start == 0:
                # The ratio of the first users stands for all, so that μ is one number.
                deviation = by_path.std(dim=1).mean().clamp(min=torch.finfo(by_path.dtype).tiny)
                share = torch.tensor(SHARES, device=deviation.device)
                odds = torch.where(share < 1, share / (1 - share), ALONE)
                weight = odds * by_network.std(dim=1).mean() / deviation
            for n, one in enumerate(weight):
                recall[n] += self._recall(by_network + one * by_path, start, stop)
        return weight, recall / self.user.numel()

    def _recall(self, score: Tensor, start: int, stop: int) -> Tensor:
        """Return the sum of the recalls of one block."""
        score.masked_fill_(self.histories(start, stop), -torch.inf)
        target = self.targets(start, stop)
        top = score.topk(min(LENGTH, self.num_items), dim=1).indices
        return (target.gather(1, top).sum(dim=1) / target.sum(dim=1)).sum()

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


@torch.no_grad()
def calibrate(model: LD4MRec, pairs: Tensor) -> None:
    """Set what validation decides beside the epoch.

    Args:
        model: The model; its learned weights are taken as they are.
        pairs: Validation pairs (user, item), long ``[2, P]``.
    """
    if model.linear is not None or model.graph.age is not None:
        bias = model.cold_items.bias.clone()
        # Otherwise it would count as spread of the network's scores, and both would grow on and on.
        model.cold_items.bias.zero_()
        _Calibration(model, HeldOut(model.graph, pairs)).run()
        model.cold_items.bias.copy_(bias)
    model.cold_items.calibrate(model, pairs)


class _Calibration:
    """The choice of ρ, of the path's weights, and of μ, on held-out pairs.

    Args:
        model: The model; its other weights are taken as they are.
        held_out: Users to look at.
    """

    def __init__(self, model: LD4MRec, held_out: HeldOut) -> None:
        self.recency, self.path, self.graph = model.recency, model.linear, model.graph
        self.held_out, self.rows = held_out, held_out.seen
        if self.path is not None:
            self.path.weight.zero_()
        self.tables = model.tables()
        self.finish = model.invalidate_tables

    def run(self) -> None:
        """Keep the path's weights if they are the best so far, and set μ and ρ."""
        if self.path is not None and not self.path.complete:
            latest = self.by_path(self.path, self.recency(self.rows), kept=False)
            self.path.keep(self.graph, self.held_out.recall(latest))
        before = self.recency.exponent.item()
        self.mix()
        recalls = {
            exponent: self.held_out.recall(self.mixed(exponent)).item()
            for exponent in self.recency.candidates(self.rows)
        }
        if recalls:
            # Of equal ones the least, which comes first.
            self.recency.exponent.fill_(max(recalls, key=recalls.__getitem__))
        if self.recency.exponent.item() != before:
            self.mix()
        self.finish()

    def mix(self) -> None:
        """Set μ with the present ρ."""
        if self.path is not None:
            weight = self.recency(self.rows)
            by_path = self.by_path(self.path, weight, kept=True)
            ratio, recall = self.held_out.recall_of_mixes(self.by_network(weight), by_path)
            self.path.weight.copy_(ratio[recall.argmax()])

    def mixed(self, exponent: float) -> Scorer:
        """Return the model's scores with another ρ."""
        weight = recency_weights(self.rows, exponent)
        by_network = self.by_network(weight)
        if self.path is None:
            return by_network
        by_path, ratio = self.by_path(self.path, weight, kept=True), self.path.weight
        return lambda start, stop: by_network(start, stop) + ratio * by_path(start, stop)

    def by_network(self, weight: Tensor | None) -> Scorer:
        """Return the scores of the network, with the items' weights ``[nnz]`` in the rows."""
        tables = self.tables
        vectors = tables.inference(encode_scaled_rows(tables.row_encoder, self.rows, weight))
        return lambda start, stop: score_block(vectors[start:stop], tables)

    def by_path(self, path: LinearPath, weight: Tensor | None, kept: bool) -> Scorer:
        """Return the scores of the path with μ = 1."""
        return path_scorer(path, self.graph, self.rows, kept, weight)


def path_scorer(
    path: LinearPath, graph: RecGraph, rows: Rows, kept: bool, weight: Tensor | None = None
) -> Scorer:
    """Return the scores of a linear path with μ = 1.

    Args:
        path: The path.
        graph: Its graph.
        rows: Histories.
        kept: See :meth:`LinearPath.tables`.
        weight: Weights of their items, ``[nnz]``; 1 by default.
    """
    row_encoder, item = path.tables(graph, kept)
    encoded = encode_scaled_rows(row_encoder, rows, weight)
    vectors = path.freeze(kept, weight=torch.ones_like(path.weight))(encoded)
    return lambda start, stop: vectors[start:stop] @ item.t()


def score_block(vectors: Tensor, tables: Tables) -> Tensor:
    """Return the scores of users with the vectors ``[B, d]``, ``[B, I]``."""
    score = vectors @ tables.item.t()
    return score if tables.bias is None else score + tables.bias
