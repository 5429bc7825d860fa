"""Base class of MGCN and SMORE: a behaviour view, content views and a contrastive loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.graph.message_graphs import item_to_user_graph, similarity_graph, user_item_graph
from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.propagation import FixedConv, FixedGraph, mean_layer, propagate
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.nn.losses import bpr_loss, info_nce_loss, l2_penalty


class MultiViewConfig(ModelConfig):
    """Settings of a :class:`MultiViewRecommender`; the defaults are the authors'."""

    lr_decay: float = Field(
        0.96 ** (1 / 50), gt=0, le=1, description="Factor of the learning rate after each epoch."
    )
    num_layers: int = Field(2, ge=0, description="Layers on the user-item graph.")
    num_item_layers: int = Field(1, ge=0, description="Layers on each item-item graph.")
    num_neighbors: int = Field(
        10, ge=1, description="Neighbours k in each item-item graph, the item itself included."
    )
    regularization: float = Field(
        1e-4, ge=0, description="Weight of the squared norm of the batch's final embeddings."
    )
    contrastive: float = Field(0.01, ge=0, description="Weight of the contrastive loss.")
    temperature: float = Field(0.2, gt=0, description="τ of the contrastive loss.")


class MultiViewRecommender(Recommender):
    r"""Base class of models that add content embeddings to LightGCN's embeddings.

    Let :math:`\bar{\mathbf{e}}` be LightGCN's embeddings of users and items, :math:`S_v` the
    item-item graph of view v, and :math:`\tilde{A}_{ui} = 1/\sqrt{|N_u||N_i|}`. A model defines
    item embeddings :math:`\dot{E}_v` for each view, which are propagated,

    .. math::
        \mathbf{h}_{iv} = \big(S_v^L \dot{E}_v\big)_i, \qquad
        \mathbf{h}_{uv} = \sum_i \tilde{A}_{ui} \mathbf{h}_{iv},

    and fuses the views of each node into a side embedding :math:`\mathbf{s}`. Then, in a batch,

    .. math::
        \mathbf{z} = \bar{\mathbf{e}} + \mathbf{s}, \qquad \hat{y}_{ui} = \mathbf{z}_u \cdot
        \mathbf{z}_i, \qquad \mathcal{L} = \mathcal{L}_{BPR} + \lambda_c \big[
        \mathrm{InfoNCE}(\mathbf{s}_u, \bar{\mathbf{e}}_u) +
        \mathrm{InfoNCE}(\mathbf{s}_i, \bar{\mathbf{e}}_i)\big] + \tfrac{\lambda}{2B}
        \textstyle\sum \lVert\mathbf{z}\rVert^2 .

    Propagation covers all nodes; fusion works node by node and is computed once for each distinct
    node of the batch. As in the authors' code, the features are parameters initialised from the
    data.

    Views that a node lacks are masked (ours): an item lacks the views of the modalities that it
    lacks, a user lacks a view if all of the user's items lack it.

    Args:
        config: :class:`MultiViewConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality.
    """

    Config: ClassVar[type[ModelConfig]] = MultiViewConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "interactions"
    uses_content: ClassVar[bool] = True
    weighted_similarity: ClassVar[bool] = True
    config: MultiViewConfig

    def __init__(self, config: MultiViewConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self._require_content()
        channels = config.hidden_channels
        self.user_embedding = torch.nn.Embedding(graph.num_users, channels)
        self.item_embedding = torch.nn.Embedding(graph.num_items, channels)
        self.features = torch.nn.ParameterDict(
            {name: graph.features(name)[0].clone() for name in graph.modalities}
        )
        self.project = torch.nn.ModuleDict(
            {name: torch.nn.Linear(x.size(1), channels) for name, x in self.features.items()}
        )
        self.conv = FixedConv()

    def reset_parameters(self) -> None:
        """Reset embeddings (Xavier uniform), layers, and features (a copy of the data)."""
        torch.nn.init.xavier_uniform_(self.user_embedding.weight)
        torch.nn.init.xavier_uniform_(self.item_embedding.weight)
        with torch.no_grad():
            for name in self.graph.modalities:
                self.features[name].copy_(self.graph.features(name)[0])
        for module in self.modules():
            if isinstance(module, torch.nn.Linear):
                module.reset_parameters()

    @abstractmethod
    def item_views(self) -> list[Tensor]:
        """Return the item embeddings of each view before propagation, ``[I, d]`` each."""

    def view_graph(self, n: int) -> FixedGraph:
        """Return the item-item graph of view n; by default a view is a modality."""
        graph, name = self.graph, self.graph.modalities[n]
        return graph.cached(similarity_graph, {name: 1.0})

    @staticmethod
    def has_views(graph: RecGraph) -> Tensor:
        """Return the mask of views that items have, bool ``[I, V]``; by default modalities."""
        return torch.stack([graph.features(name)[1] for name in graph.modalities], dim=1)

    @abstractmethod
    def fuse(
        self, content: Tensor, views: Tensor, has: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return the side embeddings of N nodes; each node is fused on its own.

        Args:
            content: LightGCN's embeddings, ``[N, d]``.
            views: Embeddings of the views, ``[N, V, d]``, zero where a node lacks the view.
            has: Mask of the views that a node has, bool ``[N, V]``.
            generator: Source of randomness in training; None at inference.

        Returns:
            Side embeddings, ``[N, d]``.
        """

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return BPR plus contrastive loss plus an L2 penalty; ``batch`` is long ``[B]``."""
        config, size = self.config, batch.numel()
        user, positive = self.graph.user_of(batch), self.graph.col[batch]
        negative = sample_negatives(self.graph, user, generator)
        users, at_user, user_count = user.unique(return_inverse=True, return_counts=True)
        items, at_item = torch.cat([positive, negative]).unique(return_inverse=True)
        content, side = self._embeddings(users, items, generator)

        final_user, final_item = (content + side).split([users.numel(), items.numel()])
        chosen = (
            final_user[at_user],
            final_item[at_item[:size]],
            final_item[at_item[size:]],
        )
        loss = bpr_loss(*chosen) + config.regularization * l2_penalty(*chosen)
        if config.contrastive:
            is_user = slice(users.numel())
            item_count = torch.bincount(at_item[:size], minlength=items.numel())
            is_positive = item_count.nonzero().flatten()
            for nodes, count in (
                (is_user, user_count),
                (users.numel() + is_positive, item_count[is_positive]),
            ):
                loss = loss + config.contrastive * info_nce_loss(
                    side[nodes], content[nodes], config.temperature, count
                )
        return loss

    def tables(self) -> Tables:
        """Return the final embeddings of all users and items."""
        user, item = slice(None), slice(None)
        content, side = self._embeddings(user, item, None)
        users, items = (content + side).split([self.num_users, self.num_items])
        return Tables(item=items, user=users)

    def _embeddings(
        self, user: Tensor | slice, item: Tensor | slice, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return LightGCN's and the side embeddings of the selected users followed by the selected
        items, ``[N, d]`` each."""
        graph = self.graph
        both = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        both = mean_layer(propagate(both, graph.cached(user_item_graph), self.config.num_layers))
        content_user, content_item = both.split([self.num_users, self.num_items])

        views = [self._smooth(view, n) for n, view in enumerate(self.item_views())]
        view_item = torch.cat(views, dim=1)
        view_user = self.conv(view_item, graph.cached(item_to_user_graph))

        has_user, has_item = graph.cached(nodes_with_views, self.has_views)
        content = torch.cat([content_user[user], content_item[item]])
        chosen = torch.cat([view_user[user], view_item[item]])
        has = torch.cat([has_user[user], has_item[item]])
        return content, self.fuse(content, chosen.unflatten(1, (len(views), -1)), has, generator)

    def _smooth(self, view: Tensor, n: int) -> Tensor:
        if self.config.num_item_layers == 0:
            return view * self.has_views(self.graph)[:, n, None]
        # Items without a modality have no edges: propagation leaves nothing of them.
        for _ in range(self.config.num_item_layers):
            view = self.conv(view, self.view_graph(n))
        return view


def shared_and_preferred(
    logit: Tensor, preferences: Iterable[Tensor], views: Tensor, has: Tensor
) -> Tensor:
    """Return the part that the views of a node share plus the preferred remainder of each, divided
    by the number of its views and one.

    Args:
        logit: Attention of the views in the shared part, ``[N, V]``.
        preferences: Factors of each view's remainder, V times ``[N, d]``.
        views: ``[N, V, d]``, zero where a node lacks the view.
        has: Mask of the views that a node has, bool ``[N, V]``.

    Returns:
        ``[N, d]``.
    """
    # A finite mask value: the gradient of a row of -inf would be NaN.
    share = logit.masked_fill(~has, torch.finfo(logit.dtype).min).softmax(dim=1)
    shared = (share.unsqueeze(-1) * views).sum(dim=1)
    total = shared
    for n, preference in enumerate(preferences):
        total = total + preference * has[:, n, None] * (views[:, n] - shared)
    return total / (has.sum(dim=1, keepdim=True) + 1)


def nodes_with_views(
    graph: RecGraph, has_views: Callable[[RecGraph], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return which users and which items have which view, bool ``[U, V]`` and ``[I, V]``."""
    has = has_views(graph)
    return FixedConv()(has.float(), graph.cached(item_to_user_graph)) > 0, has
