"""Datasets in the layout of the MMRec toolbox."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch_geometric.data import HeteroData

from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.io.safe_npy import load_features
from graphdiff.errors import DataError
from graphdiff.schema import build_data

#: Where each split is marked in the column ``x_label``.
LABELS = {"train": 0, "val": 1, "test": 2}


class MMRecLayout(RecDataset):
    """Any dataset in the layout of the `MMRec toolbox <https://arxiv.org/abs/2302.03497>`_, in
    which Amazon's Baby, Sports, Clothing and Electronics, MicroLens and others are passed around.

    The folder holds one ``NAME.inter``, tab-separated with a header; the first two columns are user
    and item, integers from 0 on, and ``x_label`` says 0, 1 or 2 for training, validation and test.
    Features are ``.npy`` files of numbers with one row per item, in the order of the item ids. A
    pair that stands there more than once counts where it stands first, in the order of training,
    validation, test; a warning says how many were left out.

    Args:
        root: The folder; it is left as it is.
        features: File of each modality, such as ``{"text": "text_feat.npy"}``, relative to
            ``root``; by default every ``<modality>_feat.npy``.
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once, before the graph is kept (default: none).
        force_reload: Read the raw files again even if nothing has changed.

    Raises:
        DataError: If files are missing or damaged, or do not fit one another.
    """

    name: ClassVar[str] = "mmrec"

    def __init__(
        self,
        root: str | Path,
        features: Mapping[str, str] | None = None,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        self.features = dict(features) if features else None
        self._folder = Path(root)
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def raw_file_names(self) -> list[str]:
        """The interaction file, and the features that were asked for."""
        found = sorted(path.name for path in self._folder.glob("*.inter"))
        if len(found) != 1:
            raise DataError(
                f"{self._folder} holds {len(found)} .inter files"
                f"{': ' + ', '.join(found) if found else ''}; MMRec's layout has exactly one"
            )
        return [found[0], *(self.features or {}).values()]

    @property
    def optional_file_names(self) -> list[str]:
        """Every feature file, where none was asked for."""
        if self.features is not None:
            return []
        return sorted(path.name for path in self._folder.glob("*_feat.npy"))

    @property
    def parameters(self) -> dict[str, Any]:
        """Which file is which modality."""
        return {"features": self.features}

    def read(self) -> HeteroData:
        """Reads interactions and features."""
        pairs = _read_inter(self._folder / self.raw_file_names[0])
        names = self.features or {
            name.removesuffix("_feat.npy"): name for name in self.optional_file_names
        }
        features = {name: load_features(self._folder / file) for name, file in names.items()}
        num_items = int(max(split[1].max(initial=-1) for split in pairs.values())) + 1
        num_users = int(max(split[0].max(initial=-1) for split in pairs.values())) + 1
        # Items at the end of the catalogue may be known by their features alone.
        num_items = max([num_items, *(len(x) for x in features.values())])
        return build_data(
            num_users, num_items, pairs["train"], pairs["val"], pairs["test"], features
        )


def _read_inter(path: Path) -> dict[str, np.ndarray]:
    """Pairs ``[2, *]`` of each split, every pair once."""
    users, items, labels = [], [], []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.reader(file, delimiter="\t")
            header = next(rows, [])
            if "x_label" not in header:
                raise DataError(
                    f"{path.name} has the columns {', '.join(header)}; expected user and item "
                    "first, tab-separated, and x_label with 0, 1 or 2 for the split"
                )
            label = header.index("x_label")
            for row in rows:
                if row:
                    users.append(int(row[0]))
                    items.append(int(row[1]))
                    labels.append(int(row[label]))
        user, item, split = (np.array(column, np.int64) for column in (users, items, labels))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except (ValueError, IndexError, OverflowError, csv.Error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path.name} line {len(labels) + 2}: {error}; expected integers for user, item and "
            "x_label"
        ) from None
    if len(user) == 0 or min(user.min(), item.min()) < 0 or not np.isin(split, (0, 1, 2)).all():
        raise DataError(
            f"{path.name} has no interactions, or ids below 0, or an x_label other than 0, 1 and 2"
        )
    order = np.argsort(split, kind="stable")
    key = user[order] * (item.max() + 1) + item[order]
    _, first = np.unique(key, return_index=True)
    kept = order[np.sort(first)]
    if len(kept) < len(user):
        warnings.warn(f"{path.name}: {len(user) - len(kept)} repeated pairs left out", stacklevel=2)
    return {
        name: np.stack([user[kept], item[kept]])[:, split[kept] == value]
        for name, value in LABELS.items()
    }
