"""SMORE: modality fusion in the frequency domain."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.graph.message_graphs import strongest_similarity_graph
from graphdiff.graph.propagation import FixedGraph
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig
from graphdiff.models.multiview import MultiViewConfig, MultiViewRecommender

#: Name of the fused view; not a valid name of a modality.
FUSED = "(fused)"


class SMOREConfig(MultiViewConfig):
    """Settings of :class:`SMORE`."""

    num_layers: int = Field(3, ge=0, description="Layers on the user-item graph.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout of the preference gates.")


class SMORE(MultiViewRecommender):
    r"""The SMORE model from `"Spectrum-based Modality Representation Fusion Graph Convolutional
    Network for Multimodal Recommendation" <https://arxiv.org/abs/2412.14978>`_.

    The views are the modalities m and their fusion f. Projected features are filtered and
    multiplied in the frequency domain (Fourier transform :math:`\mathcal{F}` along the channels,
    learned complex filters :math:`\omega`):

    .. math::
        \tilde{X}_m &= P_m X_m + \mathbf{p}_m, \qquad
        \hat{X}_m = \mathcal{F}^{-1}\big(\omega_m \odot \mathcal{F}(\tilde{X}_m)\big), \qquad
        \hat{X}_f = \mathcal{F}^{-1}\Big(\omega_f \odot \prod_m \mathcal{F}(\tilde{X}_m)\Big), \\
        \dot{E}_v &= E \odot \sigma(W_v \hat{X}_v + \mathbf{b}_v).

    They are propagated to :math:`\mathbf{h}_v` (see
    :class:`~graphdiff.models.multiview.MultiViewRecommender`); the item-item graph of the fused
    view is the union of the modalities' graphs, with the largest weight of each edge. The
    *modality-aware preference module* computes

    .. math::
        \mathbf{s} = \tfrac{1}{M + 1} \Big[\mathbf{g}_f \odot \mathbf{h}_f + \sum_m \mathbf{g}_m
        \odot \mathrm{softmax}\big(Q_m \tanh(W'_m \mathbf{h}_f + \mathbf{b}'_m)\big) \odot
        \mathbf{h}_m\Big], \qquad \mathbf{g}_v = \sigma(G_v \bar{\mathbf{e}} + \mathbf{g}'_v),

    where the softmax runs over channels and the gates :math:`\mathbf{g}` have dropout in training.

    The product and the mean run over the modalities that a node has. All modalities have the same
    number of neighbours. Where the paper and the authors' code differ, this follows the code: the
    product is that of unfiltered spectra.

    Args:
        config: :class:`SMOREConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality.
    """

    Config: ClassVar[type[ModelConfig]] = SMOREConfig
    config: SMOREConfig

    def __init__(self, config: SMOREConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        channels, names = config.hidden_channels, graph.modalities
        views = [*names, FUSED]
        # Real and imaginary parts: fused optimizers and safetensors require real tensors.
        self.filters = torch.nn.ParameterDict(
            {name: torch.empty(channels // 2 + 1, 2) for name in views}
        )
        self.purify = torch.nn.ModuleDict({v: torch.nn.Linear(channels, channels) for v in views})
        self.prefer = torch.nn.ModuleDict({v: torch.nn.Linear(channels, channels) for v in views})
        self.attention = torch.nn.ModuleDict(
            {
                name: torch.nn.Sequential(
                    torch.nn.Linear(channels, channels),
                    torch.nn.Tanh(),
                    torch.nn.Linear(channels, channels, bias=False),
                )
                for name in names
            }
        )
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries: the paper's grid and a few values around it."""
        return {
            "hidden_channels": [64, 128],
            "lr": [1e-3, 2e-3],
            "num_layers": [2, 3, 4],
            "num_neighbors": [10, 15, 20, 40],
            "contrastive": [1e-2, 3e-2, 1e-1],
            "regularization": [1e-5, 1e-4, 1e-3],
            "dropout": [0.0, 0.1],
        }

    def reset_parameters(self) -> None:
        """Reset all parameters; filters are standard normal, features a copy of the data."""
        super().reset_parameters()
        for name in (*self.graph.modalities, FUSED):
            torch.nn.init.normal_(self.filters[name])

    @staticmethod
    def has_views(graph: RecGraph) -> Tensor:
        """Return the mask of views; an item has the fused view if it has any modality."""
        has = MultiViewRecommender.has_views(graph)
        return torch.cat([has, has.any(dim=1, keepdim=True)], dim=1)

    def item_views(self) -> list[Tensor]:
        """Return the item embeddings gated by each modality and by their fusion."""
        item = self.item_embedding.weight
        # rfft does not support half precision, which autocast may produce here.
        spectra = {
            name: torch.fft.rfft(self.project[name](features).to(item.dtype), dim=1, norm="ortho")
            for name, features in self.features.items()
        }
        fused: Tensor | None = None
        for name, spectrum in spectra.items():
            factor = torch.where(self.graph.features(name)[1][:, None], spectrum, 1)
            fused = factor if fused is None else fused * factor
        assert fused is not None
        return [
            item * torch.sigmoid(self.purify[view](self._filter(view, spectrum)))
            for view, spectrum in [*spectra.items(), (FUSED, fused)]
        ]

    def _filter(self, view: str, spectrum: Tensor) -> Tensor:
        filtered = spectrum * torch.view_as_complex(self.filters[view])
        return torch.fft.irfft(filtered, n=self.config.hidden_channels, dim=1, norm="ortho")

    def view_graph(self, n: int) -> FixedGraph:
        """Return the item-item graph of view n; for the fused view, the union of all."""
        if n < len(self.graph.modalities):
            return super().view_graph(n)
        return self.graph.cached(strongest_similarity_graph)

    def fuse(
        self, content: Tensor, views: Tensor, has: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return the mean of the gated views."""
        fused = views[:, -1]
        total = self._gate(FUSED, content, generator) * fused
        for n, name in enumerate(self.graph.modalities):
            view = self.attention[name](fused).softmax(dim=1) * views[:, n]
            total = total + self._gate(name, content, generator) * view
        return total / has.sum(dim=1, keepdim=True).clamp(min=1)

    def _gate(self, view: str, content: Tensor, generator: torch.Generator | None) -> Tensor:
        gate = torch.sigmoid(self.prefer[view](content))
        dropout = self.config.dropout
        if generator is None or dropout == 0:
            return gate
        return (
            gate
            * torch.empty_like(gate).bernoulli_(1 - dropout, generator=generator)
            / (1 - dropout)
        )
