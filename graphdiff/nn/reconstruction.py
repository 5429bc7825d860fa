r"""Reconstruction of interaction rows over the whole catalogue, without ever making a row.

Encoder and decoder are linear at the outside, so everything that looks as if it needed a tensor
``[B, I]`` can be had from what the rows *contain* and from d x d matrices made once per step:

- encoding is a sum over the row's items;
- Gaussian noise on a row, encoded, is Gaussian in d dimensions with covariance :math:`Z^\top Z`;
- a weighted squared error over all items is a quadratic form plus terms on the row's items.

Nothing is sampled or approximated. This is the project's own design; the paper trains on rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

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
    out = table.new_zeros(num_rows, table.size(1))
    return out.index_add(0, row, table[item] * weight.unsqueeze(-1))


def noise_factor(table: Tensor) -> Tensor:
    r"""A matrix L with :math:`L L^\top = Z^\top Z`: encoded white noise is ``xi @ L.T``.

    With :math:`\epsilon \sim \mathcal{N}(0, 1_I)`, :math:`\epsilon Z \sim
    \mathcal{N}(0, Z^\top Z)`, the law of :math:`\xi L^\top` with
    :math:`\xi \sim \mathcal{N}(0, 1_d)`. Gradients flow into ``table``.

    Args:
        table: Z, ``[I, d]``.

    Returns:
        ``[d, d]``, lower triangular, in float32 at least. A table of rank below d is met with a
        ridge of 1e-6 of the mean squared column norm; where rounding asks for more, the ridge
        grows tenfold until it is enough. A table that is not finite gives NaN.
    """
    # Mixed precision would take the product in 16 bits, too few for a factor.
    with torch.autocast(table.device.type, enabled=False):
        return _cholesky_of_gram(table.float() if table.element_size() < 4 else table)


def _cholesky_of_gram(table: Tensor) -> Tensor:
    scale = table.detach().abs().max()
    # Squares of what is far from 1 would leave the range of floats.
    near = (scale == 0) | ((scale > 1e-6) & (scale < 1e6))
    scale = torch.where(near, 1.0, scale)
    table = table / scale
    gram = table.t() @ table
    eye = torch.eye(gram.size(0), dtype=gram.dtype, device=gram.device)
    mean, tiny = gram.diagonal().mean(), torch.finfo(gram.dtype).tiny
    for share in RIDGES:
        factor, failed = torch.linalg.cholesky_ex(gram + (share * mean + tiny) * eye)
        if not failed:
            return factor * scale
    return gram * torch.nan


class Catalogue(NamedTuple):
    """What the loss needs to know of all items together; made once per step.

    Attributes:
        table: ``[I, d + 1]``, decoder table with the bias as last column.
        alpha: ``[I]``, weight of an item where it is not observed.
        prior: ``[I]``, soft target of an item where it is not observed.
        gram: ``[d + 1, d + 1]``.
        linear: ``[d + 1]``.
        constant: Scalar.
    """

    table: Tensor
    alpha: Tensor
    prior: Tensor
    gram: Tensor
    linear: Tensor
    constant: Tensor


def catalogue(table: Tensor, bias: Tensor, alpha: Tensor, prior: Tensor) -> Catalogue:
    """Prepares :func:`reconstruction_error`.

    Args:
        table: V, ``[I, d]``.
        bias: ``[I]``.
        alpha: ``[I]``, non-negative.
        prior: ``[I]``.
    """
    table = torch.cat([table, bias.unsqueeze(-1)], dim=-1)
    weighted = table * alpha.unsqueeze(-1)
    return Catalogue(
        table,
        alpha,
        prior,
        gram=weighted.t() @ table,
        linear=weighted.t() @ prior,
        constant=(alpha * prior.square()).sum(),
    )


def reconstruction_error(
    hidden: Tensor, items: Catalogue, row: Tensor, item: Tensor, target: Tensor, weight: Tensor
) -> Tensor:
    r"""Weighted squared error of each row over the whole catalogue, exactly.

    .. math::
        \sum_{i \in N_u} w_{ui} (y_{ui} - \hat{y}_{ui})^2
        + \sum_{i \notin N_u} \alpha_i (s_i - \hat{y}_{ui})^2, \qquad
        \hat{y}_{ui} = \mathbf{h}_u \cdot \mathbf{v}_i + b_i,

    in :math:`O(B d^2 + nnz\, d)` once :func:`catalogue` is made in :math:`O(I d^2)`.

    Args:
        hidden: h, ``[B, d]``.
        items: The catalogue, with V, b, α and s.
        row: Long ``[nnz]``.
        item: Long ``[nnz]``, the items :math:`N_u` of each row, without repeats.
        target: y, ``[nnz]``.
        weight: w, ``[nnz]``.

    Returns:
        ``[B]``.
    """
    hidden = torch.cat([hidden, hidden.new_ones(hidden.size(0), 1)], dim=-1)
    everywhere = ((hidden @ items.gram - 2 * items.linear) * hidden).sum(dim=-1) + items.constant
    score = (hidden[row] * items.table[item]).sum(dim=-1)
    observed = weight * (target - score).square()
    unobserved = items.alpha[item] * (items.prior[item] - score).square()
    return everywhere.index_add(0, row, observed - unobserved)
