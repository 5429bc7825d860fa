"""Columns of raw ids of any type, as integers and a vocabulary. Columnar: no loop over rows.

Missing values stay missing in every representation: a null, a NaN, pandas' ``NA`` or ``NaT`` never
becomes text. Integers stay integers, even if a missing value turned their column into floats; also
in text files, where such a column is written as ``100.0``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from graphdiff.datasets.faults import NOWHERE, Where, refuse_infinite_in, refuse_missing_in
from graphdiff.errors import DataError

# Text that is an integer without loss: "007" is not.
CANONICAL_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
# Text that is an integer in a column of floats, as pandas and others write it.
INTEGER_AS_FLOAT = r"^(0|-?[1-9][0-9]{0,17})\.0$"
# The largest integer up to which every integer is a float64.
MAX_EXACT = 2**53
# What to do about infinite ids, in one row or several.
INFINITE_HINTS = ("give integers or text", "give integers or text")
# Integers of 64 bits, signed or not.
INTEGERS = range(-(2**63), 2**64)


def encode_ids(
    column: Any, what: str, text: bool = False, where: Where = NOWHERE
) -> tuple[np.ndarray, pa.Array]:
    """Number the ids of a column in their sorted order.

    Args:
        column: A pyarrow array, chunked or not, of integers, strings, or anything that can be
            written as a string.
        what: What the ids are of, for messages.
        text: Whether strings came from a text file, where integers look like strings: then they
            become integers if all of them are written as integers are, or all as integers in a
            column of floats are.
        where: Where the column is from, for messages.

    Returns:
        Codes, int32 ``[E]``, and the ids, sorted and each once: int64 or string ``[N]``.

    Raises:
        DataError: If ids are missing, or cannot be written as integers or strings exactly.
    """
    column = plain(column)
    refuse_missing(column, what, where)
    if pa.types.is_floating(column.type):
        refuse_infinite_in([(column, where)], what, INFINITE_HINTS)
    if not pa.types.is_dictionary(column.type):
        try:
            column = pc.dictionary_encode(column)
        except pa.ArrowNotImplementedError:
            raise _not_ids(column, what) from None
    if isinstance(column, pa.ChunkedArray):
        column = whole(column.unify_dictionaries())
    found = as_ids(column.dictionary, what, text)
    ids = pc.unique(found)
    ids = ids.take(pc.sort_indices(ids))
    place = pc.index_in(found, value_set=ids).to_numpy(zero_copy_only=False).astype(np.int32)
    codes = place[column.indices.to_numpy(zero_copy_only=False)]
    return codes, ids


def as_ids(values: Any, what: str, text: bool = False, where: Where = NOWHERE) -> pa.Array:
    """Return raw ids as int64 or string, whichever represents them without loss.

    Args:
        values: A pyarrow array, chunked or not.
        what: What the ids are of, for messages.
        text: As for :func:`encode_ids`.
        where: As for :func:`encode_ids`.

    Raises:
        DataError: As for :func:`encode_ids`.
    """
    values = whole(plain(values))
    refuse_missing(values, what, where)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    try:
        if pa.types.is_floating(kind):
            return _ids_of_floats(values, what, where)
        if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
            return _ids_of_integers(values)
        values = values.cast(pa.string())
    except (pa.ArrowInvalid, UnicodeError):
        raise DataError(
            f"the {what} ids are bytes ({kind}) that are not UTF-8; give integers or text"
        ) from None
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        raise _not_ids(values, what) from None
    return _ids_of_text(values, what) if text and len(values) else values


def column_of(values: Any, what: str) -> Any:
    """Convert a column of ids or numbers to a pyarrow array, missing values to nulls.

    Args:
        values: A pyarrow array, a pandas or polars Series, a NumPy array, a tensor, or any
            iterable.
        what: What they are, for messages.

    Raises:
        DataError: If a value can be written neither as a number nor as text, or is an integer
            beyond 64 bits.
    """
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if hasattr(values, "detach"):  # A tensor.
        values = values.detach().cpu().numpy()
    if not isinstance(values, (pd.Series, pd.Index)) and hasattr(values, "__arrow_c_stream__"):
        return pa.chunked_array(values)
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        raise DataError(f"the {what}s are of type {type(values).__name__}; give a list or column")
    if not hasattr(values, "__len__") or isinstance(values, (set, frozenset)):
        values = list(values)
    if getattr(values, "ndim", 1) != 1:
        raise DataError(f"the {what}s have {values.ndim} dimensions; give one")
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError, UnicodeError, ValueError, TypeError):
        # Ids of a type of their own, or of several: each is what it is written as.
        return pa.array([_written(value, what) for value in values], pa.string())


def plain(column: Any) -> Any:
    """Decode representations that few functions support, and turn NaN into nulls."""
    kind = column.type
    if isinstance(kind, pa.UuidType):
        codes = pc.dictionary_encode(whole(column.cast(kind.storage_type)))
        written = pa.array([str(uuid.UUID(bytes=value)) for value in codes.dictionary.to_pylist()])
        return pa.DictionaryArray.from_arrays(codes.indices, written.cast(pa.string()))
    if isinstance(kind, pa.BaseExtensionType):
        column = column.cast(kind.storage_type)
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pa.types.is_string_view(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.string())
    elif pa.types.is_binary_view(column.type):
        column = column.cast(pa.binary())
    elif pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if pa.types.is_dictionary(column.type) and not _is_text(column.type.value_type):
        column = column.cast(column.type.value_type)
        return plain(column)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return column


def refuse_missing(column: Any, what: str, where: Where = NOWHERE) -> None:
    """Raise if values are missing.

    Args:
        column: The values, as :func:`plain` returns them.
        what: What they are, for messages.
        where: Where they are from, for messages.

    Raises:
        DataError: With the number of rows, and the first few of them.
    """
    missing = column.null_count
    if pa.types.is_dictionary(column.type):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        if any(chunk.dictionary.null_count for chunk in chunks):
            missing = column.cast(column.type.value_type).null_count
    if missing:
        refuse_missing_in([(column, where)], what)


def strict_int(text: str) -> int:
    """Return the integer that a text writes in plain digits.

    Raises:
        ValueError: If it is anything else, such as ``1_0``, which Python reads as 10.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is not an integer in plain digits")
    return int(text)


