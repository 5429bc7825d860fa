"""Phrases of error messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from torch import Tensor, strided

# Values that a message lists before it abbreviates.
SHOWN = 3


def is_dense(value: Any) -> TypeGuard[Tensor]:
    """Return whether a value is a tensor that is neither sparse nor nested."""
    return isinstance(value, Tensor) and value.layout == strided and not value.is_nested


def kind(value: Any) -> str:
    """Describe the type, and of a tensor the layout, dtype and shape."""
    if isinstance(value, Tensor):
        layout = "" if value.layout == strided else f"{str(value.layout).removeprefix('torch.')} "
        shape = "nested" if value.is_nested else list(value.shape)
        return f"a {layout}{str(value.dtype).removeprefix('torch.')} tensor {shape}"
    return f"of type {type(value).__name__}"


def show(values: Sequence[Any], write: Callable[[Any], str] = repr) -> str:
    """List the first few values, separated by commas."""
    return ", ".join(map(write, values[:SHOWN])) + (", …" if len(values) > SHOWN else "")


def count(number: int, noun: str) -> str:
    """Return ``"1 pair is"`` or ``"5 pairs are"``."""
    return f"1 {noun} is" if number == 1 else f"{number} {noun}s are"


def offending(mask: Tensor, ids: Callable[[list[int]], Sequence[Any]]) -> str:
    """Return ``"2 of 4 items (0, 2) have"``.

    Args:
        mask: Bool ``[I]``, True for offending items.
        ids: Raw ids of item indices.
    """
    index = mask.nonzero().flatten()
    listed = show(ids(index[: SHOWN + 1].tolist()))
    verb = "has" if index.numel() == 1 else "have"
    return f"{index.numel()} of {mask.numel()} items ({listed}) {verb}"
