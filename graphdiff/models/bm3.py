"""BM3: bootstrapped multimodal representations, trained without negatives."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from graphdiff.graph.message_graphs import user_item_graph
from graphdiff.graph.propagation import FixedConv
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.nn.dropout import dropout


class BM3Config(ModelConfig):
    """Settings of :class:`BM3`; the defaults are the authors' for Amazon Baby."""

    num_layers: int = Field(1, ge=0, description="Layers L on the user-item graph.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout that perturbs the targets.")
    alignment: float = Field(
        2.0, ge=0, description="Weight of the losses that align the modalities."
    )
    regularization: float = Field(
        0.1, ge=0, description="Weight of the embeddings' norms, each divided by I."
    )


class BM3(Recommender):
    r"""The BM3 model from `"Bootstrap Latent Representations for Multi-modal Recommendation"
    <https://arxiv.org/abs/2207.05969>`_.

    LightGCN layers on the user-item graph produce :math:`\mathbf{h}_u` and, with a residual
    connection to the item embedding, :math:`\mathbf{h}_i`. A linear map per modality produces
    :math:`\mathbf{h}_i^m`. A linear predictor computes the online view
    :math:`\tilde{\mathbf{h}}` of each; dropout computes the target view
    :math:`\dot{\mathbf{h}}`, which is detached. With :math:`C(\mathbf{a}, \mathbf{b}) =
    -\cos(\mathbf{a}, \mathbf{b})`,

    .. math::
        \mathcal{L}_{rec} &= C(\tilde{\mathbf{h}}_u, \dot{\mathbf{h}}_i)
        + C(\tilde{\mathbf{h}}_i, \dot{\mathbf{h}}_u) \\
        \mathcal{L}_{align} &= \sum_m C(\tilde{\mathbf{h}}_i^m, \dot{\mathbf{h}}_i), \qquad
        \mathcal{L}_{mask} = \sum_m C(\tilde{\mathbf{h}}_i^m, \dot{\mathbf{h}}_i^m) \\
        \mathcal{L} &= \mathcal{L}_{rec} + \lambda_1 (\mathcal{L}_{align} + \mathcal{L}_{mask})
        + \lambda_2 \big(\|H_U\|_F + \|H_I\|_F\big) / I,

    averaged over the interactions of the batch; no negatives are drawn. The score of a pair is
    :math:`\tilde{\mathbf{h}}_u \cdot \tilde{\mathbf{h}}_i`.

    As in the authors' code, :math:`1 - \cos` replaces :math:`-\cos`, only items have the residual
    connection, the norms are not squared, and the features are parameters initialised from the
    data. Interactions with an item that lacks a modality are left out of the losses of that
    modality (ours).

    Args:
        config: :class:`BM3Config`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality.
    """

    Config: ClassVar[type[ModelConfig]] = BM3Config
    batch_over: ClassVar[Literal["users", "interactions", "nothing"]] = "interactions"
    uses_content: ClassVar[bool] = True
    uses_similarity: ClassVar[bool] = False
    config: BM3Config

    def __init__(self, config: BM3Config, graph: RecGraph) -> None:
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
        self.predictor = torch.nn.Linear(channels, channels)
        self.conv = FixedConv()
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries: the paper's grid and a few values around it."""
        return {
            "hidden_channels": [64, 128],
            "lr": [1e-3, 2e-3, 5e-3],
            "num_layers": [1, 2],
            "dropout": [0.3, 0.5],
            "alignment": [0.5, 2.0],
            "regularization": [0.1, 0.01],
        }

    def reset_parameters(self) -> None:
        """Reset embeddings (Xavier uniform), linear maps (Xavier normal) and features (a copy of
        the data)."""
        torch.nn.init.xavier_uniform_(self.user_embedding.weight)
        torch.nn.init.xavier_uniform_(self.item_embedding.weight)
        for linear in (self.predictor, *self.project.values()):
            linear.reset_parameters()  # type: ignore[operator]
            torch.nn.init.xavier_normal_(linear.weight)  # type: ignore[arg-type]
        with torch.no_grad():
            for name in self.graph.modalities:
                self.features[name].copy_(self.graph.features(name)[0])

    def _embeddings(self) -> tuple[Tensor, Tensor]:
        x = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        layers = [x]
        for _ in range(self.config.num_layers):
            layers.append(self.conv(layers[-1], self.graph.cached(user_item_graph)))
        user, item = torch.stack(layers).mean(dim=0).split([self.num_users, self.num_items])
        return user, item + self.item_embedding.weight

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the sum of reconstruction, alignment and penalty; ``batch`` is long ``[B]``."""
        config = self.config
        user_index, item_index = self.graph.user_of(batch), self.graph.col[batch]
        users, items = self._embeddings()
        user, item = users[user_index], items[item_index]
        user_target, item_target = self._target(user, generator), self._target(item, generator)
        loss = _distance(self.predictor(user), item_target).mean()
        loss = loss + _distance(self.predictor(item), user_target).mean()
        for name, features in self.features.items():
            has = self.graph.features(name)[1][item_index]
            if has.any():
                content = self.project[name](features[item_index[has]])
                online = self.predictor(content)
                aligned = _distance(online, item_target[has]).mean()
                masked = _distance(online, self._target(content, generator)).mean()
                loss = loss + config.alignment * (aligned + masked)
        return loss + config.regularization * (users.norm() + items.norm()) / self.num_items

    def _target(self, online: Tensor, generator: torch.Generator) -> Tensor:
        return dropout(online.detach(), self.config.dropout, generator)

    def tables(self) -> Tables:
        """Return the online views of users and items."""
        user, item = self._embeddings()
        return Tables(item=self.predictor(item), user=self.predictor(user))


def _distance(online: Tensor, target: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(online, target, dim=-1)
