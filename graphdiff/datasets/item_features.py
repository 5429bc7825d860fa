"""Feature tables of items, from any source, as one row per item of the catalogue."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graphdiff.datasets.faults import Where
from graphdiff.datasets.ids import as_ids, places, show
from graphdiff.datasets.io.folders import is_junk, table_suffix
from graphdiff.datasets.io.safe_npy import load_features
from graphdiff.datasets.io.tables import is_text, read_schema, read_table
from graphdiff.errors import DataError
from graphdiff.schema.features import as_features

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

#: A function from N texts or N paths of images to an array or tensor ``[N, F]``.
Encoder = Callable[[list[Any]], Any]


class FeatureTable(NamedTuple):
    """Features with the item ids of their rows.

    Attributes:
        ids: Raw item id of each row, int64 or string ``[N]``, each once.
        values: float32 ``[N, F]``; a row of NaN means the item lacks the modality.
        numbered: Name of the file, if it has no ids and those here are its row numbers.
    """

    ids: pa.Array
    values: np.ndarray
    numbered: str = ""


def align(table: FeatureTable, item_ids: pa.Array, modality: str) -> np.ndarray:
    """Put rows into the order of a catalogue.

    Items without a row get NaN; rows of other items are left out.

    Args:
        table: The features.
        item_ids: The catalogue.
        modality: Name of the modality, for messages.

    Returns:
        float32 ``[I, F]``.

    Raises:
        DataError: If an item has two rows, or no row belongs to any item.
    """
    refuse_repeated_items(table.ids, modality)
    place = places(item_ids, table.ids)
    refuse_foreign(place, item_ids, table.ids, modality)
    there = place >= 0
    values = np.full((len(item_ids), table.values.shape[1]), np.nan, dtype=np.float32)
    values[there] = table.values[place[there]]
    return values


def refuse_repeated_items(ids: pa.Array, modality: str) -> None:
    """Refuse features of which an item has two rows.

    Raises:
        DataError: If one has.
    """
    if len(pc.unique(ids)) < len(ids):
        raise DataError(f"an item has more than one row of {modality} features; give one each")


def refuse_foreign(place: np.ndarray, item_ids: pa.Array, ids: pa.Array, modality: str) -> None:
    """Refuse features without a row that belongs to an item.

    Args:
        place: Where ids are among others, -1 where they are not.
        item_ids: The catalogue.
        ids: Item id of each row.
        modality: Name of the modality, for messages.

    Raises:
        DataError: If none does.
    """
    if not (place >= 0).any():
        raise DataError(
            f"no row of the {modality} features belongs to an item of the interactions: items are "
            f"{show(item_ids)}, rows are {show(ids)}"
        )


def refuse_misnumbered(table: FeatureTable, item_ids: pa.Array, modality: str) -> None:
    """Refuse features without ids whose rows cannot be those of the items 0, 1, ….

    If ids begin at 1, leave gaps, or are text, row n is not that of item n.

    Args:
        table: The features.
        item_ids: The items of the log.
        modality: Name of the modality, for messages.

    Raises:
        DataError: If an item id is not the number of a row.
    """
    if not table.numbered or len(item_ids) == 0:
        return
    rows = len(table.values)
    integers = pa.types.is_integer(item_ids.type)
    span = pc.min_max(item_ids).as_py()
    if not integers or span["min"] < 0 or span["max"] >= rows:
        found = f"{span['min']} to {span['max']}" if integers else f"text: {show(item_ids)}"
        raise DataError(
            f"{table.numbered} has {rows} rows and no item ids, so row n belongs to "
            f"item n; but the interactions hold {len(item_ids)} items, {found}. List the items in "
            "the order of the rows in items.parquet (column item), or give the "
            f"{modality} features as a table with a column item"
        )


def read_features(
    path: Path, modality: str, item: str = "item", order: pa.Array | None = None
) -> FeatureTable:
    """Read the features of one modality.

    Args:
        path: An ``.npy`` file with one row per item, or a CSV, TSV or Parquet file with a column of
            item ids and either one column of lists (called ``<modality>``, ``x_<modality>`` or
            ``x``, or anything if it is the only one), or columns of numbers called
            ``x_<modality>_0``, ``x_<modality>_1``, … or ``x_0``, ….
        modality: Its name.
        item: Name of the column of item ids.
        order: Item id of each row of an ``.npy`` file (default: its row number; see
            :func:`refuse_misnumbered`).

    Raises:
        DataError: If the file is missing, damaged, or holds something else.
    """
    if table_suffix(path) != ".npy":
        table = read_table(path, ids=(item,))
        names = table.column_names
        if item not in names:
            raise DataError(
                f"{path.name} has the columns {', '.join(names)}, but not {item}, which has "
                "the item of each row"
            )
        ids = as_ids(table[item], "item", is_text(path), Where(item))
        return FeatureTable(ids, feature_values(table.drop_columns([item]), modality, path.name))
    values = load_features(path)
    if order is None:
        return FeatureTable(pa.array(np.arange(len(values))), values, path.name)
    if len(order) != len(values):
        raise DataError(f"{path.name} has {len(values)} rows, but {len(order)} items are listed")
    return FeatureTable(order, values)


def modalities_in(path: Path) -> list[str]:
    """Return the modalities that a Parquet table holds by name: lists ``x_<modality>``, or columns
    ``x_<modality>_0``, ….

    Raises:
        DataError: If the file cannot be read.
    """
    found = set()
    for field in read_schema(path):
        if field.name.startswith("x_"):
            if _is_list(field.type):
                found.add(field.name[2:])
            elif field.name.endswith("_0"):
                found.add(field.name[2:-2])
    return sorted(found - {""})


def encode_content(path: Path, item: str, encode: Encoder, modality: str) -> FeatureTable:
    """Encode raw content.

    Items whose text is blank get no row.

    Args:
        path: A folder of images, each named after its item's id; or a CSV, TSV or Parquet file with
            a column of item ids, whose other columns are joined to the text of an item.
        item: Name of the column of item ids.
        encode: The encoder.
        modality: Name of the modality, for messages.

    Raises:
        DataError: If there is no content, or the encoder returns something else.
    """
    content: list[Any]
    if path.is_dir():
        # Paths come from listing the folder, never from ids, so no id can lead out of it.
        images = list_images(path)
        ids, content = as_ids(pa.array([p.stem for p in images]), "item", text=True), images
    else:
        ids, content = read_item_texts(path, item)
    if not content:
        kinds = f"images ({', '.join(IMAGES)})" if path.is_dir() else "texts"
        raise DataError(f"{path} holds no {kinds}")
    return FeatureTable(ids, encoded(encode, content, modality, f"contents of {path.name}"))


def encoded(encode: Encoder, content: list[Any], modality: str, what: str) -> np.ndarray:
    """Encode N contents and check the result.

    Args:
        encode: The encoder; it may return an array, a tensor, a scipy sparse matrix or lists.
        content: The contents.
        modality: Name of the modality, for messages.
        what: Description of the contents, for messages.

    Returns:
        float32 ``[N, F]``.

    Raises:
        DataError: If the encoder returns something else.
    """
    values = as_features(encode(list(content)), modality).cpu().numpy()
    if values.ndim != 2 or len(values) != len(content):
        raise DataError(
            f"the encoder made {list(values.shape)} of {len(content)} {what}; expected "
            f"[{len(content)}, F]"
        )
    return values


def list_images(folder: Path) -> list[Path]:
    """Return all images in a folder and the folders in it, in order."""
    images = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGES and p.is_file())
    return sorted(p for p in images if not is_junk(p.relative_to(folder)))


def read_item_texts(path: Path, item: str) -> tuple[pa.Array, list[str]]:
    """Return the items of a table that have a text, and their texts.

    Args:
        path: A CSV, TSV or Parquet file.
        item: Name of the column of item ids; the other columns are joined.

    Raises:
        DataError: If the file cannot be read, or has no such columns.
    """
    table = read_table(path, ids=(item,))
    if item not in table.column_names or table.num_columns < 2:
        raise DataError(
            f"{path.name} has the columns {', '.join(table.column_names)}; expected {item} and at "
            "least one column of text"
        )
    ids = as_ids(table[item], "item", is_text(path), Where(item))
    columns = [_as_text(c, path.name) for c in table.drop_columns([item]).columns]
    texts = pc.binary_join_element_wise(*columns, "\n") if len(columns) > 1 else columns[0]
    present = pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0)
    return ids.filter(pa.array(present.to_numpy())), texts.filter(present).to_pylist()


def _as_text(column: Any, file: str) -> Any:
    """Return a column of text, numbers or lists of text as text; nothing where it is missing."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        if _is_list(column.type):
            lists = column.cast(pa.list_(pa.string()))
            column = pc.binary_join(lists, " ")
        return pc.fill_null(column.cast(pa.string()), "")
    except pa.ArrowException as error:
        raise DataError(f"{file} holds {column.type}, which is no text: {error}") from None


