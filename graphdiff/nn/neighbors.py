"""Nearest neighbours of each item, and scores from them; sparse, for catalogues of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.scaling import unit_rows
from graphdiff.nn.item_regression import multiply_rows
from graphdiff.nn.topk import topk_blocks

# Terms of a sparse product, and cosines, held at a time.
_TERMS, _COSINES = 2**23, 2**22


class Neighbors(NamedTuple):
    """k nearest neighbours of each item, nearest first.

    Attributes:
        item: Long ``[I, k]``; 0 where there are fewer.
        weight: Float32 ``[I, k]``, their similarity; 0 where there are fewer.
    """

    item: Tensor
    weight: Tensor


def interaction_neighbors(
    interactions: csr_matrix, k: int, shrinkage: float = 0.0, row_exponent: float = 0.0
) -> Neighbors:
    r"""Find each item's neighbours by the users that two items share.

    With users' rows scaled, :math:`x_{ui} = 1/|N_u|^\nu`,

    .. math::
        s_{ij} = \frac{\mathbf{x}_i \cdot \mathbf{x}_j}
        {\lVert\mathbf{x}_i\rVert \lVert\mathbf{x}_j\rVert + h}.

    Items without a user in common are no neighbours. Of equally similar items the lower index
    comes first.

    Args:
        interactions: Matrix of ones ``[U, I]``.
        k: Neighbours of each item.
        shrinkage: h; similarities that rest on few users become smaller.
        row_exponent: ν; 0 for rows of ones.

    Returns:
        :class:`Neighbors`, on the CPU.

    Example:
        >>> from scipy.sparse import csr_matrix
        >>> neighbors = interaction_neighbors(csr_matrix([[1.0, 1, 0], [0, 1, 1], [0, 1, 1]]), k=1)
        >>> neighbors.item.flatten().tolist(), neighbors.weight.flatten()
        ([1, 2, 1], tensor([0.5774, 0.8165, 0.8165]))
    """
    interactions = csr_matrix(interactions, dtype=float, copy=True)
    num_items = interactions.shape[1]
    length = np.diff(interactions.indptr)
    by_item = interactions.T.tocsr()
    # The cost of one row of the product is the number of items that its users have.
    terms = np.cumsum(by_item @ length)
    value = np.maximum(length, 1).astype(float) ** -row_exponent
    interactions.data *= np.repeat(value, length)
    by_item.data *= value[by_item.indices]
    square = np.asarray(by_item.multiply(by_item).sum(axis=1)).ravel()
    cuts = np.searchsorted(terms, np.arange(_TERMS, terms[-1] + 1, _TERMS), side="right")
    index = np.zeros((num_items, k), dtype=np.int64)
    weight = np.zeros((num_items, k), dtype=np.float32)
    for items in filter(len, np.split(np.arange(num_items), cuts)):
        shared = by_item[items] @ interactions
        row = np.repeat(items, np.diff(shared.indptr))
        similarity = shared.data / (np.sqrt(square[row] * square[shared.indices]) + shrinkage)
        similarity[row == shared.indices] = 0
        shared.data = similarity.astype(np.float32)
        place = items[0], items[0] + items.size
        index[slice(*place)], weight[slice(*place)] = _largest(shared, k)
    return Neighbors(torch.from_numpy(index), torch.from_numpy(weight))


def _largest(matrix: csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and values, ``[rows, k]`` each, of the k largest positive entries per row."""
    matrix.eliminate_zeros()
    num_rows = matrix.shape[0]
    row = np.repeat(np.arange(num_rows), np.diff(matrix.indptr))
    # Entries below a row's k-th largest need no sorting.
    least = [
        np.partition(values, -k)[-k] if values.size > k else 0
        for values in np.split(matrix.data, matrix.indptr[1:-1])
    ]
    chosen = matrix.data >= np.array(least, dtype=matrix.dtype)[row]
    row, column, value = row[chosen], matrix.indices[chosen], matrix.data[chosen]
    order = np.lexsort((column, -value, row))
    rank = np.arange(row.size) - np.searchsorted(row, row)
    kept = rank < k
    place, order = (row[kept], rank[kept]), order[kept]
    index = np.zeros((num_rows, k), dtype=np.int64)
    weight = np.zeros((num_rows, k), dtype=np.float32)
    index[place], weight[place] = column[order], value[order]
    return index, weight


