r"""Reconstruction of interaction rows over the whole catalogue, without ever making a row.

Encoder and decoder are linear at the outside, so everything that looks as if it needed a tensor
``[B, I]`` can be had from what the rows *contain* and from d x d matrices made once per step:

- encoding is a sum over the row's items;
- Gaussian noise on a row, encoded, is Gaussian in d dimensions with covariance :math:`Z^\top Z`;
- a weighted squared error over all items is a quadratic form plus terms on the row's items.

Nothing is sampled or approximated. This is the project's own design; the paper trains on rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.nn.heads import split_heads

# Shares of the mean squared column norm that a Gram matrix's diagonal is raised by, until it has a
# Cholesky factor. With a share of 1 every finite one has.
RIDGES = tuple(10.0**n for n in range(-6, 1))


def encode_rows(table: Tensor, row: Tensor, item: Tensor, weight: Tensor, num_rows: int) -> Tensor:
    """``x @ table`` for sparse rows x.

    Args:
        table: ``[I, d]``.
        row: Long ``[nnz]``, sorted or not.
        item: Long ``[nnz]``.
        weight: ``[nnz]``, the rows' values.
        num_rows: Number of rows B.

    Returns:
        ``[B, d]``; a row without items is zero.
    """
    # The gradient of index_select is several times faster than that of table[item].
    return sum_rows(table.index_select(0, item) * weight.unsqueeze(-1), row, num_rows)


def sum_rows(read: Tensor, row: Tensor, num_rows: int) -> Tensor:
    """Sums of what stands in each row: ``read`` ``[nnz, d]`` and ``row`` long ``[nnz]`` to
    ``[num_rows, d]``."""
    return read.new_zeros(num_rows, read.size(1)).index_add(0, row, read)


def sum_items(table: Tensor, rows: Rows) -> Tensor:
    """Sums of the table's rows over the items of each person, ``[B, d]``; a row without items is
    zero.

    For answering: nothing of size ``[nnz, d]`` is made, which is several times faster than
    gathering and adding. No gradient is meant to flow into the table.
    """
    return F.embedding_bag(rows.item, table, rows.starts(), mode="sum")


class Catalogue(NamedTuple):
    """What a training step needs to know of all items together: one pass over the tables.

    With the columns of a head's part of the item table Z, of an item bias β and of a prior π side
    by side, these are the inner products of all pairs of columns.

    Attributes:
        rows: ``[n, H * d]``, the rows of Z that were asked for.
        gram: :math:`Z^\\top Z` of each head, ``[H, d, d]``.
        bias: :math:`Z^\\top \\beta`, ``[H, d]``.
        prior: :math:`Z^\\top \\pi`, ``[H, d]``.
    """

    rows: Tensor
    gram: Tensor
    bias: Tensor
    prior: Tensor


#: Numbers of the table read at a time: on a processor few enough to stay in its cache, elsewhere
#: many, as each piece costs a round of kernels.
PIECE = {"cpu": 2**20, "other": 2**24}


def read_catalogue(
    table: Tensor, shift: Tensor, bias: Tensor, prior: Tensor, index: Tensor, num_heads: int
) -> Catalogue:
    r"""Reads an item table :math:`Z = E + \Delta` once, in :math:`O(I H d^2)`, for everything that
    a training step does with it.

    Z itself is never stored, and all gradients into E are made together, piece by piece: a
    catalogue of a million items has room for one dense gradient, and no time for adding up several.

    Args:
        table: E, ``[I, H * d]``.
        shift: Δ, ``[I, H * d]``; no gradient flows into it.
        bias: β, ``[I]``.
        prior: π, ``[I]``; no gradient flows into it.
        index: Long ``[n]``, items whose rows the step looks at; repeats are fine.
        num_heads: H. What the columns of different heads have to do with each other is not made.
    """
    return Catalogue(*_ReadCatalogue.apply(table, shift, bias, prior, index, num_heads))


class _ReadCatalogue(torch.autograd.Function):
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
        gram, told = table.new_zeros(num_heads, d, d), table.new_zeros(2, table.size(1))
        for _, piece, side in _pieces(table, shift, bias, prior):
            heads = split_heads(piece, num_heads)
            gram.baddbmm_(heads.mT, heads)
            told.addmm_(side, piece)
        rows = table.index_select(0, index) + shift.index_select(0, index)
        of_bias, of_prior = told.view(2, num_heads, d)
        return rows, gram, of_bias.clone(), of_prior.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        table, shift, bias, prior, index = ctx.saved_tensors
        d_rows, d_gram, d_bias, d_prior = grads
        weight, told = d_gram + d_gram.mT, torch.stack([d_bias.flatten(), d_prior.flatten()])
        d_table, d_beta = torch.empty_like(table), torch.empty_like(bias)
        for part, piece, side in _pieces(table, shift, bias, prior):
            to_heads = split_heads(d_table[part], ctx.num_heads)
            torch.bmm(split_heads(piece, ctx.num_heads), weight, out=to_heads)
            d_table[part].addmm_(side.t(), told)
            torch.mv(piece, told[0], out=d_beta[part])
        d_table.index_add_(0, index, d_rows)
        return d_table, None, d_beta, None, None, None


def _pieces(
    table: Tensor, shift: Tensor, bias: Tensor, prior: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Z piece by piece, in one buffer, and of the same items β and π, ``[2, n]``."""
    num, width = table.shape
    size = max(PIECE.get(table.device.type, PIECE["other"]) // width, 1)
    buffer = table.new_empty(min(size, num), width)
    for start in range(0, num, size):
        part = slice(start, min(start + size, num))
        piece = torch.add(table[part], shift[part], out=buffer[: part.stop - start])
        yield part, piece, torch.stack([bias[part], prior[part]])


def noise_factor(gram: Tensor) -> Tensor:
    r"""A matrix L with :math:`L L^\top = Z^\top Z`: encoded white noise is ``xi @ L.T``.

    With :math:`\epsilon \sim \mathcal{N}(0, 1_I)`, :math:`\epsilon Z \sim
    \mathcal{N}(0, Z^\top Z)`, the law of :math:`\xi L^\top` with
    :math:`\xi \sim \mathcal{N}(0, 1_d)`. Gradients flow into the Gram matrix.

    Args:
        gram: :math:`Z^\top Z`, ``[*, d, d]``; the further dimensions are heads.

    Returns:
        ``[*, d, d]``, lower triangular, in float32 at least. A table of rank below d is met with a
        ridge of 1e-6 of the mean squared column norm; where rounding asks for more, the ridge
        grows tenfold until it is enough. A table that is not finite gives NaN.
    """
    # Mixed precision would take products in 16 bits, too few for a factor.
    with torch.autocast(gram.device.type, enabled=False):
        gram = gram.float() if gram.element_size() < 4 else gram
        # Near 1 the ridge's smallest part and the factor stay within the range of floats.
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
    r"""Weighted squared error of each row over the whole catalogue, exactly.

    .. math::
        \sum_{i \in N_u} w_{ui} (y_{ui} - \hat{y}_{ui})^2
        + \alpha_0 \sum_{i \notin N_u} (s_i - \hat{y}_{ui})^2, \qquad
        \hat{y}_{ui} = \mathbf{h}_u \cdot \mathbf{v}_i + b_i,

    in :math:`O(B d^2 + nnz\, d)`.

    Args:
        hidden: h, ``[*, B, d]``; the further dimensions are heads.
        everywhere: :math:`\sum_i (s_i - \hat{y}_{ui})^2` as a function of h.
        row: Long ``[nnz]``.
        score: :math:`\hat{y}_{ui}` of the items :math:`N_u` of each row, without repeats,
            ``[*, nnz]``.
        target: y, ``[nnz]``.
        weight: w, ``[nnz]``.
        prior: s of these items, ``[nnz]``.

    Returns:
        ``[*, B]``.
    """
    unobserved = everywhere.weight * (prior - score).square()
    return everywhere(hidden).index_add(-1, row, weight * (target - score).square() - unobserved)


class Quadratic(NamedTuple):
    r"""A quadratic function of rows, :math:`\alpha_0 (\mathbf{h} A \mathbf{h}^\top -
    2\,\mathbf{l} \cdot \mathbf{h} + c)`.

    Attributes:
        weight: :math:`\alpha_0`.
        matrix: A, ``[*, d, d]``.
        linear: l, ``[*, d]``.
        constant: c, a scalar.
    """

    weight: float
    matrix: Tensor
    linear: Tensor
    constant: Tensor

    def __call__(self, hidden: Tensor) -> Tensor:
        """``[*, B, d]`` to ``[*, B]``."""
        linear = 2 * self.linear.unsqueeze(-2)
        quadratic = ((hidden @ self.matrix - linear) * hidden).sum(dim=-1)
        return self.weight * (quadratic + self.constant)
