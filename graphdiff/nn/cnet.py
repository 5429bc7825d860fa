"""C-Net: the conditional network between encoder and decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.nn.heads import HeadLinear, join_heads, split_heads
from graphdiff.nn.norm import layer_norm


class ConditionalBlock(torch.nn.Module):
    r"""A residual block whose normalised input is scaled and shifted by a condition.

    .. math::
        \mathbf{h} \leftarrow \mathbf{h} + W_2\,\mathrm{SiLU}\big(W_1[(1 + \mathbf{s}(\mathbf{c}))
        \odot \mathrm{LN}(\mathbf{h}) + \mathbf{b}(\mathbf{c})]\big).

    The block starts as the identity: :math:`W_2` is zero. Each head has weights of its own.

    Args:
        num_heads: H.
        channels: Width d of a head.
        condition_channels: Width of a head's condition.
        dropout: Dropout of the hidden layer.
    """

    def __init__(
        self, num_heads: int, channels: int, condition_channels: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.modulate = HeadLinear(num_heads, condition_channels, 2 * channels)
        self.inner = HeadLinear(num_heads, channels, channels)
        self.outer = HeadLinear(num_heads, channels, channels)
        self.dropout = dropout
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights anew; the block is the identity again."""
        self.modulate.reset_parameters()
        self.inner.reset_parameters()
        torch.nn.init.zeros_(self.outer.weight)
        torch.nn.init.zeros_(self.outer.bias)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """``[H, B, d]`` and ``[H, B, condition_channels]`` to ``[H, B, d]``."""
        scale, shift = self.modulate(condition).chunk(2, dim=-1)
        inner = F.silu(self.inner(layer_norm(hidden) * (1 + scale) + shift))
        return hidden + self.outer(F.dropout(inner, self.dropout, self.training))


class CNet(torch.nn.Module):
    """K conditional residual blocks, guided by time, collaborative and preference signals.

    Args:
        channels: Width H · d of hidden states and signals.
        num_heads: Heads H, which do not hear of each other.
        num_blocks: K.
        num_steps: Diffusion steps T; there is one learned representation for each step, and one
            more, 0, for the observed row.
        dropout: Dropout inside the blocks.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        num_blocks: int,
        num_steps: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads, head = num_heads, channels // num_heads
        self.time = torch.nn.Embedding(num_steps + 1, channels)
        self.blocks = torch.nn.ModuleList(
            ConditionalBlock(num_heads, head, 3 * head, dropout) for _ in range(num_blocks)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights anew."""
        torch.nn.init.normal_(self.time.weight, std=0.1)
        for block in self.blocks:
            block.reset_parameters()  # type: ignore[operator]

    def forward(
        self, hidden: Tensor, t: Tensor, collaborative: Tensor, preference: Tensor
    ) -> Tensor:
        """Guides encoded rows.

        Args:
            hidden: Encoded rows, ``[B, H * d]``.
            t: Long ``[B]``, 0 … T.
            collaborative: ``[B, H * d]``.
            preference: ``[B, H * d]``.

        Returns:
            ``[B, H * d]``.
        """
        # Together: for one person, the number of operations is what takes time.
        told = torch.stack([collaborative, preference], dim=1).unflatten(-1, (self.num_heads, -1))
        time = F.silu(self.time(t)).view(-1, 1, *told.shape[2:])
        condition = torch.cat([time, layer_norm(told)], dim=1)  # [B, 3, H, d]
        condition = condition.permute(2, 0, 1, 3).flatten(2)
        hidden = split_heads(hidden, self.num_heads)
        for block in self.blocks:
            hidden = block(hidden, condition)
        return join_heads(hidden)
