"""Encoding of scaled rows by item tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.nn.pairs import Pairs, sum_pairs
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


def encode_tables(tables: Sequence[Tensor], rows: Rows) -> Tensor:
    """Return scaled rows times several tables side by side, with gradients.

    Args:
        tables: M tables ``[I, d]``.
        rows: B rows.

    Returns:
        ``[B, M * d]``; an empty row gives zero.
    """
    pairs = Pairs(rows.row, rows.item, rows.num, tables[0].size(0))
    sums = torch.cat([sum_pairs(table, pairs) for table in tables], dim=1)
    return row_scale(rows, sums.dtype).unsqueeze(-1) * sums


def encode_scaled_rows(table: Tensor, rows: Rows) -> Tensor:
    """Return scaled rows times a table, for inference.

    Args:
        table: ``[I, d]``; no gradient flows into it.
        rows: B rows.

    Returns:
        ``[B, d]``; an empty row gives zero.

    Example:
        >>> table = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
        >>> encode_scaled_rows(table, Rows(torch.tensor([0, 0]), torch.tensor([0, 1]), num=1))
        tensor([[0.7071, 1.4142]])
    """
    return row_scale(rows, table.dtype).unsqueeze(-1) * sum_items(table, rows)
