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
from torch import Tensor

from graphdiff.nn.constants import numbers

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
        self._inner: Pairs | None = None
        self._index: Tensor | None = None
        self._stacked: tuple[int, Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return self.row.numel()

    @cached_property
    def bounds(self) -> Tensor:
        """Position of the first pair of each row, and the number of pairs, long ``[B + 1]``."""
        if self._inner is not None:
            return self._inner.bounds
        return torch.searchsorted(self.row, numbers(self.num_rows + 1, self.row))

    @cached_property
    def _by_place(self) -> tuple[Pairs, Tensor]:
        if self._inner is not None and self._index is not None:
            turned, order = self._inner._by_place
            place = self._index.index_select(0, turned.row)
            return Pairs(place, turned.place, self.num_places, self.num_rows), order
        place, order = self.place.sort(stable=True)
        return Pairs(place, self.row.index_select(0, order), self.num_places, self.num_rows), order

    @property
    def turned(self) -> Pairs:
        """The same pairs sorted by place, with rows and places exchanged."""
        return self._by_place[0]

    @property
    def order(self) -> Tensor:
        """The positions of :attr:`turned`'s pairs among these, long ``[n]``."""
        return self._by_place[1]

    def within(self, index: Tensor | None, num: int) -> Pairs:
        """Return the pairs with the places among J as places ``index``, long ``[J]`` and ascending,
        in a larger table of ``num`` vectors; these pairs where the index is None."""
        if index is None:
            return self
        larger = Pairs(self.row, index.index_select(0, self.place), self.num_rows, num)
        larger._inner, larger._index = self, index
        return larger

    def sums(self, table: Tensor, weight: Tensor | None = None) -> Tensor:
        """Sum the table's vectors ``[J, d]``, times ``weight`` ``[n]``, over the places of each
        row: ``[B, d]``, without a gradient."""
        if table.device.type not in DEVICES:
            found = table.index_select(0, self.place)
            found = found if weight is None else found * weight.unsqueeze(1)
            return table.new_zeros(self.num_rows, table.size(1)).index_add_(0, self.row, found)
        return torch.ops.aten._embedding_bag_forward_only(
            table, self.place, self.bounds, False, _SUM, False, weight, True
        )[0]

    def head_sums(self, table: Tensor, weight: Tensor) -> Tensor:
        """Sum the vectors of each head, ``[J, H, d]``, with weights ``[H, n]`` of their own:
        ``[H, B, d]``, without a gradient."""
        num_heads = table.size(1)
        if num_heads == 1 or table.device.type not in DEVICES:
            heads = [self.sums(table[:, h].contiguous(), weight[h]) for h in range(num_heads)]
            return torch.stack(heads)
        bounds = torch.add(self.bounds[:-1], _heads(num_heads, self.row), alpha=len(self))
        return torch.ops.aten._embedding_bag_forward_only(
            table.view(-1, table.size(2)),
            self._of_heads(num_heads)[1],
            bounds.view(-1),
            False,
            _SUM,
            False,
            weight.view(-1),
            False,
        )[0].view(num_heads, self.num_rows, -1)

    def _of_heads(self, num_heads: int) -> tuple[Tensor, Tensor]:
        """Return rows and places in tables whose vectors are those of the heads, one head after
        the other, long ``[H * n]`` each."""
        if self._stacked is None or self._stacked[0] != num_heads:
            head = _heads(num_heads, self.row)
            rows, places = (
                torch.add(head, index, alpha=num_heads).view(-1) for index in (self.row, self.place)
            )
            self._stacked = num_heads, rows, places
        return self._stacked[1:]

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the inner product of the vectors of each pair, ``[H, n]``, from those of rows,
        ``[B, H, d]``, and of places, ``[J, H, d]``, without a gradient."""
        num_heads = left.size(1)
        if left.device.type not in DEVICES:
            found = left.index_select(0, self.row) * right.index_select(0, self.place)
            return found.sum(dim=-1).t()
        row, place = self._of_heads(num_heads)
        # The gradient of a weighted sum of vectors with respect to its weights.
        return torch.ops.aten._embedding_bag_per_sample_weights_backward(
            left.view(-1, left.size(2)),
            right.view(-1, right.size(2)),
            place,
            self.bounds,
            row,
            _SUM,
        ).view(num_heads, -1)


#: The mode of the kernels that sums.
_SUM = 0


def _heads(num_heads: int, like: Tensor) -> Tensor:
    return numbers(num_heads, like).view(-1, 1)


def sum_pairs(table: Tensor, pairs: Pairs, weight: Tensor | None = None) -> Tensor:
    """Sum the table's vectors over the places of each row, with a gradient.

    Args:
        table: ``[J, d]``.
        pairs: Of B rows and J places.
        weight: Factor of each pair's vector, ``[n]``, without a gradient; by default 1.

    Returns:
        ``[B, d]``; a row without pairs is zero.
    """
    return _SumPairs.apply(table, pairs, weight)


def pair_products(left: Tensor, right: Tensor, pairs: Pairs) -> Tensor:
    """Return the inner product of the vectors of each pair, for every head, with a gradient.

    Args:
        left: Of the rows, ``[B, H, d]``.
        right: Of the places, ``[J, H, d]``.
        pairs: Of B rows and J places.

    Returns:
        ``[H, n]``.

    Example:
        >>> pairs = Pairs(torch.tensor([0, 0, 1]), torch.tensor([1, 0, 1]), 2, 2)
        >>> left, right = torch.tensor([[[1.0]], [[2.0]]]), torch.tensor([[[3.0]], [[4.0]]])
        >>> pair_products(left, right, pairs)
        tensor([[4., 3., 8.]])
    """
    return _PairProducts.apply(left.contiguous(), right.contiguous(), pairs)


class _SumPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, pairs: Pairs, weight: Tensor | None) -> Tensor:
        ctx.pairs, ctx.weight = pairs, weight
        return pairs.sums(table, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        weight = None if ctx.weight is None else ctx.weight.index_select(0, ctx.pairs.order)
        return ctx.pairs.turned.sums(grads[0].contiguous(), weight), None, None


class _PairProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, pairs: Pairs) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.pairs = pairs
        return pairs.products(left, right)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (left, right), pairs = ctx.saved_tensors, ctx.pairs
        d_left = pairs.head_sums(right, grads[0])
        d_right = pairs.turned.head_sums(left, grads[0].index_select(1, pairs.order))
        return d_left.transpose(0, 1), d_right.transpose(0, 1), None


def distinct(index: Tensor, num: int) -> tuple[Tensor | None, Tensor]:
    """Return the different values of an index, and the place of each entry among them.

    Where the index is longer than ``num``, the values are all of 0 … num - 1, without sorting.

    Args:
        index: Long ``[n]``, 0 … num - 1.
        num: Number of possible values.

    Returns:
        Values, ascending, long ``[J]``, or None where they are all 0 … num - 1; places, long
        ``[n]``.

    Example:
        >>> distinct(torch.tensor([7, 2, 7]), num=10)
        (tensor([2, 7]), tensor([1, 0, 1]))
    """
    if num <= index.numel():
        return None, index
    return index.unique(return_inverse=True)
