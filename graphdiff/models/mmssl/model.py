"""MMSSL: adversarial modality-aware structure learning with a cross-modal contrastive loss."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.propagation import FixedConv, FixedGraph
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.models.mmssl.adversary import (
    RowCritic,
    encode_similarities,
    gumbel_rows,
    similarity_rows,
)
from graphdiff.models.part_optimizer import PartOptimizer
from graphdiff.nn.dropout import dropout
from graphdiff.nn.generated import chosen_pairs
from graphdiff.nn.losses import bpr_loss, l2_penalty, two_sided_contrast_loss
from graphdiff.nn.topk import topk_inner_product


class MMSSLConfig(ModelConfig):
    """Settings of :class:`MMSSL`; the defaults are the authors'."""

    lr: float = Field(5.5e-4, gt=0, description="Learning rate of Adam.")
    batch_size: int = Field(1024, ge=1, description="Users per training step.")
    num_layers: int = Field(2, ge=0, description="Layers L on the user-item graph.")
    num_heads: int = Field(4, ge=1, description="Heads of the attention across modalities.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of the projected features.")
    num_generated: int = Field(
        1, ge=1, description="Items k per user in the learned graph of a modality."
    )
    identity_weight: float = Field(
        0.36, description="Weight η of the modality-aware embeddings before propagation."
    )
    content_weight: float = Field(
        0.55, description="Weight ω of the propagated features in the final embeddings."
    )
    contrast: float = Field(0.03, ge=0, description="Weight λ₁ of the contrastive loss.")
    temperature: float = Field(0.5, gt=0, description="Temperature τ of the contrastive loss.")
    adversarial: float = Field(1e-4, ge=0, description="Weight λ₂ of the adversarial loss.")
    regularization: float = Field(
        1e-5, ge=0, description="Weight of half the squared norm of the batch's embeddings."
    )
    feature_regularization: float = Field(
        1e-5, ge=0, description="Weight of half the squared norm of propagated features, over I."
    )
    critic_channels: int = Field(256, ge=2, description="Width of the critic.")
    critic_lr: float = Field(3e-4, gt=0, description="Learning rate of the critic.")
    critic_dropout: tuple[float, float] = Field(
        (0.31, 0.5), description="Dropout of the critic's two hidden layers."
    )
    gradient_penalty: float = Field(0.3, ge=0, description="Weight of the gradient penalty.")
    gumbel_noise: float = Field(0.002, ge=0, description="Scale ς of the Gumbel noise.")
    gumbel_temperature: float = Field(1.0, gt=0, description="Temperature of the softened rows.")
    collaborative_scale: float = Field(
        100.0, ge=0, description="Scale ζ of the final embeddings' similarities in a real row."
    )


class _Embeddings(NamedTuple):
    """The embeddings that enter the losses, as pairs of users and items."""

    final: tuple[Tensor, Tensor]
    content: list[tuple[Tensor, Tensor]]
    modality: list[tuple[Tensor, Tensor]]


