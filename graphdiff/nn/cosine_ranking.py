r"""A softmax of cosines against negatives, of all heads at once and with a gradient in few
operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphdiff.nn.constants import constant
from graphdiff.nn.heads import LEAST_LOG_TEMPERATURE, SHORTEST, SOFT_LENGTH
from graphdiff.nn.losses import Partition
from graphdiff.nn.pairs import Pairs


def cosine_ranking(
    hidden: Tensor,
    rows: Tensor,
    bias: Tensor,
    log_temperature: Tensor,
    pairs: Pairs,
    weight: Tensor,
    negative: Tensor,
    log_chance: Tensor,
    num_heads: int,
) -> Tensor:
    r"""Compute the ranking loss of each row, summed over heads: a softmax of every item of the row
    against shared negatives.

    .. math::
        \sum_\eta \sum_{i \in N_u} w_{ui} \Big[ \log \sum_{j \in S}
        \frac{e^{s^\eta_{uj}}}{|S|\, q_j} - s^\eta_{ui} \Big], \qquad
        s^\eta_{ui} = \frac{\mathbf{h}^\eta_u}
        {\tau \sqrt{\lVert \mathbf{h}^\eta_u \rVert^2 + \epsilon^2}} \cdot
        \frac{\mathbf{z}^\eta_i}{\lVert \mathbf{z}^\eta_i \rVert} + b_i

    These are the scores of :class:`~graphdiff.nn.CosineHeads`, of single heads, and the partition
    function is that of :func:`~graphdiff.nn.losses.sampled_log_partition`. The second term is
    linear in the item directions, so that it needs their weighted sum for each row and no score of
    a single pair.

    Args:
        hidden: h, ``[B, H * d]``.
        rows: Z at J items, ``[J, H * d]``.
        bias: b of these items, ``[J]``.
        log_temperature: Logarithm of τ, a scalar, bounded as in :class:`~graphdiff.nn.CosineHeads`.
        pairs: The items of the rows: n pairs of B rows and J items.
        weight: w, ``[n]``.
        negative: Places of the negatives S among the J items, long ``[m]``.
        log_chance: :math:`\log |S| q_j` of the negatives, ``[m]``.
        num_heads: H.

    Returns:
        ``[B]``.

    Example:
        >>> pairs = Pairs(torch.tensor([0]), torch.tensor([0]), 1, 2)
        >>> hidden, rows = torch.tensor([[1e3, 0.0]]), torch.eye(2)
        >>> args = torch.zeros(2), torch.tensor(0.0), pairs, torch.ones(1)
        >>> cosine_ranking(hidden, rows, *args, torch.tensor([0, 1]), torch.zeros(2), num_heads=1)
        tensor([0.3133])
    """
    return _CosineRanking.apply(
        hidden, rows, bias, log_temperature, pairs, weight, negative, log_chance, num_heads
    )


class _CosineRanking(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        rows: Tensor,
        bias: Tensor,
        log_temperature: Tensor,
        pairs: Pairs,
        weight: Tensor,
        negative: Tensor,
        log_chance: Tensor,
        num_heads: int,
    ) -> Tensor:
        hidden, rows = (x.view(len(x), num_heads, -1) for x in (hidden, rows))
        bounded = log_temperature.clamp(min=LEAST_LOG_TEMPERATURE)
        temperature = bounded.exp()
        square = (hidden * hidden).sum(dim=-1, keepdim=True)
        inverse = square.add_(constant(SOFT_LENGTH**2, square)).rsqrt_().div_(temperature)
        query = hidden * inverse
        length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_(min=SHORTEST)
        unit = rows / length

        # Of the items of the rows.
        drawn = pairs.sums(unit.view(len(unit), -1), weight)
        share = weight.new_zeros(pairs.num_rows).index_add_(0, pairs.row, weight)
        biases = weight * bias.index_select(0, pairs.place)

        other = unit.index_select(0, negative).transpose(0, 1)
        offset = bias.index_select(0, negative).sub_(log_chance)
        partition = Partition.of(query.transpose(0, 1), other, offset)
        found = partition.value.sum(dim=0).mul_(share)
        found.sub_((query.view(len(query), -1) * drawn).sum(dim=1))
        found.index_add_(0, pairs.row, biases, alpha=-query.size(1))
        ctx.save_for_backward(
            query, inverse, unit, length, drawn, share, weight, negative, other, offset,
            temperature, bounded == log_temperature, partition.value, partition.share,
        )  # fmt: skip
        ctx.pairs, ctx.step = pairs, partition.step
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (
            query, inverse, unit, length, drawn, share, weight, negative, other, offset,
            temperature, free, value, softmax,
        ) = ctx.saved_tensors  # fmt: skip
        grad, pairs, heads = grads[0], ctx.pairs, query.transpose(0, 1)
        weight = weight * grad.index_select(0, pairs.row)
        partition = Partition(value, softmax, ctx.step)
        d_query, d_other, d_offset = partition.backward(heads, other, offset, grad * share)
        d_query = torch.addcmul(
            d_query.transpose(0, 1),
            grad.view(-1, 1, 1),
            drawn.view(query.shape),
            value=-1,
            out=torch.empty_like(query),
        )
        inner = (d_query * query).sum(dim=-1, keepdim=True)
        by_length = inner * (temperature * temperature)
        d_hidden = d_query.addcmul_(query, by_length, value=-1).mul_(inverse)

        # The negative gradient by the directions of items.
        turned, order = pairs.turned, pairs.order
        flat = query.view(len(query), -1)
        pull = turned.sums(flat, weight.index_select(0, order)).view(unit.shape)
        pull.transpose(0, 1).index_add_(1, negative, d_other, alpha=-1)
        along = (pull * unit).sum(dim=-1, keepdim=True)
        d_rows = torch.addcmul(pull, unit, along, value=-1).div_(-length)

        d_bias = weight.new_zeros(len(unit)).index_add_(0, negative, d_offset)
        d_bias.index_add_(0, pairs.place, weight, alpha=-len(heads))
        d_temperature = torch.where(free, inner.sum().neg_(), constant(0.0, inner))
        flat = (x.view(len(x), -1) for x in (d_hidden, d_rows))
        return *flat, d_bias, d_temperature, *(None,) * 5
