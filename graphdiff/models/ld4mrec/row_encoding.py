"""Encoding of scaled rows by item tables."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.nn.reconstruction import sum_items, sum_rows

#: ν: the entries of a scaled row of n items are 1/n^ν.
ROW_EXPONENT = 0.5


def row_scale(rows: Rows, dtype: torch.dtype = torch.float32) -> Tensor:
    r"""Return the entries of scaled rows, :math:`1 / \sqrt{|N_u|}`, ``[B]``.

    Example:
        >>> rows = Rows(torch.tensor([0, 0, 0, 0]), torch.tensor([1, 2, 3, 4]), num=2)
        >>> row_scale(rows)
        tensor([0.5000, 1.0000])
    """
    return rows.degree().clamp(min=1).to(dtype).pow(-ROW_EXPONENT)


def encode_entries(entries: Tensor, rows: Rows) -> Tensor:
    """Return scaled rows times a table, with a gradient.

    Args:
        entries: The table's rows of the items in ``rows``, ``[nnz, d]``.
        rows: B rows.

    Returns:
        ``[B, d]``; an empty row gives zero.
    """
    scale = row_scale(rows, entries.dtype).unsqueeze(-1)
    return scale * sum_rows(entries, rows.row, rows.num)


class Entries(NamedTuple):
    """The entries of scaled rows of which a part is hidden.

    Attributes:
        value: :math:`1 / \\sqrt{|N_u|}` of the items that are seen, 0 of the others, ``[nnz]``.
        seen: Number of seen items of each row, ``[B]``.
    """

    value: Tensor
    seen: Tensor


def scaled_entries(seen: Tensor, row: Tensor, num_rows: int) -> Entries:
    """Return the entries of scaled rows with the items that are seen.

    Args:
        seen: 1 for items that are seen, 0 for others, float ``[nnz]``.
        row: Their rows, long ``[nnz]``.
        num_rows: B.

    Example:
        >>> scaled_entries(torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 0, 1]), 2).value
        tensor([0.7071, 0.0000, 0.7071, 1.0000])
    """
    count = torch.zeros(num_rows, dtype=seen.dtype, device=seen.device).index_add_(0, row, seen)
    scale = count.clamp(min=1).rsqrt_()
    return Entries(seen * scale.index_select(0, row), count)


def encode_scaled_rows(table: Tensor, rows: Rows, weight: Tensor | None = None) -> Tensor:
    """Return scaled rows times a table, for inference.

    Args:
        table: ``[I, d]``; no gradient flows into it.
        rows: B rows.
        weight: Weights of their items, ``[nnz]``; 1 by default.

    Returns:
        ``[B, d]``; an empty row gives zero.

    Example:
        >>> table = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
        >>> encode_scaled_rows(table, Rows(torch.tensor([0, 0]), torch.tensor([0, 1]), num=1))
        tensor([[0.7071, 1.4142]])
    """
    return row_scale(rows, table.dtype).unsqueeze(-1) * sum_items(table, rows, weight)
