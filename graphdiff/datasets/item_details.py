"""Titles, categories and image addresses of items, from any table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from graphdiff.datasets.faults import Where
from graphdiff.datasets.ids import as_ids, column_of, places, plain, whole
from graphdiff.datasets.io.folders import SUFFIXES, table_suffix
from graphdiff.datasets.io.tables import column_names, is_text, read_table, refuse_absent
from graphdiff.errors import DataError


class DetailTable(NamedTuple):
    """Texts with the item ids of their rows.

    Attributes:
        ids: Raw item id of each row, int64 or string ``[N]``, each once.
        columns: Any of ``title``, ``category`` and ``image``: string ``[N]``, without nulls.
    """

    ids: pa.Array
    columns: dict[str, pa.Array]


def item_column(names: Collection[str], item: str) -> str:
    """Return the name of the column of item ids in a table about items.

    Args:
        names: Names of its columns.
        item: What the log calls its column.

    Returns:
        The first of ``item``, ``"item_id"`` and ``"item"`` that is there; ``"item"`` if none is.
    """
    return next((name for name in (item, "item_id") if name in names), "item")


def item_column_in(path: Path, item: str) -> str:
    """Return :func:`item_column` of a table in a file; ``item`` where it is no table."""
    if table_suffix(path) not in SUFFIXES:
        return item
    return item_column(column_names(path), item)


def read_details(
    path: Path, item: str, called: Mapping[str, str], required: Collection[str] = ()
) -> DetailTable | None:
    """Read the details in a CSV, TSV or Parquet file.

    Args:
        path: The file.
        item: What the log calls its column of item ids; see :func:`item_column`.
        called: Name of the column of each detail; those that are not there are left out.
        required: Details whose column must be there.

    Returns:
        The details; None if the file has none.

    Raises:
        DataError: If the file is damaged, lacks a column that must be there, or holds something
            else than text.
    """
    there = column_names(path)
    roles = {name: column for name, column in called.items() if column in there}
    refuse_absent(there, {name: called[name] for name in required}, path.name)
    if not roles:
        return None
    roles = {"item": item_column(there, item), **roles}
    table = read_table(path, roles, needed=("item",), ids=list(roles))
    ids = as_ids(table["item"], "item", is_text(path), Where(roles["item"]))
    names = [name for name in roles if name != "item"]
    return DetailTable(ids, {name: _texts(table[name], name, path.name) for name in names})


def detail_table(
    columns: Any,
    names: Sequence[Any],
    item: str,
    called: Mapping[str, str],
    required: Collection[str] = (),
) -> DetailTable:
    """Take the details from the columns of a frame.

    Args:
        columns: A mapping from names to columns.
        names: Names of the columns.
        item: What the log calls its column of item ids; see :func:`item_column`.
        called: Name of the column of each detail; those that are not there are left out.
        required: Details whose column must be there.

    Raises:
        DataError: If there are no item ids or no details, a column is missing that must be there,
            or a detail is no text.
    """
    refuse_absent(names, {name: called[name] for name in required}, "the frame of details")
    key = item_column(names, item)
    found = {name: column for name, column in called.items() if column in names}
    if key not in names or not found:
        raise DataError(
            f"the details have the columns {', '.join(map(str, names))}; give {item} or item, the "
            f"raw id of each row, and at least one of {', '.join(called.values())}"
        )
    ids = as_ids(column_of(columns[key], "item"), "item", where=Where(key))
    texts = {
        name: _texts(column_of(columns[column], name), name, "the details")
        for name, column in found.items()
    }
    return DetailTable(ids, texts)


def aligned_details(table: DetailTable, item_ids: pa.Array) -> dict[str, list[str]]:
    """Put details into the order of a catalogue.

    Items without a row get empty texts; rows of other items are left out.

    Args:
        table: The details.
        item_ids: The catalogue ``[I]``.

    Returns:
        Per detail, I texts.

    Raises:
        DataError: If an item has two rows.
    """
    if len(pc.unique(table.ids)) < len(table.ids):
        raise DataError("an item has more than one row of titles or categories; give one each")
    place = places(item_ids, table.ids)
    index = pa.array(place, mask=place < 0)
    return {
        name: pc.fill_null(texts.take(index), "").to_pylist()
        for name, texts in table.columns.items()
    }


def _texts(column: Any, name: str, source: str) -> pa.Array:
    """Return a column as text: a list is joined by commas, and a missing value is empty."""
    column = plain(whole(column))
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    try:
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            if not pa.types.is_string(kind.value_type):
                raise pa.ArrowInvalid(kind)
            column = pc.binary_join(column, ", ")
        return pc.utf8_trim_whitespace(pc.fill_null(column.cast(pa.string()), ""))
    except (pa.ArrowException, UnicodeError):
        hint = f"; call features x_{name}" if pa.types.is_nested(kind) else ""
        raise DataError(f"the column {name} of {source} holds {kind}; give text{hint}") from None
