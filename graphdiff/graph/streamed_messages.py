r"""Message passing over interactions that are read in pieces, such as from a file.

A graph for message passing (:class:`~graphdiff.graph.propagation.FixedGraph`) holds a weight for
each interaction, and all interactions in a second order: 16 to 20 bytes for each. Here the weights
are applied to the vectors instead, :math:`\tilde{A} = D_U^{-1/2} A D_I^{-1/2}`, and users are
passed in blocks of consecutive rows of the store, read once and dropped again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from graphdiff.graph.store import RecGraph

#: Number of interactions from which on messages are streamed, on a CPU.
STREAMED = 2**25
#: Interactions, and user vectors' entries, of a block.
BLOCK_INTERACTIONS, BLOCK_ENTRIES = 2**22, 2**24


def is_streamed(graph: RecGraph) -> bool:
    """Return whether the messages of a graph are passed in blocks."""
    return graph.num_interactions >= STREAMED and graph.col.device.type == "cpu"


class StreamedRoundTrip:
    r"""The product :math:`\tilde{A}^\top \tilde{A} E` over the user-item graph, without a gradient.

    Args:
        graph: Training interactions.

    Example:
        >>> from graphdiff.graph import RecGraph
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2]), num_items=3)
        >>> StreamedRoundTrip(graph)(torch.eye(3))
        tensor([[0.5000, 0.5000, 0.0000],
                [0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """

    def __init__(self, graph: RecGraph) -> None:
        self.graph = graph
        self.inverse_root = inverse_root_degree(graph)
        # The place of each item among the different items of a block.
        self._place = torch.empty(graph.num_items, dtype=torch.int32)

    @torch.no_grad()
    def __call__(self, table: Tensor) -> Tensor:
        """Return the product with a table, ``[I, d]``."""
        factor = self.inverse_root.to(table.dtype)
        scaled, out = table * factor, torch.zeros_like(table)
        for rowptr, col in row_blocks(self.graph, table.size(1)):
            degree = rowptr.diff().clamp(min=1).to(table.dtype).unsqueeze(1)
            users = F.embedding_bag(col, scaled, rowptr, mode="sum", include_last_offset=True).div_(
                degree
            )
            self._add_transposed(out, rowptr, col, users)
        return out.mul_(factor)

    def _add_transposed(self, out: Tensor, rowptr: Tensor, col: Tensor, users: Tensor) -> None:
        """Add each user's vector to the rows ``col`` of ``out``."""
        there = torch.zeros(out.size(0), dtype=torch.bool).index_fill_(0, col, True)
        item = there.nonzero().flatten()
        self._place[item] = torch.arange(item.numel(), dtype=torch.int32)
        place, shape = self._place.index_select(0, col), (users.size(0), item.numel())
        ones = np.ones(col.numel(), dtype=users.numpy().dtype)
        # SciPy multiplies with the transposed matrix without sorting it, into a table of the items
        # of the block.
        matrix = scipy.sparse.csr_matrix((ones, place.numpy(), rowptr.int().numpy()), shape)
        out.index_add_(0, item, torch.from_numpy(matrix.T @ users.numpy()))


def inverse_root_degree(graph: RecGraph) -> Tensor:
    """Return 1/√n of each item's number of interactions, at least one, ``[I, 1]``."""
    return graph.item_degree().clamp(min=1).float().rsqrt().unsqueeze(1)


def row_blocks(
    graph: RecGraph, channels: int, interactions: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the rows of consecutive users as ``(rowptr [n + 1], col [nnz])``, long, with ``rowptr``
    from 0.

    Args:
        graph: Training interactions.
        channels: Width of the vectors of users, which limits their number.
        interactions: Interactions of a block, unless a single user has more (default:
            :data:`BLOCK_INTERACTIONS`).
    """
    size = BLOCK_INTERACTIONS if interactions is None else interactions
    most, first = max(BLOCK_ENTRIES // channels, 1), 0
    while first < graph.num_users:
        start = int(graph.rowptr[first])
        # At least one user, whatever the length of the row.
        last = int(torch.searchsorted(graph.rowptr, start + size, right=True)) - 1
        last = min(max(last, first + 1), first + most, graph.num_users)
        stop = int(graph.rowptr[last])
        yield graph.rowptr[first : last + 1] - start, graph.col[start:stop]
        first = last
