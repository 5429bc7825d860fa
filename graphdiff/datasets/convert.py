"""Conversion of any dataset to Parquet files, which InteractionLog reads, or to a mapped folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError
from torch_geometric.data import HeteroData

from graphdiff.datasets.arguments import Delimiter, explain
from graphdiff.datasets.io.archives import extract
from graphdiff.datasets.io.folders import data_root
from graphdiff.datasets.layouts.log import InteractionLog
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.datasets.layouts.log_source import LogSource
from graphdiff.datasets.mapped.stream import stream_to_mapped
from graphdiff.datasets.mapped.write import to_mapped
from graphdiff.datasets.registry import get_dataset, load
from graphdiff.errors import ConfigError, DataError
from graphdiff.files import new_folder
from graphdiff.schema import (
    INTERACTS,
    ITEM,
    SPLITS,
    USER,
    ItemDetails,
    fingerprint,
    modalities,
)
from graphdiff.schema.names import NAMES, TIME

FORMAT = "graphdiff.interactions.1"


def to_parquet(data: HeteroData, folder: str | Path, name: str = "") -> dict[str, Any]:
    """Write a dataset as Parquet files, completely or not at all.

    ================================  ==============================================================
    ``interactions.parquet``          columns ``user``, ``item`` (raw ids), ``split`` (train, val,
                                      test) and, if the data has times, ``timestamp``, which is
                                      null in held-out rows
    ``users.parquet``                 column ``user``: all raw ids in order, if the data has raw ids
    ``items.parquet``                 column ``item``, likewise; and ``title``, ``category`` and
                                      ``image``, if the data has them
    ``features_<modality>.parquet``   columns ``item`` and ``x_<modality>``, a list of float32; no
                                      row for an item that lacks the modality
    ``meta.json``                     sizes, the dataset's fingerprint, and the number of users or
                                      items that have no raw ids
    ================================  ==============================================================

    :class:`~graphdiff.datasets.InteractionLog` reads them to a graph with the same fingerprint.
    Attributes that the schema does not list, such as a synthetic dataset's truth, are left out.

    Args:
        data: A graph that fits the schema.
        folder: The folder to write; it must be empty or not exist.
        name: Name of the dataset, for ``meta.json``.

    Returns:
        The content of ``meta.json``.

    Raises:
        DataError: If the folder is not empty.
        OSError: If it cannot be written.
    """
    folder = Path(folder)
    with new_folder(folder) as temporary:
        meta = _write(data, temporary, name)
    return meta


def convert(
    source: str | Path, out: str | Path, layout: str, to: str = "parquet", /, **options: Any
) -> dict[str, Any]:
    """Read a dataset in some layout and write it as :func:`to_parquet` or :func:`to_mapped` does.

    Args:
        source: Its folder, or a zip or tar archive of it, which is unpacked as
            :func:`~graphdiff.datasets.extract` does, and removed afterwards.
        out: The folder to write.
        layout: Name of a layout or dataset; see :func:`graphdiff.datasets.load`.
        to: ``'parquet'`` or ``'mapped'``. An interaction log in a folder, without content to
            encode, is streamed to the latter: it may be larger than memory.
        **options: Further arguments of the dataset's class.

    Returns:
        The content of ``meta.json`` or of ``manifest.json``.

    Raises:
        DataError: If the source cannot be read, or ``out`` is not empty.
    """
    source = Path(source)
    if not source.exists():
        raise DataError(f"there is no {source}; give a dataset's folder, or an archive of it")
    write = to_mapped if to == "mapped" else to_parquet
    found = get_dataset(layout, import_module=True)
    arguments = {**found.defaults, **found.arguments, **options}
    streamed = to == "mapped" and source.is_dir() and found.cls is InteractionLog
    if streamed and not arguments.keys() & {"content", "encode", "encoder", "pre_transform"}:
        return stream_to_mapped(_log_source(source, **arguments), out, source.resolve().name)
    if source.is_dir():
        return write(load(layout, source, **options)[0], out, source.resolve().name)
    with tempfile.TemporaryDirectory() as folder:
        unpacked = extract(source, Path(folder) / "archive")
        dataset = load(layout, data_root(unpacked), **options)
        # Its processed file is of no use once the folder is gone.
        shutil.rmtree(dataset.processed_dir, ignore_errors=True)
        return write(dataset[0], out, source.stem)


def _log_source(
    folder: Path,
    file: str | None = None,
    features: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    names: list[str] | None = None,
    **settings: Any,
) -> LogSource:
    """Return the files of a log from the arguments of
    :class:`~graphdiff.datasets.InteractionLog`.

    Raises:
        ConfigError: If one cannot be used.
    """
    chosen = LogSettings.of(**settings)
    try:
        delimiter = TypeAdapter(Delimiter | None).validate_python(delimiter)
    except ValidationError as error:
        raise ConfigError(f"an interaction log cannot take {explain(error, 'delimiter')}") from None
    return LogSource(folder, chosen, file, features, delimiter=delimiter, names=names)


def _write(data: HeteroData, folder: Path, name: str) -> dict[str, Any]:
    ids = {node: _ids(data, node) for node in (USER, ITEM)}
    edges = {split: data[INTERACTS][a].cpu().numpy() for split, a in SPLITS.items()}
    pairs = np.concatenate(list(edges.values()), axis=1)
    split = np.repeat(np.arange(len(NAMES)), [e.shape[1] for e in edges.values()])
    table = {
        USER: ids[USER].take(pa.array(pairs[0])),
        ITEM: ids[ITEM].take(pa.array(pairs[1])),
        "split": pa.DictionaryArray.from_arrays(
            pa.array(split, pa.int8()), [NAMES[split] for split in edges]
        ),
    }
    time = data[INTERACTS].get(TIME)
    if time is not None:
        known = pa.array((time.double() if time.is_floating_point() else time).cpu().numpy())
        held_out = pa.nulls(pairs.shape[1] - len(known), known.type)
        table["timestamp"] = pa.chunked_array([known, held_out])
    pq.write_table(pa.table(table), folder / "interactions.parquet", compression="zstd")
    unnamed = {}
    for node, found in ids.items():
        details = ItemDetails.from_data(data).columns if node == ITEM else {}
        is_unnamed = data[node].get("raw_id") is None
        if is_unnamed:
            unnamed[f"{node}s"] = len(found)
        if details or not is_unnamed:
            pq.write_table(pa.table({node: found, **details}), folder / f"{node}s.parquet")
    for modality in modalities(data):
        has = data[ITEM][f"has_{modality}"].cpu().numpy()
        values = data[ITEM][f"x_{modality}"].cpu().numpy()[has]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        columns = {ITEM: ids[ITEM].filter(pa.array(has)), f"x_{modality}": lists}
        pq.write_table(pa.table(columns), folder / f"features_{modality}.parquet")
    meta = {
        "format": FORMAT,
        "name": name,
        "users": len(ids[USER]),
        "items": len(ids[ITEM]),
        **{split: int(e.shape[1]) for split, e in edges.items()},
        "channels": {m: int(data[ITEM][f"x_{m}"].size(1)) for m in modalities(data)},
        "fingerprint": fingerprint(data),
        "unnamed": unnamed,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return meta


def _ids(data: HeteroData, node: str) -> pa.Array:
    """Return raw ids, or the indices where there are none."""
    raw = data[node].get("raw_id")
    if raw is None:
        return pa.array(np.arange(data[node].num_nodes))
    return pa.array(raw, pa.string()) if isinstance(raw, list) else pa.array(raw.cpu().numpy())
