"""Conversion of an interaction log to a mapped folder, without ever holding the log in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from graphdiff.datasets.io.tables import is_text
from graphdiff.datasets.item_details import aligned_details
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.datasets.layouts.log_source import LogSource
from graphdiff.datasets.mapped.columns import ArrayFile, Column
from graphdiff.datasets.mapped.features import write_features
from graphdiff.datasets.mapped.folder import TIMES, pairs_file, write_texts
from graphdiff.datasets.mapped.parts import Parts
from graphdiff.datasets.mapped.scan import Log, import_polars, read_log, scan
from graphdiff.datasets.mapped.write import finish, write_ids
from graphdiff.datasets.splits import TEST, TRAINING, VALIDATION
from graphdiff.errors import DataError
from graphdiff.files import new_folder

LABELS = {"training": TRAINING, "validation": VALIDATION, "test": TEST}
NODES = ("user", "item")


def stream_to_mapped(source: LogSource, folder: str | Path, name: str = "") -> dict[str, Any]:
    """Write an interaction log as :func:`graphdiff.datasets.to_mapped` does, with bounded memory.

    The result is that of reading the log as a whole: the same ids, filters and splits, with the
    same seed the same random split. Polars reads the table in pieces and numbers the ids; rows are
    divided by users into parts, which are filtered, split and sorted one after the other. Memory is
    used for lists of users and items and for one part of eight million rows. Files of about 30
    bytes per interaction are written beside the folder meanwhile.

    Args:
        source: The files of the log, and how they are read.
        folder: The folder to write; it must be empty or not exist.
        name: Name of the dataset, for the manifest.

    Returns:
        The manifest.

    Raises:
        DataError: If the log cannot be read, or nothing is left of it.
        ConfigError: If Polars is not installed.
    """
    folder, settings = Path(folder), source.settings
    polars = import_polars()
    with (
        new_folder(folder) as place,
        tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch,
    ):
        known = {node: source.ids(node) for node in NODES}
        path = source.folder / source.interactions()
        try:
            frame = scan(path, settings, source.delimiter, source.names)
            log = read_log(frame, settings, Path(scratch), known, is_text(path))
        except polars.exceptions.PolarsError as error:
            reason = " ".join(str(error).split())[:300]
            raise DataError(f"{path} cannot be read in pieces: {reason}") from None
        parts = Parts(log, Path(scratch))
        parts.drop_repeats(settings.duplicates)
        if settings.k_core > 1:
            parts.k_core(settings.k_core)
        kept = _kept(parts, known, settings)
        _write_pairs(parts, settings, kept, place, Path(scratch))
        ids = {node: _ids_of(log, node).filter(pa.array(kept[node])) for node in NODES}
        channels = {
            modality: write_features(
                source.folder / file,
                modality,
                source.item_in(file),
                known["item"],
                log.item_ids,
                ids["item"],
                place,
            )
            for modality, file in source.feature_files().items()
        }
        _write_ids(source, ids, place)
        sizes = {"users": len(ids["user"]), "items": len(ids["item"])}
        return finish(place, name, **sizes, channels=channels)


def _ids_of(log: Log, node: str) -> pa.Array:
    return log.user_ids if node == "user" else log.item_ids


def _kept(
    parts: Parts, known: dict[str, pa.Array | None], settings: LogSettings
) -> dict[str, np.ndarray]:
    """Return which users and items the dataset has: those that are listed, or those with a row."""
    used = parts.used()
    for node in NODES:
        if known[node] is not None and settings.k_core <= 1:
            used[node][:] = True
    return used


def _write_pairs(
    parts: Parts, settings: LogSettings, kept: dict[str, np.ndarray], place: Path, scratch: Path
) -> None:
    """Write the pairs of the three splits, sorted by user, then item, and the training times."""
    number = {node: np.cumsum(there, dtype=np.int64) - 1 for node, there in kept.items()}
    labels = Column(scratch / "labels", np.int8)
    count = np.zeros(len(LABELS), dtype=np.int64)
    for label in parts.labels(settings, scratch):
        labels.append(label)
        count += np.bincount(label, minlength=len(LABELS))
    files = {
        value: ArrayFile(place / pairs_file(split), np.int64, (2, int(count[value])))
        for split, value in LABELS.items()
    }
    time_file = None
    if parts.has("time"):
        time_file = ArrayFile(place / TIMES, parts.time_type(), (int(count[TRAINING]),))
    first, done = 0, dict.fromkeys(files, 0)
    for n in range(len(parts)):
        user, item = number["user"][parts.read(n, "user")], number["item"][parts.read(n, "item")]
        label = labels.read(first, first + len(user))
        first += len(user)
        order = np.argsort(user * len(kept["item"]) + item)
        for value, file in files.items():
            chosen = order[label[order] == value]
            file.write(user[chosen], done[value], row=0)
            file.write(item[chosen], done[value], row=1)
            if value == TRAINING and time_file is not None:
                time_file.write(parts.read(n, "time")[chosen], done[value])
            done[value] += len(chosen)
    for file in (*files.values(), *([time_file] if time_file is not None else [])):
        file.close()


def _write_ids(source: LogSource, ids: dict[str, pa.Array], place: Path) -> None:
    """Write raw ids, and titles, categories and image addresses."""
    for node, values in ids.items():
        if node in source.unnamed() and values.equals(pa.array(np.arange(len(values)))):
            continue
        write_ids(place, node, values)
    details = source.details()
    shown = aligned_details(details, ids["item"]) if details is not None else {}
    if shown:
        write_texts(place / "items.arrow", shown)
