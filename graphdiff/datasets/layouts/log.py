"""Interaction logs as people have them: CSV, TSV, Parquet, or a DataFrame."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch_geometric.data import HeteroData

from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.encoders import TextEncoder, encode_images, text_encoder
from graphdiff.datasets.ids import as_ids
from graphdiff.datasets.interactions import Interactions
from graphdiff.datasets.io.tables import SUFFIXES, column_names, is_text, read_table
from graphdiff.datasets.item_features import (
    Encoder,
    FeatureTable,
    align,
    encode_content,
    list_images,
    modalities_in,
    read_features,
)
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.datasets.splits import TEST, TRAINING, VALIDATION
from graphdiff.errors import DataError
from graphdiff.schema import build_data

#: What the parts of a folder are called; tables may have any of :data:`~.tables.SUFFIXES`.
INTERACTIONS, USERS, ITEMS, FEATURES, META = (
    "interactions",
    "users",
    "items",
    "features_",
    "meta.json",
)


class InteractionLog(RecDataset):
    """An interaction log with or without item features, from a folder of CSV, TSV or Parquet.

    ============================  ==================================================================
    ``interactions.parquet``      one row per interaction: ``user``, ``item`` and, where there are,
                                  ``timestamp``, ``rating``, ``split`` (train, val, test); the
                                  only table of a folder may have any name
    ``features_<modality>.npy``   optional: one row per item, in the order of ``items.*``, or of
                                  the ids 0, 1, … where there is none
    ``features_<modality>.*``     or a table: ``item`` and a column of lists, or ``x_0``, ``x_1``, …
    ``items.parquet``             optional: all items in the order they are to have, also those
                                  without interactions; may hold features, ``x_<modality>``
    ``users.parquet``             optional: all users, likewise
    ============================  ==================================================================

    ``.csv`` and ``.tsv`` do in each place. Raw ids may be of any type; integers stay integers,
    everything else becomes a string. Features of items that are not in the catalogue are left out,
    and items without features lack the modality. This is the layout that
    :func:`graphdiff.datasets.to_parquet` writes.

    Columns are read and numbered as columns, never row by row, so that a log of 50 million
    interactions can be read.

    Args:
        root: The folder; it is left as it is.
        file: The table of interactions, relative to ``root`` (default: ``interactions.*``, or the
            only table there is).
        features: File of each modality, such as ``{"image": "clip.npy"}``, relative to ``root``
            (default: every ``features_<modality>.*``, and the features in ``items.*``).
        content: Raw content of each modality, relative to ``root``: a folder of images called as
            their items' ids, or a table of ``item`` and text (default: none).
        encode: Encoder of each modality in ``content``, from a list of N texts or paths to
            ``[N, F]`` (default: ``encoder`` for texts, and the image encoder of the extra
            ``encoders``). Its output is stored, and recomputed when the content or the encoder
            changes.
        encoder: Encoder of the texts in ``content``: ``'tfidf'``, which needs no model;
            ``'sentence-transformers'``, of the extra ``encoders``; or ``'auto'``, the latter if it
            is installed. Items without text lack the modality.
        delimiter: What separates columns of text files (default: a comma in ``.csv``, otherwise a
            tab).
        names: Names of the columns of a log without a header.
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once, before the graph is kept (default: none).
        force_reload: Read the raw files again even if nothing has changed.
        **settings: Names of columns, filters and split; see :class:`LogSettings`.

    Raises:
        DataError: If files are missing or damaged, or do not fit one another.
        ConfigError: If a setting does not exist or is out of range.
    """

    name: ClassVar[str] = "csv"

    #: The model of ``**settings``, for whoever lists or reads the arguments.
    settings_type: ClassVar[type[LogSettings]] = LogSettings
    #: Settings that differ from :class:`LogSettings`' own.
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        root: str | Path,
        file: str | None = None,
        features: Mapping[str, str] | None = None,
        content: Mapping[str, str] | None = None,
        encode: Mapping[str, Encoder] | None = None,
        encoder: TextEncoder = "auto",
        delimiter: str | None = None,
        names: list[str] | None = None,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
        **settings: Any,
    ) -> None:
        self.file = file
        self.features = dict(features) if features else None
        self.content = dict(content or {})
        self.encode = dict(encode or {})
        self.encoder = text_encoder(encoder)[0]
        self.delimiter, self.names = delimiter, names
        self.settings = LogSettings.of(**{**self.defaults, **settings})
        self._folder = Path(root)
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def raw_file_names(self) -> list[str]:
        """The table of interactions, and the files that were asked for."""
        folders = {name for name in self.content.values() if (self._folder / name).is_dir()}
        asked = [*(self.features or {}).values(), *self.content.values()]
        return [self._interactions(), *(name for name in asked if name not in folders)]

    @property
    def optional_file_names(self) -> list[str]:
        """Lists of users and items, features where none were asked for, and images."""
        found = [path.name for path in map(self._table, (USERS, ITEMS)) if path is not None]
        found += [META] if (self._folder / META).exists() else []
        for name in self.content.values():
            if (self._folder / name).is_dir():
                images = list_images(self._folder / name)
                found += [path.relative_to(self._folder).as_posix() for path in images]
        return found if self.features is not None else [*found, *self._feature_files().values()]

    @property
    def parameters(self) -> dict[str, Any]:
        """All arguments but the folder."""
        encoders = {
            name: f"{encode.__module__}.{getattr(encode, '__qualname__', repr(encode))}"
            for name, encode in self.encode.items()
        }
        return {
            **self.settings.model_dump(),
            **{n: getattr(self, n) for n in ("file", "features", "content", "delimiter", "names")},
            "encode": encoders,
            "encoder": self.encoder,
        }

    def read(self) -> HeteroData:
        """Reads interactions, lists of ids, and features."""
        table, text = self._read_interactions()
        users, items = self._ids("user"), self._ids("item")
        log = Interactions.from_table(table, users, items, text)
        del table
        features = self._read_features(items)
        unnamed = [node for node in ("user", "item") if self._size(node) is not None]
        return log_to_data(log, self.settings, features, users, items, unnamed)

    def _read_interactions(self) -> tuple[pa.Table, bool]:
        """The log, its columns named by role, and whether it came from a text file."""
        path = self._folder / self._interactions()
        table = read_table(
            path,
            self.settings.roles,
            needed=("user", "item"),
            ids=("user", "item"),
            delimiter=self.delimiter,
            names=self.names,
        )
        return table, is_text(path)

    def _read_features(self, items: pa.Array | None) -> dict[str, FeatureTable]:
        chosen = self.features if self.features is not None else self._feature_files()
        found = {
            name: read_features(self._folder / file, name, self._item_in(file), items)
            for name, file in chosen.items()
        }
        for name, file in self.content.items():
            path = self._folder / file
            default = encode_images if path.is_dir() else text_encoder(self.encoder)[1]
            encode: Encoder = self.encode.get(name, default)
            found[name] = encode_content(path, self._item_in(file), encode)
        return found

    def _interactions(self) -> str:
        """The file name of the log."""
        if self.file is not None:
            return self.file
        own = (INTERACTIONS, USERS, ITEMS)
        tables = sorted(p.name for p in self._folder.glob("*") if p.suffix.lower() in SUFFIXES)
        found = [name for name in tables if Path(name).stem == INTERACTIONS] or [
            name
            for name in tables
            if Path(name).stem not in own
            and not name.startswith(FEATURES)
            and name not in [*(self.features or {}).values(), *self.content.values()]
        ]
        if len(found) != 1:
            raise DataError(
                f"{self._folder} holds {len(found)} tables that could be the interactions"
                f"{': ' + ', '.join(found) if found else ''}; expected {INTERACTIONS}.parquet, "
                ".csv or .tsv, or say which with file=NAME"
            )
        return found[0]

    def _table(self, stem: str) -> Path | None:
        """The table of this name, with whichever suffix it is there."""
        found = [p for s in SUFFIXES if (p := self._folder / f"{stem}{s}").exists()]
        if len(found) > 1:
            raise DataError(
                f"{self._folder} holds {' and '.join(p.name for p in found)}; leave one there"
            )
        return found[0] if found else None

    def _feature_files(self) -> dict[str, str]:
        """The files of features that are there, by modality."""
        found: dict[str, str] = {}
        for path in sorted(self._folder.glob(f"{FEATURES}*")):
            if path.suffix.lower() in (".npy", *SUFFIXES):
                modality = path.stem.removeprefix(FEATURES)
                if modality in found:
                    raise DataError(
                        f"{self._folder} holds {found[modality]} and {path.name}; leave one there, "
                        f"or say which with features={modality}=FILE"
                    )
                found[modality] = path.name
        items = self._table(ITEMS)
        if items is not None and not is_text(items):
            found = dict.fromkeys(modalities_in(items), items.name) | found
        return found

    def _ids(self, node: str) -> pa.Array | None:
        """All ids of users or items in the order they are to have, where the folder says."""
        size = self._size(node)
        if size is not None:
            return pa.array(np.arange(size))
        path = self._table(f"{node}s")
        if path is None:
            return None
        name = getattr(self.settings, node)
        if name not in column_names(path):
            name = node
        table = read_table(path, {node: name}, needed=(node,), ids=(node,))
        return as_ids(table[node], node, is_text(path))

    def _item_in(self, file: str) -> str:
        """What a table of features calls the item ids."""
        path = self._folder / file
        if path.suffix.lower() not in SUFFIXES or self.settings.item in column_names(path):
            return self.settings.item
        return "item"

    def _size(self, node: str) -> int | None:
        """How many users or items there are, where the folder says that they have no ids."""
        path = self._folder / META
        if not path.exists():
            return None
        try:
            size = json.loads(path.read_text()).get("unnamed", {}).get(f"{node}s")
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"{path} cannot be read as JSON: {error}") from None
        if size is not None and (not isinstance(size, int) or not 0 < size < 2**31):
            raise DataError(f"{path} says that there are {size!r} {node}s; expected a number")
        return size


def from_frame(
    frame: Any,
    features: Mapping[str, Any] | None = None,
    users: Any = None,
    items: Any = None,
    **settings: Any,
) -> HeteroData:
    """Makes a graph of an interaction log in a DataFrame.

    Args:
        frame: A pandas DataFrame or pyarrow Table, one row per interaction, with the columns
            ``user`` and ``item`` and, where there are, ``timestamp``, ``rating``, ``split``.
        features: Per modality, ``(ids, values)``: item ids ``[N]`` and an array or tensor
            ``[N, F]``, in any order and for any items (default: none).
        users: All user ids in the order they are to have (default: those in the log, sorted).
        items: All item ids, likewise.
        **settings: Names of columns, filters and split; see :class:`LogSettings`.

    Returns:
        A graph that fits the schema.

    Raises:
        DataError: If the data does not fit.
        ConfigError: If a setting does not exist or is out of range.
    """
    chosen = LogSettings.of(**settings)
    names = list(frame.column_names if isinstance(frame, pa.Table) else frame.columns)
    roles = {role: name for role, name in chosen.roles.items() if name in names}
    for role in ("user", "item"):
        if role not in roles:
            raise DataError(
                f"the frame has the columns {', '.join(map(str, names))}, but not "
                f"{chosen.roles[role]}; say what it is called, such as {role}=NAME"
            )
    table = pa.table({role: _column(frame[name]) for role, name in roles.items()})
    all_users, all_items = (
        None if ids is None else as_ids(_column(ids), node)
        for node, ids in (("user", users), ("item", items))
    )
    tables = {
        name: FeatureTable(as_ids(_column(ids), "item"), np.asarray(values, dtype=np.float32))
        for name, (ids, values) in (features or {}).items()
    }
    log = Interactions.from_table(table, all_users, all_items)
    return log_to_data(log, chosen, tables, all_users, all_items)


def log_to_data(
    log: Interactions,
    settings: LogSettings,
    features: Mapping[str, FeatureTable] | None = None,
    users: pa.Array | None = None,
    items: pa.Array | None = None,
    unnamed: list[str] | None = None,
) -> HeteroData:
    """Filters and splits a log and makes a graph of it.

    Args:
        log: The log.
        settings: What is left out of it, and how it is split.
        features: Features per modality (default: none).
        users: All user ids that were given, so that those without interactions stay (default:
            those in the log); with a k-core, only those that are in it.
        items: All item ids, likewise.
        unnamed: ``'user'``, ``'item'``, both or none: whose ids are but indices.

    Raises:
        DataError: If the data does not fit.
    """
    log = settings.filtered(log)
    if users is None:
        log = log.without_unused_ids("user")
    if items is None:
        log = log.without_unused_ids("item")
    label = settings.labels(log)
    train, val, test = (
        np.stack([log.user[label == value], log.item[label == value]]).astype(np.int64)
        for value in (TRAINING, VALIDATION, TEST)
    )
    user_ids, item_ids = log.user_ids, log.item_ids
    del log, label
    aligned = {name: align(table, item_ids, name) for name, table in (features or {}).items()}
    raw = {
        f"{node}_ids": _raw(ids)
        for node, ids in (("user", user_ids), ("item", item_ids))
        if not (node in (unnamed or []) and ids.equals(pa.array(np.arange(len(ids)))))
    }
    return build_data(len(user_ids), len(item_ids), train, val, test, aligned, **raw)


def _column(values: Any) -> Any:
    """Whatever holds ids or numbers as a pyarrow array."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # Ids of a type of their own, or of several: each is what it is written as.
        return pa.array([str(value) for value in values])


def _raw(ids: pa.Array) -> Any:
    """Raw ids as the schema keeps them: a long tensor, or a list of str."""
    if pa.types.is_integer(ids.type):
        return torch.from_numpy(ids.to_numpy(zero_copy_only=False).copy())
    return ids.to_pylist()
