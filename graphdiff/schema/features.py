"""Item features: one conversion and one check, for every way they come in."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from graphdiff.errors import DataError
from graphdiff.schema.words import is_dense, kind, offending

#: Largest absolute value: products of features, summed over items and columns, have to stay within
#: the range of float32.
MAX_FEATURE = 1e15
# Kinds of numpy dtypes that are real numbers: bool, integers and floats.
REAL = "biuf"
# Characters of an offending value that a message quotes.
LONGEST = 60


def checked_features(
    values: Any,
    modality: str,
    num_items: int,
    item_ids: Sequence[Any] | None = None,
    expected: str | None = None,
) -> Tensor:
    """Convert and check the features of one modality.

    Every entry point uses this function, so that the same values are accepted or refused, and
    rounded to the same float32, wherever they come from.

    Args:
        values: ``[n, F]`` real numbers: a tensor of any layout, an array, a data frame, a scipy
            sparse matrix, or lists; a row all NaN where an item lacks the modality.
        modality: Its name, an identifier such as ``image``.
        num_items: n, the expected number of rows.
        item_ids: Raw id of each row, for messages (default: the row number).
        expected: What the number of rows must equal, for messages (default: ``"there are n
            items"``).

    Returns:
        Float32 ``[n, F]``, detached; each row is finite or all NaN. On the device of ``values``.

    Raises:
        DataError: If the values are not real numbers, not ``[n, F]`` with F at least 1, infinite or
            beyond :data:`MAX_FEATURE`, or NaN in part of a row.

    Example:
        >>> checked_features([[1, 2], [float("nan"), float("nan")]], "image", num_items=2)
        tensor([[1., 2.],
                [nan, nan]])
    """
    x = as_features(values, modality)
    check_features(
        x,
        modality,
        expected or f"there are {num_items} items",
        num_items,
        lambda index: index if item_ids is None else [item_ids[i] for i in index],
    )
    return x


def as_features(values: Any, modality: str) -> Tensor:
    """Convert features to a detached, dense float32 tensor of the same shape.

    Args:
        values: As for :func:`checked_features`, of any shape.
        modality: Its name, for messages.

    Raises:
        DataError: If the values are not real numbers or have no single shape.
    """
    name = f"x_{modality}"
    if isinstance(values, (list, tuple)) and any(isinstance(row, Tensor) for row in values):
        values = _stacked(values, name)
    if not isinstance(values, Tensor):
        values = _as_tensor(values, name)
    if values.is_nested:
        raise DataError(f"{name} is {kind(values)}; give rows of one length, [items, features]")
    if values.is_complex():
        raise DataError(f"{name} is {values.dtype}; give real numbers")
    values = values.detach()
    return (values if is_dense(values) else values.to_dense()).float()


def check_features(
    x: Tensor,
    modality: str,
    expected: str,
    num_items: int,
    ids: Callable[[list[int]], Sequence[Any]],
) -> None:
    """Raise unless features have one row per item, each finite or all NaN.

    Args:
        x: Float32, of any shape.
        modality: Its name.
        expected: What the number of rows must equal, such as ``"the graph has 4 items"``.
        num_items: That number.
        ids: Raw ids of rows, for messages.

    Raises:
        DataError: If the name, the shape or a value does not fit.
    """
    check_modality(modality)
    name = f"x_{modality}"
    if x.dim() != 2 or x.size(1) == 0:
        raise DataError(
            f"{name} has shape {list(x.shape)}; give [{num_items}, F] with F at least 1"
        )
    if x.size(0) != num_items:
        raise DataError(
            f"{name} has {x.size(0)} rows but {expected}; give one row per item, "
            f"NaN where an item has no {modality}"
        )

    infinite, nan = x.isinf().any(dim=1), x.isnan()
    if infinite.any():
        raise DataError(
            f"{offending(infinite, ids)} an infinite value in {name}; give finite "
            f"numbers, or a row all NaN where an item has no {modality}"
        )
    huge = (x.abs() > MAX_FEATURE).any(dim=1)
    if huge.any():
        raise DataError(
            f"{offending(huge, ids)} a value beyond ±{MAX_FEATURE:g} in {name}, whose square "
            "would leave the range of float32; scale the features"
        )
    partial = nan.any(dim=1) & ~nan.all(dim=1)
    if partial.any():
        raise DataError(
            f"{offending(partial, ids)} NaN in part of the row of {name}; a row "
            f"is finite, or all NaN where an item has no {modality}"
        )


def check_modality(name: Any) -> None:
    """Raise unless a name can be that of a modality.

    Raises:
        DataError: If it is not a str of letters, digits and underscores, or an attribute of torch's
            modules, which could not hold a part of that name.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise DataError(f"{name!r} cannot name a modality; use letters, digits and underscores")
    if hasattr(torch.nn.ModuleDict, name):
        raise DataError(
            f"{name!r} cannot name a modality, because torch.nn.Module has an attribute of that "
            f"name; use another, such as {name}_features"
        )


def _stacked(rows: Sequence[Any], name: str) -> Tensor:
    """Stack rows of which some are tensors."""
    tensors = [row if isinstance(row, Tensor) else _as_tensor(row, name) for row in rows]
    if len({row.shape for row in tensors}) > 1:
        raise _ragged(name, tensors)
    dtype = tensors[0].dtype
    for row in tensors[1:]:
        dtype = torch.promote_types(dtype, row.dtype)
    return torch.stack([row.detach().to(dtype) for row in tensors])


def _as_tensor(values: Any, name: str) -> Tensor:
    array = _as_array(values, name)
    if array.dtype.kind == "O":
        if array.ndim == 1 and any(map(_is_row, array)) and not isinstance(values, list):
            return _as_tensor(array.tolist(), name)  # A column of lists, as data frames hold them.
        array = _numbers(array, name)
    if array.dtype.kind == "c":
        raise DataError(f"{name} is {array.dtype}; give real numbers")
    if array.dtype.kind not in REAL:
        raise DataError(f"{name} cannot be read as an array of numbers: its dtype is {array.dtype}")
    # torch has no extended precision, and few operations on unsigned integers. All unsigned
    # integers up to MAX_FEATURE are exact in float64.
    if array.dtype.kind in "uf" and array.dtype not in (np.uint8, np.float16, np.float32):
        array = array.astype(np.float64)
    # torch takes over arrays that are contiguous, writable and of native byte order.
    array = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
    return torch.from_numpy(array)


def _as_array(values: Any, name: str) -> np.ndarray:
    if scipy.sparse.issparse(values):
        return values.toarray()
    if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in REAL:
        # np.asarray would return the values behind the mask.
        floating = values.astype(np.result_type(values.dtype, np.float32))
        return np.ma.filled(floating, np.nan)
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(values, (list, tuple)):
            raise _ragged(name, values) from None
        raise DataError(f"{name} cannot be read as an array of numbers: {error}") from None


def _numbers(array: np.ndarray, name: str) -> np.ndarray:
    """Convert an array of Python objects to float64; None and pandas' NA become NaN."""
    out = np.empty(array.size)
    for n, value in enumerate(array.flat):
        if value is None or type(value).__name__ == "NAType":
            out[n] = np.nan
        elif isinstance(value, (numbers.Real, Decimal, np.bool_)):
            try:
                out[n] = float(value)
            except OverflowError:
                out[n] = np.inf
        elif isinstance(value, numbers.Complex):
            raise DataError(f"{name} holds the complex number {value!r}; give real numbers")
        else:
            raise DataError(f"{name} cannot be read as an array of numbers: {_found(value)}")
    return out.reshape(array.shape)


def _found(value: Any) -> str:
    text = f"found {value!r}" if isinstance(value, (str, bytes)) else f"a value is {kind(value)}"
    return text if len(text) < LONGEST else text[:LONGEST] + "…"


def _is_row(value: Any) -> bool:
    return isinstance(value, (Sequence, np.ndarray, Tensor)) and not isinstance(value, (str, bytes))


def _ragged(name: str, rows: Sequence[Any]) -> DataError:
    """Return the error for rows that form no matrix."""
    what = f"{name} cannot be read as an array of numbers: "
    for n, row in enumerate(rows):
        if not _is_row(row):
            return DataError(f"{what}row {n} is {kind(row)}; give a row of NaN where it is missing")
        if len(row) != len(rows[0]):
            return DataError(
                f"{what}row 0 has {len(rows[0])} values, row {n} has {len(row)}; give rows of one "
                "length"
            )
    return DataError(f"{what}the rows differ in shape; give [items, features]")
