"""Signals that guide C-Net: what a user's items say by themselves, by their neighbours, by content."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.nn.propagation import FixedConv, FixedGraph


class CollaborativeSignal(torch.nn.Module):
    r"""The item table after propagation over the user-item graph.

    With users that have no embedding of their own, two LightGCN layers carry an item's embedding to
    its users and on to their other items. The mean over :math:`l = 0 … L` such round trips,

    .. math::
        C = \tfrac{1}{L + 1} \sum_l (\tilde{A}^\top \tilde{A})^l E, \qquad
        \tilde{A}_{ui} = 1 / \sqrt{|N_u||N_i|},

    is a low-pass filter on the items.

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
    r"""The item table seen through one modality.

    Each item's embedding is gated by its features and smoothed over the modality's item-item graph,

    .. math::
        M = S^L \big(E \odot \sigma(W\,\mathrm{LN}(x) + b)\big),

    so that an item that nobody has touched gets an embedding from items that look alike. Items that
    lack the modality are left out.

    Args:
        in_channels: Width of the features.
        channels: Width d of the table.
        num_layers: Smoothing layers L.

    Source: gating by features and smoothing over frozen item graphs are MGCN's (arXiv 2308.03588)
    and FREEDOM's (arXiv 2211.06924).
    """

    def __init__(self, in_channels: int, channels: int, num_layers: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(in_channels)
        self.project = torch.nn.Linear(in_channels, channels)
        self.conv = FixedConv()
        self.num_layers = num_layers

    def reset_parameters(self) -> None:
        """Draws the weights anew."""
        self.norm.reset_parameters()
        self.project.reset_parameters()

    def forward(self, table: Tensor, features: Tensor, has: Tensor, similar: FixedGraph) -> Tensor:
        """``table`` ``[I, d]``, ``features`` ``[I, F]``, ``has`` bool ``[I]`` to ``[I, d]``."""
        gate = torch.sigmoid(self.project(self.norm(features))) * has.unsqueeze(-1)
        out = table * gate
        for _ in range(self.num_layers):
            out = self.conv(out, similar)
        return out


class ModalityGate(torch.nn.Module):
    r"""How much a user leans on each modality: :math:`g_{um} = \mathrm{softmax}_m(w \cdot
    \mathrm{LN}(p_{um}) + b_m)` over the modalities that the user's items have.

    It starts with equal shares.

    Args:
        num_modalities: M.
        channels: Width d of a preference.
    """

    def __init__(self, num_modalities: int, channels: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(num_modalities, channels))
        self.bias = torch.nn.Parameter(torch.zeros(num_modalities))

    def reset_parameters(self) -> None:
        """Equal shares again."""
        torch.nn.init.zeros_(self.weight)
        torch.nn.init.zeros_(self.bias)

    def forward(self, preference: Tensor) -> Tensor:
        """``[B, M, d]`` to shares ``[B, M]`` that sum to one (to zero where nothing is there)."""
        there = preference.abs().amax(dim=-1) > 0
        normed = F.layer_norm(preference, preference.shape[-1:])
        logit = (normed * self.weight).sum(dim=-1) + self.bias
        share = logit.masked_fill(~there, float("-inf")).softmax(dim=-1)
        return share.nan_to_num()
