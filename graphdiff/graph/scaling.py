"""Scaling of features of any magnitude that the schema allows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Between these, the squares of float32 values neither underflow nor overflow.
SMALLEST, LARGEST = 1e-12, 1e18


def unit_rows(x: Tensor) -> Tensor:
    """Scale rows to length one; zero rows stay zero.

    Equals :func:`torch.nn.functional.normalize`, bit by bit, except for rows so small or so large
    that their squares leave the range of float32, which that function shrinks or turns to zero.

    Args:
        x: Floating point ``[*, F]``.

    Example:
        >>> import torch
        >>> unit_rows(torch.tensor([[3e-30, 4e-30], [0.0, 0.0], [3.0, 4.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000],
                [0.6000, 0.8000]])
    """
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    extreme = (largest > 0) & ((largest < SMALLEST) | (largest > LARGEST))
    if extreme.any():
        x = x / torch.where(extreme, largest, 1)
    return F.normalize(x, dim=-1)


def inverse_scale(x: Tensor, dim: int | None = None) -> Tensor:
    """Return the power of two that scales the largest absolute value to between 0.5 and 1, or as
    close to that as float32 allows.

    A product with a power of two is exact: what does not depend on the scale of ``x`` keeps its
    bits, and its intermediate values stay within the range of floats.

    Args:
        x: Floating point, any shape.
        dim: Dimension to reduce, which is kept (default: all, to a scalar).

    Example:
        >>> import torch
        >>> inverse_scale(torch.tensor([[1e-30, 6.0], [0.0, 0.0]]), dim=1)
        tensor([[0.1250],
                [1.0000]])
    """
    size = x.detach().abs()
    largest = size.max() if dim is None else size.amax(dim=dim, keepdim=True)
    _, exponent = torch.frexp(largest)
    # Powers of two beyond these are infinite or inexact in float32.
    return torch.ldexp(torch.ones_like(largest), -exponent.clamp(-126, 126))
