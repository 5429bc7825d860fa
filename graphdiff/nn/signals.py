"""Signals that guide C-Net: what a user's items say through their neighbours and their content."""

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

    is a low-pass filter over the items: like the truncated SVD that LD4MRec encodes this signal
    with, it keeps the directions of large singular values of :math:`\tilde{A}`, but it is learned
    end to end. That choice is ours.

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
        M = w\, S^L \big(E \odot \sigma(Wx + b)\big),

    so that an item that nobody has touched gets an embedding from items that look alike. Items that
    lack the modality have none: their rows are zero.

    Features are centred and scaled row by row once, not in each step; wider ones than
    ``max_features`` are first reduced to their principal components.

    Args:
        features: ``[I, F]``.
        has: Bool ``[I]``, False where an item lacks the modality.
        channels: Width d of the table.
        num_layers: Smoothing layers L.
        max_features: Widest features that are used as they are.
        weight: w.

    Source: gating embeddings by features and smoothing them over frozen item graphs are MGCN's
    (arXiv 2308.03588) and FREEDOM's (arXiv 2211.06924).
    """

    features: Tensor
    has: Tensor

    def __init__(
        self,
        features: Tensor,
        has: Tensor,
        channels: int,
        num_layers: int,
        max_features: int,
        weight: float,
    ) -> None:
        super().__init__()
        self.register_buffer("features", _standardised(features, has, max_features))
        # The graph that the model carries has it already.
        self.register_buffer("has", has, persistent=False)
        self.project = torch.nn.Linear(self.features.size(1), channels)
        self.conv = FixedConv()
        self.num_layers = num_layers
        self.weight = weight

    def reset_parameters(self) -> None:
        """Draws the weights anew."""
        self.project.reset_parameters()

    def forward(self, table: Tensor, similar: FixedGraph) -> Tensor:
        """``[I, d]`` to ``[I, d]``."""
        gate = self.weight * torch.sigmoid(self.project(self.features))
        out = table * gate * self.has.unsqueeze(-1)
        for _ in range(self.num_layers):
            out = self.conv(out, similar)
        return out


def _standardised(features: Tensor, has: Tensor, max_features: int) -> Tensor:
    if not has.any():
        return features.new_zeros(features.size(0), min(features.size(1), max_features))
    x = features - features[has].mean(dim=0)
    width = min(max_features, int(has.sum()))
    if x.size(1) > max_features:
        with torch.random.fork_rng():
            # The randomised SVD draws from the global generator.
            torch.manual_seed(0)
            _, _, components = torch.pca_lowrank(x[has], q=width, center=False, niter=4)
        x = F.pad(x @ components, (0, max_features - width))
    return F.layer_norm(x, x.shape[-1:]) * has.unsqueeze(-1)


class ModalityGate(torch.nn.Module):
    r"""How much each user leans on each modality.

    .. math::
        g_{um} = \mathrm{softmax}_m(\mathbf{w}_m \cdot \mathrm{LN}(\mathbf{p}_{um}) + b_m)

    over the modalities that the user's items have. It starts with equal shares.

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
        """``[B, M, d]`` to shares ``[B, M]`` that sum to one, or to zero where nothing is there."""
        there = preference.abs().amax(dim=-1) > 0
        normed = F.layer_norm(preference, preference.shape[-1:])
        logit = (normed * self.weight).sum(dim=-1) + self.bias
        # A finite mask: a row of -inf would make the gradient NaN.
        share = logit.masked_fill(~there, torch.finfo(logit.dtype).min).softmax(dim=-1)
        return share * there
