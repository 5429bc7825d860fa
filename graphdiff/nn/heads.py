r"""Heads: parts of a width that learn side by side, each as if it were alone, and answer together.

Features ``[*, H * d]`` hold H heads of width d one after the other. What people see is the mean of
the heads' scores: an ensemble in one table, with one retrieval by inner product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """``[*, H * d]`` to ``[H, *, d]``, a view."""
    return x.unflatten(-1, (num_heads, -1)).movedim(-2, 0)


def join_heads(x: Tensor) -> Tensor:
    """``[H, *, d]`` to ``[*, H * d]``."""
    return x.movedim(0, -2).flatten(-2)


def head_blocks(matrix: Tensor, num_heads: int) -> Tensor:
    """What the columns of each head have to do with each other, ``[H, d, d]``, from a matrix
    ``[H * d, H * d]``."""
    parts = matrix.unflatten(1, (num_heads, -1)).unflatten(0, (num_heads, -1))
    return parts.diagonal(dim1=0, dim2=2).movedim(-1, 0)


def normalize_heads(x: Tensor, num_heads: int) -> Tensor:
    r"""``[*, H * d]`` with each head of length :math:`1/\sqrt{H}`, so that rows have length one and
    inner products are mean cosines."""
    unit = F.normalize(x.unflatten(-1, (num_heads, -1)), dim=-1)
    return unit.flatten(-2) / num_heads**0.5


class HeadLinear(torch.nn.Module):
    """A linear map of each head's own.

    Args:
        num_heads: H.
        in_channels: Width of a head's input.
        out_channels: Width of its output.
    """

    def __init__(self, num_heads: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(num_heads, in_channels, out_channels))
        self.bias = torch.nn.Parameter(torch.empty(num_heads, 1, out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weights and biases uniformly, as :class:`torch.nn.Linear` does."""
        bound = self.weight.size(1) ** -0.5
        torch.nn.init.uniform_(self.weight, -bound, bound)
        torch.nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """``[H, B, in_channels]`` to ``[H, B, out_channels]``."""
        return torch.baddbmm(self.bias, x, self.weight)
