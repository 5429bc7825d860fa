"""Order statistics of numbers that are read in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

#: Bits of a number that one pass decides on.
BITS = 16


def ordered_at(pieces: Callable[[], Iterable[np.ndarray]], positions: Sequence[int]) -> np.ndarray:
    """Return the numbers at some positions of the sorted sequence, without sorting it.

    Numbers are counted by their highest bits, then by the next ones among those with the same
    highest bits: four passes for 64 bits.

    Args:
        pieces: Returns the numbers in pieces: integers, or floats without NaN. Called in each
            pass.
        positions: Positions from 0 on.

    Returns:
        One number for each position.

    Example:
        >>> numbers = np.array([5, -3, 9, 0])
        >>> ordered_at(lambda: [numbers[:2], numbers[2:]], [0, 2])
        array([-3,  5])
    """
    kind = np.dtype(np.int64)
    prefix, rest = [0] * len(positions), list(positions)
    for shift in range(64 - BITS, -1, -BITS):
        counts = [np.zeros(2**BITS, dtype=np.int64) for _ in positions]
        for piece in pieces():
            kind = piece.dtype
            keys = _sortable(piece)
            for known, count in zip(prefix, counts, strict=True):
                # A shift by all 64 bits is not defined.
                own = keys if shift == 64 - BITS else keys[keys >> np.uint64(shift + BITS) == known]
                digit = (own >> np.uint64(shift)) & np.uint64(2**BITS - 1)
                count += np.bincount(digit.astype(np.int64), minlength=2**BITS)
        for n, count in enumerate(counts):
            below = np.cumsum(count)
            digit_at = int(np.searchsorted(below, rest[n], side="right"))
            rest[n] -= int(below[digit_at] - count[digit_at])
            prefix[n] = prefix[n] << BITS | digit_at
    return _original(np.array(prefix, dtype=np.uint64), kind)


def _sortable(values: np.ndarray) -> np.ndarray:
    """Return unsigned integers in the order of numbers."""
    top = np.uint64(2**63)
    if values.dtype.kind == "u":
        return values.astype(np.uint64)
    if values.dtype.kind == "i":
        return values.astype(np.int64).view(np.uint64) ^ top
    # Adding zero makes -0.0 the same as 0.0.
    bits = (values.astype(np.float64) + 0.0).view(np.uint64)
    return np.where(bits & top, ~bits, bits | top)


def _original(keys: np.ndarray, kind: np.dtype) -> np.ndarray:
    top = np.uint64(2**63)
    if kind.kind == "u":
        return keys.astype(kind)
    if kind.kind == "i":
        return (keys ^ top).view(np.int64).astype(kind)
    return np.where(keys & top, keys ^ top, ~keys).view(np.float64).astype(kind)
