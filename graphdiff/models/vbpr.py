"""VBPR: matrix factorisation with item features."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from graphdiff.graph.negatives import draw_triples
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.nn.losses import bpr_loss, l2_penalty


class VBPRConfig(ModelConfig):
    """Settings of :class:`VBPR`."""

    lr: float = Field(5e-3, gt=0, description="Learning rate of Adam.")
    content_channels: int = Field(64, ge=1, description="Width D of the content embeddings.")
    regularization: float = Field(
        0.1, ge=0, description="Weight λ of half the squared norm of the batch's embeddings."
    )


class VBPR(Recommender):
    r"""The VBPR model from `"VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1510.01784>`_, with any modalities.

    .. math::
        \hat{y}_{ui} = \boldsymbol\gamma_u \cdot \boldsymbol\gamma_i + \boldsymbol\theta_u \cdot
        E\mathbf{f}_i + \beta_i + \boldsymbol\beta' \cdot \mathbf{f}_i, \qquad
        \mathcal{L} = \mathop{\mathrm{mean}}_{(u, i, j)} \Big[ -\ln\sigma(\hat{y}_{ui} -
        \hat{y}_{uj}) + \tfrac{\lambda}{2} \lVert\Theta_{uij}\rVert^2 \Big].

    :math:`\mathbf{f}_i` are the features of item i, all modalities concatenated, so that
    :math:`E\mathbf{f}_i` is the sum of one projection per modality; a modality that the item lacks
    contributes zero. Each modality is scaled to a mean norm of one (the authors, with one modality,
    divide by its largest value). Terms that depend only on the user do not change the ranking and
    are omitted.

    :math:`\Theta_{uij}` contains everything in the scores of a triple: both embeddings of the user
    and, for each item, its embedding, its projected features and its bias
    :math:`\beta_i + \boldsymbol\beta' \cdot \mathbf{f}_i`. The paper excludes the feature terms
    from the penalty; MMRec includes them, which prevents memorising the features of sparse data.

    Args:
        config: :class:`VBPRConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality.
    """

    Config: ClassVar[type[ModelConfig]] = VBPRConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "interactions"
    uses_content: ClassVar[bool] = True
    uses_similarity: ClassVar[bool] = False
    config: VBPRConfig
    features: Tensor

    def __init__(self, config: VBPRConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self._require_content()
        features = torch.cat([_scaled(*graph.features(name)) for name in graph.modalities], dim=1)
        self.register_buffer("features", features, persistent=False)
        channels, content = config.hidden_channels, config.content_channels
        self.user_embedding = torch.nn.Embedding(graph.num_users, channels)
        self.item_embedding = torch.nn.Embedding(graph.num_items, channels)
        self.user_content = torch.nn.Embedding(graph.num_users, content)
        self.item_bias = torch.nn.Embedding(graph.num_items, 1)
        self.project = torch.nn.Linear(features.size(1), content, bias=False)
        self.content_bias = torch.nn.Linear(features.size(1), 1, bias=False)
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries: for λ, powers of ten from MMRec's grid and values
        around the largest λ that does not shrink all embeddings to zero."""
        return {
            "hidden_channels": [64, 128],
            "lr": [1e-3, 2e-3, 5e-3],
            "regularization": [1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 2e-1],
        }

    def reset_parameters(self) -> None:
        """Reset embeddings and projection (Xavier uniform) and biases (zero)."""
        for part in (self.user_embedding, self.item_embedding, self.user_content, self.project):
            torch.nn.init.xavier_uniform_(part.weight)
        torch.nn.init.zeros_(self.item_bias.weight)
        torch.nn.init.zeros_(self.content_bias.weight)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return BPR plus an L2 penalty; ``batch`` is long ``[B]``."""
        return self.part_loss(batch, generator, slice(None))

    def part_loss(self, batch: Tensor, generator: torch.Generator, part: slice) -> Tensor:
        """Return the contribution of the interactions ``batch[part]`` to :meth:`loss`."""
        index, positive, negative = draw_triples(self.graph, batch, generator, part)
        user = torch.cat([self.user_embedding(index), self.user_content(index)], dim=1)
        items = self._items(positive), self._items(negative)
        # A constant one multiplies the item bias.
        loss = bpr_loss(F.pad(user, (0, 1), value=1.0), *items)
        loss = loss + self.config.regularization * l2_penalty(user, *items)
        return loss * (index.numel() / batch.numel())

    def tables(self) -> Tables:
        """Return embeddings concatenated with content embeddings, and the item biases."""
        items = self._items(torch.arange(self.num_items, device=self.device))
        user = torch.cat([self.user_embedding.weight, self.user_content.weight], dim=1)
        return Tables(user=user, item=items[:, :-1], bias=items[:, -1])

    def _items(self, index: Tensor) -> Tensor:
        """Return embedding, content embedding and bias of items ``[B]``, ``[B, d + D + 1]``."""
        content = self.features[index]
        bias = self.item_bias(index) + self.content_bias(content)
        return torch.cat([self.item_embedding(index), self.project(content), bias], dim=1)


def _scaled(x: Tensor, has: Tensor) -> Tensor:
    """Scale the features ``[I, F]`` of one modality to a mean norm of one, zero if missing."""
    length = x.norm(dim=1)[has]
    return x * has.unsqueeze(1) / (length.mean() if length.any() else 1)
