"""Changes of a RUN's model: interactions from files are taken in, or users and items forgotten."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from graphdiff.datasets.arguments import Delimiter
from graphdiff.datasets.columns import read_ratings, read_times
from graphdiff.datasets.faults import Where
from graphdiff.datasets.ids import as_ids
from graphdiff.datasets.io.folders import table_suffix
from graphdiff.datasets.io.tables import column_names, is_text, read_table, refuse_absent
from graphdiff.datasets.item_details import DetailTable, item_column_in, read_details
from graphdiff.datasets.item_features import FeatureTable, list_images, read_features
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.errors import ConfigError, DataError
from graphdiff.models.catalogue import Catalogue
from graphdiff.models.storage import file_digest
from graphdiff.runs import read_run
from graphdiff.schema import DETAILS
from graphdiff.training.config import RunConfig
from graphdiff.training.update import UpdateConfig, UpdateResult
from graphdiff.updates.content import encode_new_content
from graphdiff.updates.verify import verify_forgotten
from graphdiff.updates.versions import Version, VersionStore
from graphdiff.validation import validated

#: Versions that are kept by default.
KEEP = 5
#: Options of a RUN's dataset that also apply to the files of an update.
READING = (
    "user", "item", "timestamp", "rating", "min_rating", "delimiter", "names", *DETAILS,
)  # fmt: skip
#: Columns of raw ids.
NODES = ("user", "item")


class Reading(LogSettings):
    """How the files of an update are read: the fields in :data:`READING`."""

    delimiter: Delimiter | None = None
    names: list[str] | None = None


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
    content: Mapping[str, Path] | None = None,
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
        content: Per modality that the RUN's dataset encoded, a CSV, TSV or Parquet file with a
            column of items and their texts, or a folder of images named after their items' ids;
            encoded as at training. (default: none)
        items: CSV, TSV or Parquet file with a column of items and any of ``title``, ``category``
            and ``image``, for new items. (default: none)
        batch: Id of the batch. (default: a digest of the files' contents, and of ``options`` that
            differ from those of the RUN's dataset)
        options: How the files are read, among :data:`READING`; columns that are named here must be
            there. (default: as the RUN's dataset)
        keep: Number of versions to keep, at least 1.
        **settings: Fields of :class:`~graphdiff.training.update.UpdateConfig`.

    Raises:
        RunError: If the folder is no RUN, or another process is changing it.
        ConfigError: If the model cannot be updated, or a setting does not exist or fit.
        DataError: If a file cannot be read, or does not fit the model.
        StorageError: If the folder cannot be written to; the RUN is unchanged.
    """
    _check_keep(keep)
    validated(UpdateConfig, dict(settings), ConfigError, "update")
    config = read_run(run)
    paths, raw, asked = dict(features or {}), dict(content or {}), dict(options or {})
    for name in sorted(paths.keys() & raw.keys()):
        raise ConfigError(f"{name!r} has both features and content; give one of them")
    read = _reading(config, asked)
    own = _reading(config, {})
    changed = {n: getattr(read, n) for n in asked if getattr(read, n) != getattr(own, n)}
    digest = batch or _batch_id(interactions, paths, raw, items, changed)
    store = VersionStore(run)
    with store.locked():
        before = store.current()
        if digest in before.batches:
            store.prune(keep)
            return Change(before)
        model = store.model(before.number)
        table = _read_interactions(interactions, read, asked, model.graph.age is not None)
        given = {name: _read_features(path, name, read) for name, path in paths.items()}
        for name, path in raw.items():
            given[name] = encode_new_content(run, config, name, path, read.item)
        named = {*config.dataset.options, *asked}
        shown = None if items is None else _read_details(items, read, named)
        table, given, shown = _as_known(model.catalogue, table, given, shown)
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


def _reading(config: RunConfig, options: Mapping[str, Any]) -> Reading:
    """Return how files are read: as those of the RUN's dataset, but for the options given."""
    unknown = sorted(set(options) - set(READING))
    if unknown:
        raise ConfigError(
            f"an update has no option {', '.join(unknown)}; it has {', '.join(READING)}"
        )
    chosen = {**config.dataset.options, **options}
    return Reading.of(split="ratio", **{name: chosen[name] for name in READING if name in chosen})


