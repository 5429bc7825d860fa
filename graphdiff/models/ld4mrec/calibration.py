"""What validation sets beside the epoch: how much LD4MRec's linear path counts, which of its epochs
is kept, how much more the latest items count, how much features count for rare items, and the bias
of cold items."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphdiff.autocast import without_autocast
from graphdiff.graph.recency import recency_weights
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.held_out import HeldOut, Scorer, sums_of_metrics
from graphdiff.models.ld4mrec import rare_content
from graphdiff.models.ld4mrec.linear_path import LinearPath
from graphdiff.models.ld4mrec.row_encoding import encode_scaled_rows
from graphdiff.models.table_cache import Tables

if TYPE_CHECKING:
    from graphdiff.models.ld4mrec.model import LD4MRec

#: Weights of the linear scores that are tried, both scores brought to one standard deviation:
#: shares of 0, 1/4, 1/2, 3/4 and 1, where the network only breaks ties.
PATH_WEIGHTS = (0.0, 1 / 3, 1.0, 3.0, 1000.0)
#: Most scores that are kept between one choice and the next; others are computed again.
MOST_KEPT = 2**26


@torch.no_grad()
@without_autocast()
def calibrate(model: LD4MRec, pairs: Tensor) -> None:
    """Set what validation decides beside the epoch; nothing where there are no pairs.

    Args:
        model: The model; its learned weights are taken as they are.
        pairs: Validation pairs (user, item), long ``[2, P]``.
    """
    if not pairs.numel():
        return
    cold, graph = model.cold_items, model.graph
    if model.linear is None and not model.recency.can_choose(graph.age is not None):
        cold.calibrate(model, pairs)
        return
    before = cold.bias.clone()
    # Otherwise it would count as spread of the network's scores, and both would grow on and on.
    cold.bias.zero_()
    calibration = _Calibration(model, HeldOut(graph, pairs))
    calibration.run()
    if cold.can_choose(graph, pairs):
        cold.choose(graph, calibration.held_out, calibration.scorer)
    else:
        cold.bias.copy_(before)
    model.invalidate_tables()


class _Calibration:
    """The choice of ρ, of the path's weights, and of μ, on held-out pairs.

    Args:
        model: The model; its other weights are taken as they are.
        held_out: Users to look at.

    Attributes:
        scorer: The model's scores with what was chosen.
    """

    scorer: Scorer

    def __init__(self, model: LD4MRec, held_out: HeldOut) -> None:
        self.recency, self.path, self.graph = model.recency, model.linear, model.graph
        self.held_out, self.rows = held_out, held_out.seen
        if self.path is not None:
            self.path.weight.zero_()
            if self.path.rare is not None:
                self.path.rare.weight.zero_()
        self.tables = model.tables()

    def run(self) -> None:
        """Keep the path's weights if they are the best so far, and set μ and ρ."""
        if self.path is not None and not self.path.complete:
            weight = self.recency(self.rows)
            latest = path_scorer(self.path, self.graph, self.rows, kept=False, weight=weight)
            self.path.keep(self.graph, self.held_out.recall(latest))
        if self.path is not None:
            # Once, for all values of ρ.
            self.path_tables = self.path.tables(self.graph, rare=False)
        before = self.recency.exponent.item()
        self.mix()
        if self.recency.can_choose(self.rows.age is not None):
            self.recency.choose(lambda exponent: self.held_out.recall(self.with_exponent(exponent)))
        if self.recency.exponent.item() != before:
            self.mix()
        self.add_rare()

    def mix(self) -> None:
        """Set μ with the present ρ."""
        weight = self.recency(self.rows)
        self.scorer = by_network = self.by_network(weight)
        if self.path is not None:
            by_path = self.by_path(self.path, weight)
            weights, metrics = metrics_of_sums(self.held_out, by_network, by_path, PATH_WEIGHTS)
            self.path.weight.copy_(weights[metrics[:, 0].argmax()])
            self.scorer = mixed(by_network, self.path.weight, by_path)

    def add_rare(self) -> None:
        """Set τ with the present ρ and μ."""
        if self.path is None or self.path.rare is None:
            return
        rare, weight = self.path.rare, self.recency(self.rows)
        by_features = rare_scorer(self.path, self.graph, self.rows, weight)
        rare.choose(*metrics_of_sums(self.held_out, self.scorer, by_features, rare_content.WEIGHTS))
        self.scorer = mixed(self.scorer, rare.weight, by_features)

    def with_exponent(self, exponent: float) -> Scorer:
        """Return the model's scores with another ρ."""
        weight = recency_weights(self.rows, exponent)
        by_network = self.by_network(weight)
        if self.path is None:
            return by_network
        return mixed(by_network, self.path.weight, self.by_path(self.path, weight))

    def by_network(self, weight: Tensor | None) -> Scorer:
        """Return the scores of the network, with the items' weights ``[nnz]`` in the rows."""
        tables = self.tables
        vectors = tables.inference(encode_scaled_rows(tables.row_encoder, self.rows, weight))
        return vector_scorer(vectors, tables)

    def by_path(self, path: LinearPath, weight: Tensor | None) -> Scorer:
        """Return the scores of the path's kept weights with μ = 1."""
        scorer = path_scorer(path, self.graph, self.rows, True, weight, self.path_tables)
        few = self.held_out.user.numel() * self.held_out.num_items <= MOST_KEPT
        # Nobody changes them: they are only added to others.
        return functools.cache(scorer) if few else scorer


