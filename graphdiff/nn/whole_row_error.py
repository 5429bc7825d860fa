r"""The squared error of whole rows, of all heads at once and with a gradient in few operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphdiff.nn.pairs import Pairs
from graphdiff.nn.reconstruction import ItemTableSums


def whole_row_error(
    hidden: Tensor,
    sums: ItemTableSums,
    residual: Tensor,
    log_scale: Tensor,
    pairs: Pairs,
    item: Tensor,
    weight: Tensor,
    unobserved: float,
    excess: Tensor | None = None,
) -> Tensor:
    r"""Compute the exact weighted squared error of each row over the whole catalogue, summed over
    heads.

    With the score :math:`a\, \mathbf{h}^\eta_u \cdot \mathbf{z}^\eta_i` and what is left of an
    item's target, :math:`\rho_i`, the error of an item that a row lacks is
    :math:`e_{ui} = \rho_i - a\, \mathbf{h}^\eta_u \cdot \mathbf{z}^\eta_i`. The target of an item
    of the row exceeds it by :math:`y_{ui}`:

    .. math::
        \sum_\eta \Big[ \sum_{i \in N_u} w_{ui} (y_{ui} + e_{ui})^2
        + \alpha_0 \sum_{i \notin N_u} e_{ui}^2 \Big], \qquad
        \sum_i e_{ui}^2 = a^2\, \mathbf{h} G \mathbf{h}^\top - 2 a\, \mathbf{h} \cdot Z^\top \rho
        + \lVert \rho \rVert^2,

    in :math:`O(B H d^2 + n H d)`. :func:`~graphdiff.nn.reconstruction.reconstruction_error` is the
    same for one head, composed of simple operations.

    Args:
        hidden: h, ``[B, H * d]``.
        sums: Sums over the item table Z, and its rows ``[J, H * d]``.
        residual: ρ, ``[I]``, which the sums were computed with.
        log_scale: Logarithm of a, a scalar.
        pairs: The items of the rows: n pairs of B rows and the J rows of Z.
        item: The same items among all, long ``[n]``.
        weight: w, ``[n]``.
        unobserved: :math:`\alpha_0`.
        excess: y, ``[n]``; by default 1.

    Returns:
        ``[B]``.

    Example:
        >>> from graphdiff.nn.reconstruction import sum_item_table
        >>> residual, item = torch.zeros(3), torch.tensor([0])
        >>> sums = sum_item_table(torch.eye(3), None, residual, None, num_heads=1)
        >>> hidden, pairs = torch.tensor([[1.0, 0.5, 0.0]]), Pairs(torch.tensor([0]), item, 1, 3)
        >>> args = sums, residual, torch.tensor(0.0), pairs, item, torch.ones(1), 0.1
        >>> whole_row_error(hidden, *args)  # 0.1 * 0.5²
        tensor([0.0250])
    """
    return _WholeRowError.apply(
        hidden, sums.rows, sums.gram, sums.residual, residual, log_scale,
        pairs, item, weight, unobserved, excess,
    )  # fmt: skip


class _WholeRowError(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        rows: Tensor,
        gram: Tensor,
        total: Tensor,
        residual: Tensor,
        log_scale: Tensor,
        pairs: Pairs,
        item: Tensor,
        weight: Tensor,
        unobserved: float,
        excess: Tensor | None,
    ) -> Tensor:
        hidden, rows = (x.view(len(x), len(gram), -1) for x in (hidden, rows))
        scale, heads = log_scale.exp(), hidden.transpose(0, 1)
        product = pairs.products(hidden, rows)
        gap = torch.addcmul(residual.index_select(0, item), product, scale, value=-1)
        miss = torch.addcmul(weight if excess is None else weight * excess, weight, gap)
        error = torch.addcmul(miss if excess is None else miss * excess, miss, gap)
        error.addcmul_(gap, gap, value=-unobserved)
        # Half of the derivative of all e² by a·h.
        total = total.unsqueeze(1)
        slope = (torch.bmm(heads, gram) * scale).sub_(total)
        quadratic = torch.sub(slope, total).mul_(heads).sum(dim=(0, 2))
        half = miss.sub_(gap, alpha=unobserved)
        ctx.save_for_backward(hidden, rows, gram, residual, scale, slope, half)
        ctx.pairs, ctx.item, ctx.unobserved = pairs, item, unobserved
        found = error.new_zeros(pairs.num_rows).index_add_(0, pairs.row, error.sum(dim=0))
        found.addcmul_(quadratic, scale, value=unobserved)
        return found.add_(residual.dot(residual), alpha=unobserved * len(heads))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, rows, gram, residual, scale, slope, half = ctx.saved_tensors
        grad, pairs, heads = grads[0], ctx.pairs, hidden.transpose(0, 1)
        twice = scale + scale
        # By the errors e of the rows' items, halved, and by the products h · z.
        half = half * grad.index_select(0, pairs.row)
        by_product = half * -twice
        by_scale = grad * twice
        d_hidden = torch.addcmul(
            pairs.head_sums(rows, by_product).transpose(0, 1),
            slope.transpose(0, 1),
            by_scale.view(-1, 1, 1),
            value=ctx.unobserved,
            out=torch.empty_like(hidden),
        )
        d_rows = pairs.turned.head_sums(hidden, by_product.index_select(1, pairs.order))
        weighted = heads * grad.unsqueeze(1)
        d_gram = torch.baddbmm(gram, weighted.mT, heads, beta=0, alpha=ctx.unobserved)
        flat = hidden.view(len(hidden), -1)
        d_total = torch.addmv(flat[0], flat.t(), by_scale, beta=0, alpha=-ctx.unobserved)
        d_residual = torch.zeros_like(residual).index_add_(0, ctx.item, half.sum(dim=0))
        d_residual.addcmul_(residual, grad.sum(), value=ctx.unobserved * len(heads))
        return (
            d_hidden.view(len(hidden), -1),
            d_rows.transpose(0, 1).reshape(len(rows), -1),
            d_gram.mul_(scale * scale),
            d_total.view(len(heads), -1),
            d_residual.add_(d_residual),
            # Scores depend on a·h alone.
            (d_hidden * hidden).sum(),
            *(None,) * 5,
        )