class MMSSL(Recommender):
    r"""The MMSSL model from `"Multi-Modal Self-Supervised Learning for Recommendation"
    <https://arxiv.org/abs/2302.10632>`_.

    *Structure learning.* Projected features, with dropout, are propagated to users and back,

    .. math::
        \mathbf{f}_u^m = \sum_{i \in N_u} \bar{\mathbf{f}}_i^m / \sqrt{|N_u|}, \qquad
        \mathbf{f}_i^m = \sum_{u \in N_i} \mathbf{f}_u^m / \sqrt{|N_i|},

    and their inner products, zero at the items of the user's history and scaled to unit length,
    are the row :math:`\hat{A}^m_u` generated from modality m. A critic D distinguishes them from
    real rows :math:`\tilde{A}_u = \mathrm{norm}\big(\mathrm{softmax}((A_u + \varsigma\,
    \mathbf{g}) / \tau') + \zeta \hat{A}_u\big)`, with Gumbel noise g and the rows
    :math:`\hat{A}_u` of the final embeddings:

    .. math::
        \min_G \max_D\; E[D(\tilde{A}_u)] - E[D(\hat{A}^m_u)]
        - \lambda E[(\|\nabla D\|_2 - 1)^2].

    The k best items of each row, updated before each epoch, are the user's neighbours
    :math:`N_u^m`.

    *Propagation.* With :math:`\mathbf{e}_u^m = \sum_{i \in N_u^m} \mathbf{e}_i / \sqrt{|N_u^m|}`
    over these graphs, likewise for items, and attention with H heads across the modalities,

    .. math::
        \tilde{\mathbf{e}}_u^m &= W \Big\Vert_{h=1}^{H} \sum_{m'} \mathrm{softmax}_{m'}
        \Big(\frac{W_h^Q \mathbf{e}_u^m \cdot W_h^K \mathbf{e}_u^{m'}}{\sqrt{d / H}}\Big)
        \mathbf{e}_u^{m'}, \qquad
        \mathbf{e}_u^{(0)} = \mathbf{e}_u + \eta\, \mathrm{norm}\Big(\tfrac{1}{M} \sum_m
        \tilde{\mathbf{e}}_u^m\Big), \\
        \mathbf{h}_u &= \tfrac{1}{L + 1} \sum_{l=0}^{L} \mathbf{e}_u^{(l)}
        + \omega \sum_m \mathrm{norm}(\mathbf{f}_u^m), \qquad
        \mathcal{L} = \mathcal{L}_{BPR} + \lambda_1 \mathcal{L}_{CL} + \lambda_2 \mathcal{L}_G
        + \lambda_3 \|\Theta\|^2,

    where layers propagate from items to users and from these to items, with the weights of the
    first equation, and :math:`\mathcal{L}_{CL}` contrasts :math:`\mathbf{e}_u^m` with
    :math:`\mathbf{h}_u` among the users of the batch. Scores are :math:`\mathbf{h}_u \cdot
    \mathbf{h}_i`.

    *Adversarial training.* Each step first updates the critic with a separate Adam optimizer
    (:attr:`critic_optimizer`, betas 0.5 and 0.9), which is part of checkpoints. Then the model's
    loss is computed with the frozen critic. Both use the same dropout mask.

    Differences from the authors' code, where that departs from the paper or is a likely mistake:

    - Attention compares queries with keys and mixes the values of all modalities (theirs reduces
      to the identity).
    - The last layer has no softmax over channels. With it, and without the adversary, validation
      recall@20 on TikTok was .044 after 12 epochs, and .071 without it.
    - The learned graphs have at least one item per user and are built for all users at once
      (theirs are empty except in one step per epoch, and always empty for I < 10000).
    - The critic's first activation has a slope of 0.01 instead of 1, and its width is fixed.
    - Weight decay is off by default (theirs is 0.01, decoupled, which changes the weights by a
      factor of 5.5e-6 per step).
    - A step takes users with one item each, as theirs; an epoch visits every user once, where
      theirs has as many steps as there are batches of interactions.
    - Items that lack a modality send no message to their users but receive one from them (ours).

    Args:
        config: :class:`MMSSLConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality, or ``hidden_channels`` is not a multiple of
            ``num_heads``.
    """

    Config: ClassVar[type[ModelConfig]] = MMSSLConfig
    batch_over: ClassVar[Literal["users", "interactions", "nothing"]] = "users"
    uses_content: ClassVar[bool] = True
    uses_similarity: ClassVar[bool] = False
    config: MMSSLConfig
    chosen: Tensor

    def __init__(self, config: MMSSLConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self._require_content()
        channels, num_heads = config.hidden_channels, config.num_heads
        if channels % num_heads:
            raise ConfigError(
                f"hidden_channels={channels} is not a multiple of num_heads={num_heads}; "
                "choose a multiple, so that each head has the same number of channels"
            )
        self.user_embedding = torch.nn.Embedding(graph.num_users, channels)
        self.item_embedding = torch.nn.Embedding(graph.num_items, channels)
        self.project = torch.nn.ModuleDict(
            {
                name: torch.nn.Linear(graph.features(name)[0].size(1), channels)
                for name in graph.modalities
            }
        )
        self.query_projection = torch.nn.Linear(channels, channels, bias=False)
        self.key = torch.nn.Linear(channels, channels, bias=False)
        self.mix = torch.nn.Linear(num_heads * channels, channels, bias=False)
        self.critic = RowCritic(graph.num_items, config.critic_channels, config.critic_dropout)
        self.critic_optimizer = PartOptimizer(self.critic, config.critic_lr, betas=(0.5, 0.9))
        # The items of each user in each modality's learned graph; none before the first epoch.
        k = min(config.num_generated, graph.num_items)
        shape = (len(graph.modalities), graph.num_users, k)
        self.register_buffer("chosen", torch.full(shape, -1, dtype=torch.long))
        self.conv = FixedConv()
        self._learned: list[tuple[FixedGraph, FixedGraph]] | None = None
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries: the paper's grid and a few values around it."""
        return {
            "hidden_channels": [64, 128],
            "lr": [5.5e-4, 1e-3, 2e-3],
            "num_layers": [1, 2, 3],
            "num_generated": [1, 5, 10],
            "identity_weight": [0.1, 0.36, 1.0],
            "content_weight": [0.2, 0.55, 1.0],
            "contrast": [0.003, 0.03, 0.3],
            "adversarial": [0.0, 1e-4, 1e-2],
            "regularization": [1e-5, 1e-3, 1e-2],
        }

    def reset_parameters(self) -> None:
        """Reset all weights (Xavier uniform, the critic's Kaiming normal) and discard the learned
        graphs."""
        for module in (
            self.user_embedding,
            self.item_embedding,
            self.query_projection,
            self.key,
            self.mix,
        ):
            torch.nn.init.xavier_uniform_(module.weight)
        for project in self.project.values():
            project.reset_parameters()  # type: ignore[operator]
            torch.nn.init.xavier_uniform_(project.weight)  # type: ignore[arg-type]
        self.critic.reset_parameters()
        self.critic_optimizer.reset()
        self.chosen.fill_(-1)
        self._learned = None

    @torch.no_grad()
    def start_epoch(self, generator: torch.Generator) -> None:
        """Select the items of each user in the graph of each modality, by the current features."""
        for chosen, (user, item) in zip(self.chosen, self._content(), strict=True):
            for users in torch.arange(self.num_users, device=self.device).split(1024):
                row, seen, *_ = self.graph.rows(users)
                _, best = topk_inner_product(
                    user[users], item, None, chosen.size(1), exclude=(row, seen)
                )
                # A user whose items all lack the modality has no similar items.
                chosen[users] = best.masked_fill(~user[users].any(dim=1, keepdim=True), -1)
        self._learned = self._learned_graphs()

    def _learned_graphs(self) -> list[tuple[FixedGraph, FixedGraph]]:
        """Return the graphs to users and to items for each modality."""
        pairs = [chosen_pairs(chosen) for chosen in self.chosen]
        return [_both_ways(*one, self.num_users, self.num_items) for one in pairs]

    def _interactions(self) -> tuple[FixedGraph, FixedGraph]:
        return self.graph.cached(_interactions_both_ways)

    def _content(self, generator: torch.Generator | None = None) -> list[tuple[Tensor, Tensor]]:
        """Return the propagated features f of users and items for each modality; with dropout if a
        generator is given."""
        to_user, to_item = self._interactions()
        out = []
        for name, project in self.project.items():
            features, has = self.graph.features(name)
            projected = project(features)
            if generator is not None:
                projected = dropout(projected, self.config.dropout, generator)
            user = self.conv(projected * has.unsqueeze(-1), to_user)
            out.append((user, self.conv(user, to_item)))
        return out

    def _attend(self, modality: Tensor) -> Tensor:
        """Apply attention across modalities, ``[M, N, d]`` to ``[M, N, d]``."""
        num_modalities, num, channels = modality.shape
        heads = (num_modalities, num, self.config.num_heads, channels // self.config.num_heads)
        query, key = self.query_projection(modality).view(heads), self.key(modality).view(heads)
        logit = torch.einsum("anhc,bnhc->abnh", query, key) / heads[-1] ** 0.5
        # Each head weights whole embeddings; the heads are concatenated.
        mixed = torch.einsum("abnh,bnd->anhd", logit.softmax(dim=1), modality)
        return self.mix(mixed.reshape(num_modalities, num, -1))

    def _embeddings(
        self,
        learned: list[tuple[FixedGraph, FixedGraph]],
        generator: torch.Generator | None = None,
    ) -> _Embeddings:
        config, users, items = self.config, self.user_embedding.weight, self.item_embedding.weight
        content = self._content(generator)
        modality = [
            (self.conv(items, to_user), self.conv(users, to_item)) for to_user, to_item in learned
        ]
        user, item = (
            own + config.identity_weight * F.normalize(self._attend(torch.stack(views)).mean(0))
            for own, views in zip((users, items), zip(*modality, strict=True), strict=True)
        )
        to_user, to_item = self._interactions()
        sum_user, sum_item = user, item
        for _ in range(config.num_layers):
            user = self.conv(item, to_user)
            item = self.conv(user, to_item)
            sum_user, sum_item = sum_user + user, sum_item + item
        final_user, final_item = (
            total / (config.num_layers + 1)
            + config.content_weight * torch.stack([F.normalize(view) for view in views]).sum(0)
            for total, views in zip((sum_user, sum_item), zip(*content, strict=True), strict=True)
        )
        return _Embeddings((final_user, final_item), content, modality)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Update the critic by one step and return the model's loss; ``batch`` is long ``[B]``,
        users. One item is sampled from the history of each."""
        config, graph = self.config, self.graph
        anchor = batch[graph.user_degree()[batch] > 0]
        if anchor.numel() == 0:
            return 0 * self.user_embedding.weight.sum()
        positive, negative = self._items_of(anchor, generator)
        out = self._embeddings(self._learned or self._learned_graphs(), generator)
        users, items = out.final
        embeddings = (users[anchor], items[positive], items[negative])
        loss = bpr_loss(*embeddings) + config.regularization * l2_penalty(*embeddings)
        square = sum(view.square().sum() for views in out.content for view in views)
        loss = loss + config.feature_regularization * square / (2 * self.num_items)
        for view, _ in out.modality:
            loss = loss + config.contrast * two_sided_contrast_loss(
                view[anchor], users[anchor], config.temperature
            )
        # Batch normalisation of a single row is zero.
        if config.adversarial and anchor.numel() * len(out.content) > 1:
            rows = graph.rows(anchor)
            self._train_critic(anchor, rows, out, generator)
            with self.critic_optimizer.frozen():
                fake = self._fake(anchor, rows, out)
                loss = loss - config.adversarial * self.critic(fake, generator).mean()
        return loss

    def _items_of(self, user_index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sample one item of each user's history and one negative, uniformly."""
        graph = self.graph
        place = torch.rand(user_index.shape, generator=generator, device=self.device)
        degree = graph.user_degree()[user_index]
        place = (place * degree).long().clamp(max=degree - 1)
        positive = graph.col[graph.rowptr[user_index] + place]
        return positive, sample_negatives(graph, user_index, generator)

    def _fake(self, anchor: Tensor, rows: Rows, out: _Embeddings) -> Tensor:
        """Return the generated rows, encoded by the critic, for all modalities."""
        table = self.critic.encoder
        encoded = [encode_similarities(u[anchor], i, rows, table) for u, i in out.content]
        return torch.cat(encoded)

    def _real(
        self, anchor: Tensor, rows: Rows, out: _Embeddings, generator: torch.Generator
    ) -> Tensor:
        """Return softened observed rows plus scaled similarities, ``[B, I]``."""
        config, (user, item) = self.config, out.final
        soft = gumbel_rows(
            rows, self.num_items, config.gumbel_noise, config.gumbel_temperature, generator
        )
        likeness = similarity_rows(user[anchor], item, rows)
        return F.normalize(soft + config.collaborative_scale * likeness, dim=-1)

    def _train_critic(
        self, anchor: Tensor, rows: Rows, out: _Embeddings, generator: torch.Generator
    ) -> None:
        still = _Embeddings(*(_detached(part) for part in out))
        real = self._real(anchor, rows, still, generator) @ self.critic.encoder
        real = real.repeat(len(out.content), 1)
        fake = self._fake(anchor, rows, still)
        self.critic_optimizer.step(
            self.critic.loss(real, fake, self.config.gradient_penalty, generator)
        )

    def tables(self) -> Tables:
        """Return the embeddings over the interactions and the learned graphs."""
        user, item = self._embeddings(self._learned_graphs()).final
        return Tables(item=item, user=user)


def _detached(part: Any) -> Any:
    if isinstance(part, Tensor):
        return part.detach()
    return type(part)(_detached(one) for one in part)


def _interactions_both_ways(graph: RecGraph) -> tuple[FixedGraph, FixedGraph]:
    return _both_ways(graph.user, graph.col, graph.num_users, graph.num_items)


def _both_ways(
    user: Tensor, item: Tensor, num_users: int, num_items: int
) -> tuple[FixedGraph, FixedGraph]:
    r"""Return the graph to users and the graph to items, with weights :math:`1/\sqrt{|N|}` of the
    target node."""
    to_user = torch.bincount(user, minlength=num_users).float().rsqrt()[user]
    to_item = torch.bincount(item, minlength=num_items).float().rsqrt()[item]
    edge_index = torch.stack([item, user])
    return (
        FixedGraph(edge_index, to_user, num_items, num_users),
        FixedGraph(edge_index.flip(0), to_item, num_users, num_items),
    )
