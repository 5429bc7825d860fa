"""Rows of a log that cannot be used: how many there are, which ones, and how that is said.

A column may come in pieces, so that a log that is streamed is refused in the same words as one that
is read as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graphdiff.errors import DataError
from graphdiff.schema.words import SHOWN

#: How rows are counted, for messages.
COUNTED = "counted from 1 without a header"


class Where(NamedTuple):
    """Where the values of a column are from.

    Attributes:
        column: Name of the column in the file or frame; empty where it has none.
        rows: Number of each value's row, counted from 1 (default: 1, 2, …).
    """

    column: str = ""
    rows: np.ndarray | None = None

    def numbers(self, index: np.ndarray) -> list[int]:
        """Return the number of the row of each of these values."""
        return [int(n) + 1 for n in index] if self.rows is None else self.rows[index].tolist()

    def named(self, rows: Sequence[int], count: int) -> str:
        """Return the first of ``count`` rows in words: ``rows 2, 5, 9, … of the column user``."""
        listed = ", ".join(map(str, rows)) + (", …" if count > len(rows) else "")
        of = f" of the column {self.column}" if self.column else ""
        return f"row{'s' if count > 1 else ''} {listed}{of}"


#: A column without a name, in the order of the rows.
NOWHERE = Where()
#: Columns in pieces, and where each piece is from.
Pieces = Iterable[tuple[Any, Where]]


def refuse_rows(
    pieces: Pieces, is_fault: Callable[[Any], np.ndarray], what: str, hints: tuple[str, str]
) -> None:
    """Refuse rows with a fault.

    Args:
        pieces: The column.
        is_fault: From a piece to whether each value has the fault, bool ``[E]``.
        what: What the rows have: ``no user``.
        hints: What to do, with one row and with several.

    Raises:
        DataError: With the number of rows, the numbers of the first few, and the column's name.
    """
    count, first, last = 0, list[int](), NOWHERE
    for column, where in pieces:
        index, last = np.flatnonzero(is_fault(column)), where
        count += len(index)
        first += where.numbers(index[: SHOWN - len(first)])
    if count:
        have = "1 row has" if count == 1 else f"{count} rows have"
        raise DataError(f"{have} {what}: {last.named(first, count)}, {COUNTED}; {hints[count > 1]}")


def is_missing(column: Any) -> np.ndarray:
    """Return whether each value of a column is null, bool ``[E]``."""
    if pa.types.is_dictionary(column.type):  # The dictionary may hold a null.
        column = column.cast(column.type.value_type)
    return np.asarray(pc.is_null(column))


def refuse_missing_in(pieces: Pieces, what: str) -> None:
    """Refuse rows without a value.

    Args:
        pieces: The column, as :func:`~graphdiff.datasets.ids.plain` returns it.
        what: What the values are.

    Raises:
        DataError: As :func:`refuse_rows`.
    """
    hints = ("leave it out, or fill it in", "leave them out, or fill them in")
    refuse_rows(pieces, is_missing, f"no {what}", hints)


def refuse_infinite_in(pieces: Pieces, what: str, hints: tuple[str, str]) -> None:
    """Refuse rows with an infinite number.

    Args:
        pieces: The column, of floats.
        what: What the values are.
        hints: As for :func:`refuse_rows`.

    Raises:
        DataError: As :func:`refuse_rows`.
    """
    refuse_rows(pieces, lambda c: np.asarray(pc.is_inf(c)), f"an infinite {what}", hints)


def refuse_unreadable(
    pieces: Pieces, kinds: Sequence[pa.DataType], what: str, expected: str
) -> None:
    """Refuse a column of text that cannot be read as a whole as any of the given types.

    Args:
        pieces: The column.
        kinds: The types.
        what: What the values are.
        expected: Descriptions of the types.

    Raises:
        DataError: With the first value that cannot be read like those above it.
    """
    left = list(kinds)
    for column, where in pieces:
        fitting = fits(column, left)
        if fitting:
            left = fitting
            continue
        low, high = 0, len(column)
        while high - low > 1:  # The first ``low`` can be read, the first ``high`` cannot.
            middle = (low + high) // 2
            fitting = fits(column.slice(low, middle - low), left)
            low, high, left = (middle, high, fitting) if fitting else (low, middle, left)
        found = column.slice(low, 1)
        row = where.named(where.numbers(np.array([low])), 1)
        unlike = ", unlike those above it" if fits(found, kinds) else ""
        raise DataError(
            f"the {what} in {row}, {COUNTED}, is {found.to_pylist()[0]!r}{unlike}; give {expected}"
        )


def fits(column: Any, kinds: Iterable[pa.DataType]) -> list[pa.DataType]:
    """Return those of the types that every value of a column of text can be read as."""
    return [kind for kind in kinds if _can_be(column, kind)]


def _can_be(column: Any, kind: pa.DataType) -> bool:
    try:
        column.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
