"""SLMRec: one LightGCN per modality with self-supervised tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from graphdiff.graph.message_graphs import user_item_graph
from graphdiff.graph.propagation import mean_layer, propagate
from graphdiff.graph.scaling import unit_rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.nn.losses import in_batch_softmax_loss, info_nce_loss


class SLMRecConfig(ModelConfig):
    """Settings of :class:`SLMRec`."""

    weight_decay: float = Field(1e-4, ge=0, description="Weight decay of Adam.")
    num_layers: int = Field(3, ge=1, description="Layers on the user-item graph.")
    temperature: float = Field(0.2, gt=0, description="τ of the main task.")
    task: Literal["FAC", "FD", "FM", "FD+FM"] = Field(
        "FAC",
        description="Self-supervised task: fine and coarse spaces, feature dropout, feature "
        "masking, or the latter two together.",
    )
    contrast: float = Field(0.1, ge=0, description="Weight λ of the self-supervised task.")
    contrast_temperature: float = Field(0.2, gt=0, description="τ' of the self-supervised task.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout of each layer in FD.")


class SLMRec(Recommender):
    r"""The SLMRec model from `"Self-supervised Learning for Multimedia Recommendation"
    <https://doi.org/10.1109/TMM.2022.3187556>`_ (IEEE TMM 2022).

    There is one channel for ids and one for each modality. All channels share the user embeddings;
    the items enter with their embedding in the id channel and with their projected features in the
    others. Each channel has its own LightGCN (mean of layers 0 to L). The channels are then fused,
    separately for users and items:

    .. math::
        \mathbf{z}^c = \mathrm{LightGCN}\big([P;\, Q^c]\big), \qquad
        Q^m = W_m \frac{\mathbf{x}_m}{\lVert\mathbf{x}_m\rVert} + \mathbf{b}_m, \qquad
        \mathbf{z} = W \big[\mathbf{z}^{id} \Vert \mathbf{z}^1 \Vert \dots \Vert
        \mathbf{z}^M\big] + \mathbf{b}, \qquad \hat{y}_{ui} = \mathbf{z}_u \cdot \mathbf{z}_i .

    The main task contrasts each user's item with the other items of the batch, by cosines with
    temperature τ. A self-supervised task is added with weight λ:

    *FAC, fine and coarse spaces*, the task of the authors' settings. The id channel is contrasted
    with the first modality in a common space, its image there with the second modality in a second
    space, and so on:

    .. math::
        \mathbf{s}_0 = \mathbf{z}_i^{id}, \qquad \mathbf{s}_m = G_m \mathbf{s}_{m-1}, \qquad
        \mathcal{L}_{FAC} = \sum_m \mathop{\mathrm{mean}}_{i \in B} -\log
        \frac{e^{\mathbf{s}_{m,i} \cdot H_m \mathbf{z}_i^m / \tau'}}
        {\sum_{j \in B} e^{\mathbf{s}_{m,i} \cdot H_m \mathbf{z}_j^m / \tau'}} .

    All spaces have d dimensions, except the last of two or more, which has d / 2. Items that lack a
    modality are left out of its space. *FD, feature dropout*: two views of the batch's users and of
    its items, obtained by dropout after each layer, are contrasted. *FM, feature masking*: in each
    view the items of one channel, sampled in each step, are masked. *FD+FM*: both.

    Modalities are in alphabetical order. An item that lacks one has zeros there.

    Args:
        config: :class:`SLMRecConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality.
    """

    Config: ClassVar[type[ModelConfig]] = SLMRecConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "interactions"
    uses_content: ClassVar[bool] = True
    uses_similarity: ClassVar[bool] = False
    config: SLMRecConfig

    def __init__(self, config: SLMRecConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self._require_content()
        channels, num = config.hidden_channels, len(graph.modalities)
        self.user_embedding = torch.nn.Embedding(graph.num_users, channels)
        self.item_embedding = torch.nn.Embedding(graph.num_items, channels)
        self.project = torch.nn.ModuleDict(
            {
                name: torch.nn.Linear(graph.features(name)[0].size(1), channels)
                for name in graph.modalities
            }
        )
        self.fuse_users = torch.nn.Linear((num + 1) * channels, channels)
        self.fuse_items = torch.nn.Linear((num + 1) * channels, channels)
        if config.task == "FAC":
            width = [channels] * num
            if num > 1:
                width[-1] = max(1, channels // 2)
            self.to_next = torch.nn.ModuleList(torch.nn.Linear(channels, w) for w in width)
            self.to_space = torch.nn.ModuleList(torch.nn.Linear(channels, w) for w in width)
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries: part of MMRec's grids."""
        return {
            "hidden_channels": [64, 128],
            "lr": [1e-3, 3e-3, 1e-2],
            "num_layers": [2, 3],
            "contrast": [0.01, 0.05, 0.1, 0.5],
            "contrast_temperature": [0.1, 0.2, 0.5, 1.0],
            "task": ["FAC", "FD", "FD+FM"],
        }

    def reset_parameters(self) -> None:
        """Reset all weights (Xavier uniform) and biases (PyTorch's default)."""
        for part in self.modules():
            if isinstance(part, torch.nn.Linear):
                part.reset_parameters()
            if isinstance(part, torch.nn.Linear | torch.nn.Embedding):
                torch.nn.init.xavier_uniform_(part.weight)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the main loss plus λ times the self-supervised one; ``batch`` is long ``[B]``."""
        config = self.config
        user, item = self.graph.user_of(batch), self.graph.col[batch]
        content = self._item_channels()
        users, items = self._propagate(content)
        main = info_nce_loss(*self._fuse(users[user], items[item]), config.temperature)
        if config.contrast == 0:
            return main
        if config.task == "FAC":
            return main + config.contrast * self._fine_and_coarse(items[item], item)
        views = self._view_pair(content, generator)
        fused = [self._fuse(users[user], items[item]) for users, items in views]
        contrast = sum(
            info_nce_loss(view, other, config.contrast_temperature)
            for view, other in zip(*fused, strict=True)
        )
        return main + config.contrast * contrast

    def tables(self) -> Tables:
        """Return the fused embeddings of users and items."""
        user, item = self._fuse(*self._propagate(self._item_channels()))
        return Tables(item=item, user=user)

    def _item_channels(self) -> Tensor:
        """Return the item embeddings before propagation, ``[I, 1 + M, d]``, ids first."""
        channels = [self.item_embedding.weight]
        for name in self.graph.modalities:
            x, has = self.graph.features(name)
            channels.append(self.project[name](unit_rows(x)) * has.unsqueeze(1))
        return torch.stack(channels, dim=1)

    def _propagate(
        self, content: Tensor, perturb: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run LightGCN on all channels, concatenated: ``[U, (1 + M) d]``, ``[I, (1 + M) d]``."""
        user = self.user_embedding.weight.repeat(1, content.size(1))
        x = torch.cat([user, content.flatten(1)])
        layers = propagate(x, self.graph.cached(user_item_graph), self.config.num_layers, perturb)
        users, items = mean_layer(layers).split([self.num_users, self.num_items])
        return users, items

    def _fuse(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        return self.fuse_users(users), self.fuse_items(items)

    def _fine_and_coarse(self, items: Tensor, index: Tensor) -> Tensor:
        """Return the FAC loss of the propagated channels ``[B, (1 + M) d]`` of the items ``index``,
        long ``[B]``."""
        here, *others = items.chunk(len(self.graph.modalities) + 1, dim=1)
        total = items.new_zeros(())
        for number, (name, other) in enumerate(zip(self.graph.modalities, others, strict=True)):
            here, there = self.to_next[number](here), self.to_space[number](other)
            has = self.graph.features(name)[1][index]
            if has.any():
                query = here[has] / self.config.contrast_temperature
                total = total + in_batch_softmax_loss(query, there[has])
        return total

    def _view_pair(
        self, content: Tensor, generator: torch.Generator
    ) -> list[tuple[Tensor, Tensor]]:
        """Return two views of :meth:`_propagate`: channel masking, dropout, or both."""
        num, kept = content.size(1), 1 - self.config.dropout

        def drop(x: Tensor) -> Tensor:
            draw = torch.rand(x.shape, generator=generator, device=x.device)
            return x * ((draw < kept) / kept)

        perturb = drop if "FD" in self.config.task else None
        if "FM" not in self.config.task:
            return [self._propagate(content, perturb) for _ in range(2)]
        masked = torch.randperm(num, generator=generator, device=content.device)[:2]
        seen = 1 - F.one_hot(masked, num).to(content.dtype).unsqueeze(-1)
        return [self._propagate(content * mask, perturb) for mask in seen]
