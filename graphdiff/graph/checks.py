"""Checks of a graph's tensors that were read from a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graphdiff.errors import DataError
from graphdiff.schema.words import kind


def check_tensors(tensors: Mapping[str, Tensor], num_items: int) -> None:
    """Raise unless the tensors of a ``RecGraph.state_dict()`` fit each other.

    Args:
        tensors: Name to tensor.
        num_items: Size of the catalogue.

    Raises:
        DataError: If a tensor is missing, has another type or size, or holds an index out of range.
    """
    rowptr, col = _get(tensors, "rowptr"), _get(tensors, "col")
    for name, index in (("rowptr", rowptr), ("col", col)):
        _expect(index.dtype == torch.long and index.dim() == 1, name, index, "a long tensor [n]")
    _expect(
        rowptr.numel() > 1
        and rowptr[0] == 0
        and rowptr[-1] == col.numel()
        and bool((rowptr.diff() >= 0).all()),
        "rowptr",
        rowptr,
        f"ascending positions from 0 to the {col.numel()} of col, one more than there are users",
    )
    _expect(_within(col, num_items), "col", col, f"item indices from 0 to {num_items - 1}")
    age = tensors.get("age")
    if age is not None:
        fits = age.is_floating_point() and age.shape == col.shape
        expected = f"a floating tensor [{col.numel()}] of finite numbers from 0 on"
        _expect(fits and bool(((age >= 0) & age.isfinite()).all()), "age", age, expected)
    for modality in (key.removeprefix("x_") for key in tensors if key.startswith("x_")):
        x, has = tensors[f"x_{modality}"], _get(tensors, f"has_{modality}")
        _expect(
            x.is_floating_point() and x.dim() == 2 and x.size(0) == num_items,
            f"x_{modality}",
            x,
            f"a floating tensor [{num_items}, F]",
        )
        _expect(
            has.dtype == torch.bool and has.shape == (num_items,),
            f"has_{modality}",
            has,
            f"a bool tensor [{num_items}]",
        )
        if f"similar_{modality}_index" in tensors:
            _check_edges(tensors, modality, num_items)


def _check_edges(tensors: Mapping[str, Tensor], modality: str, num_items: int) -> None:
    index = tensors[f"similar_{modality}_index"]
    weight = _get(tensors, f"similar_{modality}_weight")
    _expect(
        weight.is_floating_point() and weight.dim() == 1,
        f"similar_{modality}_weight",
        weight,
        "a floating tensor [E]",
    )
    _expect(
        index.dtype in (torch.int32, torch.long)
        and index.shape == (2, weight.numel())
        and _within(index, num_items),
        f"similar_{modality}_index",
        index,
        f"an int32 or long tensor [2, {weight.numel()}] of item indices from 0 to {num_items - 1}",
    )


def _get(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise DataError(f"the graph has no tensor {name}; it has {', '.join(sorted(tensors))}")
    return tensors[name]


def _expect(condition: bool | Tensor, name: str, found: Tensor, expected: str) -> None:
    if not condition:
        raise DataError(f"{name} of the graph is {kind(found)}; expected {expected}")


def _within(index: Tensor, size: int) -> bool:
    return bool(((index >= 0) & (index < size)).all())
