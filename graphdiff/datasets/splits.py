"""Splits of an interaction log into training, validation and test. Columnar: no loop over rows.

Each function returns one label per row: :data:`TRAINING`, :data:`VALIDATION` or :data:`TEST`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphdiff.errors import ConfigError, DataError

TRAINING, VALIDATION, TEST = 0, 1, 2
#: Label of rows that a split at a point in time leaves out, because they are later than its window.
LATER = -1


@dataclass(frozen=True)
class TimeSplit:
    """A split of a log at one point in time, the same for all users.

    A user or an item is *new* if it has no training row and at least one test row.

    Attributes:
        label: int8 ``[E]``: :data:`TRAINING`, :data:`VALIDATION`, :data:`TEST` or :data:`LATER`.
        new_users: Number of new users.
        new_items: Number of new items.
        of_new_users: Number of test rows of new users.
        of_new_items: Number of test rows of new items.
    """

    label: np.ndarray
    new_users: int
    new_items: int
    of_new_users: int
    of_new_items: int


def leave_one_out(user: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Hold out each user's last interaction for test and the one before for validation.

    A user with two interactions has one for training and one for test; a user with one has it for
    training.

    Args:
        user: User of each row, integer ``[E]``, from 0 on.
        key: What interactions are ordered by, ``[E]``: time, or random numbers. Ties are in the
            order of the rows.

    Returns:
        int8 ``[E]``.
    """
    rank, size = rank_within(user, key)
    return _by_rank(rank, (size >= 3).astype(size.dtype), (size >= 2).astype(size.dtype), size)


def by_ratio(user: np.ndarray, key: np.ndarray, ratios: Sequence[float]) -> np.ndarray:
    """Split each user's interactions by ratio, the first ones for training.

    The shares are rounded. If a user has three or more, each share above 0 has at least one; at
    least one is always for training.

    Args:
        user: User of each row, integer ``[E]``, from 0 on.
        key: What interactions are ordered by, ``[E]``: time, or random numbers.
        ratios: Shares of training, validation and test; they sum to 1.

    Returns:
        int8 ``[E]``.

    Raises:
        ConfigError: If the ratios are not three shares that sum to 1.
    """
    check_ratios(ratios)
    rank, size = rank_within(user, key)
    least = [(size >= 3) & (ratio > 0) for ratio in ratios]
    rounded = [np.rint(ratio * size).astype(size.dtype) for ratio in ratios]
    # Of few rows, a large share of test leaves room for one row of validation.
    test = np.minimum(np.maximum(rounded[TEST], least[TEST]), size - 1 - least[VALIDATION])
    validation = np.minimum(np.maximum(rounded[VALIDATION], least[VALIDATION]), size - 1 - test)
    return _by_rank(rank, validation, test, size)


def global_time(time: np.ndarray, ratios: Sequence[float]) -> np.ndarray:
    """Split at two points in time, the same for all users: no one's training interaction is later
    than anyone's validation or test interaction.

    Training precedes validation, which precedes test; equal times are on the same side. The points
    are those that come closest to the ratios and leave no share above 0 without rows. Users and
    items that first appear later are cold. A split of each user's own interactions lets models
    learn from interactions of others that are later than what is to be predicted (Ji et al., "A
    Critical Study on Data Leakage in Recommender System Offline Evaluation", arXiv 2010.11060). For
    points that are given see :func:`split_by_time`.

    Args:
        time: Time of each row, ``[E]``.
        ratios: Shares of training, validation and test; they sum to 1.

    Returns:
        int8 ``[E]``.

    Raises:
        ConfigError: If the ratios are not three shares that sum to 1.
        DataError: If there are too few different times.
    """
    check_ratios(ratios)
    ordered = np.sort(time)

    def groups(positions: Sequence[int]) -> dict[int, Any]:
        own = ordered[list(positions)]
        first, after = np.searchsorted(ordered, own), np.searchsorted(ordered, own, "right")
        return {int(n): ordered[n] for n in (*first, *after) if n < len(ordered)}

    label = np.zeros(len(time), dtype=np.int8)
    for cut in cut_times(ratios, len(ordered), groups):
        label += (time >= cut).astype(np.int8)
    return label


