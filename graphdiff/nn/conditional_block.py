"""A conditional residual block and its gradient in few operations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphdiff.nn.norm import EPSILON


def conditional_block(
    hidden: Tensor,
    time: Tensor,
    t: Tensor,
    signals: Tensor,
    modulate: tuple[Tensor, Tensor],
    inner: tuple[Tensor, Tensor],
    outer: tuple[Tensor, Tensor],
) -> Tensor:
    r"""Compute :math:`\mathbf{h} + W_2\,\mathrm{SiLU}\big(W_1[(1 + \mathbf{s}(\mathbf{c})) \odot
    \mathrm{LN}(\mathbf{h}) + \mathbf{b}(\mathbf{c})]\big)` for every head, with the
    condition :math:`\mathbf{c}` of time embedding and signals; see
    :class:`~graphdiff.nn.ConditionalBlock`, which composes the same of simple operations.

    Args:
        hidden: h, ``[B, H, d]``.
        time: The time embedding of each step, ``[T + 1, H, e]``.
        t: Steps, long ``[B]``.
        signals: The rest of c, ``[B, H, C]``.
        modulate: Weights ``[H, e + C, 2 * d]`` and biases ``[H, 1, 2 * d]`` of s and b.
        inner: :math:`W_1`, ``[H, d, d]``, with biases ``[H, 1, d]``.
        outer: :math:`W_2`, likewise.

    Returns:
        ``[B, H, d]``.
    """
    return _ConditionalBlock.apply(hidden, time, t, signals, *modulate, *inner, *outer)


class _ConditionalBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        time: Tensor,
        t: Tensor,
        signals: Tensor,
        modulate: Tensor,
        modulate_bias: Tensor,
        inner: Tensor,
        inner_bias: Tensor,
        outer: Tensor,
        outer_bias: Tensor,
    ) -> Tensor:
        channels = hidden.size(-1)
        normed, mean, inverse = torch.native_layer_norm(hidden, (channels,), None, None, EPSILON)
        heads = normed.transpose(0, 1)
        given = torch.cat([time.index_select(0, t), signals], dim=-1).transpose(0, 1)
        modulation = torch.bmm(given, modulate).add_(modulate_bias)
        scale, shift = modulation[..., :channels], modulation[..., channels:]
        x = torch.addcmul(shift + heads, heads, scale)
        before = torch.bmm(x, inner).add_(inner_bias)
        after = F.silu(before)
        ctx.save_for_backward(
            hidden, mean, inverse, heads, given, scale, x, before, after, modulate, inner, outer,
            t, time,
        )  # fmt: skip
        update = torch.bmm(after, outer).add_(outer_bias)
        return torch.add(hidden, update.transpose(0, 1), out=torch.empty_like(hidden))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (
            hidden, mean, inverse, heads, given, scale, x, before, after, modulate, inner, outer,
            t, time,
        ) = ctx.saved_tensors  # fmt: skip
        grad = grads[0].transpose(0, 1)
        d_after = torch.bmm(grad, outer.mT)
        d_before = torch.ops.aten.silu_backward(d_after, before)
        d_x = torch.bmm(d_before, inner.mT)
        d_modulation = torch.cat([d_x * heads, d_x], dim=-1)
        d_normed = torch.addcmul(d_x, d_x, scale).transpose(0, 1).contiguous()
        d_hidden = torch.ops.aten.native_layer_norm_backward(
            d_normed, hidden, d_normed.shape[-1:], mean, inverse, None, None, [True, False, False]
        )[0]
        part = modulate if ctx.needs_input_grad[3] else modulate[:, : time.size(-1)]
        d_given = torch.bmm(d_modulation, part.mT).transpose(0, 1)
        d_time = torch.zeros_like(time).index_add_(0, t, d_given[..., : time.size(-1)])
        return (
            d_hidden.add_(grads[0]),
            d_time,
            None,
            d_given[..., time.size(-1) :] if ctx.needs_input_grad[3] else None,
            torch.bmm(given.mT, d_modulation),
            d_modulation.sum(dim=1, keepdim=True),
            torch.bmm(x.mT, d_before),
            d_before.sum(dim=1, keepdim=True),
            torch.bmm(after.mT, grad),
            grad.sum(dim=1, keepdim=True),
        )