def whole(values: Any) -> Any:
    """Return a chunked array in one piece."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # No chunk at all, or, in some versions, one.
            values = values.chunk(0) if values.num_chunks else pa.array([], values.type)
    return values


def places(ids: pa.Array, among: pa.Array) -> np.ndarray:
    """Return where each id is among others, -1 where it is not: int64 ``[len(ids)]``.

    An integer and the string that writes it are the same id.
    """
    if ids.type != among.type:
        ids, among = ids.cast(pa.string()), among.cast(pa.string())
    return pc.fill_null(pc.index_in(ids, value_set=among), -1).to_numpy().astype(np.int64)


def show(ids: pa.Array, count: int = 3) -> str:
    """Return the first few ids, for messages."""
    shown = ", ".join(repr(i) for i in ids.slice(0, count).to_pylist())
    return shown + (", …" if len(ids) > count else "")


def _ids_of_floats(values: pa.Array, what: str, where: Where) -> pa.Array:
    refuse_infinite_in([(values, where)], what, INFINITE_HINTS)
    if not _all_whole(values):
        return values.cast(pa.string())
    largest = pc.max(pc.abs(values)).as_py() or 0
    exact = MAX_EXACT if pa.types.is_float64(values.type) else 2**24
    if largest > exact:
        raise DataError(
            f"the {what} ids are {values.type} up to {largest:g}, beyond {exact}, from where on "
            "different integers are the same float; give them as integers or text"
        )
    return values.cast(pa.int64())


def _ids_of_text(values: pa.Array, what: str) -> pa.Array:
    """Return strings of a text file as integers if all are written as such in the same way."""
    if pc.all(pc.match_substring_regex(values, CANONICAL_INTEGER)).as_py():
        return values.cast(pa.int64())
    if not pc.all(pc.match_substring_regex(values, INTEGER_AS_FLOAT)).as_py():
        return values
    numbers = pc.utf8_slice_codeunits(values, 0, -2).cast(pa.int64())
    largest = pc.max(pc.abs(numbers)).as_py()
    if largest > MAX_EXACT:
        raise DataError(
            f"the {what} ids are written as floats up to {largest}.0, beyond {MAX_EXACT}, from "
            "where on different integers are the same float; write them as integers or text"
        )
    return numbers


def _ids_of_integers(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:  # Unsigned ones beyond int64, or fractions.
        return values.cast(pa.string())


def _all_whole(values: pa.Array) -> bool:
    return bool(pc.all(pc.equal(pc.floor(values), values)).as_py() in (True, None))


def _is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _not_ids(values: Any, what: str) -> DataError:
    return DataError(f"the {what} ids are {values.type}; give integers or strings")


def _is_nan(value: Any) -> bool:
    return value.is_nan() if isinstance(value, Decimal) else bool(value != value)


def _written(value: Any, what: str) -> str | None:
    """Return an id as text, None if it is missing."""
    if isinstance(value, (list, tuple, set, frozenset, dict, np.ndarray)):
        raise DataError(
            f"the {what} ids hold {str(value)[:60]}, of type {type(value).__name__}; give integers "
            "or strings"
        )
    if value is None or value is pd.NA or value is pd.NaT or _is_nan(value):
        return None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise DataError(
                f"the {what} ids hold the bytes {value[:20]!r}, which are not UTF-8; give integers "
                "or text"
            ) from None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, Integral) or (isinstance(value, Real) and value == value // 1):
        number = int(value)  # type: ignore[call-overload]
        if number not in INTEGERS:
            raise DataError(
                f"the {what} ids hold {number}, which is beyond 64 bits; give them as text"
            )
        return str(number)
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"the {what} ids hold {value!r}, which cannot be written as UTF-8; give integers or "
            "text"
        ) from None
    return text
