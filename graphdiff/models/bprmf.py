"""BPR-MF: matrix factorisation with a pairwise ranking loss."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.graph.negatives import draw_triples
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.nn.losses import bpr_loss, l2_penalty


class BPRMFConfig(ModelConfig):
    """Settings of :class:`BPRMF`."""

    lr: float = Field(5e-3, gt=0, description="Learning rate of Adam.")
    regularization: float = Field(
        0.1, ge=0, description="Weight λ of half the squared norm of the batch's embeddings."
    )


class BPRMF(Recommender):
    r"""The matrix factorisation from `"BPR: Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_.

    .. math::
        \hat{y}_{ui} = \mathbf{w}_u \cdot \mathbf{h}_i, \qquad
        \mathcal{L} = \mathop{\mathrm{mean}}_{(u, i, j)} \Big[ -\ln\sigma(\hat{y}_{ui} -
        \hat{y}_{uj}) + \tfrac{\lambda}{2} \big(\lVert\mathbf{w}_u\rVert^2 +
        \lVert\mathbf{h}_i\rVert^2 + \lVert\mathbf{h}_j\rVert^2\big) \Big]

    with one negative item j per interaction, drawn uniformly from the items with training
    interactions that are not in the history of u. The paper draws triples with replacement and
    has one λ for each kind of factor; here, as in current toolboxes, an epoch visits each
    interaction once and there is one λ.

    Args:
        config: :class:`BPRMFConfig`.
        graph: Training interactions.
    """

    Config: ClassVar[type[ModelConfig]] = BPRMFConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "interactions"
    config: BPRMFConfig

    def __init__(self, config: BPRMFConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self.user_embedding = torch.nn.Embedding(graph.num_users, config.hidden_channels)
        self.item_embedding = torch.nn.Embedding(graph.num_items, config.hidden_channels)
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
        """Reset the embeddings (Xavier uniform)."""
        torch.nn.init.xavier_uniform_(self.user_embedding.weight)
        torch.nn.init.xavier_uniform_(self.item_embedding.weight)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return BPR plus an L2 penalty on the batch's embeddings; ``batch`` is long ``[B]``."""
        return self.part_loss(batch, generator, slice(None))

    def part_loss(self, batch: Tensor, generator: torch.Generator, part: slice) -> Tensor:
        """Return the contribution of the interactions ``batch[part]`` to :meth:`loss`."""
        drawn = draw_triples(self.graph, batch, generator, part)
        user = self.user_embedding(drawn.user)
        items = self.item_embedding(drawn.positive), self.item_embedding(drawn.negative)
        loss = bpr_loss(user, *items) + self.config.regularization * l2_penalty(user, *items)
        return loss * (user.size(0) / batch.numel())

    def tables(self) -> Tables:
        """Return the embeddings of users and items."""
        return Tables(item=self.item_embedding.weight, user=self.user_embedding.weight)
