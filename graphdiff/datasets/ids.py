"""Columns of raw ids of any type, as integers and a vocabulary. Columnar: no loop over rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graphdiff.errors import DataError

# How an integer is written so that reading it as a number loses nothing: "007" is not one.
CANONICAL_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"


def encode_ids(column: Any, what: str, text: bool = False) -> tuple[np.ndarray, pa.Array]:
    """Numbers the ids of a column in their sorted order.

    Args:
        column: A pyarrow array, chunked or not, of integers, strings, or anything that can be
            written as a string.
        what: What the ids are of, for messages.
        text: Whether strings came from a text file, where integers look like strings: then they
            become integers if all of them are written as integers are.

    Returns:
        Codes, int32 ``[E]``, and the ids, sorted and each once: int64 or string ``[N]``.

    Raises:
        DataError: If ids are missing or cannot be written as strings.
    """
    if column.null_count:
        raise DataError(f"{column.null_count} rows have no {what}; leave them out, or name them")
    uuid = isinstance(column.type, pa.UuidType)
    if uuid:
        column = column.cast(column.type.storage_type)
    if not pa.types.is_dictionary(column.type):
        try:
            column = pc.dictionary_encode(column)
        except pa.ArrowNotImplementedError:
            raise DataError(f"the {what} ids are {column.type}; give integers or strings") from None
    if isinstance(column, pa.ChunkedArray):
        column = _whole(column.unify_dictionaries())
    distinct = column.dictionary.cast(pa.uuid()) if uuid else column.dictionary
    found = as_ids(distinct, what, text)
    ids = pc.unique(found)
    ids = ids.take(pc.sort_indices(ids))
    place = pc.index_in(found, value_set=ids).to_numpy(zero_copy_only=False).astype(np.int32)
    codes = place[column.indices.to_numpy(zero_copy_only=False)]
    return codes, ids


def as_ids(values: Any, what: str, text: bool = False) -> pa.Array:
    """Raw ids as int64 or string, whichever keeps what they are.

    Args:
        values: A pyarrow array, chunked or not.
        what: What the ids are of, for messages.
        text: As for :func:`encode_ids`.

    Raises:
        DataError: If ids are missing or cannot be written as strings.
    """
    if values.null_count:
        raise DataError(f"{values.null_count} rows have no {what}; leave them out, or name them")
    values = _whole(values)
    if isinstance(values.type, pa.UuidType):
        return pa.array([str(value) for value in values.to_pylist()], pa.string())
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        if pa.types.is_floating(values.type) and pc.all(pc.equal(pc.floor(values), values)).as_py():
            values = values.cast(pa.int64())  # Integers that a missing value once made floats.
        if pa.types.is_integer(values.type):
            return values.cast(pa.int64())
        values = values.cast(pa.string())
    except pa.ArrowInvalid:
        values = values.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError(
            f"the {what} ids are {values.type}; give integers or strings ({error})"
        ) from None
    if text and len(values) and pc.all(pc.match_substring_regex(values, CANONICAL_INTEGER)).as_py():
        return values.cast(pa.int64())
    return values


def _whole(values: Any) -> Any:
    """A chunked array in one piece."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # No chunk at all, or, in some versions, one.
            values = values.chunk(0) if values.num_chunks else pa.array([], values.type)
    return values


def places(ids: pa.Array, among: pa.Array) -> np.ndarray:
    """Where each id is among others, -1 where it is not there: int64 ``[len(ids)]``.

    An integer and the string that writes it are the same id.
    """
    if ids.type != among.type:
        ids, among = ids.cast(pa.string()), among.cast(pa.string())
    return pc.fill_null(pc.index_in(ids, value_set=among), -1).to_numpy().astype(np.int64)


def show(ids: pa.Array, count: int = 3) -> str:
    """The first few ids, for messages."""
    shown = ", ".join(repr(i) for i in ids.slice(0, count).to_pylist())
    return shown + (", …" if len(ids) > count else "")