def _batch_id(
    interactions: Path,
    features: Mapping[str, Path],
    content: Mapping[str, Path],
    items: Path | None,
    changed: Mapping[str, Any],
) -> str:
    """Return a digest of the contents of the files, and of the options that the RUN's dataset has
    not: read otherwise, the same files are another batch."""
    digest = hashlib.sha256()
    named = [("", interactions), *features.items(), *([] if items is None else [("/items", items)])]
    for name, path in content.items():
        files = list_images(path) if path.is_dir() else [path]
        named += [(f"{name}/{file.relative_to(path).as_posix()}", file) for file in files]
    for name, path in named:
        if not path.is_file():
            raise DataError(f"no file {path}; give a CSV, TSV or Parquet file")
        digest.update(f"{name}={file_digest(path)};".encode())
    if changed:
        digest.update(json.dumps(changed, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _read_interactions(path: Path, read: Reading, asked: Collection[str], timed: bool) -> pa.Table:
    """Return users, items and, where the file has them, times of the rows that count.

    Args:
        path: The file; ids that are integers in a text file become integers.
        read: How it is read.
        asked: Options that were given for this update; columns that they name must be there.
        timed: Whether the model knows the order of interactions, so that times must be readable,
            and a column of times that the RUN's dataset names must be there.
    """
    rated = read.min_rating is not None
    there = column_names(path, read.delimiter, read.names)
    if read.user in there and read.item in there:
        needed = {*asked, *(("timestamp",) if timed else ()), *(("rating",) if rated else ())}
        named = {name: column for name, column in read.named_columns.items() if name in needed}
        refuse_absent(there, named, path.name)
        read.refuse_unrated(there, path.name)
    roles = {role: read.roles[role] for role in ("user", "item", "timestamp", "rating")}
    table = read_table(
        path,
        roles if rated else {role: name for role, name in roles.items() if role != "rating"},
        needed=NODES,
        ids=NODES,
        delimiter=read.delimiter,
        names=read.names,
    )
    _refuse_header(table, path, read)
    columns = {node: as_ids(table[node], node, is_text(path), Where(roles[node])) for node in NODES}
    if "timestamp" in table.column_names:
        times = table["timestamp"]
        where = Where(roles["timestamp"])
        columns["timestamp"] = pa.array(read_times(times, where)) if timed else times
    found = pa.table(columns)
    if read.min_rating is None:
        return found
    kept = read_ratings(table["rating"], Where(roles["rating"])) >= read.min_rating
    if not kept.any():
        raise DataError(
            f"no interaction of {path.name} is rated {read.min_rating:g} or above; give a lower "
            "min_rating"
        )
    return found.filter(pa.array(kept))


def _refuse_header(table: pa.Table, path: Path, read: Reading) -> None:
    """Refuse a text file that begins with the names that it is said to lack: they would become a
    user and an item."""
    if read.names is None or not is_text(path) or not len(table):
        return
    if [table[node][0].as_py() for node in NODES] == [read.user, read.item]:
        raise DataError(
            f"{path.name} begins with a header, {read.user} and {read.item}, but is read as a file "
            f"without one, since names={','.join(read.names)}; remove its first line, or give "
            "names=null"
        )


def _read_details(path: Path, read: Reading, named: Collection[str]) -> DetailTable:
    required = [name for name in DETAILS if name in named]
    found = read_details(path, read.item, read.details, required)
    if found is None:
        raise DataError(
            f"{path} has none of the columns {', '.join(read.details.values())}; expected titles, "
            "categories or image addresses of items"
        )
    return found


def _read_features(path: Path, modality: str, read: Reading) -> FeatureTable:
    if table_suffix(path) == ".npy":
        raise DataError(
            f"{path} has no item ids, and the items of an update have no numbers; give a table "
            "with a column item"
        )
    return read_features(path, modality, item_column_in(path, read.item))


def _as_known(
    catalogue: Catalogue,
    table: pa.Table,
    features: Mapping[str, FeatureTable],
    details: DetailTable | None,
) -> tuple[pa.Table, dict[str, FeatureTable], DetailTable | None]:
    """Return what was read with integers as text where a model knows them as text of floats.

    A RUN may have ids such as ``100.0`` beside ``1.5``, or be of a version that never read them as
    integers: then 100 is no new user.
    """
    floats = {node: _known_floats(catalogue.positions(node)) for node in NODES}
    for place, name in enumerate(table.column_names):
        if name in NODES:
            table = table.set_column(place, name, _as_floats(table[name], floats[name]))
    return (
        table,
        {n: one._replace(ids=_as_floats(one.ids, floats["item"])) for n, one in features.items()},
        details and details._replace(ids=_as_floats(details.ids, floats["item"])),
    )


def _known_floats(known: Mapping[str, int]) -> pa.Array:
    """Return the ids that are known as ``100.0`` and not as ``100``."""
    return pa.array([n for n in known if n.endswith(".0") and n[:-2] not in known], pa.string())


def _as_floats(ids: Any, floats: pa.Array) -> Any:
    """Return ids as text, those among ``floats`` as these are written; other ids stay."""
    if not len(floats) or not pa.types.is_integer(ids.type):
        return ids
    text = ids.cast(pa.string())
    written = pc.binary_join_element_wise(text, ".0", "")
    return pc.if_else(pc.is_in(written, value_set=floats), written, text)
