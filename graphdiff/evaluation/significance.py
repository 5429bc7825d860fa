"""Significance tests of differences between models.

Users are the sample: each model has one value per user (a metric, averaged over seeds), and models
are compared on the same users, so that all tests are paired.

* :func:`paired_t_test` and :func:`wilcoxon_test` test whether a difference may be chance.
* :func:`holm` corrects for the number of tests.
* :func:`bootstrap_interval` gives a confidence interval of a mean over users.
* :func:`bootstrap_over_seeds` gives one that contains the variation between seeds.
* :func:`compare_models` does all of this for the models of a table.

These tests cover the variation between users of the same kind. The variation between random
initialisations is covered by the standard deviation over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from graphdiff.errors import ConfigError, DataError
from graphdiff.seeds import as_seed

# Users drawn at a time, so that memory does not grow with the number of resamples.
BLOCK_ENTRIES = 2**22
#: Digits of differences that tests and counts of users look at: metrics are kept as float32, and
#: what is equal on paper may differ by about 1e-7 in a mean over seeds.
DECIMALS = 6


def paired_t_test(a: ArrayLike, b: ArrayLike) -> float:
    """Return the p-value of Student's paired t-test of equal means.

    Args:
        a: Values of one model, ``[n]``, one per user.
        b: Values of another on the same users, ``[n]``.

    Returns:
        The two-sided p-value; 1 where no user differs.

    Raises:
        DataError: If the two do not have the same number of finite values, at least two.
    """
    a, b = _paired(a, b)
    if np.array_equal(a, b):
        return 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(stats.ttest_rel(a, b).pvalue)


def wilcoxon_test(a: ArrayLike, b: ArrayLike) -> float:
    """Return the p-value of Wilcoxon's signed-rank test of differences symmetric around zero.

    Users without a difference are left out, as Wilcoxon does; equal differences share their rank.
    Differences are equal at :data:`DECIMALS` digits.

    Args:
        a: Values of one model, ``[n]``, one per user.
        b: Values of another on the same users, ``[n]``.

    Returns:
        The two-sided p-value; 1 where no user differs.

    Raises:
        DataError: If the two do not have the same number of finite values, at least two.

    Example:
        >>> found = wilcoxon_test([2 / 3, 1 / 3, 0, 0, 0], [1 / 3, 0, 1 / 3, 0, 0])
        >>> found == wilcoxon_test([1, 1, 0, 0, 0], [0, 0, 1, 0, 0])
        True
    """
    difference = rounded_differences(*_paired(a, b))
    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference, zero_method="wilcox").pvalue)


def rounded_differences(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Return ``a - b`` at :data:`DECIMALS` digits, so that equal differences of metrics are equal.

    The differences are rounded, not the values: 2/3 - 1/3 is 1/3, but 0.666667 - 0.333333 is not
    0.333333.
    """
    return np.round(np.asarray(a, np.float64) - np.asarray(b, np.float64), DECIMALS)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Correct p-values for their number by Holm's step-down procedure.

    The k-th smallest of m is multiplied by m − k + 1, and raised to the one before it where it
    would be smaller. If results with a corrected value below α are called significant, the
    probability of any false one among the m is below α, whatever the dependence between the tests.
    (S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.)

    Args:
        p_values: From 0 to 1, ``[m]``.

    Returns:
        The corrected p-values in the same order, float64 ``[m]``, at most 1.

    Raises:
        DataError: If a value is not a probability.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise DataError(f"p-values are {p.tolist()}; give a list of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    return np.minimum(corrected, 1.0)


def bootstrap_interval(
    values: ArrayLike, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> NDArray[np.float64]:
    """Return the percentile bootstrap interval of means over users.

    Users are drawn with replacement, as many as there are, ``resamples`` times; the interval
    contains the middle ``confidence`` of the means. (B. Efron, Nonparametric Standard Errors and
    Confidence Intervals, 1981.)

    Args:
        values: ``[n]``, or ``[n, C]`` for C means at once, for which the same users are drawn.
        resamples: Number of bootstrap samples (default: 10,000).
        confidence: Share of the means inside, between 0 and 1 (default: 0.95).
        seed: Seed of the samples, any non-negative integer (default: 0).

    Returns:
        Lower and upper end, float64 ``[2]`` or ``[2, C]``.

    Raises:
        ConfigError: If ``resamples`` or ``confidence`` is out of range.
        DataError: If there is no value, or one that is not finite.
    """
    _check_bootstrap(resamples, confidence)
    x = np.asarray(values, dtype=np.float64)
    if x.ndim not in (1, 2) or x.shape[0] == 0 or not np.isfinite(x).all():
        raise DataError(f"values are of shape {list(x.shape)}; give finite [n] or [n, C], n > 0")
    num = x.shape[0]
    rng = np.random.default_rng(as_seed(seed))
    means = []
    for start in range(0, resamples, block := max(1, BLOCK_ENTRIES // num)):
        size = min(block, resamples - start)
        # The number of draws of each user makes the sums of all columns one product.
        means.append(_times_drawn(rng, num, size) @ x / num)
    return _middle(np.concatenate(means), confidence)


def bootstrap_over_seeds(
    differences: ArrayLike, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> NDArray[np.float64]:
    """Return the percentile bootstrap interval of a mean over users and seeds.

    Both are drawn with replacement, independently: the interval contains the variation between
    users and that between trainings. With one seed it contains the former alone.

    Args:
        differences: Paired differences of each seed and user, ``[S, n]``.
        resamples: Number of bootstrap samples (default: 10,000).
        confidence: Share of the means inside, between 0 and 1 (default: 0.95).
        seed: Seed of the samples, any non-negative integer (default: 0).

    Returns:
        Lower and upper end, float64 ``[2]``.

    Raises:
        ConfigError: If ``resamples`` or ``confidence`` is out of range.
        DataError: If there is no difference, or one that is not finite.

    Source: the pigeonhole bootstrap of crossed factors (Owen, arXiv 0711.1198).

    Example:
        >>> bootstrap_over_seeds([[0.5, 0.5], [0.5, 0.5]], resamples=10).tolist()
        [0.5, 0.5]
    """
    _check_bootstrap(resamples, confidence)
    x = np.asarray(differences, dtype=np.float64)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise DataError(f"differences are of shape {list(x.shape)}; give finite [S, n], n > 0")
    rng, means = np.random.default_rng(as_seed(seed)), []
    for start in range(0, resamples, block := max(1, BLOCK_ENTRIES // x.shape[1])):
        size = min(block, resamples - start)
        of_seeds, of_users = (_times_drawn(rng, num, size) for num in x.shape)
        means.append((of_users @ x.T * of_seeds).sum(axis=1) / x.size)
    return _middle(np.concatenate(means), confidence)


@dataclass(frozen=True)
class Comparison:
    """Comparison of a model with the best of the others, on one metric.

    Attributes:
        mean: Over users.
        interval: Bootstrap interval of ``mean``.
        rival: The best other model: the second for the best one, the best for all others. None,
            as are the fields below, where there is no other model.
        difference: ``mean`` minus the rival's.
        difference_interval: Bootstrap interval of ``difference``.
        p_t: Paired t-test against the rival.
        p_wilcoxon: Wilcoxon's signed-rank test against the rival.
        p_t_holm: ``p_t``, corrected for all models compared.
        p_wilcoxon_holm: ``p_wilcoxon``, corrected in the same way.
    """

    mean: float
    interval: tuple[float, float]
    rival: str | None = None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    p_t: float | None = None
    p_wilcoxon: float | None = None
    p_t_holm: float | None = None
    p_wilcoxon_holm: float | None = None


def compare_models(
    values: Mapping[str, ArrayLike],
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare each model with the best of the others.

    The family for Holm's correction is the table: one test per model. The test of the best against
    the second and that of the second against the best are the same and count twice, which makes
    the correction conservative.

    Args:
        values: For each model its values ``[n]``, one per user, on the same users in the same
            order. Average over seeds before.
        resamples: See :func:`bootstrap_interval`.
        confidence: See :func:`bootstrap_interval`.
        seed: See :func:`bootstrap_interval`.

    Returns:
        A :class:`Comparison` for each model.

    Raises:
        DataError: If there is no model, or the models do not have the same number of finite
            values, at least two.
        ConfigError: If ``resamples`` or ``confidence`` is out of range.
    """
    names = list(values)
    if not names:
        raise DataError("there is no model to compare; give values of at least one")
    columns = [_finite(values[name]) for name in names]
    for column in columns:
        _paired(columns[0], column)
    mean = np.array([column.mean() for column in columns])
    rivals = _rivals(mean)
    table = np.stack(columns, axis=1)
    if len(names) > 1:
        table = np.concatenate([table, table - table[:, rivals]], axis=1)
    intervals = bootstrap_interval(table, resamples, confidence, seed).T.tolist()
    if len(names) == 1:
        return {names[0]: Comparison(float(mean[0]), _ends(intervals[0]))}
    pairs = list(zip(columns, (columns[r] for r in rivals), strict=True))
    p_t = [paired_t_test(a, b) for a, b in pairs]
    p_wilcoxon = [wilcoxon_test(a, b) for a, b in pairs]
    p_t_holm, p_wilcoxon_holm = holm(p_t).tolist(), holm(p_wilcoxon).tolist()
    return {
        name: Comparison(
            mean=float(mean[n]),
            interval=_ends(intervals[n]),
            rival=names[rivals[n]],
            difference=float(mean[n] - mean[rivals[n]]),
            difference_interval=_ends(intervals[len(names) + n]),
            p_t=p_t[n],
            p_wilcoxon=p_wilcoxon[n],
            p_t_holm=p_t_holm[n],
            p_wilcoxon_holm=p_wilcoxon_holm[n],
        )
        for n, name in enumerate(names)
    }


def _check_bootstrap(resamples: int, confidence: float) -> None:
    """Check the arguments of a bootstrap.

    Raises:
        ConfigError: If one is out of range.
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise ConfigError(
            f"resamples is {resamples} and confidence {confidence}; give at least 1, and a share "
            "between 0 and 1"
        )


def _times_drawn(rng: np.random.Generator, num: int, size: int) -> NDArray[np.int64]:
    """Return how often each of ``num`` is drawn in samples of as many, ``[size, num]``."""
    drawn = rng.integers(num, size=(size, num)) + num * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * num).reshape(size, num)


def _middle(means: NDArray[np.float64], confidence: float) -> NDArray[np.float64]:
    """Return the ends of the interval that contains a share of the means."""
    tail = (1 - confidence) / 2
    return np.quantile(means, [tail, 1 - tail], axis=0)


def _rivals(mean: NDArray[np.float64]) -> list[int]:
    """Return, for each model, the position of the best other one."""
    order = np.argsort(-mean, kind="stable")
    best, second = int(order[0]), int(order[1 % len(order)])
    return [second if n == best else best for n in range(len(mean))]


def _ends(interval: Sequence[float]) -> tuple[float, float]:
    low, high = interval
    return low, high


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size < 2 or not np.isfinite(x).all():
        raise DataError(f"values are of shape {list(x.shape)}; give finite [n], n at least 2")
    return x


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = _finite(a), _finite(b)
    if a.size != b.size:
        raise DataError(
            f"one model has values of {a.size} users and another of {b.size}; a paired test needs "
            "both on the same users"
        )
    return a, b
