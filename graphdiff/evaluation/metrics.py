"""Ranking metrics, computed by :mod:`torch_geometric.metrics`.

What lies beyond accuracy is in :mod:`graphdiff.evaluation.beyond_accuracy`.

For a user with held-out items ``H`` and recommended list ``r_1, ..., r_k``, with ``rel_j = 1`` if
``r_j`` is in ``H`` and 0 otherwise:

==============  =========================================================================
``recall@k``    ``Σ_j rel_j / |H|``
``ndcg@k``      ``Σ_j rel_j / log2(j + 1)`` over its largest possible value, which is
                ``Σ_{j ≤ min(k, |H|)} 1 / log2(j + 1)``
``precision@k`` ``Σ_j rel_j / k``, also where fewer than k items could be recommended
``map@k``       ``Σ_j rel_j · (hits up to j) / j``, over ``min(k, |H|)``
``mrr@k``       ``1 / j`` of the first hit, 0 without one
``hit_ratio@k`` 1 if there is a hit, 0 otherwise
``coverage@k``  share of the catalogue that is recommended to at least one of the users
==============  =========================================================================

All but coverage are averaged over the users that have held-out items; the others are left out,
of coverage too.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch_geometric.metrics import (
    LinkPredCoverage,
    LinkPredHitRatio,
    LinkPredMAP,
    LinkPredMetric,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)
from torch_geometric.metrics.link_pred import LinkPredMetricData

#: List lengths that are evaluated by default.
DEFAULT_KS = (10, 20)

_PER_USER: dict[str, type[LinkPredMetric]] = {
    "recall": LinkPredRecall,
    "ndcg": LinkPredNDCG,
    "precision": LinkPredPrecision,
    "map": LinkPredMAP,
    "mrr": LinkPredMRR,
    "hit_ratio": LinkPredHitRatio,
}


def metric_names(ks: Sequence[int] = DEFAULT_KS) -> list[str]:
    """Return the names of the metrics that training validates by, in the order of
    :func:`graphdiff.evaluate`."""
    return [f"{name}@{k}" for k in ks for name in (*_PER_USER, "coverage")]


def user_metrics(pairs: LinkPredMetricData, k: int) -> dict[str, Tensor]:
    """Return the metrics at ``k`` of each user, float32 ``[n]``; all but coverage.

    Args:
        pairs: Recommended items ``[n, at least k]`` and held-out pairs of n users.
        k: Length of the list.
    """
    # PyG's public interface gives means only; the hook of its metric classes gives users.
    return {f"{name}@{k}": metric(k)._compute(pairs) for name, metric in _PER_USER.items()}


def coverage(pairs: LinkPredMetricData, k: int, num_items: int) -> float:
    """Return the share of the catalogue that is recommended to at least one user.

    Args:
        pairs: Recommended items ``[n, at least k]``, ``num_items`` or more where no candidate was
            left.
        k: Length of the list.
        num_items: Size of the catalogue.
    """
    item = pairs.pred_index_mat[:, :k]
    metric = LinkPredCoverage(k, num_items)
    metric.update(item[item < num_items].unsqueeze(1), pairs.edge_label_index)
    return computed_here(metric)


def computed_here(metric: LinkPredMetric | LinkPredCoverage) -> float:
    """Return the value of a metric without asking other processes: where several train a model,
    each has all lists, and one may evaluate alone."""
    metric.distributed_available_fn = lambda: False
    return metric.compute().item()
