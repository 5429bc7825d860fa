"""Signals that guide C-Net: what a user's items say through their neighbours and their content."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.propagation import FixedConv, FixedGraph, propagate
from graphdiff.nn.norm import layer_norm


class CollaborativeSignal(torch.nn.Module):
    r"""The item table after propagation over the user-item graph.

    With users that have no embedding of their own, two LightGCN layers carry an item's embedding to
    its users and on to their other items. The mean over :math:`l = 0 … L` such round trips,

    .. math::
        C = \tfrac{1}{L + 1} \sum_l (\tilde{A}^\top \tilde{A})^l E, \qquad
        \tilde{A}_{ui} = 1 / \sqrt{|N_u||N_i|},

    is a low-pass filter over the items: like the truncated SVD that LD4MRec encodes this signal
    with, it keeps the directions of large singular values of :math:`\tilde{A}`, but for a learned
    table. That choice is ours.

    Args:
        num_layers: Round trips L; 0 leaves the table as it is.
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.conv = FixedConv()

    def forward(self, table: Tensor, item_to_user: FixedGraph) -> Tensor:
        """``[I, d]`` to ``[I, d]``."""
        user_to_item = item_to_user.reversed()
        total, current = table, table
        for _ in range(self.num_layers):
            current = self.conv(self.conv(current, item_to_user), user_to_item)
            total = total + current
        return total / (self.num_layers + 1)


class ModalitySignal(torch.nn.Module):
    r"""The item table smoothed over one modality's item-item graph, :math:`M = w\, S^L E`.

    An item that nobody has touched gets an embedding from items that look alike. Items that lack
    the modality have none, and give none: their rows are zero.

    Args:
        num_layers: Smoothing layers L.
        weight: w.

    Source: smoothing over frozen item graphs is FREEDOM's (arXiv 2211.06924).
    """

    def __init__(self, num_layers: int, weight: float) -> None:
        super().__init__()
        self.num_layers, self.weight = num_layers, weight

    @property
    def edge_share(self) -> float:
        """What the weights of S are to be scaled by, so that L layers scale by w: a product with
        the table itself would take as long as half a layer."""
        return self.weight ** (1 / self.num_layers) if self.num_layers else 1.0

    def forward(self, table: Tensor, has: Tensor, similar: FixedGraph) -> Tensor:
        """``[I, d]`` to ``[I, d]``.

        Args:
            table: E.
            has: Bool ``[I]``, False where an item lacks the modality; such items have no edges.
            similar: S, its weights times :attr:`edge_share`.
        """
        if not self.num_layers:
            return self.weight * table * has.unsqueeze(-1)
        return propagate(table, similar, self.num_layers)[-1]


class ModalityGate(torch.nn.Module):
    r"""How much each user leans on each modality.

    .. math::
        g_{um} = \mathrm{softmax}_m(
        \log a_m + \mathbf{w}_m \cdot \mathrm{LN}(\mathbf{p}_{um}) + b_m)

    over the modalities that the user's items have. It starts with everybody's shares a, and stays
    so where it does not learn.

    Args:
        num_modalities: M.
        channels: Width d of a preference.
    """

    def __init__(self, num_modalities: int, channels: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(num_modalities, channels))
        self.bias = torch.nn.Parameter(torch.zeros(num_modalities))

    def reset_parameters(self) -> None:
        """Everybody's shares again."""
        torch.nn.init.zeros_(self.weight)
        torch.nn.init.zeros_(self.bias)

    def forward(self, preference: Tensor, shares: Tensor) -> Tensor:
        """``[B, M, d]`` to shares ``[B, M]`` that sum to one, or to zero where nothing is there;
        ``shares`` ``[M]`` are a, all above zero."""
        there = preference.any(dim=-1)
        logit = (layer_norm(preference) * self.weight).sum(dim=-1) + self.bias + shares.log()
        # A finite mask: a row of -inf would make the gradient NaN.
        share = logit.masked_fill(~there, torch.finfo(logit.dtype).min).softmax(dim=-1)
        return share * there
