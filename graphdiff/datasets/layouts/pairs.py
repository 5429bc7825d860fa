"""Datasets as lists of pairs, in the layout of DiffRec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch_geometric.data import HeteroData

from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.io.folders import data_files
from graphdiff.datasets.io.safe_npy import load_array, load_features
from graphdiff.errors import DataError
from graphdiff.schema import build_data

FILES = {
    "training": "train_list.npy",
    "validation": "valid_list.npy",
    "test": "test_list.npy",
}


class PairListsLayout(RecDataset):
    """Any dataset in the layout of `DiffRec <https://arxiv.org/abs/2304.04971>`_:
    ``train_list.npy``, ``valid_list.npy`` and ``test_list.npy``, integer arrays of (user, item).

    Every ``<modality>_feat.npy``, one row per item, is a modality.

    Args:
        root: Folder of the dataset: it holds the files itself, and is left unchanged, or they are
            in ``root/raw``.
        ordered: Whether each user's pairs in ``train_list.npy`` are in the order of time, as in the
            data that DiffRec's authors publish. If so, the time of a training interaction is its
            position in the file; otherwise the graph has no times (default: False).
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once, before the graph is stored (default: none).
        force_reload: Read the raw files even if nothing has changed.

    Raises:
        DataError: If files are missing or damaged, or do not fit one another.
    """

    name: ClassVar[str] = "pairs"

    def __init__(
        self,
        root: str | Path,
        ordered: bool = False,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        self.ordered = ordered
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def raw_file_names(self) -> list[str]:
        """The three lists."""
        return list(FILES.values())

    @property
    def optional_file_names(self) -> list[str]:
        """The feature files in the folder."""
        return [path.name for path in data_files(Path(self.raw_dir), "*_feat.npy")]

    @property
    def parameters(self) -> dict[str, Any]:
        """Whether the training pairs are in the order of time."""
        return {"ordered": self.ordered}

    def read(self) -> HeteroData:
        """Read interactions and features."""
        folder = Path(self.raw_dir)
        features = {
            name.removesuffix("_feat.npy"): load_features(folder / name)
            for name in self.optional_file_names
        }
        return build_from_pair_lists(folder, features, self.ordered)


def build_from_pair_lists(
    folder: str | Path, features: Mapping[str, np.ndarray], ordered: bool
) -> HeteroData:
    """Return the graph of the three lists of pairs of one folder.

    Args:
        folder: Where the lists are; see :func:`read_pair_lists`.
        features: Per modality, one row per item. Users are counted up to the largest index in any
            list, items also up to the last row.
        ordered: Whether the position of a training pair in its file is its time.

    Raises:
        DataError: If a file is missing or damaged, or they do not fit one another.
    """
    pairs = read_pair_lists(folder)
    num_users, num_items = (
        max(int(p[row].max(initial=-1)) for p in pairs.values()) + 1 for row in (0, 1)
    )
    # Items at the end of the catalogue may be known by their features alone.
    num_items = max([num_items, *map(len, features.values())])
    train, val, test = pairs.values()
    time = np.arange(train.shape[1]) if ordered else None
    return build_data(num_users, num_items, train, val, test, features, train_time=time)


def read_pair_lists(folder: str | Path) -> dict[str, np.ndarray]:
    """Read the three lists of pairs of one folder.

    Args:
        folder: Where ``train_list.npy``, ``valid_list.npy`` and ``test_list.npy`` are.

    Returns:
        Pairs (user, item), int64 ``[2, *]``, under ``'training'``, ``'validation'`` and ``'test'``.

    Raises:
        DataError: If a file is missing, damaged, or holds something else.
    """
    return {split: read_pairs(Path(folder) / name) for split, name in FILES.items()}


def read_pairs(path: str | Path) -> np.ndarray:
    """Read an ``.npy`` file of pairs (user, item), integers ``[P, 2]``.

    Returns:
        int64 ``[2, P]``.

    Raises:
        DataError: If the file is missing, damaged, or holds something else.
    """
    table = load_array(path)
    if table.dtype.kind not in "iu" or table.ndim != 2 or table.shape[1] != 2:
        raise DataError(
            f"{path} holds {table.dtype} {list(table.shape)}; expected integers [P, 2], a user and "
            "an item in each row"
        )
    return np.array(table.T, dtype=np.int64, order="C")
