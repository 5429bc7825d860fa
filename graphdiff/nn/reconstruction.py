r"""Reconstruction of interaction rows over the whole catalogue, without a dense row.

The first layer of the encoder and the last of the decoder are linear, so everything that seems to
need a tensor ``[B, I]`` follows from the items *in* the rows and from d x d matrices computed once
per step:

- encoding is a sum over the row's items;
- Gaussian noise on a row, encoded, is Gaussian in d dimensions with covariance :math:`Z^\top Z`;
- a weighted squared error over all items is a quadratic form plus terms on the row's items.

Nothing is sampled or approximated. This is the project's own design; the paper trains on dense
rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.rows import Rows


def encode_rows(table: Tensor, row: Tensor, item: Tensor, weight: Tensor, num_rows: int) -> Tensor:
    """Compute ``x @ table`` for sparse rows x.

    Args:
        table: ``[I, d]``.
        row: Long ``[nnz]``, sorted or not.
        item: Long ``[nnz]``.
        weight: ``[nnz]``, the values of the rows.
        num_rows: Number of rows B.

    Returns:
        ``[B, d]``; a row without items is zero.

    Example:
        >>> import torch
        >>> table = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> row, item = torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1])
        >>> encode_rows(table, row, item, torch.tensor([1.0, 1.0, 0.5]), num_rows=3)
        tensor([[4.0000, 6.0000],
                [0.0000, 0.0000],
                [1.5000, 2.0000]])
    """
    # The gradient of index_select is several times faster than that of table[item].
    return sum_rows(table.index_select(0, item) * weight.unsqueeze(-1), row, num_rows)


def sum_rows(values: Tensor, row: Tensor, num_rows: int) -> Tensor:
    """Sum the vectors of each row: ``values`` ``[nnz, d]`` and ``row`` long ``[nnz]`` to
    ``[num_rows, d]``.

    Example:
        >>> import torch
        >>> sum_rows(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 0, 1]), num_rows=2)
        tensor([[3.],
                [4.]])
    """
    return values.new_zeros(num_rows, values.size(1)).index_add(0, row, values)


def sum_items(table: Tensor, rows: Rows, weight: Tensor | None = None) -> Tensor:
    """Sum the table's vectors over the items of each row, ``[B, d]``, times ``weight``, ``[nnz]``,
    where it is given; an empty row is zero.

    For inference: no tensor ``[nnz, d]`` is allocated, which is several times faster than gathering
    and adding. Not meant for gradients into the table.

    Example:
        >>> import torch
        >>> from graphdiff.graph import Rows
        >>> rows = Rows(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1]), num=3)
        >>> sum_items(torch.tensor([[1.0], [3.0]]), rows).flatten()
        tensor([4., 0., 3.])
    """
    weight = None if weight is None else weight.to(table.dtype)
    starts = rows.starts()
    return F.embedding_bag(rows.item, table, starts, mode="sum", per_sample_weights=weight)


class ItemTableSums(NamedTuple):
    """Sums over all items that a training step needs, from one pass over the item table Z.

    Attributes:
        rows: ``[n, H * d]``, the requested rows of Z.
        gram: :math:`Z^\\top Z` of each head, ``[H, d, d]``.
        residual: :math:`Z^\\top \\rho` of the items' residuals ρ, ``[H, d]``.
    """

    rows: Tensor
    gram: Tensor
    residual: Tensor


#: Table entries per piece: on a CPU few enough to stay in its cache, elsewhere many, because every
#: piece launches several kernels.
PIECE = {"cpu": 2**20, "other": 2**24}


def sum_item_table(
    table: Tensor,
    shift: Tensor | None,
    residual: Tensor,
    index: Tensor | None,
    num_heads: int,
    once: bool = False,
) -> ItemTableSums:
    r"""Compute everything that a training step needs of an item table :math:`Z = E + \Delta` in one
    pass, in :math:`O(I H d^2)`.

    Z itself is never stored, and all gradients into E are computed together, piece by piece: with a
    million items there is memory for one dense gradient, and no time to add up several.

    Args:
        table: E, ``[I, H * d]``.
        shift: Δ, ``[I, H * d]``, or None for zero; no gradient flows into it.
        residual: ρ, what is left of each item's target besides its score, ``[I]``.
        index: Long ``[n]``, items whose rows the step needs; repeats are allowed. None for all.
        num_heads: H. Products between columns of different heads are not computed.
        once: The table is used here alone, so that where there is a shift its memory becomes that
            of its gradient.

    Example:
        >>> import torch
        >>> table, residual = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 0.0])
        >>> sums = sum_item_table(table, None, residual, torch.tensor([1]), num_heads=1)
        >>> sums.rows.tolist(), sums.gram.tolist(), sums.residual.tolist()
        ([[3.0, 4.0]], [[[10.0, 14.0], [14.0, 20.0]]], [[1.0, 2.0]])
    """
    return ItemTableSums(*_SumItemTable.apply(table, shift, residual, index, num_heads, once))


class _SumItemTable(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        shift: Tensor | None,
        residual: Tensor,
        index: Tensor | None,
        num_heads: int,
        once: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.num_heads, ctx.size = num_heads, _piece_size(table)
        if index is None or len(table) <= ctx.size:
            table, shift = table.view(table.shape) if shift is None else table + shift, None
        ctx.once = once and shift is not None
        ctx.save_for_backward(table, shift, residual, index)
        gram = total = None
        for part, piece in _pieces(table, shift, ctx.size):
            heads, own = _by_head(piece, num_heads), _cut(residual, part)
            if gram is None or total is None:
                gram, total = torch.bmm(heads.mT, heads), torch.mv(piece.t(), own)
            else:
                gram.baddbmm_(heads.mT, heads)
                total.addmv_(piece.t(), own)
        assert gram is not None
        assert total is not None
        if index is None:
            rows = table
        else:
            rows = table.index_select(0, index)
            if shift is not None:
                rows.add_(shift.index_select(0, index))
        return rows, gram, total.view(num_heads, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        table, shift, residual, index = ctx.saved_tensors
        d_rows, d_gram, d_total = grads
        weight = d_gram + d_gram.mT
        d_table = table.detach() if ctx.once else torch.empty_like(table)
        d_residual = torch.empty_like(residual)
        for part, piece in _pieces(table, shift, ctx.size):
            # One operation adds the outer product and puts the heads side by side.
            torch.addcmul(
                torch.bmm(_by_head(piece, ctx.num_heads), weight).transpose(0, 1),
                _cut(residual, part).view(-1, 1, 1),
                d_total,
                out=_cut(d_table, part).view(len(piece), *d_total.shape),
            )
            torch.mv(piece, d_total.view(-1), out=_cut(d_residual, part))
        if index is None:
            d_table.add_(d_rows)
        else:
            d_table.index_add_(0, index, d_rows)
        return d_table, None, d_residual, None, None, None


def _piece_size(table: Tensor) -> int:
    """Return the items per piece."""
    return max(PIECE.get(table.device.type, PIECE["other"]) // max(table.size(1), 1), 1)


def _pieces(
    table: Tensor, shift: Tensor | None, size: int
) -> Iterator[tuple[slice | None, Tensor]]:
    """Yield Z piece by piece, in one buffer; the slice is None where there is one piece."""
    num = len(table)
    if num <= size and shift is None:
        yield None, table
        return
    buffer = None if shift is None else table.new_empty(min(size, num), table.size(1))
    for start in range(0, num, size):
        part = slice(start, min(start + size, num))
        piece = table[part]
        if shift is not None and buffer is not None:
            piece = torch.add(piece, shift[part], out=buffer[: len(piece)])
        yield part, piece


def _cut(x: Tensor, part: slice | None) -> Tensor:
    return x if part is None else x[part]


def _by_head(piece: Tensor, num_heads: int) -> Tensor:
    """View ``[n, H * d]`` as ``[H, n, d]``."""
    return piece.view(len(piece), num_heads, -1).transpose(0, 1)


def reconstruction_error(
    hidden: Tensor,
    everywhere: Quadratic,
    row: Tensor,
    score: Tensor,
    target: Tensor,
    weight: Tensor,
    prior: Tensor,
) -> Tensor:
    r"""Compute the exact weighted squared error of each row over the whole catalogue.

    .. math::
        \sum_{i \in N_u} w_{ui} (y_{ui} - \hat{y}_{ui})^2
        + \alpha_0 \sum_{i \notin N_u} (s_i - \hat{y}_{ui})^2, \qquad
        \hat{y}_{ui} = \mathbf{h}_u \cdot \mathbf{v}_i + b_i,

    in :math:`O(B d^2 + nnz\, d)`.

    Args:
        hidden: h, ``[*, B, d]``; the further dimensions are heads.
        everywhere: :math:`\alpha_0 \sum_i (s_i - \hat{y}_{ui})^2` as a function of h.
        row: Long ``[nnz]``.
        score: :math:`\hat{y}_{ui}` of the items :math:`N_u` of each row, without repeats,
            ``[*, nnz]``.
        target: y, ``[nnz]``.
        weight: w, ``[nnz]``.
        prior: s of these items, ``[nnz]``.

    Returns:
        ``[*, B]``.

    Example:
        >>> import torch
        >>> table = torch.eye(3)  # Three items, without bias and prior: the score is h itself.
        >>> hidden, one = torch.tensor([[1.0, 0.5, 0.0]]), torch.ones(1)
        >>> everywhere = Quadratic(0.1, table.T @ table, torch.zeros(3), torch.tensor(0.0))
        >>> row, score = torch.tensor([0]), torch.tensor([1.0])  # The history is item 0.
        >>> reconstruction_error(hidden, everywhere, row, score, one, one, torch.zeros(1))
        tensor([0.0250])
    """
    unobserved = everywhere.weight * (prior - score).square()
    return everywhere(hidden).index_add(-1, row, weight * (target - score).square() - unobserved)


class Quadratic(NamedTuple):
    r"""A quadratic function of vectors, :math:`\alpha_0 (\mathbf{h} A \mathbf{h}^\top -
    2\,\mathbf{l} \cdot \mathbf{h} + c)`.

    Attributes:
        weight: :math:`\alpha_0`.
        matrix: A, ``[*, d, d]``.
        linear: l, ``[*, d]``.
        constant: c, a scalar.

    Example:
        >>> import torch
        >>> f = Quadratic(0.5, torch.eye(2), torch.tensor([1.0, 0.0]), torch.tensor(1.0))
        >>> f(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        tensor([0.0000, 2.5000])
    """

    weight: float
    matrix: Tensor
    linear: Tensor
    constant: Tensor

    def __call__(self, hidden: Tensor) -> Tensor:
        """Evaluate at vectors ``[*, B, d]``: ``[*, B]``."""
        linear = 2 * self.linear.unsqueeze(-2)
        quadratic = ((hidden @ self.matrix - linear) * hidden).sum(dim=-1)
        return self.weight * (quadratic + self.constant)
