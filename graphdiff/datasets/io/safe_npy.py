"""Arrays from untrusted files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphdiff.errors import DataError


def load_array(path: str | Path) -> np.ndarray:
    """Open an array without allocating memory for it; pickled objects are refused.

    Args:
        path: An ``.npy`` file.

    Returns:
        The array as stored, memory-mapped and read-only.

    Raises:
        DataError: If the file is missing, damaged, or holds objects.
    """
    try:
        # Mapping compares the size that the header claims with that of the file before memory is
        # allocated; a claim beyond any integer overflows and is refused after that.
        with np.errstate(over="ignore"):
            return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # A parser may fail in any way on a hostile file.
        raise DataError(f"{path} cannot be read as an .npy table of numbers: {error}") from None


def load_features(path: str | Path) -> np.ndarray:
    """Read a table of features; pickled objects are refused.

    Args:
        path: An ``.npy`` file of real numbers, two-dimensional.

    Returns:
        float32 ``[I, F]``.

    Raises:
        DataError: If the file is missing, damaged, or holds something else.
    """
    table = load_array(path)
    if table.ndim != 2 or table.dtype.kind not in "biuf":
        raise DataError(
            f"{path} holds {table.dtype} {list(table.shape)}; expected one row of numbers per item"
        )
    # Values beyond float32 become infinite, and the schema names their items.
    with np.errstate(over="ignore"):
        return np.array(table, dtype=np.float32, order="C")
