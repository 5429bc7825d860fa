"""FREEDOM: a frozen item-item graph and a pruned user-item graph."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.message_graphs import sample_by_degree, similarity_graph, user_item_graph
from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.propagation import FixedConv, FixedGraph, mean_layer, propagate
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.nn.losses import bpr_loss


class FREEDOMConfig(ModelConfig):
    """Settings of :class:`FREEDOM`."""

    num_layers: int = Field(2, ge=1, description="Layers on the user-item graph.")
    num_item_layers: int = Field(1, ge=0, description="Layers on the frozen item-item graph.")
    num_neighbors: int = Field(10, ge=1, description="Neighbours k in the item-item graph.")
    dropout: float = Field(
        0.8, ge=0, lt=1, description="Share of interactions pruned for each epoch."
    )
    modality_loss: float = Field(1e-3, ge=0, description="Weight λ of the modality BPR losses.")
    modality_weights: dict[str, float] | None = Field(
        None,
        description="Share of each modality in the item-item graph; equal shares by default.",
    )


class FREEDOM(Recommender):
    r"""The FREEDOM model from `"A Tale of Two Graphs: Freezing and Denoising Graph Structures for
    Multimodal Recommendation" <https://arxiv.org/abs/2211.06924>`_.

    The item-item graph :math:`S = \sum_m \alpha_m S_m` of the modalities' k nearest neighbours
    is built once and frozen. In each epoch a share of the interactions is kept, sampled without
    replacement with probability proportional to :math:`1/\sqrt{|N_u||N_i|}`, so that edges between
    popular nodes are pruned first. With LightGCN layers on the remaining edges and
    :math:`\tilde{\mathbf{e}}_i = S^L \mathbf{e}_i`,

    .. math::
        \hat{y}_{ui} = \mathbf{e}_u \cdot (\mathbf{e}_i + \tilde{\mathbf{e}}_i), \qquad
        \mathcal{L} = \mathcal{L}_{BPR} + \lambda \sum_m
        \mathcal{L}_{BPR}(\mathbf{e}_u, W_m \mathbf{x}_{i,m}).

    Inference uses the whole interaction graph. As in the authors' code, the features are
    parameters initialised from the data, and all modalities share the embeddings of users and
    items. Items that lack a modality are left out of its loss.

    Args:
        config: :class:`FREEDOMConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality, or ``modality_weights`` names others.
    """

    Config: ClassVar[type[ModelConfig]] = FREEDOMConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "interactions"
    uses_content: ClassVar[bool] = True
    config: FREEDOMConfig

    def __init__(self, config: FREEDOMConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self._require_content()
        weights = config.modality_weights or dict.fromkeys(graph.modalities, 1.0)
        if sorted(weights) != graph.modalities:
            raise ConfigError(
                f"modality_weights names {sorted(weights)}, but the data has {graph.modalities}"
            )
        self.modality_weights = weights
        channels = config.hidden_channels
        self.user_embedding = torch.nn.Embedding(graph.num_users, channels)
        self.item_embedding = torch.nn.Embedding(graph.num_items, channels)
        self.features = torch.nn.ParameterDict(
            {name: graph.features(name)[0].clone() for name in graph.modalities}
        )
        self.project = torch.nn.ModuleDict(
            # No bias: it would cancel in the score difference of BPR.
            {
                name: torch.nn.Linear(x.size(1), channels, bias=False)
                for name, x in self.features.items()
            }
        )
        self.conv = FixedConv()
        self._pruned: FixedGraph | None = None
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries: the paper's grid and a few values around it."""
        return {
            "hidden_channels": [64, 128],
            "lr": [1e-3, 2e-3, 5e-3],
            "num_layers": [2, 3],
            "dropout": [0.5, 0.8, 0.9],
            "modality_loss": [0.0, 1e-5, 1e-3, 1e-1],
            "num_neighbors": [10, 20],
        }

    def reset_parameters(self) -> None:
        """Reset embeddings (Xavier uniform), projections, and features (a copy of the data)."""
        torch.nn.init.xavier_uniform_(self.user_embedding.weight)
        torch.nn.init.xavier_uniform_(self.item_embedding.weight)
        with torch.no_grad():
            for name in self.graph.modalities:
                self.features[name].copy_(self.graph.features(name)[0])
                self.project[name].reset_parameters()  # type: ignore[operator]

    def start_epoch(self, generator: torch.Generator) -> None:
        """Sample the interactions that message passing uses in this epoch."""
        if self.config.dropout == 0:
            self._pruned = None
            return
        kept = sample_by_degree(self.graph, 1 - self.config.dropout, generator)
        self._pruned = user_item_graph(self.graph, kept)

    def _embeddings(self, interactions: FixedGraph) -> tuple[Tensor, Tensor]:
        x = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        x = mean_layer(propagate(x, interactions, self.config.num_layers))
        user, item = x.split([self.num_users, self.num_items])
        total = sum(self.modality_weights.values())
        shares = {name: weight / total for name, weight in self.modality_weights.items()}
        frozen = self.graph.cached(similarity_graph, shares)
        similar = self.item_embedding.weight
        for _ in range(self.config.num_item_layers):
            similar = self.conv(similar, frozen)
        return user, item + similar

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return BPR on embeddings plus λ times BPR on features; ``batch`` is long ``[B]``."""
        user_index, positive = self.graph.user_of(batch), self.graph.col[batch]
        negative = sample_negatives(self.graph, user_index, generator)
        users, items = self._embeddings(self._pruned or self.graph.cached(user_item_graph))
        user = users[user_index]
        loss = bpr_loss(user, items[positive], items[negative])
        if self.config.modality_loss == 0:
            return loss
        for name, features in self.features.items():
            has = self.graph.features(name)[1]
            both = has[positive] & has[negative]
            if both.any():
                project = self.project[name]
                loss = loss + self.config.modality_loss * bpr_loss(
                    user[both],
                    project(features[positive[both]]),
                    project(features[negative[both]]),
                )
        return loss

    def tables(self) -> Tables:
        """Return the embeddings after message passing over the whole graphs."""
        user, item = self._embeddings(self.graph.cached(user_item_graph))
        return Tables(item=item, user=user)
