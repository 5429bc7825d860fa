"""C-Net: the conditional network between encoder and decoder."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.nn.conditional_block import conditional_block
from graphdiff.nn.heads import HeadLinear
from graphdiff.nn.norm import layer_norm
from graphdiff.nn.parts import Part


class ConditionalBlock(torch.nn.Module):
    r"""A residual block whose normalised input is scaled and shifted by a condition.

    .. math::
        \mathbf{h} \leftarrow \mathbf{h} + W_2\,\mathrm{SiLU}\big(W_1[(1 + \mathbf{s}(\mathbf{c}))
        \odot \mathrm{LN}(\mathbf{h}) + \mathbf{b}(\mathbf{c})]\big).

    The block is initialised as the identity: :math:`W_2` is zero. Each head has its own weights.

    Args:
        num_heads: H.
        channels: Width d of a head.
        condition_channels: Width of a head's condition.
        dropout: Dropout of the hidden layer.

    Example:
        >>> block = ConditionalBlock(num_heads=2, channels=4, condition_channels=3)
        >>> hidden = torch.randn(5, 2, 4)
        >>> time, t, signals = torch.randn(9, 2, 1), torch.arange(5), torch.randn(5, 2, 2)
        >>> torch.equal(block(hidden, time, t, signals), hidden)
        True
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
        """Reset the weights; the block is the identity again."""
        self.modulate.reset_parameters()
        self.inner.reset_parameters()
        torch.nn.init.zeros_(self.outer.weight)
        torch.nn.init.zeros_(self.outer.bias)

    def forward(self, hidden: Tensor, time: Tensor, t: Tensor, signals: Tensor) -> Tensor:
        """Return the hidden states after the block, ``[B, H, d]``.

        Args:
            hidden: ``[B, H, d]``.
            time: Time embeddings of all steps, ``[T + 1, H, e]``.
            t: Steps, long ``[B]``.
            signals: The condition besides the time embeddings, ``[B, H, C]`` with e + C =
                ``condition_channels``.
        """
        dropped = self.dropout and self.training
        if not (dropped or torch.is_autocast_enabled(hidden.device.type)):
            linears = (self.modulate, self.inner, self.outer)
            weights = ((linear.weight, linear.bias) for linear in linears)
            return conditional_block(hidden, time, t, signals, *weights)
        condition = torch.cat([time.index_select(0, t), signals], dim=-1)
        return self.composed(hidden.transpose(0, 1), condition.transpose(0, 1)).transpose(0, 1)

    def composed(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """Map ``[H, B, d]`` and ``[H, B, condition_channels]`` to ``[H, B, d]``, by simple
        operations, of which mixed precision and dropout are made."""
        scale, shift = self.modulate(condition).chunk(2, dim=-1)
        inner = F.silu(self.inner(layer_norm(hidden) * (1 + scale) + shift))
        return hidden + self.outer(F.dropout(inner, self.dropout, self.training))


class FrozenConditionalBlock(torch.nn.Module):
    """The inference form of a :class:`ConditionalBlock` inside a :class:`CNet`: the update of its
    input, all heads at once.

    The weights of the heads are one block-diagonal matrix each. The contribution of each step's
    time embedding is computed beforehand.

    Args:
        block: The block, whose weights are copied.
        time: The time part of its condition for each step, ``[T + 1, H * d]``.
    """

    modulate: Tensor
    modulation: Tensor
    inner: Tensor
    inner_bias: Tensor
    outer: Tensor
    outer_bias: Tensor

    def __init__(self, block: ConditionalBlock, time: Tensor) -> None:
        super().__init__()
        num_heads, d, _ = block.inner.weight.shape
        weight = block.modulate.weight.detach()
        # From (signal, head, channel) to (scale or shift, head, channel).
        modulate = weight.new_zeros(2, num_heads, d, 2, num_heads, d)
        for head in range(num_heads):
            modulate[:, head, :, :, head] = weight[head, d:].view(2, d, 2, d)
        self.register_buffer("modulate", modulate.view(2 * num_heads * d, -1))
        by_time = torch.einsum("thi,hio->tho", time.unflatten(1, (num_heads, d)), weight[:, :d])
        modulation = (by_time + block.modulate.bias.detach().squeeze(1)).unflatten(-1, (2, d))
        modulation[:, :, 0] += 1  # the 1 in 1 + s(c)
        self.register_buffer("modulation", modulation.transpose(1, 2).flatten(1))
        for name, linear in (("inner", block.inner), ("outer", block.outer)):
            self.register_buffer(name, torch.block_diag(*linear.weight.detach()))
            self.register_buffer(f"{name}_bias", linear.bias.detach().flatten().clone())

    def forward(self, normed: Tensor, step: int, condition: Tensor) -> Tensor:
        """Map the normalised input ``[B, H * d]`` and signals ``[B, 2 * H * d]`` to
        ``[B, H * d]``."""
        modulation = torch.addmm(self.modulation[step], condition, self.modulate)
        scale, shift = modulation.chunk(2, dim=-1)
        x = torch.addcmul(shift, scale, normed)
        return torch.addmm(
            self.outer_bias, F.silu(torch.addmm(self.inner_bias, x, self.inner)), self.outer
        )


class CNet(Part):
    """K conditional residual blocks, guided by time, collaborative and preference signals.

    Args:
        channels: Width H · d of hidden states and signals.
        num_heads: Heads H, which do not interact.
        num_blocks: K.
        num_steps: Diffusion steps T. There is one learned time embedding for each step, and one
            more, 0, for the observed row.
        dropout: Dropout inside the blocks.

    Example:
        >>> cnet = CNet(channels=8, num_heads=2, num_blocks=1, num_steps=20)
        >>> hidden, collaborative, preference = torch.randn(3, 5, 8)
        >>> t = torch.zeros(5, dtype=torch.long)
        >>> cnet(hidden, t, collaborative, preference).shape
        torch.Size([5, 8])
        >>> cnet.freeze()(hidden, 0, collaborative, preference).shape
        torch.Size([5, 8])
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
        """Reset the weights."""
        torch.nn.init.normal_(self.time.weight, std=0.1)
        for block in self.blocks:
            block.reset_parameters()  # type: ignore[operator]

    def forward(
        self, hidden: Tensor, t: Tensor, collaborative: Tensor, preference: Tensor
    ) -> Tensor:
        """Return guided hidden states, ``[B, H * d]``.

        Args:
            hidden: Encoded rows, ``[B, H * d]``.
            t: Diffusion steps, long ``[B]``, 0 … T.
            collaborative: Collaborative signals, ``[B, H * d]``.
            preference: Preference signals, ``[B, H * d]``.
        """
        size = (len(hidden), self.num_heads, hidden.size(1) // self.num_heads)
        time = F.silu(self.time.weight).view(-1, *size[1:])
        both = torch.stack([collaborative.view(size), preference.view(size)], dim=2)
        signals = layer_norm(both).flatten(2)
        hidden = hidden.reshape(size)
        for block in self.blocks:
            hidden = block(hidden, time, t, signals)
        return hidden.flatten(1)

    def freeze(self) -> FrozenCNet:
        """Return the inference form, with a copy of the weights."""
        return FrozenCNet(self)


class FrozenCNet(torch.nn.Module):
    """The inference form of a :class:`CNet`, in few operations.

    The answer for one user takes microseconds of arithmetic; its time is the number of operations.
    So all heads are computed at once, and whatever does not depend on the user beforehand.

    Args:
        cnet: The network, whose weights are copied.
    """

    def __init__(self, cnet: CNet) -> None:
        super().__init__()
        self.num_heads = cnet.num_heads
        time = F.silu(cnet.time.weight.detach())
        self.blocks = torch.nn.ModuleList(
            FrozenConditionalBlock(block, time)  # type: ignore[arg-type]
            for block in cnet.blocks
        )

    def forward(
        self, hidden: Tensor, step: int, collaborative: Tensor, preference: Tensor
    ) -> Tensor:
        """As :meth:`CNet.forward`, with one ``step``, 0 … T, for all rows."""
        if not self.blocks:
            return hidden
        normed = self._normed(torch.stack([hidden, collaborative, preference], dim=1))
        inner, condition = normed[:, 0], normed[:, 1:].flatten(1)
        for number, block in enumerate(self.blocks):
            if number:
                inner = self._normed(hidden)
            hidden = hidden + block(inner, step, condition)
        return hidden

    def _normed(self, x: Tensor) -> Tensor:
        """Return ``[*, H * d]`` with each head normalised."""
        return layer_norm(x.unflatten(-1, (self.num_heads, -1))).flatten(-2)


class EvaluatedCNet(torch.nn.Module):
    """The inference form of a C-Net that defines no ``freeze()``: a copy in evaluation mode.

    Args:
        cnet: Any module that is called as :class:`CNet` is.
    """

    def __init__(self, cnet: torch.nn.Module) -> None:
        super().__init__()
        self.cnet = copy.deepcopy(cnet).eval().requires_grad_(False)

    def forward(
        self, hidden: Tensor, step: int, collaborative: Tensor, preference: Tensor
    ) -> Tensor:
        """As :meth:`FrozenCNet.forward`."""
        t = torch.full((hidden.size(0),), step, device=hidden.device)
        return self.cnet(hidden, t, collaborative, preference)


def freeze_cnet(cnet: torch.nn.Module) -> torch.nn.Module:
    """Return the inference form of a C-Net: its own, or a copy in evaluation mode."""
    freeze = getattr(cnet, "freeze", None)
    return EvaluatedCNet(cnet) if freeze is None else freeze()
