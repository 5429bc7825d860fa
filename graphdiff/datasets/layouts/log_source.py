"""The files of an interaction log, and how they are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from graphdiff.datasets.faults import Where
from graphdiff.datasets.ids import as_ids
from graphdiff.datasets.io.tables import column_names, is_text, read_table
from graphdiff.datasets.item_details import DetailTable, item_column, item_column_in, read_details
from graphdiff.datasets.layouts.log_folder import (
    ITEMS,
    find_features,
    find_interactions,
    find_table,
    unnamed_count,
)
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.errors import DataError


@dataclass(frozen=True)
class LogSource:
    """The files of an interaction log in a folder; see
    :class:`~graphdiff.datasets.InteractionLog`, whose arguments these are.

    Attributes:
        folder: The folder.
        settings: Names of columns, filters and split.
        file: The table of interactions; None to look for it.
        features: File of each modality; None to look for them.
        content: Names of further files, which are not the interactions.
        delimiter: What separates columns of a text file.
        names: Names of the columns of a log without a header.
    """

    folder: Path
    settings: LogSettings
    file: str | None = None
    features: Mapping[str, str] | None = None
    content: Collection[str] = field(default_factory=tuple)
    delimiter: str | None = None
    names: Sequence[str] | None = None

    def interactions(self) -> str:
        """Return the file name of the log."""
        if self.file is not None:
            return self.file
        others = [*(self.features or {}).values(), *self.content]
        return find_interactions(self.folder, others)

    def feature_files(self) -> Mapping[str, str]:
        """Return the file of each modality."""
        return self.features if self.features is not None else find_features(self.folder)

    def ids(self, node: str) -> pa.Array | None:
        """Return all ids of users or items in the order they are to have, if the folder says."""
        size = unnamed_count(self.folder, node)
        if size is not None:
            return pa.array(np.arange(size))
        path = find_table(self.folder, f"{node}s")
        if path is None:
            return None
        name = getattr(self.settings, node)
        names = column_names(path)
        if node == "item":
            name = item_column(names, name)
        elif name not in names:
            name = node
        table = read_table(path, {node: name}, needed=(node,), ids=(node,))
        return as_ids(table[node], node, is_text(path), Where(name))

    def unnamed(self) -> list[str]:
        """Return ``'user'``, ``'item'``, both or none: those without raw ids."""
        return [n for n in ("user", "item") if unnamed_count(self.folder, n) is not None]

    def details(self) -> DetailTable | None:
        """Return titles, categories and image addresses, if the folder has any."""
        path, settings = find_table(self.folder, ITEMS), self.settings
        required = settings.required_details
        if path is None and required:
            raise DataError(
                f"{self.folder} has no items.parquet, .csv or .tsv, where the column of "
                f"{required[0]} is looked for"
            )
        if path is None:
            return None
        return read_details(path, settings.item, settings.details, required)

    def item_in(self, file: str) -> str:
        """Return the name of the column of item ids in a table of features."""
        return item_column_in(self.folder / file, self.settings.item)
