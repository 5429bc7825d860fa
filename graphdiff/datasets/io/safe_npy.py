"""Reading arrays from files that need not be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphdiff.errors import DataError


def load_array(path: str | Path) -> np.ndarray:
    """Open an array without taking memory for it; pickled objects in the file are refused.

    Args:
        path: An ``.npy`` file.

    Returns:
        The array as the file has it, mapped and read-only.

    Raises:
        DataError: If the file is missing, damaged, or holds objects.
    """
    try:
        # Mapping compares the size that the file claims with its own before memory is taken; a
        # claim beyond any integer is refused a little later.
        with np.errstate(over="ignore"):
            return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # What a parser meets in a hostile file cannot be listed.
        raise DataError(f"{path} cannot be read as an .npy table of numbers: {error}") from None


def load_features(path: str | Path) -> np.ndarray:
    """Read a table of features; pickled objects in the file are refused.

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
    # What is too large for float32 becomes infinite, and the schema names the items.
    with np.errstate(over="ignore"):
        return np.array(table, dtype=np.float32, order="C")
