"""Datasets in the layout of the MMRec toolbox."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from torch_geometric.data import HeteroData

from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.columns import read_times
from graphdiff.datasets.ids import strict_int
from graphdiff.datasets.io.folders import data_files
from graphdiff.datasets.io.safe_npy import load_features
from graphdiff.errors import DataError
from graphdiff.schema import build_data

#: The value of the column ``x_label`` for each split.
LABELS = {"train": 0, "val": 1, "test": 2}
#: Names of columns, in lower case.
COLUMNS = {
    "user": {"userid", "user_id", "user", "uid"},
    "item": {"itemid", "item_id", "item", "iid"},
    "x_label": {"x_label"},
}
#: Name of the optional column of times, in lower case.
TIMESTAMP = "timestamp"


class MMRecLayout(RecDataset):
    """Any dataset in the layout of the `MMRec toolbox <https://arxiv.org/abs/2302.03497>`_, in
    which Amazon's Baby, Sports, Clothing and Electronics, MicroLens and others are distributed.

    The folder holds one ``NAME.inter``, tab-separated with a header. Its columns are found by name:
    ``userID`` and ``itemID``, or the like, hold integers from 0 on, and ``x_label`` 0, 1 or 2 for
    training, validation and test. Features are ``.npy`` files of numbers with one row per item, in
    the order of the item ids. A repeated pair belongs to the first of training, validation and test
    that has it; a warning says how many were left out. If there is a column ``timestamp``, the
    graph has the times of the training interactions.

    Args:
        root: The folder; it is left unchanged.
        features: File of each modality, such as ``{"text": "text_feat.npy"}``, relative to
            ``root``; by default every ``<modality>_feat.npy``.
        user: Name of the column of users (default: ``userID``, ``user_id``, ``user`` or ``uid``, in
            any case).
        item: Name of the column of items (default: likewise).
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once, before the graph is stored (default: none).
        force_reload: Read the raw files even if nothing has changed.

    Raises:
        DataError: If files are missing or damaged, or do not fit one another.
    """

    name: ClassVar[str] = "mmrec"

    def __init__(
        self,
        root: str | Path,
        features: Mapping[str, str] | None = None,
        user: str | None = None,
        item: str | None = None,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        self.features = dict(features) if features else None
        self.user, self.item = user, item
        self._folder = Path(root)
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def raw_file_names(self) -> list[str]:
        """The interaction file, and the files of ``features``."""
        found = [path.name for path in data_files(self._folder, "*.inter")]
        if len(found) != 1:
            raise DataError(
                f"{self._folder} holds {len(found)} .inter files"
                f"{': ' + ', '.join(found) if found else ''}; MMRec's layout has exactly one"
            )
        return [found[0], *(self.features or {}).values()]

    @property
    def optional_file_names(self) -> list[str]:
        """Without ``features``, every feature file."""
        if self.features is not None:
            return []
        return [path.name for path in data_files(self._folder, "*_feat.npy")]

    @property
    def parameters(self) -> dict[str, Any]:
        """The file of each modality, and the names of columns."""
        return {"features": self.features, "user": self.user, "item": self.item}

    def read(self) -> HeteroData:
        """Read interactions and features."""
        pairs, time = read_inter(self._folder / self.raw_file_names[0], self.user, self.item)
        names = self.features or {
            name.removesuffix("_feat.npy"): name for name in self.optional_file_names
        }
        features = {name: load_features(self._folder / file) for name, file in names.items()}
        num_items = int(max(split[1].max(initial=-1) for split in pairs.values())) + 1
        num_users = int(max(split[0].max(initial=-1) for split in pairs.values())) + 1
        # Items at the end of the catalogue may be known by their features alone.
        num_items = max([num_items, *(len(x) for x in features.values())])
        train, val, test = (pairs[split] for split in LABELS)
        return build_data(num_users, num_items, train, val, test, features, train_time=time)


def read_inter(
    path: Path, user: str | None = None, item: str | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Read the interactions of MMRec's layout.

    Args:
        path: The ``.inter`` file.
        user: Name of the column of users (default: one of :data:`COLUMNS`).
        item: Name of the column of items, likewise.

    Returns:
        Pairs ``[2, *]`` of each split, every pair once, and the times of the training pairs
        ``[E]``; None where the file has none.

    Raises:
        DataError: If the file is missing, damaged, or holds something else.
    """
    columns: list[list[int]] = [[], [], []]
    when: list[str] = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            # Quotes are part of a value where tabs separate, and there is none in a number.
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = next(rows, [])
            places = [
                _place(header, "user", user, path),
                _place(header, "item", item, path),
                _place(header, "x_label", None, path),
            ]
            names = _written(header)
            at = names.index(TIMESTAMP) if names.count(TIMESTAMP) == 1 else None
            for row in rows:
                if row:
                    values = [strict_int(row[place]) for place in places]
                    for column, value in zip(columns, values, strict=True):
                        column.append(value)
                    if at is not None:
                        when.append(row[at] if at < len(row) else "")
        users, items, split = (np.array(column, np.int64) for column in columns)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except (ValueError, IndexError, OverflowError, csv.Error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path.name} line {len(columns[0]) + 2}: {error}; expected integers for user, item "
            "and x_label"
        ) from None
    if len(users) == 0 or min(users.min(), items.min()) < 0 or not np.isin(split, (0, 1, 2)).all():
        raise DataError(
            f"{path.name} has no interactions, or ids below 0, or an x_label other than 0, 1 and 2"
        )
    order = np.argsort(split, kind="stable")
    key = users[order] * (items.max() + 1) + items[order]
    _, first = np.unique(key, return_index=True)
    kept = order[np.sort(first)]
    if len(kept) < len(users):
        left_out = len(users) - len(kept)
        warnings.warn(f"{path.name}: {left_out} repeated pairs left out", stacklevel=2)
    pairs = {
        name: np.stack([users[kept], items[kept]])[:, split[kept] == value]
        for name, value in LABELS.items()
    }
    if at is None:
        return pairs, None
    return pairs, _times([when[row] for row in kept[split[kept] == LABELS["train"]]], path)


def _times(written: list[str], path: Path) -> np.ndarray | None:
    """Return times that are written as text; None, with a warning, where they cannot be read."""
    try:
        return read_times(pa.array(written, pa.string()))
    except DataError as error:
        warnings.warn(
            f"{path.name}: the column {TIMESTAMP} is ignored, because it cannot be read: {error}",
            stacklevel=3,
        )
        return None


def _written(header: list[str]) -> list[str]:
    """Return the names of the columns in lower case."""
    # A header may say the type of a column, as RecBole's do: user_id:token.
    return [column.partition(":")[0].strip().lower() for column in header]


def _place(header: list[str], role: str, name: str | None, path: Path) -> int:
    """Return the index of the column of a role, by its name."""
    written = _written(header)
    names = {name.partition(":")[0].strip().lower()} if name else COLUMNS[role]
    found = [index for index, column in enumerate(written) if column in names]
    if len(found) == 1:
        return found[0]
    columns = ", ".join(header)
    if role == "x_label" and not found:
        raise DataError(
            f"{path.name} has the columns {columns}; expected user, item and x_label, "
            "tab-separated, with 0, 1 or 2 for the split in x_label"
        )
    count = f"{len(found)} columns" if found else "no column"
    hint = "" if role == "x_label" else f", or say which with {role}=NAME"
    raise DataError(
        f"{path.name} has the columns {columns}: {count} of {role}s; expected one called "
        f"{' or '.join(sorted(names))}{hint}"
    )
