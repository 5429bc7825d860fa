"""MGCN: modality views purified and fused under the guidance of behaviour."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig
from graphdiff.models.multiview import (
    MultiViewConfig,
    MultiViewRecommender,
    shared_and_preferred,
)


class MGCNConfig(MultiViewConfig):
    """Settings of :class:`MGCN`."""


class MGCN(MultiViewRecommender):
    r"""The MGCN model from `"Multi-View Graph Convolutional Network for Multimedia Recommendation"
    <https://arxiv.org/abs/2308.03588>`_.

    The views are the modalities m. The *behaviour-guided purifier* gates the item embeddings E by
    projected features,

    .. math::
        \dot{E}_m = E \odot \sigma\big(W_m (P_m X_m + \mathbf{p}_m) + \mathbf{b}_m\big),

    the *multi-view encoder* propagates them to :math:`\mathbf{h}_m` (see
    :class:`~graphdiff.models.multiview.MultiViewRecommender`), and the *behaviour-aware fuser*
    splits them into a part shared by all modalities and a remainder of each:

    .. math::
        \alpha_m &= \mathrm{softmax}_m\, \mathbf{q} \cdot \tanh(W_q \mathbf{h}_m + \mathbf{b}_q),
        \qquad \mathbf{h}_* = \sum_m \alpha_m \mathbf{h}_m, \\
        \mathbf{s} &= \tfrac{1}{M + 1} \Big[\mathbf{h}_* + \sum_m
        \sigma(W'_m \bar{\mathbf{e}} + \mathbf{b}'_m) \odot (\mathbf{h}_m - \mathbf{h}_*)\Big].

    Softmax and mean run over the modalities that a node has. Where the paper and the authors' code
    differ, this follows the code.

    Args:
        config: :class:`MGCNConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality.
    """

    Config: ClassVar[type[ModelConfig]] = MGCNConfig
    config: MGCNConfig

    def __init__(self, config: MGCNConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        channels, names = config.hidden_channels, graph.modalities
        self.purify = torch.nn.ModuleDict({m: torch.nn.Linear(channels, channels) for m in names})
        self.prefer = torch.nn.ModuleDict({m: torch.nn.Linear(channels, channels) for m in names})
        self.attention = torch.nn.Sequential(
            torch.nn.Linear(channels, channels),
            torch.nn.Tanh(),
            torch.nn.Linear(channels, 1, bias=False),
        )
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries: the paper's grid and a few values around it."""
        return {
            "hidden_channels": [64, 128],
            "lr": [1e-3, 2e-3],
            "num_layers": [2, 3, 4],
            "num_neighbors": [5, 10, 15, 20],
            "contrastive": [1e-3, 1e-2, 3e-2, 1e-1],
            "regularization": [1e-5, 1e-4, 1e-3],
        }

    def item_views(self) -> list[Tensor]:
        """Return the item embeddings gated by each modality."""
        item = self.item_embedding.weight
        return [
            item * torch.sigmoid(self.purify[name](self.project[name](features)))
            for name, features in self.features.items()
        ]

    def fuse(
        self, content: Tensor, views: Tensor, has: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return the shared part plus the gated remainder of each modality."""
        preferences = (torch.sigmoid(self.prefer[name](content)) for name in self.graph.modalities)
        return shared_and_preferred(self.attention(views).squeeze(-1), preferences, views, has)
