"""Features of items, put into the order of the catalogue piece by piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graphdiff.datasets.faults import Where
from graphdiff.datasets.ids import as_ids, places
from graphdiff.datasets.io.folders import table_suffix
from graphdiff.datasets.io.safe_npy import load_array
from graphdiff.datasets.item_features import (
    FeatureTable,
    feature_values,
    read_features,
    refuse_foreign,
    refuse_misnumbered,
    refuse_repeated_items,
)
from graphdiff.datasets.mapped.columns import ArrayFile
from graphdiff.errors import DataError

#: Numbers that are held at a time.
NUMBERS = 2**24


def write_features(
    source: Path,
    modality: str,
    item: str,
    order: pa.Array | None,
    logged: pa.Array,
    item_ids: pa.Array,
    folder: Path,
) -> int:
    """Write the features of one modality, and which items have them, in the order of a catalogue.

    Args:
        source: The file; see :func:`graphdiff.datasets.item_features.read_features`.
        modality: Its name.
        item: Name of the column of item ids.
        order: Item id of each row of an ``.npy`` file, if items are listed.
        logged: The items of the log, before it was filtered.
        item_ids: The catalogue.
        folder: The folder to write to.

    Returns:
        The width of the features.

    Raises:
        DataError: If the file holds something else, or no row belongs to an item.
    """
    if table_suffix(source) == ".parquet" and source.is_file():
        return _write_parquet(source, modality, item, item_ids, folder)
    if table_suffix(source) == ".npy":
        table = _mapped(source, order)
    else:
        table = read_features(source, modality, item, order)
    refuse_misnumbered(table, logged, modality)
    refuse_repeated_items(table.ids, modality)
    place = places(item_ids, table.ids)
    refuse_foreign(place, item_ids, table.ids, modality)
    width = table.values.shape[1]
    out, has = _files(folder, modality, len(item_ids), width)
    size = max(NUMBERS // width, 1)
    for start in range(0, len(item_ids), size):
        own = place[start : start + size]
        rows = np.full((len(own), width), np.nan, dtype=np.float32)
        with np.errstate(over="ignore"):
            rows[own >= 0] = table.values[own[own >= 0]]
        present = np.asarray(~np.isnan(rows).all(axis=1))
        rows[~present] = 0
        out.write(rows.reshape(-1), start * width)
        has.write(present, start)
    out.close()
    has.close()
    return width


def _mapped(source: Path, order: pa.Array | None) -> FeatureTable:
    values = load_array(source)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise DataError(
            f"{source} holds {values.dtype} {list(values.shape)}; expected one row of numbers per "
            "item"
        )
    if order is None:
        return FeatureTable(pa.array(np.arange(len(values))), values, source.name)
    if len(order) != len(values):
        raise DataError(f"{source.name} has {len(values)} rows, but {len(order)} items are listed")
    return FeatureTable(order, values)


def _write_parquet(source: Path, modality: str, item: str, item_ids: pa.Array, folder: Path) -> int:
    """Write features from a Parquet file, a few rows of it at a time."""
    try:
        file = pq.ParquetFile(source)
        ids = as_ids(file.read(columns=[item])[item], "item", where=Where(item))
        refuse_repeated_items(ids, modality)
        place = places(ids, item_ids)
        refuse_foreign(place, item_ids, ids, modality)
        names, start, width = file.schema_arrow.names, 0, 0
        has = np.zeros(len(item_ids), dtype=bool)
        out: np.ndarray | None = None
        for batch in file.iter_batches(2**16, columns=[name for name in names if name != item]):
            values = feature_values(pa.table(batch), modality, source.name)
            if out is None:
                width = values.shape[1]
                path, shape = folder / f"x_{modality}.npy", (len(item_ids), width)
                out = np.lib.format.open_memmap(path, "w+", np.dtype("<f4"), shape)
            own = place[start : start + len(values)]
            present = ~np.isnan(values).all(axis=1) & (own >= 0)
            out[own[present]], has[own[present]] = values[present], True
            start += len(values)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source} cannot be read as features of {modality}: {error}") from None
    del out  # Written when it is no longer mapped.
    np.save(folder / f"has_{modality}.npy", has)
    return width


def _files(folder: Path, modality: str, num: int, width: int) -> tuple[ArrayFile, ArrayFile]:
    return (
        ArrayFile(folder / f"x_{modality}.npy", np.float32, (num, width)),
        ArrayFile(folder / f"has_{modality}.npy", np.bool_, (num,)),
    )
