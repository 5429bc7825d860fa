"""Datasets in the layout of DiffMM and MMSSL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch_geometric.data import HeteroData

from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.ids import strict_int
from graphdiff.datasets.io.folders import data_files
from graphdiff.datasets.io.safe_npy import load_features
from graphdiff.datasets.io.safe_pickle import load_sparse
from graphdiff.errors import DataError
from graphdiff.schema import build_data

MATRICES = ["trnMat.pkl", "valMat.pkl", "tstMat.pkl"]
LISTS = ["train.json", "val.json", "test.json"]


class DiffMMLayout(RecDataset):
    """Any dataset in the layout of `DiffMM <https://arxiv.org/abs/2406.11781>`_, or in that of
    `MMSSL <https://arxiv.org/abs/2302.10632>`_.

    Interactions are either ``trnMat.pkl``, ``valMat.pkl`` and ``tstMat.pkl``, pickled scipy
    matrices ``[U, I]`` whose non-zero entries are interactions, and which are read without running
    them; or, as MMSSL has them, ``train.json``, ``val.json`` and ``test.json``, each an object of
    lists of items by user. Features are ``<modality>_feat.npy``, one row per item.

    Args:
        root: Folder of the dataset: it holds the files itself, and is left unchanged, or they are
            in ``root/raw``.
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once, before the graph is stored (default: none).
        force_reload: Read the raw files even if nothing has changed.

    Raises:
        DataError: If files are missing or damaged, or do not fit one another.
    """

    name: ClassVar[str] = "diffmm"

    @property
    def raw_file_names(self) -> list[str]:
        """The three matrices, or the three files of lists if the folder has those."""
        root = getattr(self, "root", None)  # Not set yet while the base class is constructed.
        for folder in (Path(root), Path(root) / "raw") if root else ():
            there = [name for name in LISTS if (folder / name).exists()]
            if there and not any((folder / name).exists() for name in MATRICES):
                return LISTS
        return MATRICES

    @property
    def optional_file_names(self) -> list[str]:
        """The feature files in the folder."""
        return [path.name for path in data_files(Path(self.raw_dir), "*_feat.npy")]

    def read(self) -> HeteroData:
        """Read interactions and features."""
        folder = Path(self.raw_dir)
        features = {
            name.removesuffix("_feat.npy"): load_features(folder / name)
            for name in self.optional_file_names
        }
        if self.raw_file_names == LISTS:
            pairs = [read_lists(folder / name) for name in LISTS]
            size = [max(int(p[row].max(initial=-1)) for p in pairs) + 1 for row in (0, 1)]
            # Items at the end of the catalogue may be known by their features alone.
            num_users, num_items = size[0], max([size[1], *map(len, features.values())])
        else:
            (num_users, num_items), pairs = _read_matrices(folder)
        train, val, test = pairs
        return build_data(num_users, num_items, train, val, test, features)


def _read_matrices(folder: Path) -> tuple[tuple[int, int], list[np.ndarray]]:
    """Return the common shape of the matrices, and the pairs ``[2, *]`` of each."""
    matrices = {name: load_sparse(folder / name) for name in MATRICES}
    shape = matrices["trnMat.pkl"].shape
    for name, matrix in matrices.items():
        if matrix.shape != shape:
            raise DataError(
                f"{name} is {matrix.shape[0]} × {matrix.shape[1]} but trnMat.pkl is "
                f"{shape[0]} × {shape[1]}; the three must have the same users and items"
            )
    return shape, [np.stack([m.row, m.col])[:, m.data != 0] for m in matrices.values()]


def read_lists(path: Path) -> np.ndarray:
    """Read an object of lists of items by user, as in ``{"0": [3, 5], "1": []}``.

    Args:
        path: The JSON file; indices are integers from 0 on.

    Returns:
        Pairs (user, item), int64 ``[2, *]``.

    Raises:
        DataError: If the file is missing, damaged, or holds something else.
    """
    try:
        lists = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
        users = np.array([strict_int(user) for user in lists], dtype=np.int64)
        items = [_integers(found) for found in lists.values()]
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read as lists of items by user ({error}); expected "
            '{"0": [3, 5], "1": [2], …}'
        ) from None
    user = np.repeat(users, [len(found) for found in items])
    return np.stack([user, np.concatenate([np.empty(0, dtype=np.int64), *items])])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON that has each name once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"{len(pairs) - len(found)} users are there more than once")
    return found


def _integers(found: Any) -> np.ndarray:
    values = found if isinstance(found, list) else [found]
    if not all(type(value) is int for value in values):
        raise ValueError("items that are no integers")
    return np.array(values, dtype=np.int64)