def content_neighbors(
    features: Sequence[tuple[Tensor, Tensor]], shares: Sequence[float], k: int
) -> Neighbors:
    r"""Find each item's neighbours by content.

    The similarity of two items is the mean of their cosines over the modalities that both have,
    weighted by share. Items with no modality in common or a similarity of at most 0 are not
    neighbours. Every item is compared with every other: O(I² · F) in time, O(I · (F + k)) in
    memory.

    Args:
        features: Per modality, ``(x [I, F_m], has [I])``.
        shares: Per modality, its weight in the mean.
        k: Neighbours of each item.

    Returns:
        :class:`Neighbors`, on the features' device.

    Example:
        >>> import torch
        >>> x, has = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), torch.ones(3).bool()
        >>> neighbors = content_neighbors([(x, has)], [1.0], k=1)
        >>> neighbors.item.flatten().tolist(), neighbors.weight.flatten()
        ([1, 0, 1], tensor([0.7071, 0.7071, 0.7071]))
    """
    unit = [
        share**0.5 * unit_rows(x) * has.unsqueeze(1)
        for (x, has), share in zip(features, shares, strict=True)
    ]
    table = torch.cat(unit, dim=1)
    known = torch.stack(
        [share**0.5 * has.float() for (_, has), share in zip(features, shares, strict=True)], dim=1
    )
    num_items = table.size(0)
    index, weight = [], []
    for items in torch.arange(num_items, device=table.device).split(
        max(1, min(1024, _COSINES // num_items))
    ):
        own = torch.arange(items.numel(), device=table.device), items
        similarity, neighbor = topk_blocks(
            _mean_cosine(table, known, items), items.numel(), num_items, k, exclude=own
        )
        near = similarity > 0
        index.append(neighbor.where(near, 0))
        weight.append(similarity.where(near, 0.0))
    return Neighbors(torch.cat(index), torch.cat(weight))


def _mean_cosine(table: Tensor, known: Tensor, items: Tensor) -> Callable[[int, int], Tensor]:
    def score_block(start: int, stop: int) -> Tensor:
        total = table[items] @ table[start:stop].t()
        return total / (known[items] @ known[start:stop].t()).clamp(min=1e-12)

    return score_block


def neighbor_scorer(rows: Rows, neighbors: Neighbors) -> Callable[[int, int], Tensor]:
    """Return a function that scores one block of items: an item's score is the sum of its
    similarities to those of its neighbours that are in the user's history.

    Memory is the number of users times the number of distinct items in their histories.

    Args:
        rows: The history of each user.
        neighbors: Neighbours of all items.

    Returns:
        A function ``(start, stop)`` that returns ``[B, stop - start]``.

    Example:
        >>> import torch
        >>> from graphdiff.graph import Rows
        >>> item, weight = torch.tensor([[1], [2], [1]]), torch.tensor([[0.5], [0.8], [0.8]])
        >>> neighbors = Neighbors(item, weight)
        >>> neighbor_scorer(Rows(torch.tensor([0]), torch.tensor([1]), num=1), neighbors)(0, 3)
        tensor([[0.5000, 0.0000, 0.8000]])
    """
    own, column = rows.item.unique(return_inverse=True)
    has = neighbors.weight.new_zeros(own.numel(), rows.num)
    has[column, rows.row] = 1
    place = own.new_full((neighbors.item.size(0),), -1)
    place[own] = torch.arange(own.numel(), device=own.device)

    def score_block(start: int, stop: int) -> Tensor:
        neighbor = place[neighbors.item[start:stop]]
        target, nth = (neighbor >= 0).nonzero(as_tuple=True)
        value = neighbors.weight[start:stop][target, nth]
        score = multiply_rows(has, target, neighbor[target, nth], value, stop - start)
        return score.t().contiguous()

    return score_block
