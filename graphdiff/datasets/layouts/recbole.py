"""Datasets in the layout of RecBole's atomic files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from torch_geometric.data import HeteroData

from graphdiff.datasets.faults import Where
from graphdiff.datasets.ids import as_ids
from graphdiff.datasets.io.folders import data_files
from graphdiff.datasets.io.tables import (
    column_names,
    concatenated,
    read_table,
    refuse_repeated,
)
from graphdiff.datasets.item_details import DetailTable, read_details
from graphdiff.datasets.item_features import FeatureTable, list_values, read_features
from graphdiff.datasets.layouts.log import InteractionLog
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.errors import DataError

#: Suffixes of the files of a dataset that comes split, and their splits.
PARTS = {".train.inter": "train", ".valid.inter": "val", ".test.inter": "test"}


class RecBoleLayout(InteractionLog):
    """Any dataset as the `atomic files of RecBole <https://arxiv.org/abs/2011.01731>`_.

    The folder holds one ``NAME.inter``, tab-separated, whose header has name and type of each
    field, such as ``user_id:token``; or, if the dataset comes split, ``NAME.train.inter``,
    ``NAME.valid.inter`` and ``NAME.test.inter``. Where there is a ``NAME.item`` each of its fields
    of type ``float_seq`` is a modality called as the field, and its order is that of the rows of
    ``.npy`` features.

    Fields are called ``user_id``, ``item_id``, ``timestamp`` and ``rating`` by default; see
    :class:`~graphdiff.datasets.LogSettings` for other names.

    Args:
        root: The folder; it is left unchanged.
        features: ``.npy`` file of each modality, relative to ``root``, with one row per row of
            ``NAME.item`` (default: the fields of type ``float_seq``).
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once, before the graph is stored (default: none).
        force_reload: Read the raw files even if nothing has changed.
        **settings: Names of fields, filters and split; see
            :class:`~graphdiff.datasets.LogSettings`.

    Raises:
        DataError: If files are missing or damaged, or do not fit one another.
        ConfigError: If a setting does not exist or is out of range.
    """

    name: ClassVar[str] = "recbole"

    defaults: ClassVar[dict[str, Any]] = {"user": "user_id", "item": "item_id"}

    def __init__(
        self,
        root: str | Path,
        features: Mapping[str, str] | None = None,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
        **settings: Any,
    ) -> None:
        LogSettings.of(**settings)  # Other arguments of a log have no use here.
        super().__init__(
            root,
            features=features,
            transform=transform,
            pre_transform=pre_transform,
            force_reload=force_reload,
            **settings,
        )

    @property
    def raw_file_names(self) -> list[str]:
        """The interaction files, and the files of ``features``."""
        asked = [*(self.features or {}).values()]
        return [*self._inter_files(), *asked]

    @property
    def optional_file_names(self) -> list[str]:
        """The items."""
        return [path.name for path in data_files(self._folder, "*.item")]

    def _inter_files(self) -> list[str]:
        names = [path.name for path in data_files(self._folder, "*.inter")]
        whole = [name for name in names if name.count(".") == 1 or not _part(name)]
        if not whole and len(names) == 3 and len({_part(name) for name in names}) == 3:
            return names
        if len(whole) != 1:
            raise DataError(
                f"{self._folder} holds {len(names)} .inter files"
                f"{': ' + ', '.join(names) if names else ''}; expected NAME.inter, or "
                "NAME.train.inter, NAME.valid.inter and NAME.test.inter"
            )
        return whole

    def _read_interactions(self) -> tuple[pa.Table, bool]:
        parts = []
        for name in self._inter_files():
            path = self._folder / name
            fields = _fields(path)
            self.settings.check_named(fields, path.name)
            roles = {role: fields.get(field, field) for role, field in self.settings.roles.items()}
            part = read_table(path, roles, needed=("user", "item"), ids=("user", "item"))
            split = _part(name)
            if split:
                column = pa.array([split]).take(pa.array([0] * part.num_rows, pa.int32()))
                part = part.append_column("split", column)
            parts.append(part)
        names = list(dict.fromkeys(name for part in parts for name in part.column_names))
        return concatenated(parts, names), True

    def _read_details(self) -> DetailTable | None:
        path = next(iter(data_files(self._folder, "*.item")), None)
        if path is None:
            if self.settings.required_details:
                raise DataError(
                    f"{self._folder} has no .item file, where the field of "
                    f"{self.settings.required_details[0]} is looked for"
                )
            return None
        fields, settings = _fields(path), self.settings
        called = {n: fields.get(column, column) for n, column in settings.details.items()}
        item = fields.get(settings.item, settings.item)
        return read_details(path, item, called, settings.required_details)

    def _read_features(self, items: pa.Array | None) -> dict[str, FeatureTable]:
        path = next(iter(data_files(self._folder, "*.item")), None)
        found: dict[str, FeatureTable] = {}
        order = None
        if path is not None:
            fields = _fields(path)
            item = fields.get(self.settings.item, self.settings.item)
            sequences = {n: c for n, c in fields.items() if c.endswith(":float_seq")}
            read = {"item": item} if self.features is not None else {"item": item, **sequences}
            table = read_table(path, read, needed=("item",), ids=list(read))
            order = as_ids(table["item"], "item", True, Where(self.settings.item))
            for name in read.keys() - {"item"}:
                found[name] = FeatureTable(order, _sequence(table[name], path.name))
        for name, file in (self.features or {}).items():
            found[name] = read_features(self._folder / file, name, "item", order)
        return dict(sorted(found.items()))


def _part(name: str) -> str | None:
    """Return the split of a file, by its name; None if it is the whole log."""
    return next((split for suffix, split in PARTS.items() if name.endswith(suffix)), None)


def _fields(path: Path) -> dict[str, str]:
    """Return the column ``name:type`` of each field, by its name."""
    columns = column_names(path)
    untyped = [column for column in columns if ":" not in column]
    if untyped:
        raise DataError(
            f"{path.name} has the columns {', '.join(columns)}; an atomic file says the type of "
            f"each, such as {untyped[0]}:token"
        )
    names = [column.rpartition(":")[0] for column in columns]
    refuse_repeated(names, names, path.name)
    return dict(zip(names, columns, strict=True))


def _sequence(column: Any, file: str) -> Any:
    """Return numbers separated by white space, as float32 ``[N, F]``; NaN where there are none."""
    texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
    numbers = pc.utf8_split_whitespace(texts)
    try:
        return list_values(numbers.cast(pa.list_(pa.float32())), file)
    except pa.ArrowException as error:
        raise DataError(f"{file} holds other than numbers in a float_seq: {error}") from None
