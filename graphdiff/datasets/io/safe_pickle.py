"""Pickled scipy sparse matrices from untrusted files.

:mod:`~graphdiff.datasets.io.pickle_records` reads the file without running it. This module turns
its records into a matrix: arrays are views of bytes in the file, so that a claimed size allocates
nothing, and indices, values and shape are checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from graphdiff.datasets.io.pickle_records import Record, clip, interpret, latin1, read_dtype
from graphdiff.errors import DataError

# User and item indices are int32 in the wild, and a pair of them has to fit into an int64.
MAX_DIMENSION = 2**31 - 1


def load_sparse(path: str | Path) -> scipy.sparse.coo_matrix:
    """Read a pickled scipy sparse matrix from an untrusted file.

    Accepted are COO, CSR and CSC matrices and arrays of numbers, of any scipy version and pickle
    protocol, Python 2's included.

    Args:
        path: The file.

    Returns:
        The matrix ``[rows, columns]`` in the dtype of the file, with finite values and all indices
        within its shape. Repeated entries stay.

    Raises:
        DataError: If the file is missing, damaged, or holds anything else, naming what was found.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return _to_coo(interpret(content))
    except DataError as error:
        raise DataError(
            f"{path.name} is not the pickle of a scipy sparse matrix of numbers: {error}. It was "
            f"not run. Expected a COO, CSR or CSC matrix; the file is {path}"
        ) from None


def _to_coo(root: Any) -> scipy.sparse.coo_matrix:
    if not isinstance(root, Record) or root.name not in ("coo", "csr", "csc"):
        raise DataError("it holds something else")
    state = root.state if isinstance(root.state, dict) else {}
    shape = _shape(state.get("_shape", state.get("shape")))
    data = _array(state.get("data"), "data")
    if not np.isfinite(data).all():
        raise DataError("its values are not all finite")
    row, column = _coordinates(state) if root.name == "coo" else _expand(state, root.name, shape)
    if not len(row) == len(column) == len(data):
        raise DataError(
            f"it has {len(row)} row indices, {len(column)} column indices and {len(data)} values"
        )
    for index, size, name in zip((row, column), shape, ("row", "column"), strict=True):
        if len(index) and not 0 <= index.min() <= index.max() < size:
            raise DataError(f"it has {name} indices outside 0 to {size - 1}")
    return scipy.sparse.coo_matrix((data, (row, column)), shape=shape)


def _coordinates(state: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column indices of a COO matrix."""
    match state.get("coords", (state.get("row"), state.get("col"))):
        case (row, column):
            return _indices(row, "row"), _indices(column, "col")
    raise DataError("it is not two-dimensional")


def _expand(
    state: dict[str, Any], kind: str, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column indices of a CSR or CSC matrix."""
    pointer = _indices(state.get("indptr"), "indptr")
    inner = _indices(state.get("indices"), "indices")
    size = shape[0] if kind == "csr" else shape[1]
    if len(pointer) != size + 1 or pointer[0] != 0 or pointer[-1] != len(inner):
        raise DataError("its indptr does not fit its shape and indices")
    length = np.diff(pointer)
    if (length < 0).any():
        raise DataError("its indptr decreases")
    outer = np.repeat(np.arange(size), length)
    return (outer, inner) if kind == "csr" else (inner, outer)


def _shape(shape: Any) -> tuple[int, int]:
    sane = (
        isinstance(shape, (tuple, list))
        and len(shape) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) for n in shape)
        and all(1 <= n <= MAX_DIMENSION for n in shape)
    )
    if not sane:
        raise DataError(f"its shape is not two numbers from 1 to {MAX_DIMENSION}")
    return shape[0], shape[1]


def _indices(record: Any, name: str) -> np.ndarray:
    array = _array(record, name)
    if array.dtype.kind not in "iu":
        raise DataError(f"its {name} holds {array.dtype}, not integers")
    if array.dtype.kind == "u" and len(array) and array.max() > MAX_DIMENSION:
        raise DataError(f"its {name} holds an index above {MAX_DIMENSION}")
    return array.astype(np.int64)


def _array(record: Any, name: str) -> np.ndarray:
    """Return a one-dimensional array of numbers from its record, a view of bytes of the file."""
    if not (isinstance(record, Record) and record.name == "array"):
        raise DataError(f"its {name} is missing or not an array")
    match record.state:
        case (_, (int() as length,), dtype, _, content):
            pass
        case _:
            raise DataError(f"its {name} is not a one-dimensional array")
    if isinstance(content, str):
        content = latin1(content)  # Python 2 wrote bytes as str.
    number = read_dtype(dtype)
    if not isinstance(content, (bytes, bytearray)) or len(content) != length * number.itemsize:
        raise DataError(f"its {name} does not hold the {clip(str(length))} numbers that it claims")
    return np.frombuffer(content, number).astype(number.newbyteorder("="))
