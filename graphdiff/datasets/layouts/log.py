"""Interaction logs as CSV, TSV or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from torch_geometric.data import HeteroData

from graphdiff.datasets.arguments import Delimiter
from graphdiff.datasets.base import RecDataset, TimedLog
from graphdiff.datasets.encoders import TextEncoder, encode_images, text_encoder
from graphdiff.datasets.interactions import Interactions
from graphdiff.datasets.io.tables import column_names, is_text, read_table
from graphdiff.datasets.item_details import DetailTable
from graphdiff.datasets.item_features import (
    Encoder,
    FeatureTable,
    encode_content,
    list_images,
    read_features,
    read_item_texts,
)
from graphdiff.datasets.layouts.frame import log_to_data
from graphdiff.datasets.layouts.log_folder import (
    ITEMS,
    META,
    USERS,
    find_features,
    find_table,
)
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.datasets.layouts.log_source import LogSource
from graphdiff.datasets.tfidf import TfidfEncoder
from graphdiff.errors import DataError


class InteractionLog(RecDataset):
    """An interaction log with or without item features, from a folder of CSV, TSV or Parquet files.

    ============================  ==================================================================
    ``interactions.parquet``      one row per interaction: ``user``, ``item`` and, optionally,
                                  ``timestamp``, ``rating``, ``split`` (train, val, test); the
                                  only table of a folder may have any name
    ``features_<modality>.npy``   optional: one row per item, in the order of ``items.*``; without
                                  it the ids must be the numbers of the rows, 0, 1, …
    ``features_<modality>.*``     or a table: ``item`` and a column of lists, or ``x_0``, ``x_1``, …
    ``items.parquet``             optional: all items in the order of their indices, also those
                                  without interactions; may hold features, ``x_<modality>``, and
                                  for display ``title``, ``category``, ``image`` (URL or path)
    ``users.parquet``             optional: all users, likewise
    ============================  ==================================================================

    A table may be ``.parquet``, ``.csv``, ``.tsv`` or ``.txt``, the latter three also compressed
    (``.csv.gz``), or a folder of parts called so, as Spark writes it. Raw ids may be of any type:
    integers stay integers, everything else becomes a string, and none may be missing. Times are
    numbers or dates as in ISO 8601; the graph has those of the training interactions, also where
    the split does not use them. Features of items that are not in the catalogue are left out,
    and items without features lack the modality. This is the layout that
    :func:`graphdiff.datasets.to_parquet` writes.

    Columns are read and numbered as columns, never row by row, so that a log of 50 million
    interactions can be read.

    Args:
        root: The folder; it is left unchanged.
        file: The table of interactions, relative to ``root`` (default: ``interactions.*``, or the
            only table there is).
        features: File of each modality, such as ``{"image": "clip.npy"}``, relative to ``root``
            (default: every ``features_<modality>.*``, and the features in ``items.*``).
        content: Raw content of each modality, relative to ``root``: a folder of images named after
            their items' ids, or a table of ``item`` and text, all of whose other columns are joined
            (default: none).
        encode: Encoder of each modality in ``content``, from a list of N texts or paths to
            ``[N, F]`` (default: ``encoder`` for texts, and the image encoder of the extra
            ``encoders``). Its output is stored, and recomputed when the content or the encoder
            changes.
        encoder: Encoder of the texts in ``content``: ``'tfidf'``, which needs no model;
            ``'sentence-transformers'``, of the extra ``encoders``; or ``'auto'``, the latter if it
            is installed. Items without text lack the modality.
        delimiter: What separates columns of the table of interactions if it is text: one or more
            characters such as ``"::"``; ``"\\t"`` is a tab (default: a comma in ``.csv``, otherwise
            a tab). Values may be quoted unless a tab or several characters separate them.
        names: Names of the columns of a log without a header.
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once, before the graph is stored (default: none).
        force_reload: Read the raw files even if nothing has changed.
        **settings: Names of columns, filters and split; see :class:`LogSettings`.

    Raises:
        DataError: If files are missing or damaged, or do not fit one another.
        ConfigError: If a setting does not exist or is out of range.
    """

    name: ClassVar[str] = "csv"

    #: The model of ``**settings``.
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
        delimiter: Delimiter | None = None,
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
        self._where = LogSource(
            self._folder,
            self.settings,
            file,
            self.features,
            tuple(self.content.values()),
            delimiter,
            names,
        )
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def raw_file_names(self) -> list[str]:
        """The table of interactions, and the files of ``features`` and ``content``."""
        folders = {name for name in self.content.values() if (self._folder / name).is_dir()}
        asked = [*(self.features or {}).values(), *self.content.values()]
        return [self._where.interactions(), *(name for name in asked if name not in folders)]

    @property
    def optional_file_names(self) -> list[str]:
        """Lists of users and items, images, and, without ``features``, all feature files."""
        tables = [find_table(self._folder, stem) for stem in (USERS, ITEMS)]
        found = [path.name for path in tables if path is not None]
        found += [META] if (self._folder / META).exists() else []
        for name in self.content.values():
            if (self._folder / name).is_dir():
                images = list_images(self._folder / name)
                found += [path.relative_to(self._folder).as_posix() for path in images]
        return (
            found if self.features is not None else [*found, *find_features(self._folder).values()]
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """All arguments but the folder."""
        names = ("file", "features", "content", "encode", "encoder", "delimiter", "names")
        return {**self.settings.model_dump(), **{name: getattr(self, name) for name in names}}

    def read(self) -> HeteroData:
        """Read interactions, lists of ids, and features."""
        users, items = self._where.ids("user"), self._where.ids("item")
        log = self._log(users, items)
        features = self._read_features(items)
        details = self._read_details()
        return log_to_data(
            log, self.settings, features, users, items, self._where.unnamed(), details
        )

    def read_log(self) -> TimedLog:
        """Read the log with its times, filtered but not split, and the features.

        Raises:
            DataError: If the log has no column of times.
        """
        users, items = self._where.ids("user"), self._where.ids("item")
        log = self.settings.filtered(self._log(users, items, ("timestamp",)))
        if log.time is None:
            raise DataError(
                f"the log has no column {self.settings.timestamp!r}; say what its times are "
                "called, such as timestamp=date"
            )
        return TimedLog(log, self._read_features(items))

    def text_encoders(self) -> dict[str, TfidfEncoder]:
        """Return the TF-IDF encoders of the modalities in ``content``, fitted once more."""
        if self.encoder != "tfidf":
            return {}
        return {
            name: TfidfEncoder.fit(read_item_texts(path, self._where.item_in(file))[1])[0]
            for name, file in self.content.items()
            if name not in self.encode and not (path := self._folder / file).is_dir()
        }

    def _log(
        self, users: pa.Array | None, items: pa.Array | None, needed: tuple[str, ...] = ()
    ) -> Interactions:
        table, text = self._read_interactions()
        used = {*self.settings.used_roles(table.column_names), *needed}
        called = self.settings.roles
        return Interactions.from_table(table, users, items, text, used, called)

    def _read_interactions(self) -> tuple[pa.Table, bool]:
        """Return the log, its columns named by role, and whether it came from a text file."""
        path, settings = self._folder / self._where.interactions(), self.settings
        if settings.named_columns or settings.min_rating is not None:
            settings.check_named(column_names(path, self.delimiter, self.names), path.name)
        table = read_table(
            path,
            settings.roles,
            needed=("user", "item"),
            ids=("user", "item"),
            delimiter=self.delimiter,
            names=self.names,
        )
        return table, is_text(path)

    def _read_features(self, items: pa.Array | None) -> dict[str, FeatureTable]:
        chosen = self._where.feature_files()
        found = {
            name: read_features(self._folder / file, name, self._where.item_in(file), items)
            for name, file in chosen.items()
        }
        for name, file in self.content.items():
            path = self._folder / file
            default = encode_images if path.is_dir() else text_encoder(self.encoder)[1]
            encode: Encoder = self.encode.get(name, default)
            found[name] = encode_content(path, self._where.item_in(file), encode, name)
        return found

    def _read_details(self) -> DetailTable | None:
        """Return titles, categories and image addresses, if there are any."""
        return self._where.details()
