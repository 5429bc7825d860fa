r"""Round trips over the user-item graph without weights of interactions, for large graphs.

With :math:`\tilde{A} = D_U^{-1/2} A D_I^{-1/2}` the weights can be applied to the vectors instead
of the messages: a graph for message passing (:class:`~graphdiff.graph.propagation.FixedGraph`)
holds one for each interaction in both of its orders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.streamed_messages import StreamedRoundTrip, is_streamed

if TYPE_CHECKING:
    from graphdiff.graph.store import RecGraph


class UnweightedRoundTrip:
    r"""The product :math:`\tilde{A}^\top \tilde{A} E` over the user-item graph, without a gradient.

    Beside the store it holds the users of each item, 4 bytes for each interaction.

    Args:
        graph: Training interactions, on the CPU.

    Example:
        >>> from graphdiff.graph import RecGraph
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2]), num_items=3)
        >>> UnweightedRoundTrip(graph)(torch.eye(3))
        tensor([[0.5000, 0.5000, 0.0000],
                [0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """

    def __init__(self, graph: RecGraph) -> None:
        self.rowptr, self.item = graph.rowptr, graph.col
        self.user_degree = graph.user_degree().clamp(min=1).float().unsqueeze(1)
        self.item_degree = graph.item_degree().clamp(min=1).float().unsqueeze(1)
        # SciPy counts where torch sorts; the ones are only there because a matrix needs values.
        ones = np.ones(graph.num_interactions, dtype=np.int8)
        parts = ones, graph.col.int().numpy(), graph.rowptr.int().numpy()
        shape = graph.num_users, graph.num_items
        by_item = scipy.sparse.csr_matrix(parts, shape).tocsc()
        self.itemptr, self.user = map(torch.from_numpy, (by_item.indptr, by_item.indices))

    @torch.no_grad()
    def __call__(self, table: Tensor) -> Tensor:
        """Return the product with a table, ``[I, d]``."""
        # The kernel does not support 16 bits everywhere.
        wide = table.float() if table.element_size() < 4 else table
        factor = self.item_degree.to(wide.dtype).rsqrt()
        users = _sums(wide * factor, self.item, self.rowptr).div_(self.user_degree)
        return _sums(users, self.user, self.itemptr).mul_(factor).to(table.dtype)


def smoothed(graph: RecGraph, table: Tensor, num_layers: int) -> Tensor:
    r"""Return :math:`\mathrm{mean}_l (\tilde{A}^\top \tilde{A})^l E`, ``[I, d]``, without a
    gradient; see :class:`~graphdiff.nn.signals.CollaborativeSignal`.

    Args:
        graph: Training interactions, on the CPU.
        table: E, ``[I, d]``.
        num_layers: Round trips L.

    Example:
        >>> from graphdiff.graph import RecGraph
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2]), num_items=3)
        >>> smoothed(graph, torch.eye(3), num_layers=1)
        tensor([[0.7500, 0.2500, 0.0000],
                [0.2500, 0.7500, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """
    if not num_layers:
        return table.clone()
    large = is_streamed(graph)
    trip = StreamedRoundTrip(graph) if large else graph.cached(UnweightedRoundTrip)
    # The first product becomes the sum once the second one is computed from it.
    total = current = trip(table)
    for _ in range(num_layers - 1):
        current = trip(current)
        total += current
    return total.add_(table).div_(num_layers + 1)


def _sums(table: Tensor, index: Tensor, starts: Tensor) -> Tensor:
    return F.embedding_bag(index, table, starts, mode="sum", include_last_offset=True)
