"""Reading tables of features and pairs from files that need not be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphdiff.errors import DataError


def load_features(path: str | Path) -> np.ndarray:
    """Reads a table of features; pickled objects in the file are refused.

    Args:
        path: An ``.npy`` file of real numbers, two-dimensional.

    Returns:
        float32 ``[I, F]``.

    Raises:
        DataError: If the file is missing, damaged, or holds something else.
    """
    table = _open(path)
    if table.ndim != 2 or table.dtype.kind not in "fiu":
        raise DataError(
            f"{path} holds {table.dtype} {list(table.shape)}; expected one row of numbers per item"
        )
    # What is too large for float32 becomes infinite, and the schema names the items.
    with np.errstate(over="ignore"):
        return np.array(table, dtype=np.float32, order="C")


def load_pairs(path: str | Path) -> np.ndarray:
    """Reads pairs of user and item; pickled objects in the file are refused.

    Args:
        path: An ``.npy`` file of integers ``[n, 2]``, a pair in each row.

    Returns:
        int64 ``[2, n]``, users above items.

    Raises:
        DataError: If the file is missing, damaged, or holds something else.
    """
    table = _open(path)
    if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind not in "iu":
        raise DataError(
            f"{path} holds {table.dtype} {list(table.shape)}; expected integers [n, 2], a user and "
            "an item in each row"
        )
    return np.array(table.T, dtype=np.int64, order="C")


def _open(path: str | Path) -> np.ndarray:
    try:
        # Mapping compares the size that the file claims with its own before memory is taken; a
        # claim beyond any integer is refused a little later.
        with np.errstate(over="ignore"):
            return np.lib.format.open_memmap(Path(path), mode="r")
    except Exception as error:  # What a parser meets in a hostile file cannot be listed.
        raise DataError(f"{path} cannot be read as an .npy table of numbers: {error}") from None
