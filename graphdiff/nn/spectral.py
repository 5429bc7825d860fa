"""Truncated singular value decomposition of sparse matrices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import svds
from torch import Tensor

# A component of at most this many cells is decomposed as a dense matrix.
_DENSE_CELLS = 2**14
# Cells of components of one shape that are decomposed together: 32 MiB.
_STACKED_CELLS = 2**22
# Singular values that differ by less than this share of the largest count as equal; below it, as
# zero.
_SAME = 1e-10


def right_singular_vectors(matrix: csr_matrix, num: int) -> Tensor:
    """Return the right singular vectors of the largest singular values, the largest first.

    A user-item matrix splits into the connected components of its graph, and each component has a
    largest singular value of its own. If the matrix is normalised by the degrees, that value is 1
    in all of them, and Lanczos iteration (ARPACK) on the whole matrix finds an arbitrary subset of
    the copies of a repeated value. Therefore each component is decomposed separately, tiny ones as
    dense matrices, and the results are merged by value. Of equal values, that of the component with
    more entries comes first, then that of the component with the first row.

    The sign of each vector makes its largest entry positive. The result is deterministic: Lanczos
    iteration starts from a fixed vector.

    Args:
        matrix: ``[U, I]``.
        num: Number of vectors d, at most ``min(U, I)``.

    Returns:
        Float32 ``[I, d]``, on the CPU. Columns have length one; those beyond the matrix's rank
        are zero.

    Example:
        >>> from scipy.sparse import csr_matrix
        >>> right_singular_vectors(csr_matrix([[2.0, 0.0], [0.0, 1.0]]), num=2)
        tensor([[1., 0.],
                [0., 1.]])
    """
    parts = _components(matrix)
    entries = np.array([part.entries for part in parts])
    solved = _decomposed(parts, num)
    value = np.concatenate([np.empty(0), *(one for one, _ in solved)])
    part = np.repeat(np.arange(len(parts)), [len(one) for one, _ in solved])
    place = np.concatenate([np.empty(0, int), *(np.arange(len(one)) for one, _ in solved)])

    shared = np.round(value / max(value.max(initial=0), np.finfo(float).tiny) / _SAME)
    order = np.lexsort((place, part, -entries[part], -shared))[:num]
    out = np.zeros((matrix.shape[1], num), dtype=np.float32)
    for column, chosen in enumerate(order[shared[order] > 0]):
        vector = solved[part[chosen]][1][place[chosen]]
        sign = np.sign(vector[np.abs(vector).argmax()])
        out[parts[part[chosen]].item, column] = sign * vector
    return torch.from_numpy(out)


class _Component(NamedTuple):
    """A connected component, as a matrix of its own users and items."""

    user: np.ndarray  # Of each entry, numbered within the component.
    column: np.ndarray  # Likewise.
    weight: np.ndarray
    num_users: int
    item: np.ndarray  # Item of each column.

    @property
    def entries(self) -> int:
        return len(self.weight)

    @property
    def shape(self) -> tuple[int, int]:
        return self.num_users, len(self.item)

    def to_scipy(self) -> csr_matrix:
        return csr_matrix((self.weight, (self.user, self.column)), self.shape)


def _components(matrix: csr_matrix) -> list[_Component]:
    """Return the components that have entries, in the order of their first users."""
    entries = matrix.tocoo()
    entries.eliminate_zeros()
    num_users, num_items = matrix.shape
    size = num_users + num_items
    ones = np.ones(entries.nnz, dtype=bool)
    joined = coo_matrix((ones, (entries.row, entries.col + num_users)), (size, size))
    num, label = connected_components(joined, directed=False)
    of_user, of_item = label[:num_users], label[num_users:]
    of_entry = of_user[entries.row]
    user_at, _, user_start = _grouped(of_user, num)
    item_at, items, item_start = _grouped(of_item, num)
    _, entry, entry_start = _grouped(of_entry, num)
    row, column = user_at[entries.row[entry]], item_at[entries.col[entry]]
    weight = entries.data[entry].astype(float)
    parts = []
    for c in np.flatnonzero(np.diff(entry_start)):
        own = slice(entry_start[c], entry_start[c + 1])
        item = items[item_start[c] : item_start[c + 1]]
        num_own = int(user_start[c + 1] - user_start[c])
        parts.append(_Component(row[own], column[own], weight[own], num_own, item))
    return parts


def _grouped(label: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each element's position within its group, the elements ordered by group, and the start
    of each group."""
    order = np.argsort(label, kind="stable")
    start = np.concatenate([[0], np.bincount(label, minlength=num).cumsum()])
    place = np.empty_like(order)
    place[order] = np.arange(len(order)) - start[label[order]]
    return place, order, start


def _decomposed(parts: list[_Component], num: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return up to ``num`` singular values, the largest first, and right vectors of each
    component."""
    out: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty((0, 0)))] * len(parts)
    alike: dict[tuple[int, int], list[int]] = {}
    for index, part in enumerate(parts):
        # ARPACK cannot compute all values of a matrix.
        if num >= min(part.shape) or np.prod(part.shape) <= _DENSE_CELLS:
            alike.setdefault(part.shape, []).append(index)
        else:
            out[index] = _lanczos(part.to_scipy(), num)
    for shape, members in alike.items():
        at_once = max(1, _STACKED_CELLS // (shape[0] * shape[1]))
        for start in range(0, len(members), at_once):
            stack = members[start : start + at_once]
            dense = np.zeros((len(stack), *shape))
            for one, index in zip(dense, stack, strict=True):
                np.add.at(one, (parts[index].user, parts[index].column), parts[index].weight)
            _, value, vectors = np.linalg.svd(dense, full_matrices=False)
            for index, *found in zip(stack, value[:, :num], vectors[:, :num], strict=True):
                out[index] = (found[0], found[1])
    return out


def _lanczos(matrix: csr_matrix, num: int) -> tuple[np.ndarray, np.ndarray]:
    start = np.random.default_rng(0).standard_normal(min(matrix.shape))
    _, value, vectors = svds(matrix, k=num, v0=start)
    order = np.argsort(-value, kind="stable")
    return value[order], vectors[order]