def cut_times(
    ratios: Sequence[float], num: int, groups: Callable[[Sequence[int]], Mapping[int, Any]]
) -> list[Any]:
    """Return the first time of validation and the first time of test.

    Rows can be divided between two groups of equal times only. Of the places that leave each share
    above 0 some rows and each share of 0 none, those are taken that are closest to the ratios, and
    of two that are equally close the earlier one.

    Args:
        ratios: Shares of training, validation and test.
        num: Number of rows.
        groups: Returns, for positions in the order of time, the first position of the group of
            equal times that each is in and of the group after it, with the times of these groups.
            There is none after the last group.

    Returns:
        Two times, fewer if there are no rows from them on.

    Raises:
        DataError: If there are too few different times.

    Example:
        >>> def distinct(positions):
        ...     return {place: place for n in positions for place in (n, n + 1) if place < 100}
        >>> cut_times((0.8, 0.1, 0.1), 100, distinct)
        [80, 90]
    """
    # A share of 0 leaves nothing between its points, whatever rounding made of the sums.
    second = round(float(ratios[0] + ratios[1]) * num) if ratios[TEST] > 0 else num
    first = round(float(ratios[0]) * num) if ratios[VALIDATION] > 0 else second
    wanted = (first, second)

    def fits(cuts: Sequence[int]) -> bool:
        sizes = np.diff([0, *cuts, num])
        return all((size > 0) == (ratio > 0) for size, ratio in zip(sizes, ratios, strict=True))

    def off(cuts: Sequence[int]) -> int:
        return sum(abs(cut - place) for cut, place in zip(cuts, wanted, strict=True))

    time: dict[int, Any] = {}
    cuts: tuple[int, ...] = (0, 0)
    if num:
        time |= groups([min(place, num - 1) for place in wanted])
        edges = [*sorted(time), num]
        cuts = tuple(min(edges, key=lambda edge: abs(edge - place)) for place in wanted)
    if num and not fits(cuts):
        # The nearest places leave a part empty: it takes a group that is at an end, or beside one
        # of the places.
        time |= groups([0, num - 1])
        beside = {place for edge in (*time, num) for place in (edge - 1, edge)}
        time |= groups(sorted(place for place in beside if 0 <= place < num))
        pairs = itertools.combinations_with_replacement([*sorted(time), num], 2)
        cuts = min(filter(fits, pairs), key=off, default=cuts)
    if not fits(cuts):
        raise DataError(
            f"the interactions have too few different times to be split by time: found {len(time)},"
            f" expected at least one for each share above 0 of {', '.join(map(str, ratios))}; use "
            "another split"
        )
    return [time[cut] for cut in cuts if cut < num]


def split_by_time(
    user: np.ndarray,
    item: np.ndarray,
    time: np.ndarray,
    cutoff: float,
    *,
    validation_from: float | None = None,
    until: float | None = None,
) -> TimeSplit:
    """Split at a given point in time: what precedes it is known, what follows is to be predicted.

    No training or validation row is as late as ``cutoff``. Users and items that first appear later
    keep their indices, are cold in the training data, and are counted, not dropped.

    Args:
        user: User of each row, integer ``[E]``, from 0 on.
        item: Item of each row, integer ``[E]``, from 0 on.
        time: Time of each row, ``[E]``.
        cutoff: The first time that is test, in the unit of ``time``.
        validation_from: The first time that is validation (default: no validation rows).
        until: The first time that is left out (default: nothing is left out).

    Returns:
        The labels, and the numbers of users and items that are new after the cut-off.

    Raises:
        ConfigError: If the points in time are not in the order validation, test, end.
        DataError: If there is nothing before or nothing after the cut-off.

    Example:
        >>> import numpy as np
        >>> user, item, time = np.array([0, 0, 1]), np.array([0, 1, 2]), np.array([5, 6, 7])
        >>> split_by_time(user, item, time, cutoff=6)
        TimeSplit(label=array([0, 2, 2], dtype=int8), new_users=1, new_items=2, of_new_users=1, \
of_new_items=2)
    """
    points = [point for point in (validation_from, cutoff, until) if point is not None]
    if any(later <= earlier for earlier, later in itertools.pairwise(points)):
        raise ConfigError(
            f"the points in time are validation_from={validation_from}, cutoff={cutoff}, "
            f"until={until}; give ascending ones"
        )
    label = np.full(len(time), TRAINING, dtype=np.int8)
    for point, value in ((validation_from, VALIDATION), (cutoff, TEST), (until, LATER)):
        if point is not None:
            label[time >= point] = value
    for value, what in ((TRAINING, "training"), (TEST, "test")):
        if not (label == value).any():
            raise DataError(
                f"a split at {cutoff} leaves no {what} interactions; the times are from "
                f"{time.min()} to {time.max()}"
            )
    new = []
    for node in (user, item):
        known = np.bincount(node[label == TRAINING], minlength=int(node.max()) + 1) > 0
        later = node[(label == TEST) & ~known[node]]
        new.append((len(np.unique(later)), len(later)))
    (new_users, of_new_users), (new_items, of_new_items) = new
    return TimeSplit(label, new_users, new_items, of_new_users, of_new_items)


