"""The collaborative signal of LD4MRec's paper: a truncated SVD of the interactions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.nn.spectral import right_singular_vectors


class SingularSignal(torch.nn.Module):
    r"""A fixed item table that encodes a row by its coordinates in a truncated SVD.

    With :math:`\tilde{A} = D_U^{-1/2} R\, D_I^{-1/2} \approx U \Sigma V^\top` and the d leading
    singular vectors,

    .. math::
        C = D_I^{-1/2} V, \qquad \tilde{\mathbf{x}}_u C = \mathbf{u}_u \Sigma

    for a training user u, whose scaled row is :math:`\tilde{\mathbf{x}}_u = \mathbf{x}_u /
    \sqrt{|N_u|}`. The same product folds in any other row.

    That the signal is a truncated SVD of the interactions is from the paper; the normalisation by
    degrees and the scale :math:`\Sigma` are ours.

    The table is zero until :meth:`start` has decomposed the matrix, and it is saved with the model.
    Where a trained model is updated it stays: C-Net has learned what its directions mean.

    Args:
        num_items: I.
        channels: Number of singular vectors d; those beyond the matrix's rank are zero.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 1, 3]), torch.tensor([0, 1, 2]), num_items=3)
        >>> signal = SingularSignal(num_items=3, channels=2)
        >>> signal.start(graph)
        >>> signal()  # Items 1 and 2 have their only user in common.
        tensor([[0.0000, 1.0000],
                [0.7071, 0.0000],
                [0.7071, 0.0000]])
    """

    table: Tensor
    started: Tensor

    def __init__(self, num_items: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(num_items, channels))
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def start(self, graph: RecGraph) -> None:
        """Decompose the interactions; does nothing the second time."""
        if self.started:
            return
        rank = min(self.table.size(1), graph.num_users, graph.num_items)
        vectors = right_singular_vectors(graph.to_normalized_scipy(), rank).to(self.table)
        degree = graph.item_degree().clamp(min=1).to(self.table.dtype)
        self.table[:, :rank] = vectors * degree.rsqrt().unsqueeze(1)
        self.started.fill_(True)

    def forward(self) -> Tensor:
        """Return C, ``[I, d]``."""
        return self.table

    @torch.no_grad()
    def change(self, kept: Tensor | None, num: int) -> None:
        """Leave out all items but ``kept``, bool ``[I]`` (default: none), and append ``num`` items,
        which have no signal."""
        table = self.table if kept is None else self.table[kept]
        self.table = F.pad(table, (0, 0, 0, num))