def path_scorer(
    path: LinearPath,
    graph: RecGraph,
    rows: Rows,
    kept: bool,
    weight: Tensor | None = None,
    tables: tuple[Tensor, Tensor] | None = None,
) -> Scorer:
    """Return the scores of a linear path with μ = 1 and τ = 0.

    Args:
        path: The path.
        graph: Its graph.
        rows: Histories.
        kept: See :meth:`LinearPath.tables`.
        weight: Weights of their items, ``[nnz]``; 1 by default.
        tables: The path's tables, where they were computed before.
    """
    row_encoder, item = path.tables(graph, kept, rare=False) if tables is None else tables
    encoded = encode_scaled_rows(row_encoder, rows, weight)
    vectors = path.freeze(kept, weight=torch.ones_like(path.weight), rare=False)(encoded)
    return lambda start, stop: vectors[start:stop] @ item.t()


def rare_scorer(
    path: LinearPath, graph: RecGraph, rows: Rows, weight: Tensor | None = None
) -> Scorer:
    """Return the scores of rare items by features, with τ = 1; arguments as of
    :func:`path_scorer`."""
    features, item = path.rare_tables(graph)
    root = rows.degree().clamp(min=1).to(features.dtype).sqrt().unsqueeze(1)
    mean = encode_scaled_rows(features, rows, weight) / root
    return lambda start, stop: mean[start:stop] @ item.t()


def vector_scorer(vectors: Tensor, tables: Tables) -> Scorer:
    """Return the scores of users with the vectors ``[n, d]``."""
    item, bias = tables.item.t(), tables.bias
    if bias is None:
        return lambda start, stop: vectors[start:stop] @ item
    return lambda start, stop: torch.addmm(bias, vectors[start:stop], item)


def mixed(scorer: Scorer, weight: Tensor, added: Scorer) -> Scorer:
    """Return the sum of scores and others times a weight."""
    return lambda start, stop: scorer(start, stop) + weight * added(start, stop)


def metrics_of_sums(
    held_out: HeldOut, scorer: Scorer, added: Scorer, weights: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Add other scores to scores with several weights.

    Args:
        held_out: Users with held-out items.
        scorer: The scores.
        added: The others.
        weights: Weights of the others, both brought to one standard deviation.

    Returns:
        The weights without that, ``[n]``, and recall@20 and NDCG@20 with each, ``[n, 2]``.
    """
    metrics = torch.zeros(len(weights), 2, device=held_out.user.device)
    factor = metrics[:, 0]
    for start, stop in held_out.blocks():
        score, other = scorer(start, stop), added(start, stop)
        if start == 0:
            # The ratio of the first users stands for all, so that the weight is one number. Others
            # that are equal throughout, as without features, get none.
            deviation = other.std(dim=1).mean()
            ratio = (score.std(dim=1).mean() / deviation).where(deviation > 0, 0.0)
            factor = ratio * torch.tensor(weights, device=ratio.device)
        score = score.masked_fill(held_out.histories(start, stop), -torch.inf)
        target = held_out.targets(start, stop)
        for n, one in enumerate(factor):
            metrics[n] += sums_of_metrics(score + one * other, target)
    return factor, metrics / held_out.user.numel()
