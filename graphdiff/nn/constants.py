"""Small tensors that do not change, made once."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def constant(value: float, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return a number as a scalar tensor with the dtype and on the device of another one.

    In an operation with a Python number, PyTorch makes such a tensor each time, in four operators.

    Example:
        >>> constant(0.5, torch.ones(2)) is constant(0.5, torch.ones(3))
        True
    """
    return _constant(value, like.dtype if dtype is None else dtype, like.device)


def numbers(num: int, like: Tensor) -> Tensor:
    """Return 0 … num - 1, long ``[num]``, on the device of another tensor."""
    return _numbers(num, like.device)


@lru_cache(maxsize=64)
def _constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=dtype, device=device)


@lru_cache(maxsize=16)
def _numbers(num: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.arange(num, device=device)
