"""LATTICE: LightGCN with an item-item graph learned from content."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch_geometric.nn import LGConv

from graphdiff.graph.message_graphs import user_item_graph
from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.propagation import FixedConv, FixedGraph, mean_layer, propagate
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.models.lattice.learned_graph import cosine_graph
from graphdiff.nn.losses import bpr_loss, l2_penalty


class LATTICEConfig(ModelConfig):
    """Settings of :class:`LATTICE`."""

    num_layers: int = Field(2, ge=1, description="Layers on the user-item graph.")
    num_item_layers: int = Field(1, ge=1, description="Layers on the item graph.")
    num_neighbors: int = Field(
        10, ge=1, description="Neighbours k in the item graphs, including the item itself."
    )
    content_channels: int = Field(64, ge=1, description="Width of the projected features.")
    skip: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Share λ of the graph of raw features; the learned graph has the rest.",
    )
    regularization: float = Field(
        1e-3, ge=0, description="Weight of half the squared norm of the batch's embeddings."
    )


class LATTICE(Recommender):
    r"""The LATTICE model from `"Mining Latent Structures for Multimedia Recommendation"
    <https://arxiv.org/abs/2104.09036>`_ with LightGCN as its backbone.

    For each modality, two graphs connect each item to its k nearest items by cosine: :math:`S_m`
    by raw features and :math:`\tilde{S}_m` by learned features, both as in
    :func:`~graphdiff.models.lattice.learned_graph.cosine_graph`. Mixed over modalities with learned
    weights α,

    .. math::
        A = \sum_m \alpha_m \big(\lambda S_m(\mathbf{x}_m) + (1 - \lambda) \tilde{S}_m(W_m
        \mathbf{x}_m + \mathbf{b}_m)\big), \qquad \alpha = \mathrm{softmax}(\mathbf{w}),

    they propagate the item embeddings :math:`\mathbf{e}_i`. With LightGCN's embeddings
    :math:`\bar{\mathbf{e}}`,

    .. math::
        \mathbf{h} = A^L \mathbf{e}, \qquad
        \hat{y}_{ui} = \bar{\mathbf{e}}_u \cdot \big(\bar{\mathbf{e}}_i +
        \mathbf{h}_i / \lVert\mathbf{h}_i\rVert\big).

    The loss is BPR plus an L2 penalty on these outputs. As in the authors' code, the learned graph
    is built once per epoch: the gradient of the first step reaches W, b and α through its weights;
    in the other steps it is frozen. Where the code and the paper differ, this follows the paper:
    each learned graph is normalised on its own, negative cosines are set to zero, raw features are
    frozen, and LightGCN's weights are :math:`1/\sqrt{|N_u||N_i|}`. Items that lack a modality are
    not in its graphs; for items that lack all of them, :math:`\mathbf{h}_i = 0`.

    Args:
        config: :class:`LATTICEConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality.
    """

    Config: ClassVar[type[ModelConfig]] = LATTICEConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "interactions"
    uses_content: ClassVar[bool] = True
    uses_similarity: ClassVar[bool] = False
    config: LATTICEConfig

    def __init__(self, config: LATTICEConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self._require_content()
        self.user_embedding = torch.nn.Embedding(graph.num_users, config.hidden_channels)
        self.item_embedding = torch.nn.Embedding(graph.num_items, config.hidden_channels)
        self.project = torch.nn.ModuleDict(
            {
                name: torch.nn.Linear(graph.features(name)[0].size(1), config.content_channels)
                for name in graph.modalities
            }
        )
        self.modality_logits = torch.nn.Parameter(torch.empty(len(graph.modalities)))
        self.conv, self.learned_conv = FixedConv(), LGConv(normalize=False)
        self._epoch_graph: FixedGraph | None = None
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries: the paper's and MMRec's grids and a few values
        around them."""
        return {
            "hidden_channels": [64, 128],
            "lr": [5e-4, 1e-3, 2e-3, 5e-3],
            "num_layers": [2, 3],
            "num_neighbors": [10, 20],
            "skip": [0.5, 0.7, 0.9],
            "regularization": [1e-5, 1e-4, 1e-3, 1e-2],
        }

    def reset_parameters(self) -> None:
        """Reset embeddings (Xavier uniform), projections and modality weights (equal)."""
        torch.nn.init.xavier_uniform_(self.user_embedding.weight)
        torch.nn.init.xavier_uniform_(self.item_embedding.weight)
        torch.nn.init.zeros_(self.modality_logits)
        for project in self.project.values():
            project.reset_parameters()  # type: ignore[operator]
        self._epoch_graph = None

    def start_epoch(self, generator: torch.Generator) -> None:
        """Discard the item graph, so that the next step rebuilds it."""
        self._epoch_graph = None

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return BPR plus an L2 penalty on the batch's outputs; ``batch`` is long ``[B]``."""
        index, positive = self.graph.user_of(batch), self.graph.col[batch]
        negative = sample_negatives(self.graph, index, generator)
        if self._epoch_graph is None:
            edge_index, edge_weight = self._item_graph()
            items = self._smooth_learning(edge_index, edge_weight)
            self._epoch_graph = FixedGraph(
                edge_index, edge_weight.detach(), self.num_items, self.num_items
            )
        else:
            layers = self.config.num_item_layers
            items = propagate(self.item_embedding.weight, self._epoch_graph, layers)[-1]
        users, items = self._embeddings(items)
        user = F.embedding(index, users)
        chosen = F.embedding(positive, items), F.embedding(negative, items)
        return bpr_loss(user, *chosen) + self.config.regularization * l2_penalty(user, *chosen)

    def tables(self) -> Tables:
        """Return the embeddings after message passing over the current item graph."""
        user, item = self._embeddings(self._smooth_learning(*self._item_graph()))
        return Tables(item=item, user=user)

    def _embeddings(self, smoothed: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs ``[U, d]`` and ``[I, d]``, given the propagated item embeddings."""
        x = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        out = mean_layer(propagate(x, self.graph.cached(user_item_graph), self.config.num_layers))
        user, item = out.split([self.num_users, self.num_items])
        return user, item + F.normalize(smoothed, dim=-1)

    def _smooth_learning(self, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Propagate the item embeddings over the item graph, with gradients for its weights."""
        out = self.item_embedding.weight
        for _ in range(self.config.num_item_layers):
            out = self.learned_conv(out, edge_index, edge_weight)
        return out

    def _item_graph(self) -> tuple[Tensor, Tensor]:
        """Return A as ``(edge_index [2, E], edge_weight [E])``, with repeated edges."""
        config = self.config
        raw = self.graph.cached(_raw_graphs, config.num_neighbors)
        edge_index, edge_weight = [], []
        for name, share in zip(
            self.graph.modalities, self.modality_logits.softmax(dim=0), strict=True
        ):
            features, item = self.graph.features(name)[0], _items_with(self.graph, name)
            learned = cosine_graph(self.project[name](features), item, config.num_neighbors)
            edge_index += [raw[name][0], learned[0]]
            edge_weight += [
                share * config.skip * raw[name][1],
                share * (1 - config.skip) * learned[1],
            ]
        return torch.cat(edge_index, dim=1), torch.cat(edge_weight)


def _raw_graphs(graph: RecGraph, num_neighbors: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Each modality's graph of raw features."""
    return {
        name: cosine_graph(graph.features(name)[0], _items_with(graph, name), num_neighbors)
        for name in graph.modalities
    }


def _items_with(graph: RecGraph, modality: str) -> Tensor:
    """Return the items that have a modality and non-zero features in it."""
    x, has = graph.features(modality)
    return (has & x.any(dim=1)).nonzero().flatten()
