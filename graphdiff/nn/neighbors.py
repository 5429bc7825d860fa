"""The nearest neighbours of each item, and scores by them; both sparse, for any catalogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.nn.item_item import sum_rows
from graphdiff.nn.topk import topk_blocks

# Terms of the products, and cosines, that are held at a time.
_TERMS, _COSINES = 2**23, 2**22


class Neighbors(NamedTuple):
    """The k nearest neighbours of each item, nearest first.

    Attributes:
        item: Long ``[I, k]``; 0 where there are fewer.
        weight: Float32 ``[I, k]``, their similarity; 0 where there are fewer.
    """

    item: Tensor
    weight: Tensor


def interaction_neighbors(
    graph: RecGraph, k: int, shrinkage: float = 0.0, row_exponent: float = 0.0
) -> Neighbors:
    r"""Neighbours by the users that two items share.

    With users' rows scaled, :math:`x_{ui} = 1/|N_u|^\nu`,

    .. math::
        s_{ij} = \frac{\mathbf{x}_i \cdot \mathbf{x}_j}
        {\lVert\mathbf{x}_i\rVert \lVert\mathbf{x}_j\rVert + h}.

    Items without a user in common are no neighbours. Of equally similar items the lower index
    comes first.

    Args:
        graph: Training interactions.
        k: Neighbours of each item.
        shrinkage: h; similarities that few users speak for become smaller.
        row_exponent: ν; 0 for rows of ones.

    Returns:
        :class:`Neighbors`, on the CPU.
    """
    interactions = graph.to_scipy()
    length = np.diff(interactions.indptr)
    by_item = interactions.T.tocsr()
    # One row of the product takes the time of the items that its users have.
    terms = np.cumsum(by_item @ length)
    value = np.maximum(length, 1).astype(float) ** -row_exponent
    interactions.data *= np.repeat(value, length)
    by_item.data *= value[by_item.indices]
    square = np.asarray(by_item.multiply(by_item).sum(axis=1)).ravel()
    cuts = np.searchsorted(terms, np.arange(_TERMS, terms[-1] + 1, _TERMS), side="right")
    index = np.zeros((graph.num_items, k), dtype=np.int64)
    weight = np.zeros((graph.num_items, k), dtype=np.float32)
    for items in filter(len, np.split(np.arange(graph.num_items), cuts)):
        shared = by_item[items] @ interactions
        row = np.repeat(items, np.diff(shared.indptr))
        similarity = shared.data / (np.sqrt(square[row] * square[shared.indices]) + shrinkage)
        similarity[row == shared.indices] = 0
        shared.data = similarity.astype(np.float32)
        place = items[0], items[0] + items.size
        index[slice(*place)], weight[slice(*place)] = _largest(shared, k)
    return Neighbors(torch.from_numpy(index), torch.from_numpy(weight))


def _largest(matrix: csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values, ``[rows, k]`` each, of the k largest positive entries of each row."""
    matrix.eliminate_zeros()
    num_rows = matrix.shape[0]
    row = np.repeat(np.arange(num_rows), np.diff(matrix.indptr))
    # Below a row's k-th largest there is nothing to sort.
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
    r"""Neighbours by what items look, sound or read like.

    The similarity of two items is the mean of their cosines over the modalities that both have,
    weighted by share. Those with no modality in common or a similarity of at most 0 are no
    neighbours. Every item is compared with every other: O(I² · F) in time, O(I · (F + k)) in
    memory.

    Args:
        features: Per modality, ``(x [I, F_m], has [I])``.
        shares: Per modality, its weight in the mean.
        k: Neighbours of each item.

    Returns:
        :class:`Neighbors`, on the features' device.
    """
    unit = [
        share**0.5 * F.normalize(x, dim=1) * has.unsqueeze(1)
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
    """Scores a block of items at a time: an item's is the sum of its similarities to those of its
    neighbours that the person has.

    Memory is the number of people times the number of different items that they have together.

    Args:
        rows: The items of each person.
        neighbors: Of all items.

    Returns:
        A function ``(start, stop)`` that gives ``[B, stop - start]``.
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
        score = sum_rows(has, target, neighbor[target, nth], value, stop - start)
        return score.t().contiguous()

    return score_block
