"""Checks of a graph's tensors that were read from a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graphdiff.errors import DataError


def check_tensors(tensors: Mapping[str, Tensor], num_items: int) -> None:
    """Raise unless the tensors of a ``RecGraph.state_dict()`` fit each other.

    Args:
        tensors: Name to tensor.
        num_items: Size of the catalogue.

    Raises:
        DataError: If indices are out of range, or sizes or types do not fit.
    """
    rowptr, col = tensors["rowptr"], tensors["col"]
    sane = (
        rowptr.dtype == col.dtype == torch.long
        and rowptr.dim() == col.dim() == 1
        and rowptr.numel() > 1
        and rowptr[0] == 0
        and rowptr[-1] == col.numel()
        and bool((rowptr.diff() >= 0).all())
        and _within(col, num_items)
    )
    for name in (key.removeprefix("x_") for key in tensors if key.startswith("x_")):
        x, has = tensors[f"x_{name}"], tensors[f"has_{name}"]
        sane = sane and (
            x.dim() == 2
            and x.size(0) == num_items
            and has.dtype == torch.bool
            and has.shape == (num_items,)
        )
        if f"similar_{name}_index" not in tensors:
            continue
        index, weight = tensors[f"similar_{name}_index"], tensors[f"similar_{name}_weight"]
        sane = sane and (
            index.dtype == torch.long
            and index.shape == (2, weight.numel())
            and weight.dim() == 1
            and _within(index, num_items)
        )
    if not sane:
        raise DataError("its graph does not add up: indices out of range, or sizes that differ")


def _within(index: Tensor, size: int) -> bool:
    return bool(((index >= 0) & (index < size)).all())
