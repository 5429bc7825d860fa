"""Ranks of models over several datasets, and whether their differences are more than chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from graphdiff.errors import ConfigError
from graphdiff.experiments.tables import LEVEL, NONE, Entry, Table, label, mark, ranked
from graphdiff.experiments.terms import known_fingerprints


@dataclass(frozen=True)
class DatasetRanks:
    r"""Ranks of the models that all datasets have, by one metric on the test pairs.

    Args:
        metric: Name of the metric, the higher the better.
        datasets: Names of N datasets.
        models: Names of k models, the best mean rank first.
        ranks: Rank of each model on each dataset, float ``[k, N]``; 1 is the best, and models with
            equal values share the mean of their ranks.
        p: p-value of Friedman's test that all models are equal; None for fewer than three models or
            two datasets.
        critical_difference: Two models differ significantly if their mean ranks differ by more:
            :math:`q_\alpha \sqrt{k (k + 1) / 6N}` with α = 0.05, Nemenyi's test (Demšar,
            "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006).
    """

    metric: str
    datasets: list[str]
    models: list[str]
    ranks: np.ndarray
    p: float | None
    critical_difference: float

    @property
    def mean(self) -> np.ndarray:
        """Mean rank of each model, ``[k]``."""
        return self.ranks.mean(axis=1)

    def cliques(self) -> list[tuple[int, int]]:
        """Return the first and the last model of each largest group, of two or more, within which
        no difference is significant."""
        mean = self.mean
        found: list[tuple[int, int]] = []
        for first in range(len(mean)):
            last = int(np.flatnonzero(mean <= mean[first] + self.critical_difference)[-1])
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found


def dataset_names(results: Sequence[dict[str, Any]], paths: Sequence[Path] = ()) -> list[str]:
    """Return a name for the dataset of each comparison; own data often shares that of its format.

    Args:
        results: Contents of the JSON files of comparisons.
        paths: The files; where names are equal, datasets are named by the files' stems. Without
            them, the fingerprint follows the name.

    Example:
        >>> dataset_names([{"dataset": "csv"}] * 2, [Path("shop.json"), Path("books.json")])
        ['shop', 'books']
    """
    names = [one["dataset"] for one in results]
    if paths:
        instead = [[path.stem for path in paths], [str(path.with_suffix("")) for path in paths]]
    else:
        instead = [[f"{one['dataset']} {one.get('fingerprint', '')}".strip() for one in results]]
    for others in instead:
        times = Counter(names)
        names = [
            other if times[name] > 1 else name for name, other in zip(names, others, strict=True)
        ]
    return names


def ranking(
    results: Sequence[dict[str, Any]],
    metric: str = "recall@20",
    names: Sequence[str] | None = None,
) -> DatasetRanks:
    """Rank the models of several comparisons.

    Args:
        results: Contents of the JSON files of comparisons on different datasets. Those of a name
            are different where their fingerprints are.
        metric: Name of a metric, the higher the better.
        names: Names of the datasets (default: those of :func:`dataset_names`).

    Raises:
        ConfigError: If the comparisons are fewer than two or of the same data, if fewer than two
            models are in all of them, or if one lacks the metric.
    """
    datasets = dataset_names(results) if names is None else list(names)
    _check_different(results, datasets)
    common = [
        name for name in results[0]["models"] if all(name in one["models"] for one in results)
    ]
    if len(common) < 2:
        raise ConfigError(
            f"{len(common)} models are in all of the comparisons on {', '.join(datasets)}; two or "
            "more have to be"
        )
    value = np.array([[_value(one, name, metric) for one in results] for name in common])
    ranks = stats.rankdata(-value, axis=0)
    order = np.argsort(ranks.mean(axis=1), kind="stable")
    num_models, num_datasets = ranks.shape
    p = stats.friedmanchisquare(*value).pvalue if min(num_models - 1, num_datasets) >= 2 else None
    quantile = stats.studentized_range.ppf(1 - LEVEL, num_models, np.inf) / np.sqrt(2)
    return DatasetRanks(
        metric,
        datasets,
        [common[n] for n in order],
        ranks[order],
        None if p is None else float(p),
        float(quantile * np.sqrt(num_models * (num_models + 1) / (6 * num_datasets))),
    )


def rank_table(results: Sequence[dict[str, Any]], of: DatasetRanks) -> Table:
    """Return the table of models by datasets with mean ranks; models that are not in all datasets
    come last and have no mean rank.

    Args:
        results: The comparisons that ``of`` was computed from.
        of: Their ranking.
    """
    table = Table(
        f"{of.metric} on {len(results)} datasets",
        ["model", *of.datasets, "mean rank"],
        note=f"{_note(of)} Bold: the best on a dataset; * significantly better than the second "
        "best, † significantly worse than the best there, over users.",
    )
    means = dict(zip(of.models, of.mean, strict=True))
    others = {name: None for one in results for name in ranked(one["models"]) if name not in means}
    for name in (*of.models, *others):
        known = next(one for one in results if name in one["models"])
        rank = means.get(name)
        table.add(
            label(known, name),
            *(_entry(one, name, of.metric) for one in results),
            NONE if rank is None else f"{rank:.2f}",
        )
    return table


def _check_different(results: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Check that comparisons are on two or more datasets, each on another.

    Raises:
        ConfigError: If they are not.
    """
    same = [
        f"{one} and {other} are the same data, {shared}"
        for (one, a), (other, b) in combinations(zip(names, results, strict=True), 2)
        if (shared := _shared(a, b))
    ]
    if same or len(results) < 2:
        found = "; ".join([f"comparisons on {', '.join(names) or 'no data'}", *same])
        raise ConfigError(f"{found}; give those of two or more different datasets")


def _shared(result: dict[str, Any], other: dict[str, Any]) -> str:
    """Return in words what shows that two comparisons are on the same data; empty if nothing."""
    one, two = known_fingerprints(result), known_fingerprints(other)
    if one and two:
        return f"fingerprint {min(one & two)}" if one & two else ""
    return f"named {result['dataset']}" if result["dataset"] == other["dataset"] else ""


def _note(of: DatasetRanks) -> str:
    equal = "" if of.p is None else f"Friedman's test of equal models: p = {of.p:.2g}. "
    return (
        f"{equal}Mean ranks are of the {len(of.models)} models that all datasets have; those that "
        f"differ by more than {of.critical_difference:.2f} differ significantly (Nemenyi, "
        f"α = {LEVEL:g})."
    )


def _entry(result: dict[str, Any], name: str, metric: str) -> Entry | str:
    if name not in result["models"]:
        return NONE
    value = _value(result, name, metric)
    best = value == max(_value(result, one, metric) for one in result["models"])
    return Entry(f"{value:.4f}", mark=mark(result, name, metric), best=best)


def _value(result: dict[str, Any], name: str, metric: str) -> float:
    found = result["models"][name]["mean"]["test"]
    if metric not in found:
        raise ConfigError(
            f"the comparison on {result['dataset']} has no {metric} of {name}; it has "
            f"{', '.join(found)}"
        )
    return float(found[metric])
