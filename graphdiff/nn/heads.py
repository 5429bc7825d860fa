r"""Heads: parts of a width that are trained independently and whose scores are averaged.

Features ``[*, H * d]`` hold H heads of width d one after the other. The score of a user and an item
is the mean of the heads' scores: an ensemble in one table, with one retrieval by inner product.

In LD4MRec each head has its own part of the item tables and of C-Net, and is trained to rank and to
reconstruct as if it were the only one. Their errors differ, and the error of their mean is smaller.
They share the gate, the biases, the temperature and all random draws except the noise.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.nn.parts import Part

#: Smallest length of a head's vector in a cosine, added to it in squares. The vector of a user
#: without history is zero and stays zero.
SOFT_LENGTH = 0.05
#: Smallest length that an item's vector is divided by.
SHORTEST = 1e-12
#: Logarithm of the lowest temperature: a vanishing one would make single scores infinite.
LEAST_LOG_TEMPERATURE = math.log(0.02)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Split ``[*, H * d]`` into ``[H, *, d]``, a view.

    Example:
        >>> split_heads(torch.arange(8.0).view(2, 4), num_heads=2)[1]
        tensor([[2., 3.],
                [6., 7.]])
    """
    return x.unflatten(-1, (num_heads, -1)).movedim(-2, 0)


def join_heads(x: Tensor) -> Tensor:
    """Join ``[H, *, d]`` to ``[*, H * d]``.

    Example:
        >>> x = torch.arange(8.0).view(2, 4)
        >>> torch.equal(join_heads(split_heads(x, num_heads=2)), x)
        True
    """
    return x.movedim(0, -2).flatten(-2)


def head_blocks(matrix: Tensor, num_heads: int) -> Tensor:
    """Return the diagonal blocks of a matrix ``[H * d, H * d]``, one for each head:
    ``[H, d, d]``."""
    parts = matrix.unflatten(1, (num_heads, -1)).unflatten(0, (num_heads, -1))
    return parts.diagonal(dim1=0, dim2=2).movedim(-1, 0)


def normalize_heads(x: Tensor, num_heads: int) -> Tensor:
    r"""Scale each head of ``[*, H * d]`` to the length :math:`1/\sqrt{H}`: rows have length one,
    and inner products are mean cosines.

    Example:
        >>> normalize_heads(torch.tensor([3.0, 4.0, 0.0, 9.0]), num_heads=2)
        tensor([0.4243, 0.5657, 0.0000, 0.7071])
    """
    unit = F.normalize(x.unflatten(-1, (num_heads, -1)), dim=-1)
    return unit.flatten(-2) / num_heads**0.5


