"""SimGCL: LightGCN with a contrastive loss on noisy views."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from graphdiff.graph.message_graphs import user_item_graph
from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.propagation import mean_layer, propagate
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.nn.losses import bpr_loss, info_nce_loss, l2_penalty


class SimGCLConfig(ModelConfig):
    """Settings of :class:`SimGCL`."""

    num_layers: int = Field(3, ge=1, description="Propagation layers L.")
    contrast: float = Field(0.1, ge=0, description="Weight λ of the contrastive loss.")
    noise: float = Field(0.1, ge=0, description="Length ε of the noise added in each layer.")
    temperature: float = Field(0.2, gt=0, description="Temperature τ of the contrastive loss.")
    regularization: float = Field(
        1e-4, ge=0, description="Weight of half the squared norm of the batch's embeddings."
    )


class SimGCL(Recommender):
    r"""The SimGCL model from `"Are Graph Augmentations Necessary? Simple Graph Contrastive Learning
    for Recommendation" <https://arxiv.org/abs/2112.08679>`_.

    The encoder is LightGCN without layer 0. A view adds to each node of each layer a random vector
    of length ε in the same orthant as the node,

    .. math::
        \mathbf{e} = \tfrac{1}{L} \sum_{l=1}^L \mathbf{e}^{(l)}, \qquad
        \mathbf{e}'^{(l)}_i = \sum_{j \in N_i} \frac{\mathbf{e}'^{(l-1)}_j}{\sqrt{|N_i||N_j|}} +
        \epsilon \frac{\mathbf{r}}{\lVert\mathbf{r}\rVert} \odot \mathrm{sign}(\cdot), \qquad
        \mathbf{r} \sim U(0, 1)^d,

    and two views of the users and of the items of the batch are contrasted:

    .. math::
        \mathcal{L} = \mathcal{L}_{BPR} + \lambda \big(\mathcal{L}_{NCE}(U_B) +
        \mathcal{L}_{NCE}(I_B)\big) + \lambda_2 \lVert\Theta\rVert^2, \qquad
        \mathcal{L}_{NCE}(B) = \mathop{\mathrm{mean}}_{i \in B} -\log
        \frac{e^{\cos(\mathbf{e}'_i, \mathbf{e}''_i) / \tau}}
        {\sum_{j \in B} e^{\cos(\mathbf{e}'_i, \mathbf{e}''_j) / \tau}}.

    As in the authors' code, users and items that repeat in a batch count once, and only positive
    items are contrasted. Θ are the embeddings before propagation. The losses are means over the
    batch, as in the authors' PyTorch code; the paper writes sums.

    Args:
        config: :class:`SimGCLConfig`.
        graph: Training interactions.
    """

    Config: ClassVar[type[ModelConfig]] = SimGCLConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "interactions"
    config: SimGCLConfig

    def __init__(self, config: SimGCLConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        num_nodes = graph.num_users + graph.num_items
        self.embedding = torch.nn.Embedding(num_nodes, config.hidden_channels)
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries: LightGCN's, and part of the paper's grids of λ
        and ε."""
        return {
            "hidden_channels": [64, 128],
            "lr": [1e-3, 2e-3, 5e-3],
            "num_layers": [2, 3],
            "contrast": [0.01, 0.05, 0.1, 0.2, 0.5, 1.0],
            "noise": [0.05, 0.1, 0.2],
            "regularization": [1e-4, 1e-3, 1e-2],
        }

    def reset_parameters(self) -> None:
        """Reset the embeddings (Xavier uniform)."""
        torch.nn.init.xavier_uniform_(self.embedding.weight)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return BPR plus contrastive loss plus an L2 penalty; ``batch`` is long ``[B]``."""
        user, positive = self.graph.user_of(batch), self.graph.col[batch]
        negative = sample_negatives(self.graph, user, generator)
        nodes = user, positive + self.num_users, negative + self.num_users
        hop = self._first_hop()
        out = self._encode(hop)
        loss = bpr_loss(*(F.embedding(node, out) for node in nodes))
        penalty = l2_penalty(*(self.embedding(node) for node in nodes))
        loss = loss + self.config.regularization * penalty
        if self.config.contrast:
            view, other = self._encode(hop, generator), self._encode(hop, generator)
            for node in nodes[:2]:
                once = node.unique()
                contrast = info_nce_loss(
                    F.embedding(once, view), F.embedding(once, other), self.config.temperature
                )
                loss = loss + self.config.contrast * contrast
        return loss

    def tables(self) -> Tables:
        """Return the propagated embeddings of users and items, without noise."""
        user, item = self._encode(self._first_hop()).split([self.num_users, self.num_items])
        return Tables(item=item, user=user)

    def _first_hop(self) -> Tensor:
        """Return the first layer before noise, shared by encoder and views, ``[U + I, d]``."""
        return propagate(self.embedding.weight, self.graph.cached(user_item_graph), 1)[1]

    def _encode(self, hop: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the mean of layers 1 to L, ``[U + I, d]``; noisy if a generator is given."""

        def perturb(x: Tensor) -> Tensor:
            noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            return x + self.config.noise * x.sign() * F.normalize(noise, dim=-1)

        graph, further = self.graph.cached(user_item_graph), self.config.num_layers - 1
        if generator is None:
            return mean_layer(propagate(hop, graph, further))
        return mean_layer(propagate(perturb(hop), graph, further, perturb))
