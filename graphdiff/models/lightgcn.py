"""LightGCN: PyG's implementation with the interface of a recommender."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch_geometric.nn.models import LightGCN as PyGLightGCN

from graphdiff.graph.message_graphs import user_item_graph
from graphdiff.graph.negatives import draw_triples
from graphdiff.graph.propagation import FixedConv
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Recommender, Tables


class LightGCNConfig(ModelConfig):
    """Settings of :class:`LightGCN`."""

    num_layers: int = Field(3, ge=1, description="Propagation layers L.")
    regularization: float = Field(
        1e-4, ge=0, description="Weight of the squared norm of the batch's embeddings."
    )


class LightGCN(Recommender):
    r"""The LightGCN model from `"LightGCN: Simplifying and Powering Graph Convolution Network for
    Recommendation" <https://arxiv.org/abs/2002.02126>`_, wrapping
    :class:`torch_geometric.nn.models.LightGCN`.

    .. math::
        \mathbf{e}^{(l+1)}_u = \sum_{i \in N_u} \frac{\mathbf{e}^{(l)}_i}{\sqrt{|N_u||N_i|}},
        \qquad \hat{y}_{ui} = \Big(\tfrac{1}{L+1}\sum_l \mathbf{e}^{(l)}_u\Big) \cdot
        \Big(\tfrac{1}{L+1}\sum_l \mathbf{e}^{(l)}_i\Big),

    trained with BPR on one uniform negative per interaction.

    Args:
        config: :class:`LightGCNConfig`.
        graph: Training interactions.
    """

    Config: ClassVar[type[ModelConfig]] = LightGCNConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "interactions"
    config: LightGCNConfig

    def __init__(self, config: LightGCNConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self.net = PyGLightGCN(
            graph.num_users + graph.num_items, config.hidden_channels, config.num_layers
        )
        self.net.convs = torch.nn.ModuleList(FixedConv() for _ in range(config.num_layers))

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return {
            "hidden_channels": [64, 128],
            "lr": [1e-3, 2e-3, 5e-3],
            "num_layers": [2, 3, 4],
            "regularization": [1e-5, 1e-4, 1e-3, 1e-2],
        }

    def reset_parameters(self) -> None:
        """Reset the embeddings (Xavier uniform)."""
        self.net.reset_parameters()

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return BPR plus an L2 penalty on the batch's embeddings; ``batch`` is long ``[B]``."""
        return self.part_loss(batch, generator, slice(None))

    def part_loss(self, batch: Tensor, generator: torch.Generator, part: slice) -> Tensor:
        """Return the contribution of the interactions ``batch[part]`` to :meth:`loss`."""
        user, positive, negative = draw_triples(self.graph, batch, generator, part)
        positive, negative = positive + self.num_users, negative + self.num_users
        out = self._embeddings()
        loss = self.net.recommendation_loss(
            (out[user] * out[positive]).sum(dim=-1),
            (out[user] * out[negative]).sum(dim=-1),
            node_id=torch.cat([user, positive, negative]),
            lambda_reg=self.config.regularization,
        )
        return loss * (user.numel() / batch.numel())

    def tables(self) -> Tables:
        """Return the propagated embeddings of users and items."""
        user, item = self._embeddings().split([self.num_users, self.num_items])
        return Tables(item=item, user=user)

    def _embeddings(self) -> Tensor:
        return self.net.get_embedding(self.graph.cached(user_item_graph))