class HeadLinear(torch.nn.Module):
    """A linear map for each head.

    Args:
        num_heads: H.
        in_channels: Width of a head's input.
        out_channels: Width of its output.

    Example:
        >>> HeadLinear(num_heads=2, in_channels=3, out_channels=4)(torch.randn(2, 5, 3)).shape
        torch.Size([2, 5, 4])
    """

    def __init__(self, num_heads: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(num_heads, in_channels, out_channels))
        self.bias = torch.nn.Parameter(torch.empty(num_heads, 1, out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases uniformly, as :class:`torch.nn.Linear` does."""
        bound = self.weight.size(1) ** -0.5
        torch.nn.init.uniform_(self.weight, -bound, bound)
        torch.nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[H, B, in_channels]`` to ``[H, B, out_channels]``."""
        return torch.baddbmm(self.bias, x, self.weight)


class CosineHeads(Part):
    r"""The query of a mean cosine over heads, with a learned temperature.

    .. math::
        \mathbf{q}^\eta = \frac{\mathbf{h}^\eta}
        {\tau \sqrt{H} \sqrt{\lVert\mathbf{h}^\eta\rVert^2 + \epsilon^2}},

    so that its inner product with an item vector scaled by :func:`normalize_heads` is
    :math:`\mathrm{mean}_\eta \cos(\mathbf{h}^\eta, \mathbf{z}^\eta) / \tau`, with
    :math:`\epsilon` = :data:`SOFT_LENGTH`.

    Args:
        num_heads: H.
        temperature: :math:`\tau` at the start.

    Example:
        >>> heads = CosineHeads(num_heads=2, temperature=0.5)
        >>> query = heads(torch.full((1, 4), 1e3))
        >>> item = normalize_heads(torch.tensor([[1.0, 1.0, 1.0, -1.0]]), num_heads=2)
        >>> round((query @ item.t()).item(), 4)  # cosines 1 and 0
        1.0
    """

    def __init__(self, num_heads: int, temperature: float = 0.2) -> None:
        super().__init__()
        self.num_heads, self.first_temperature = num_heads, temperature
        self.log_temperature = torch.nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset the temperature."""
        torch.nn.init.constant_(self.log_temperature, math.log(self.first_temperature))

    @property
    def temperature(self) -> Tensor:
        """:math:`\tau`, bounded below."""
        return self.log_temperature.clamp(min=LEAST_LOG_TEMPERATURE).exp()

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the queries of hidden states ``[B, H * d]``, of the same shape."""
        heads = hidden.unflatten(-1, (self.num_heads, -1))
        # Not F.normalize: a row without visible items is zero, where its gradient is 1e12.
        length = (heads.square().sum(dim=-1, keepdim=True) + SOFT_LENGTH**2).sqrt()
        return (heads / (length * (self.num_heads**0.5 * self.temperature))).flatten(-2)

    def normalize(self, table: Tensor) -> Tensor:
        """Return the item vectors that queries are multiplied with; see
        :func:`normalize_heads`."""
        return normalize_heads(table, self.num_heads)

    def freeze(self) -> FrozenCosineHeads:
        """Return the inference form, with a copy of the temperature."""
        return FrozenCosineHeads(self)


class InnerProductHeads(torch.nn.Module):
    r"""The query of a mean inner product over heads, :math:`\mathbf{q} = a \mathbf{h} / H`.

    It is called as :class:`CosineHeads` is, with a constant scale: there is nothing to train.

    Args:
        num_heads: H.
        scale: a, a scalar; it is copied.

    Example:
        >>> heads = InnerProductHeads(num_heads=2, scale=torch.tensor(3.0))
        >>> heads(torch.tensor([[2.0, 4.0]]))
        tensor([[3., 6.]])
    """

    scale: Tensor

    def __init__(self, num_heads: int, scale: Tensor) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.register_buffer("scale", scale.detach() / num_heads)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the queries of hidden states ``[B, H * d]``, of the same shape."""
        return self.scale * hidden

    def normalize(self, table: Tensor) -> Tensor:
        """Return the item vectors that queries are multiplied with: the table itself."""
        return table

    def freeze(self) -> InnerProductHeads:
        """Return the inference form, which is the same."""
        return self


class FrozenCosineHeads(torch.nn.Module):
    """The inference form of :class:`CosineHeads`, in few operations.

    Args:
        heads: The heads, whose temperature is copied.
    """

    floor: Tensor

    def __init__(self, heads: CosineHeads) -> None:
        super().__init__()
        self.num_heads = heads.num_heads
        # (H τ²)(length² + ε²), whose root divides.
        self.scale = heads.num_heads * heads.temperature.item() ** 2
        floor = heads.log_temperature.detach().new_tensor(self.scale * SOFT_LENGTH**2)
        self.register_buffer("floor", floor)

    def forward(self, hidden: Tensor) -> Tensor:
        """As :meth:`CosineHeads.forward`."""
        heads = hidden.unflatten(-1, (self.num_heads, -1))
        square = heads.square().sum(dim=-1, keepdim=True)
        return (heads * torch.add(self.floor, square, alpha=self.scale).rsqrt()).flatten(-2)
