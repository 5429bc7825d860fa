"""Linear item-item models: the dense Gram matrix, its zero-diagonal regression, and scoring."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph

#: Largest catalogue for a dense item-item matrix: 3.6 GB in float32, and 14.4 GB to find it.
MAX_DENSE_ITEMS = 30_000

# Pairs of items that are counted at a time: 64 MiB of indices.
_PAIRS = 2**22


def check_dense(num_items: int, model: str) -> None:
    """Refuses a catalogue that is too large for a dense item-item matrix.

    Raises:
        ConfigError: Above :data:`MAX_DENSE_ITEMS` items, naming the memory it would take.
    """
    if num_items > MAX_DENSE_ITEMS:
        kept, solving = 4e-9 * num_items**2, 16e-9 * num_items**2
        raise ConfigError(
            f"{model} holds a number for each pair of items: with {num_items:,} items that is "
            f"{kept:.1f} GB to keep and {solving:.1f} GB to find; it goes up to "
            f"{MAX_DENSE_ITEMS:,} items. Take ItemKNN, PureSVD or GFCF"
        )


def solving_device(device: torch.device) -> torch.device:
    """Where double precision and its factorisations are: this device, or else the CPU."""
    return device if device.type in ("cpu", "cuda") else torch.device("cpu")


def gram(graph: RecGraph) -> Tensor:
    """Users that two items share, :math:`X^\\top X`: float64 ``[I, I]``, on the graph's device or
    the CPU. Time is that of the pairs of items in the users' rows."""
    device = solving_device(graph.col.device)
    counts = torch.zeros(graph.num_items, graph.num_items, dtype=torch.float64, device=device)
    degree = graph.user_degree()
    users = torch.arange(graph.num_users, device=degree.device)
    num_chunks = int(degree.square().sum()) // _PAIRS + 1
    # Each interaction of a user meets all of them.
    for position in torch.arange(graph.num_interactions, device=users.device).chunk(num_chunks):
        own = graph.user_of(position)
        met = graph.rows(own)
        pair = graph.col[position][met.row] * graph.num_items + met.item
        ones = torch.ones_like(pair, dtype=torch.float64, device=device)
        counts.view(-1).index_add_(0, pair.to(device), ones)
    return counts


def zero_diagonal_regression(gram: Tensor, ridge: float) -> Tensor:
    r"""The item-item weights that explain each item by the others.

    .. math::
        \min_B \lVert X - XB \rVert_F^2 + \lambda \lVert B \rVert_F^2, \quad
        \mathrm{diag}(B) = 0: \qquad
        B_{ij} = -P_{ij} / P_{jj}, \quad P = (X^\top X + \lambda \mathrm{I})^{-1},

    equation 8 of `"Embarrassingly Shallow Autoencoders for Sparse Data"
    <https://arxiv.org/abs/1905.03375>`_.

    Args:
        gram: :math:`X^\top X`, float64 ``[I, I]``; it is overwritten.
        ridge: λ, above 0.

    Returns:
        B, float64 ``[I, I]``.
    """
    gram.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(gram, out=gram)
    precision = torch.cholesky_inverse(factor)
    weight = precision.div_(-precision.diagonal().clone())
    weight.diagonal().zero_()
    return weight


def sum_rows(table: Tensor, row: Tensor, item: Tensor, weight: Tensor, num_rows: int) -> Tensor:
    """``x @ table`` for sparse rows x, as :func:`graphdiff.nn.reconstruction.encode_rows`, for wide
    tables: nothing of size ``[nnz, d]`` is made.

    Args:
        table: ``[I, d]``.
        row: Long ``[nnz]``, ascending.
        item: Long ``[nnz]``.
        weight: ``[nnz]``, the rows' values.
        num_rows: Number of rows B.

    Returns:
        ``[B, d]``; a row without items is zero.
    """
    if item.numel() == 0:
        return table.new_zeros(num_rows, table.size(1))
    length = torch.bincount(row, minlength=num_rows)
    return F.embedding_bag(
        item, table, length.cumsum(0) - length, mode="sum", per_sample_weights=weight
    )


def item_item_scorer(rows: Rows, weight: Tensor) -> Callable[[int, int], Tensor]:
    """Scores ``x @ weight`` of rows of ones, a block of items at a time.

    Args:
        rows: The items of each person.
        weight: ``[I, I]``, from an item of the person's to an item to score.

    Returns:
        A function ``(start, stop)`` that gives ``[B, stop - start]``.
    """
    ones = torch.ones_like(rows.item, dtype=weight.dtype)

    def score_block(start: int, stop: int) -> Tensor:
        table = weight[:, start:stop].contiguous()
        return sum_rows(table, rows.row, rows.item, ones, rows.num)

    return score_block
