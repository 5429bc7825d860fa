r"""Sums and inner products over the pairs (row, item) of a batch, without a vector per pair.

A batch of rows has many more pairs than different items, and a vector for each pair, gathered and
multiplied, is most of the memory traffic of a training step. The sums over the items of a row are a
product of a sparse matrix with a table, the inner products of rows with their items the entries of
a product of two tables at the places of a sparse matrix, and the gradients of both are products of
these two kinds again.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: Devices that have the kernels; elsewhere vectors are gathered.
DEVICES = ("cpu", "cuda")


class Pairs:
    """Pairs of rows and places in a table.

    Args:
        row: Long ``[n]``, 0 … B - 1, ascending.
        place: Long ``[n]``, 0 … J - 1.
        num_rows: B.
        num_places: J.

    Example:
        >>> pairs = Pairs(torch.tensor([0, 0, 2]), torch.tensor([1, 0, 1]), 3, 2)
        >>> sum_pairs(torch.tensor([[1.0], [5.0]]), pairs).flatten().tolist()
        [6.0, 0.0, 5.0]
    """

    def __init__(self, row: Tensor, place: Tensor, num_rows: int, num_places: int) -> None:
        self.row, self.place = row, place
        self.num_rows, self.num_places = num_rows, num_places
        self._stacked: dict[int, Pairs] = {}

    def __len__(self) -> int:
        return self.row.numel()

    @cached_property
    def starts(self) -> Tensor:
        """First pair of each row, long ``[B]``."""
        return _starts(self.row, self.num_rows)

    @cached_property
    def order(self) -> Tensor:
        """The pairs sorted by place, long ``[n]``."""
        return self.place.argsort(stable=True)

    @cached_property
    def turned(self) -> Pairs:
        """The same pairs sorted by place, with rows and places exchanged."""
        order = self.order
        row, place = self.row.index_select(0, order), self.place.index_select(0, order)
        return Pairs(place, row, self.num_places, self.num_rows)

    def stacked(self, num_heads: int) -> Pairs:
        """Return the pairs repeated for each head: of rows ``[H * B]`` and places ``[H * J]``."""
        if num_heads == 1:
            return self
        if num_heads not in self._stacked:
            self._stacked[num_heads] = self._repeated(num_heads)
        return self._stacked[num_heads]

    def _repeated(self, num_heads: int) -> Pairs:
        head = torch.arange(num_heads, device=self.row.device).unsqueeze(1)
        stacked = Pairs(
            (self.row + self.num_rows * head).flatten(),
            (self.place + self.num_places * head).flatten(),
            num_heads * self.num_rows,
            num_heads * self.num_places,
        )
        # Pairs are in order within each head; sorting them again would take longer.
        stacked.starts = (self.starts + len(self) * head).flatten()
        return stacked


def sum_pairs(table: Tensor, pairs: Pairs) -> Tensor:
    """Sum the table's vectors over the places of each row.

    Args:
        table: ``[J, d]``.
        pairs: Of B rows and J places.

    Returns:
        ``[B, d]``; a row without pairs is zero.
    """
    if table.device.type in DEVICES:
        return _SumPairs.apply(table, pairs)
    gathered = table.index_select(0, pairs.place)
    return table.new_zeros(pairs.num_rows, table.size(1)).index_add(0, pairs.row, gathered)


def pair_products(left: Tensor, right: Tensor, pairs: Pairs) -> Tensor:
    """Return the inner product of the vectors of each pair, for every head.

    Args:
        left: Of the rows, ``[H, B, d]``.
        right: Of the places, ``[H, J, d]``.
        pairs: Of B rows and J places.

    Returns:
        ``[H, n]``.

    Example:
        >>> pairs = Pairs(torch.tensor([0, 0, 1]), torch.tensor([1, 0, 1]), 2, 2)
        >>> pair_products(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[3.0], [4.0]]]), pairs)
        tensor([[4., 3., 8.]])
    """
    if left.device.type in DEVICES:
        return _PairProducts.apply(left, right, pairs)
    return (left.index_select(1, pairs.row) * right.index_select(1, pairs.place)).sum(dim=-1)


class _SumPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, pairs: Pairs) -> Tensor:
        ctx.pairs = pairs
        return _sum(table, pairs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _sum(grads[0].contiguous(), ctx.pairs.turned), None


class _PairProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, pairs: Pairs) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.pairs = pairs
        stacked = pairs.stacked(left.size(0))
        # The gradient of a weighted sum of vectors with respect to its weights.
        products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            left.detach().flatten(0, 1),
            right.detach().flatten(0, 1),
            stacked.place,
            stacked.starts,
            stacked.row,
            0,  # the mode "sum"
        )
        return products.view(left.size(0), -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (left, right), pairs = ctx.saved_tensors, ctx.pairs
        num_heads, turned = left.size(0), pairs.turned
        by_place = grads[0].index_select(1, pairs.order)
        d_left = _sum(right.flatten(0, 1), pairs.stacked(num_heads), grads[0].flatten())
        d_right = _sum(left.flatten(0, 1), turned.stacked(num_heads), by_place.flatten())
        return d_left.view_as(left), d_right.view_as(right), None


def _sum(table: Tensor, pairs: Pairs, weight: Tensor | None = None) -> Tensor:
    return F.embedding_bag(
        pairs.place, table.detach(), pairs.starts, mode="sum", per_sample_weights=weight
    )


def _starts(row: Tensor, num_rows: int) -> Tensor:
    count = torch.bincount(row, minlength=num_rows)
    return count.cumsum(0) - count


def distinct(index: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Return the different values of an index, and the place of each entry among them.

    Where the index is longer than ``num``, all values 0 … num - 1 are returned, without sorting.

    Args:
        index: Long ``[n]``, 0 … num - 1.
        num: Number of possible values.

    Returns:
        Values, ascending, long ``[J]``; places, long ``[n]``.

    Example:
        >>> distinct(torch.tensor([7, 2, 7]), num=10)
        (tensor([2, 7]), tensor([1, 0, 1]))
    """
    if num <= index.numel():
        return torch.arange(num, device=index.device), index
    return index.unique(return_inverse=True)
