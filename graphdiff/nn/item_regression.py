"""Regression of each item on the others: Gram matrix, closed-form weights, and scores."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph

#: Largest catalogue for a dense item-item matrix: 3.6 GB in float32, and 14.4 GB to compute it.
MAX_DENSE_ITEMS = 30_000

# Pairs of items counted at a time: 64 MiB of indices.
_PAIRS = 2**22


def check_dense(num_items: int, model: str) -> None:
    """Raise if a catalogue is too large for a dense item-item matrix.

    Args:
        num_items: I.
        model: Name of the model, for the message.

    Raises:
        ConfigError: Above :data:`MAX_DENSE_ITEMS` items, naming the required memory.
    """
    if num_items > MAX_DENSE_ITEMS:
        kept, solving = 4e-9 * num_items**2, 16e-9 * num_items**2
        raise ConfigError(
            f"{model} stores a weight for each pair of items: {num_items:,} items take "
            f"{kept:.1f} GB to store and {solving:.1f} GB to compute; it supports up to "
            f"{MAX_DENSE_ITEMS:,} items. Use ItemKNN, PureSVD or GFCF"
        )


def solving_device(device: torch.device) -> torch.device:
    """Return the device for float64 factorisations: this one if it supports them, else the CPU."""
    return device if device.type in ("cpu", "cuda") else torch.device("cpu")


def gram(graph: RecGraph) -> Tensor:
    """Count the users that two items share, :math:`X^\\top X`.

    Time is proportional to the number of pairs of items in the users' rows.

    Args:
        graph: Training interactions X, ``[U, I]``.

    Returns:
        Float64 ``[I, I]``, on the graph's device, or on the CPU where that lacks float64.

    Example:
        >>> import torch
        >>> gram(RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)).tolist()
        [[1.0, 1.0], [1.0, 2.0]]
    """
    device = solving_device(graph.col.device)
    counts = torch.zeros(graph.num_items, graph.num_items, dtype=torch.float64, device=device)
    degree = graph.user_degree()
    users = torch.arange(graph.num_users, device=degree.device)
    num_chunks = int(degree.square().sum()) // _PAIRS + 1
    # Each interaction of a user is paired with all of that user's.
    for position in torch.arange(graph.num_interactions, device=users.device).chunk(num_chunks):
        own = graph.user_of(position)
        others = graph.rows(own)
        pair = graph.col[position][others.row] * graph.num_items + others.item
        ones = torch.ones_like(pair, dtype=torch.float64, device=device)
        counts.view(-1).index_add_(0, pair.to(device), ones)
    return counts


def zero_diagonal_regression(gram: Tensor, ridge: float) -> Tensor:
    r"""Solve for the item-item weights that predict each item from the others.

    .. math::
        \min_B \lVert X - XB \rVert_F^2 + \lambda \lVert B \rVert_F^2, \quad
        \mathrm{diag}(B) = 0: \qquad
        B_{ij} = -P_{ij} / P_{jj}, \quad P = (X^\top X + \lambda \mathrm{I})^{-1},

    equation 8 of `"Embarrassingly Shallow Autoencoders for Sparse Data"
    <https://arxiv.org/abs/1905.03375>`_.

    Args:
        gram: :math:`X^\top X`, float64 ``[I, I]``; overwritten.
        ridge: λ, above 0.

    Returns:
        B, float64 ``[I, I]``.

    Example:
        >>> import torch
        >>> counts = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
        >>> zero_diagonal_regression(counts, ridge=2.0)
        tensor([[0.0000, 0.2500],
                [0.2500, 0.0000]], dtype=torch.float64)
    """
    gram.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(gram, out=gram)
    precision = torch.cholesky_inverse(factor)
    weight = precision.div_(-precision.diagonal().clone())
    weight.diagonal().zero_()
    return weight


def multiply_rows(
    table: Tensor, row: Tensor, item: Tensor, weight: Tensor, num_rows: int
) -> Tensor:
    """Compute ``x @ table`` for sparse rows x and wide tables.

    Equals :func:`graphdiff.nn.reconstruction.encode_rows`, but allocates no tensor ``[nnz, d]``.

    Args:
        table: ``[I, d]``.
        row: Long ``[nnz]``, ascending.
        item: Long ``[nnz]``.
        weight: ``[nnz]``, the values of the rows.
        num_rows: Number of rows B.

    Returns:
        ``[B, d]``; a row without items is zero.

    Example:
        >>> import torch
        >>> table, weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 0.5])
        >>> multiply_rows(table, torch.tensor([0, 1]), torch.tensor([0, 1]), weight, num_rows=2)
        tensor([[1.0000, 2.0000],
                [1.5000, 2.0000]])
    """
    if item.numel() == 0:
        return table.new_zeros(num_rows, table.size(1))
    length = torch.bincount(row, minlength=num_rows)
    return F.embedding_bag(
        item, table, length.cumsum(0) - length, mode="sum", per_sample_weights=weight
    )


def item_item_scorer(
    rows: Rows, weight: Tensor, entries: Tensor | None = None
) -> Callable[[int, int], Tensor]:
    """Return a function that computes the scores ``x @ weight`` of one block of items.

    Args:
        rows: The history of each user.
        weight: ``[I, I]``, from an item of the history to an item to score.
        entries: The values of the rows, ``[nnz]``; 1 by default.

    Returns:
        A function ``(start, stop)`` that returns ``[B, stop - start]``.

    Example:
        >>> import torch
        >>> rows = Rows(torch.tensor([0, 0]), torch.tensor([0, 2]), num=1)
        >>> item_item_scorer(rows, torch.arange(9.0).view(3, 3))(1, 3)
        tensor([[ 8., 10.]])
    """
    if entries is None:
        entries = torch.ones_like(rows.item, dtype=weight.dtype)
    values = entries.to(weight.dtype)

    def score_block(start: int, stop: int) -> Tensor:
        table = weight[:, start:stop].contiguous()
        return multiply_rows(table, rows.row, rows.item, values, rows.num)

    return score_block
