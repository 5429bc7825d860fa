"""A batch of item sets in sparse form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rows(NamedTuple):
    """A batch of item sets, sparse: row ``row[n]`` contains item ``item[n]``.

    Attributes:
        row: Long ``[nnz]``, 0 … ``num - 1``, ascending.
        item: Long ``[nnz]``, item indices without repeats within a row.
        num: Number of rows B; rows may be empty.
        age: How many items of the row are later than each, float32 ``[nnz]``; None where the order
            is unknown. Items at the same time share the mean of their places, and rows that were
            :meth:`select`-ed keep the ages in the whole row.

    Example:
        >>> import torch
        >>> rows = Rows(torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0]), num=3)
        >>> rows.degree().tolist(), rows.starts().tolist()
        ([2, 0, 1], [0, 2, 2])
    """

    row: Tensor
    item: Tensor
    num: int
    age: Tensor | None = None

    def degree(self) -> Tensor:
        """Return the number of items of each row, long ``[B]``."""
        if self.num == 1:
            # Serving answers one user at a time; this skips a bincount.
            return self.row.new_tensor([self.row.numel()])
        return torch.bincount(self.row, minlength=self.num)

    def select(self, index: Tensor) -> Rows:
        """Return as many rows with the items at the positions ``index`` alone, long ``[n]``,
        ascending."""
        age = None if self.age is None else self.age[index]
        return Rows(self.row[index], self.item[index], self.num, age)

    def starts(self) -> Tensor:
        """Return the position in :attr:`item` where each row starts, long ``[B]``."""
        if self.num == 1:
            return self.row.new_zeros(1)
        degree = self.degree()
        return degree.cumsum(0) - degree

    def entries(self, rows: slice) -> slice:
        """Return the positions in :attr:`item` of the items of consecutive rows.

        Example:
            >>> import torch
            >>> rows = Rows(torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0]), num=3)
            >>> rows.entries(slice(1, 3))
            slice(2, 3, None)
        """
        start, stop, _ = rows.indices(self.num)
        bounds = torch.tensor([start, stop], device=self.row.device)
        return slice(*torch.searchsorted(self.row, bounds).tolist())

    def part(self, rows: slice) -> Rows:
        """Return consecutive rows, numbered from 0."""
        if rows == slice(None):
            return self
        start, stop, _ = rows.indices(self.num)
        entries = self.entries(rows)
        age = None if self.age is None else self.age[entries]
        return Rows(self.row[entries] - start, self.item[entries], stop - start, age)

    def dense(self, num_items: int) -> Tensor:
        """Return the rows as a float32 matrix of zeros and ones, ``[B, I]``."""
        x = torch.zeros(self.num, num_items, device=self.item.device)
        x[self.row, self.item] = 1
        return x
