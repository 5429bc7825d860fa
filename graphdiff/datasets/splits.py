"""Splits of an interaction log into training, validation and test. Columnar: no loop over rows.

Each function returns one label per row: :data:`TRAINING`, :data:`VALIDATION` or :data:`TEST`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphdiff.errors import ConfigError, DataError

TRAINING, VALIDATION, TEST = 0, 1, 2


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
    counts = []
    for ratio in ratios[1:]:
        least = (size >= 3) & (ratio > 0)
        counts.append(np.maximum(np.rint(ratio * size).astype(size.dtype), least))
    test = np.minimum(counts[1], size - 1)
    validation = np.minimum(counts[0], size - 1 - test)
    return _by_rank(rank, validation, test, size)


def temporal(time: np.ndarray, ratios: Sequence[float]) -> np.ndarray:
    """Split at two points in time, the same for all users.

    Training precedes validation, which precedes test; equal times are on the same side. The points
    are those that come closest to the ratios. Users and items that first appear later are cold.

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
    label = np.zeros(len(time), dtype=np.int8)
    for share in np.cumsum(ratios)[:2]:
        # A share of 1 leaves nothing behind the point, whatever rounding made of the sum.
        place = round(float(share) * len(ordered))
        if place < len(ordered):
            label += (time >= ordered[place]).astype(np.int8)
    if not (label == TRAINING).any():
        raise DataError(
            "the interactions have too few different times to be split by time; use another split"
        )
    return label


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
