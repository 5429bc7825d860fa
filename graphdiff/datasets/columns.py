"""Columns of a log other than its ids: times, ratings and splits, from any type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graphdiff.datasets.faults import (
    NOWHERE,
    Pieces,
    Where,
    fits,
    refuse_infinite_in,
    refuse_missing_in,
    refuse_unreadable,
)
from graphdiff.datasets.ids import encode_ids, plain, refuse_missing, whole
from graphdiff.datasets.splits import TEST, TRAINING, VALIDATION
from graphdiff.errors import DataError

#: Values of a split column, in any case.
LABELS = {
    **dict.fromkeys(("train", "training", "0"), TRAINING),
    **dict.fromkeys(("val", "valid", "validation", "1"), VALIDATION),
    **dict.fromkeys(("test", "2"), TEST),
}
#: Formats of times, for messages.
TIMES = (
    "numbers, or dates as in ISO 8601: 2020-12-31, 2020-12-31 23:59:59 or 2020-12-31T23:59:59.5Z"
)
_ZONES = (None, "UTC")
#: Types that times written as text are read as, the first one that fits.
_TIME_KINDS = (
    pa.int64(),
    pa.float64(),
    *(pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in _ZONES),
)


def read_times(column: Any, where: Where = NOWHERE) -> np.ndarray:
    """Return times as numbers that order them: integers or floats ``[E]``.

    Args:
        column: A pyarrow array of numbers, of dates, or of either as text.
        where: Where it is from, for messages.

    Raises:
        DataError: If times are missing, infinite, or something else.
    """
    try:
        return _numbers_of_times(column)
    except DataError:
        refuse_times(lambda: [(column, where)])
        raise


def refuse_times(pieces: Callable[[], Pieces]) -> None:
    """Raise if times are missing, infinite, or text that is neither numbers nor dates.

    Args:
        pieces: Returns the column, each time that it is called.

    Raises:
        DataError: With the first rows.
    """
    refuse_missing_in(((_decoded(column), where) for column, where in pieces()), "timestamp")
    kind: pa.DataType | None = None
    if any(_is_text(column.type) for column, _ in _decoded_pieces(pieces())):
        refuse_unreadable(_decoded_pieces(pieces()), _TIME_KINDS, "timestamp", TIMES)
        kinds: list[pa.DataType] = list(_TIME_KINDS)
        for column, _ in _decoded_pieces(pieces()):
            kinds = fits(column, kinds)
        kind = kinds[0]
        # "nan" parses as a number but is no time.
        refuse_missing_in(_decoded_pieces(pieces(), kind), "timestamp")
    floats = (
        piece for piece in _decoded_pieces(pieces(), kind) if pa.types.is_floating(piece[0].type)
    )
    refuse_infinite_in(floats, "timestamp", ("leave it out", "leave them out"))


def _numbers_of_times(column: Any) -> np.ndarray:
    column = _decoded(column)
    refuse_missing(column, "timestamp")
    kind = column.type
    if _is_text(kind):
        column = _times_of_text(column)
        kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return column.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).to_numpy()
    if pa.types.is_decimal(kind):
        exact = kind.scale == 0 and kind.precision <= 18
        column = column.cast(pa.int64() if exact else pa.float64())
    if pa.types.is_floating(column.type):
        infinite = pc.sum(pc.is_inf(column)).as_py() or 0
        if infinite:
            raise DataError(f"{infinite} rows have an infinite timestamp; leave them out")
    elif not pa.types.is_integer(column.type):
        raise _odd(column, "timestamp", TIMES)
    return column.to_numpy()


def read_training_times(
    column: Any,
    where: Where,
    label: np.ndarray,
    read: Callable[[Any, Where], np.ndarray] = read_times,
) -> np.ndarray:
    """Return the times of training rows, and 0 for held-out rows, which may have none.

    Args:
        column: As for :func:`read_times`.
        where: Where it is from, for messages.
        label: Split of each row, ``[E]``.
        read: What reads the column of training rows.

    Raises:
        DataError: If the time of a training row is missing, infinite, or something else.
    """
    training = label == TRAINING
    rows = np.flatnonzero(training)
    at = Where(where.column, rows + 1 if where.rows is None else where.rows[rows])
    known = read(plain(column).filter(pa.array(training)), at)
    times = np.zeros(len(training), dtype=known.dtype)
    times[training] = known
    return times


def time_kind(tables: Iterable[pa.Table]) -> pa.DataType | None:
    """Return the type that times written as text are to be read as, in a column that comes in
    pieces; None where they are no text.

    Args:
        tables: The pieces, with the column ``timestamp``.

    Raises:
        DataError: If they are neither numbers nor dates.
    """
    kinds, last = list(_TIME_KINDS), None
    for table in tables:
        last = plain(table["timestamp"])
        if not _is_text(last.type):
            return None
        kinds = fits(last, kinds)
        if not kinds:
            raise _odd(last, "timestamp", TIMES)
    return kinds[0] if last is not None else None


def read_ratings(column: Any, where: Where = NOWHERE) -> np.ndarray:
    """Return ratings as float64 ``[E]``, NaN where there is none.

    Args:
        column: A pyarrow array of numbers, also as text.
        where: Where it is from, for messages.

    Raises:
        DataError: If they are something else.
    """
    column = _decoded(column)
    kind = column.type
    if pa.types.is_decimal(kind) or pa.types.is_null(kind) or _is_text(kind):
        try:
            column = column.cast(pa.float64())
        except pa.ArrowInvalid:
            if _is_text(kind):
                refuse_ratings([(column, where)])
            raise _odd(column, "rating", "numbers") from None
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise _odd(column, "rating", "numbers")
    return column.to_numpy().astype(np.float64)


def refuse_ratings(pieces: Pieces) -> None:
    """Raise if ratings are text that is no number.

    Raises:
        DataError: With the first row.
    """
    refuse_unreadable(_decoded_pieces(pieces), [pa.float64()], "rating", "numbers")


def read_labels(column: Any, where: Where = NOWHERE) -> np.ndarray:
    """Return the split of each row, int8 ``[E]``.

    Args:
        column: A pyarrow array.
        where: Where it is from, for messages.

    Raises:
        DataError: If a row has none, or another than train, val or test.
    """
    codes, values = encode_ids(column, "split", where=where)
    names = [str(value).strip().lower() for value in values.to_pylist()]
    unknown = [name for name in names if name not in LABELS]
    if unknown:
        raise DataError(
            f"the split of a row is {', '.join(map(repr, unknown[:3]))}; give train, val or test"
        )
    return np.array([LABELS[name] for name in names], dtype=np.int8)[codes]


def _decoded(column: Any) -> Any:
    column = plain(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column


def _decoded_pieces(pieces: Pieces, kind: pa.DataType | None = None) -> Pieces:
    """Yield the pieces of a column, decoded and, if there is a type, read as that."""
    for column, where in pieces:
        found = _decoded(column)
        yield (found if kind is None else plain(found.cast(kind))), where


def _times_of_text(column: Any) -> Any:
    """Parse text as numbers or dates."""
    for kind in _TIME_KINDS:
        try:
            found = column.cast(kind)
        except pa.ArrowInvalid:
            continue
        found = plain(found)
        refuse_missing(found, "timestamp")  # "nan" parses as a number but is no time.
        return found
    raise _odd(column, "timestamp", TIMES)


def _is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _odd(column: Any, what: str, expected: str) -> DataError:
    """Return the error for a column of another type."""
    first = whole(column.drop_null()).slice(0, 1).to_pylist()
    such = f", such as {first[0]!r}" if first else ""
    kind = "string" if _is_text(column.type) else str(column.type)
    return DataError(f"the {what}s are {kind}{such}; give {expected}")
