"""Changes of a RUN's model: interactions from files are taken in, or users and items forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from graphdiff.datasets.faults import Where
from graphdiff.datasets.ids import as_ids
from graphdiff.datasets.interactions import keep_rated
from graphdiff.datasets.io.folders import table_suffix
from graphdiff.datasets.io.tables import is_text, read_table
from graphdiff.datasets.item_details import DetailTable, read_details
from graphdiff.datasets.item_features import FeatureTable, read_features
from graphdiff.datasets.layouts.frame import frame_to_log
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.errors import ConfigError, DataError
from graphdiff.models.storage import file_digest
from graphdiff.runs import read_run
from graphdiff.schema import DETAILS
from graphdiff.training.config import RunConfig
from graphdiff.training.update import UpdateResult
from graphdiff.updates.verify import verify_forgotten
from graphdiff.updates.versions import Version, VersionStore

#: Versions that are kept by default.
KEEP = 5
#: Options of a RUN's dataset that also apply to the files of an update.
READING = (
    "user", "item", "timestamp", "rating", "min_rating", "delimiter", "names", *DETAILS,
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """Outcome of a change of a RUN's model.

    Attributes:
        version: The version that the RUN has now.
        result: What changed; None if the batch was known or held nothing new.
        checked: For forgetting, the files that were checked; they hold nothing of it.
    """

    version: Version
    result: UpdateResult | None = None
    checked: tuple[str, ...] = ()


def update_run(
    run: Path,
    interactions: Path,
    features: Mapping[str, Path] | None = None,
    *,
    items: Path | None = None,
    batch: str | None = None,
    options: Mapping[str, Any] | None = None,
    keep: int = KEEP,
    **settings: Any,
) -> Change:
    """Take a file of interactions into the model of a RUN, as a new version.

    A batch that the model holds already, or without anything new, changes nothing. If the process
    is killed, the RUN has the version before or the one after, and the same call completes what is
    missing.

    Args:
        run: A RUN folder, whose model can be updated.
        interactions: CSV, TSV or Parquet file with a column of users and one of items.
        features: Per modality, a CSV, TSV or Parquet file with a column of items, for new items.
        items: CSV, TSV or Parquet file with a column of items and any of ``title``, ``category``
            and ``image``, for new items. (default: none)
        batch: Id of the batch. (default: a digest of the files' contents)
        options: How the files are read, among :data:`READING`. (default: as the RUN's dataset)
        keep: Number of versions to keep, at least 1.
        **settings: Fields of :class:`~graphdiff.training.update.UpdateConfig`.

    Raises:
        RunError: If the folder is no RUN, or another process is changing it.
        ConfigError: If the model cannot be updated, or a setting does not exist or fit.
        DataError: If a file cannot be read, or does not fit the model.
        StorageError: If the folder cannot be written to; the RUN is unchanged.
    """
    _check_keep(keep)
    config = read_run(run)
    paths = dict(features or {})
    read = _reading(config, options)
    digest = batch or _batch_id(interactions, paths, items)
    store = VersionStore(run)
    with store.locked():
        before = store.current()
        if digest in before.batches:
            store.prune(keep)
            return Change(before)
        table = _read_interactions(interactions, read)
        given = {name: _read_features(path, name, read) for name, path in paths.items()}
        model = store.model(before.number)
        shown = None if items is None else _read_details(items, read)
        seed = settings.pop("seed", config.training.seed + before.number)
        state = store.state(before.number)
        result = model.update(table, given, details=shown, state=state, seed=seed, **settings)
        if not (result.users or result.items or result.interactions):
            store.prune(keep)
            return Change(before)
        version = store.add(model, "update", result, (*before.batches, digest))
        store.prune(keep)
    return Change(version, result)


def forget_run(
    run: Path,
    users: list[str] | None = None,
    items: list[str] | None = None,
    **settings: Any,
) -> Change:
    """Remove users and items from the model of a RUN, and everything of them from its files.

    The changed model becomes a new version. All earlier versions and the checkpoint of the training
    are removed, because they hold what is to be forgotten. Then all files are read and checked.

    Args:
        run: A RUN folder, whose model can be updated.
        users: Raw ids of users.
        items: Raw ids of items.
        **settings: Fields of :class:`~graphdiff.training.update.UpdateConfig`.

    Raises:
        RunError: If the folder is no RUN, another process is changing it, or a file still holds
            something of them.
        ConfigError: If the model cannot be updated, nothing is given, or a setting does not fit.
        DataError: If an id is unknown, or no interaction would be left.
        StorageError: If the folder cannot be written to; the RUN is unchanged.
    """
    if not (users or items):
        raise ConfigError("give the id of a user or an item to forget")
    config, store = read_run(run), VersionStore(run)
    with store.locked():
        before = store.current()
        model = store.model(before.number)
        seed = settings.pop("seed", config.training.seed + before.number)
        result = model.forget(
            user_id=users or None,
            item_id=items or None,
            state=store.state(before.number),
            seed=seed,
            **settings,
        )
        version = store.add(model, "forget", result, before.batches)
        checked = verify_forgotten(run, version, users or [], items or [])
    return Change(version, result, tuple(checked))


def roll_back(run: Path, number: int) -> Version:
    """Make an earlier version the model of a RUN; versions after it stay.

    Raises:
        RunError: If the folder is no RUN, or there is no such version.
    """
    store = VersionStore(run)
    with store.locked():
        return store.activate(number)


def _check_keep(keep: int) -> None:
    if keep < 1:
        raise ConfigError(f"keep is {keep}; give at least 1, the version that is served")


def _reading(config: RunConfig, options: Mapping[str, Any] | None) -> dict[str, Any]:
    unknown = sorted(set(options or {}) - set(READING))
    if unknown:
        raise ConfigError(
            f"an update has no option {', '.join(unknown)}; it has {', '.join(READING)}"
        )
    chosen = {**config.dataset.options, **(options or {})}
    return {name: chosen[name] for name in READING if name in chosen}


def _batch_id(interactions: Path, features: Mapping[str, Path], items: Path | None) -> str:
    """Return a digest of the contents of the files."""
    digest = hashlib.sha256()
    named = [("", interactions), *features.items(), *([] if items is None else [("/items", items)])]
    for name, path in named:
        if not path.is_file():
            raise DataError(f"no file {path}; give a CSV, TSV or Parquet file")
        digest.update(f"{name}={file_digest(path)};".encode())
    return digest.hexdigest()[:16]


def _read_interactions(path: Path, read: dict[str, Any]) -> pa.Table:
    """Return users and items of a file; ids that are integers in a text file become integers."""
    settings = LogSettings.of(
        split="ratio", **{k: v for k, v in read.items() if k in LogSettings.model_fields}
    )
    roles = {role: settings.roles[role] for role in ("user", "item", "rating")}
    table = read_table(
        path,
        roles,
        needed=("user", "item"),
        ids=("user", "item"),
        delimiter=read.get("delimiter"),
        names=read.get("names"),
    )
    columns = {
        node: as_ids(table[node], node, is_text(path), Where(roles[node]))
        for node in ("user", "item")
    }
    if "rating" in table.column_names:
        columns["rating"] = table["rating"]
    if settings.min_rating is None:
        return pa.table({node: columns[node] for node in ("user", "item")})
    log = keep_rated(
        frame_to_log(pa.table(columns), LogSettings.of(split="ratio", min_rating=0)),
        settings.min_rating,
    )
    return pa.table({"user": log.user_ids.take(log.user), "item": log.item_ids.take(log.item)})


def _read_details(path: Path, read: dict[str, Any]) -> DetailTable:
    called = {name: read.get(name, name) for name in DETAILS}
    required = [name for name in DETAILS if name in read]
    found = read_details(path, read.get("item", "item"), called, required)
    if found is None:
        raise DataError(
            f"{path} has none of the columns {', '.join(called.values())}; expected titles, "
            "categories or image addresses of items"
        )
    return found


def _read_features(path: Path, modality: str, read: dict[str, Any]) -> FeatureTable:
    if table_suffix(path) == ".npy":
        raise DataError(
            f"{path} has no item ids, and the items of an update have no numbers; give a table "
            "with a column item"
        )
    return read_features(path, modality, read.get("item", "item"))
