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
from graphdiff.nn.heads import split_heads

# Ridges tried in turn until a Gram matrix has a Cholesky factor, as shares of the mean squared
# column norm. With a share of 1 every finite matrix has one.
RIDGES = tuple(10.0**n for n in range(-6, 1))


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


def sum_items(table: Tensor, rows: Rows) -> Tensor:
    """Sum the table's vectors over the items of each row, ``[B, d]``; an empty row is zero.

    For inference: no tensor ``[nnz, d]`` is allocated, which is several times faster than gathering
    and adding. Not meant for gradients into the table.

    Example:
        >>> import torch
        >>> from graphdiff.graph import Rows
        >>> rows = Rows(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1]), num=3)
        >>> sum_items(torch.tensor([[1.0], [3.0]]), rows).flatten()
        tensor([4., 0., 3.])
    """
    return F.embedding_bag(rows.item, table, rows.starts(), mode="sum")


class ItemTableSums(NamedTuple):
    """Sums over all items that a training step needs, from one pass over the item table.

    With the columns of one head's part of the item table Z, an item bias β and a prior π side by
    side, these are the inner products of all pairs of columns.

    Attributes:
        rows: ``[n, H * d]``, the requested rows of Z.
        gram: :math:`Z^\\top Z` of each head, ``[H, d, d]``.
        bias: :math:`Z^\\top \\beta`, ``[H, d]``.
        prior: :math:`Z^\\top \\pi`, ``[H, d]``.
    """

    rows: Tensor
    gram: Tensor
    bias: Tensor
    prior: Tensor


#: Table entries per piece: on a CPU few enough to stay in its cache, elsewhere many, because every
#: piece launches several kernels.
PIECE = {"cpu": 2**20, "other": 2**24}


def sum_item_table(
    table: Tensor, shift: Tensor, bias: Tensor, prior: Tensor, index: Tensor, num_heads: int
) -> ItemTableSums:
    r"""Compute everything that a training step needs of an item table :math:`Z = E + \Delta` in one
    pass, in :math:`O(I H d^2)`.

    Z itself is never stored, and all gradients into E are computed together, piece by piece: with a
    million items there is memory for one dense gradient, and no time to add up several.

    Args:
        table: E, ``[I, H * d]``.
        shift: Δ, ``[I, H * d]``; no gradient flows into it.
        bias: β, ``[I]``.
        prior: π, ``[I]``; no gradient flows into it.
        index: Long ``[n]``, items whose rows the step needs; repeats are allowed.
        num_heads: H. Products between columns of different heads are not computed.

    Example:
        >>> import torch
        >>> table, zero = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 2)
        >>> bias, prior = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> sums = sum_item_table(table, zero, bias, prior, torch.tensor([1]), num_heads=1)
        >>> sums.rows.tolist(), sums.gram.tolist()
        ([[3.0, 4.0]], [[[10.0, 14.0], [14.0, 20.0]]])
        >>> sums.bias.tolist(), sums.prior.tolist()
        ([[1.0, 2.0]], [[3.0, 4.0]])
    """
    return ItemTableSums(*_SumItemTable.apply(table, shift, bias, prior, index, num_heads))


class _SumItemTable(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        shift: Tensor,
        bias: Tensor,
        prior: Tensor,
        index: Tensor,
        num_heads: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ctx.save_for_backward(table, shift, bias, prior, index)
        ctx.num_heads = num_heads
        d = table.size(1) // num_heads
        gram, sums = table.new_zeros(num_heads, d, d), table.new_zeros(2, table.size(1))
        for _, piece, side in _pieces(table, shift, bias, prior):
            heads = split_heads(piece, num_heads)
            gram.baddbmm_(heads.mT, heads)
            sums.addmm_(side, piece)
        rows = table.index_select(0, index) + shift.index_select(0, index)
        bias_sum, prior_sum = sums.view(2, num_heads, d)
        return rows, gram, bias_sum.clone(), prior_sum.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        table, shift, bias, prior, index = ctx.saved_tensors
        d_rows, d_gram, d_bias, d_prior = grads
        weight, d_sums = d_gram + d_gram.mT, torch.stack([d_bias.flatten(), d_prior.flatten()])
        d_table, d_beta = torch.empty_like(table), torch.empty_like(bias)
        for part, piece, side in _pieces(table, shift, bias, prior):
            to_heads = split_heads(d_table[part], ctx.num_heads)
            torch.bmm(split_heads(piece, ctx.num_heads), weight, out=to_heads)
            d_table[part].addmm_(side.t(), d_sums)
            torch.mv(piece, d_sums[0], out=d_beta[part])
        d_table.index_add_(0, index, d_rows)
        return d_table, None, d_beta, None, None, None


def _pieces(
    table: Tensor, shift: Tensor, bias: Tensor, prior: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield Z piece by piece, in one buffer, with β and π of the same items, ``[2, n]``."""
    num, width = table.shape
    size = max(PIECE.get(table.device.type, PIECE["other"]) // width, 1)
    buffer = table.new_empty(min(size, num), width)
    for start in range(0, num, size):
        part = slice(start, min(start + size, num))
        piece = torch.add(table[part], shift[part], out=buffer[: part.stop - start])
        yield part, piece, torch.stack([bias[part], prior[part]])


def noise_factor(gram: Tensor) -> Tensor:
    r"""Return a matrix L with :math:`L L^\top = Z^\top Z`: encoded white noise is ``xi @ L.T``.

    With :math:`\epsilon \sim \mathcal{N}(0, 1_I)`, :math:`\epsilon Z \sim
    \mathcal{N}(0, Z^\top Z)`, the distribution of :math:`\xi L^\top` with
    :math:`\xi \sim \mathcal{N}(0, 1_d)`. Gradients flow into the Gram matrix.

    Args:
        gram: :math:`Z^\top Z`, ``[*, d, d]``; the further dimensions are heads.

    Returns:
        ``[*, d, d]``, lower triangular, in float32 at least. The diagonal is raised by a ridge of
        1e-6 of the mean squared column norm, for tables of rank below d; where rounding needs more,
        the ridge grows tenfold until it suffices. A table that is not finite gives NaN.

    Example:
        >>> import torch
        >>> factor = noise_factor(torch.tensor([[4.0, 2.0], [2.0, 3.0]]))
        >>> torch.allclose(factor @ factor.T, torch.tensor([[4.0, 2.0], [2.0, 3.0]]), atol=1e-4)
        True
    """
    # Autocast would compute products in 16 bits, too few for a factor.
    with torch.autocast(gram.device.type, enabled=False):
        gram = gram.float() if gram.element_size() < 4 else gram
        # Scaled to about 1, the smallest ridge and the factor stay within the range of floats.
        scale = gram.detach().diagonal(dim1=-2, dim2=-1).max()
        scale = torch.where(scale > 0, scale, 1.0)
        gram = gram / scale
        eye = torch.eye(gram.size(-1), dtype=gram.dtype, device=gram.device)
        mean, tiny = gram.diagonal(dim1=-2, dim2=-1).mean(), torch.finfo(gram.dtype).tiny
        for share in RIDGES:
            factor, failed = torch.linalg.cholesky_ex(gram + (share * mean + tiny) * eye)
            if not failed.any():
                return factor * scale.sqrt()
        return gram * torch.nan


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