def feature_values(table: pa.Table, modality: str, file: str) -> np.ndarray:
    """Return the numbers of one modality among the columns of a table, float32 ``[N, F]``.

    Raises:
        DataError: If there are none.
    """
    lists = [n for n in table.column_names if _is_list(table.schema.field(n).type)]
    # Columns with the modality's name take precedence over those without one.
    for names, prefix in (((f"x_{modality}", modality), f"x_{modality}_"), (("x",), "x_")):
        called = [name for name in names if name in lists]
        if called:
            return list_values(table[called[0]], file)
        numbered = _numbered(table.column_names, prefix)
        if numbered:
            return _stacked(table.select(numbered), file)
    if len(lists) == 1:
        return list_values(table[lists[0]], file)
    raise DataError(
        f"{file} has no features of {modality}: its columns are {', '.join(table.column_names)}; "
        f"give one column of lists, x_{modality}, or columns x_{modality}_0, x_{modality}_1, …"
    )


def _numbered(names: list[str], prefix: str) -> list[str]:
    """Return the columns ``<prefix>0``, ``<prefix>1``, … in order; none if one is missing."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)")
    found = {int(match[1]): name for name in names if (match := pattern.fullmatch(name))}
    return [found[n] for n in sorted(found)] if sorted(found) == list(range(len(found))) else []


def _stacked(table: pa.Table, file: str) -> np.ndarray:
    """Return columns of numbers as float32 ``[N, F]``; NaN where there is none."""
    for name in table.column_names:
        if _is_string(table.schema.field(name).type):
            raise DataError(f"{file} holds other than numbers: {name} is text")
    try:
        columns = [column.cast(pa.float32(), safe=False).to_numpy() for column in table.columns]
    except pa.ArrowException as error:
        raise DataError(f"{file} holds other than numbers: {error}") from None
    return np.stack(columns, axis=1)


def list_values(column: Any, file: str) -> np.ndarray:
    """Return lists of numbers, all of one length, as float32 ``[N, F]``; NaN where null.

    Raises:
        DataError: If it is something else.
    """
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else column.combine_chunks()
    lengths = pc.unique(pc.drop_null(pc.list_value_length(column))).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise DataError(f"{file} holds lists of {sorted(lengths)[:5]} numbers; give one length")
    if _is_string(column.type.value_type):
        raise DataError(f"{file} holds lists of other than numbers: they are of text")
    try:
        flat = column.drop_null().flatten().cast(pa.float32(), safe=False)
    except pa.ArrowException as error:
        raise DataError(f"{file} holds lists of other than numbers: {error}") from None
    values = np.full((len(column), lengths[0]), np.nan, dtype=np.float32)
    there = ~column.is_null().to_numpy(zero_copy_only=False)
    values[there] = flat.to_numpy(zero_copy_only=False).reshape(-1, lengths[0])
    return values


def _is_string(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind: Any) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