def cutoff_times(time: np.ndarray, num: int, first: float = 0.5) -> np.ndarray:
    """Return points in time that divide the later part of a log into windows of equal size.

    Args:
        time: Time of each row, ``[E]``.
        num: Number of points, N. The n-th window is from the n-th point up to the next one, the
            last window up to the end of the log.
        first: Share of the rows that precede the first point.

    Returns:
        Ascending, of the type of ``time``, ``[N]``.

    Raises:
        ConfigError: If ``num`` is below 1 or ``first`` not between 0 and 1.
        DataError: If there are too few different times.

    Example:
        >>> import numpy as np
        >>> cutoff_times(np.arange(100), num=5)
        array([50, 60, 70, 80, 90])
    """
    if num < 1 or not 0 < first < 1:
        raise ConfigError(
            f"num is {num} and first is {first}; give at least 1 and a share between 0 and 1"
        )
    shares = first + (1 - first) * np.arange(num) / num
    place = np.minimum(np.rint(shares * len(time)).astype(np.int64), len(time) - 1)
    points = np.sort(time)[place]
    if points[0] <= time.min() or (points[1:] <= points[:-1]).any():
        raise DataError(
            f"the interactions have too few different times for {num} points in time; give fewer"
        )
    return points


def repeated_rows(
    key: np.ndarray, keep: str, order_by: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the pairs that are there more than once, and which of them stay.

    Args:
        key: Number of each row's pair, integer ``[E]``.
        keep: ``'last'`` for the last row of each pair, otherwise the first.
        order_by: Returns what rows are ordered by, for rows ``[n]``; among equals, rows keep their
            order.

    Returns:
        Rows, ascending, and those among them that stay, one for each such pair.

    Example:
        >>> repeated_rows(np.array([7, 5, 7]), "last", lambda rows: rows)
        (array([0, 2]), array([2]))
    """
    # Only the rows of repeated pairs are sorted: there are few, and a log may be long.
    ordered = np.sort(key)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(twice) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    place = np.searchsorted(twice, key)
    rows = np.flatnonzero(twice[np.minimum(place, len(twice) - 1)] == key)
    order = np.lexsort((order_by(rows), key[rows]))
    first = np.flatnonzero(np.diff(key[rows][order], prepend=-1))
    # The row before the first of a pair is the last of the pair before it.
    chosen = first if keep != "last" else np.append(first[1:], len(rows)) - 1
    return rows, rows[order[chosen]]


def check_ratios(ratios: Sequence[float]) -> None:
    """Raise unless the ratios are three shares that sum to 1.

    Raises:
        ConfigError: With the ratios.
    """
    if len(ratios) != 3 or min(ratios) < 0 or ratios[0] <= 0 or abs(sum(ratios) - 1) > 1e-6:
        raise ConfigError(
            f"ratios are {', '.join(map(str, ratios))}; give the shares of training, validation "
            "and test, which sum to 1, such as 0.8, 0.1, 0.1"
        )


def rank_within(group: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank of each row within its group, by key, and the size of its group.

    Args:
        group: Integer ``[E]``, from 0 on.
        key: ``[E]``; among equals, rows keep their order.

    Returns:
        Two int64 arrays ``[E]``.
    """
    order = np.lexsort((key, group))
    sizes = np.bincount(group)
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank, sizes[group]


def _by_rank(
    rank: np.ndarray, validation: np.ndarray, test: np.ndarray, size: np.ndarray
) -> np.ndarray:
    label = (rank >= size - test - validation).astype(np.int8)
    return label + (rank >= size - test)
