"""LD4MRec: a light diffusion model for multimedia recommendation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.models.base import ModelConfig, Query, Recommender, Tables
from graphdiff.nn.cnet import CNet
from graphdiff.nn.diffusion import DiffusionSchedule, StepSampler
from graphdiff.nn.graph import RecGraph, Rows
from graphdiff.nn.losses import sampled_softmax_loss
from graphdiff.nn.propagation import FixedGraph
from graphdiff.nn.reconstruction import (
    catalogue,
    encode_rows,
    noise_factor,
    reconstruction_error,
)
from graphdiff.nn.signals import CollaborativeSignal, ModalityGate, ModalitySignal


class LD4MRecConfig(ModelConfig):
    """Settings of :class:`LD4MRec`."""

    lr: float = Field(3e-3, gt=0, description="Learning rate of Adam.")
    batch_size: int = Field(512, ge=1, description="Users per training step.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay of the average of the weights.")
    num_blocks: int = Field(1, ge=0, description="Conditional residual blocks K of C-Net.")
    num_layers: int = Field(2, ge=0, description="Round trips over the user-item graph.")
    num_item_layers: int = Field(1, ge=0, description="Layers on each item-item graph.")
    num_neighbors: int = Field(20, ge=1, description="Neighbours k in each item-item graph.")
    max_features: int = Field(
        256, ge=1, description="Wider features are reduced to so many principal components."
    )
    content_weight: float = Field(
        4.0, ge=0, description="w of the content tables; their gates start at one half."
    )
    row_exponent: float = Field(0.5, ge=0, le=1, description="ν: a row is scaled by 1/|N_u|^ν.")
    num_steps: int = Field(20, ge=1, description="Diffusion steps T.")
    noise_scale: float = Field(0.1, gt=0, lt=1, description="s: largest variance of the noise.")
    noise_min: float = Field(0.01, gt=0, le=1, description="α_min: smallest share of s.")
    input_dropout: float = Field(
        0.5, ge=0, lt=1, description="Share of a row's items that the encoder does not see."
    )
    kept_weight: float = Field(
        0.0, ge=0, description="Weight of the items that it does see; hidden ones weigh 1."
    )
    temperature: float = Field(0.2, gt=0, description="τ of the ranking scores, at the start.")
    unobserved_weight: float = Field(0.1, ge=0, description="α₀ of items not observed.")
    soft_probability: float = Field(0.1, ge=0, le=1, description="p of softening a target.")
    soft_intensity: float = Field(0.1, ge=0, le=1, description="γ: how far it is softened.")
    reconstruction: float = Field(0.1, ge=0, description="Weight of the reconstruction error.")
    ranking: float = Field(1.0, ge=0, description="Weight of the ranking loss.")
    num_negatives: int = Field(1024, ge=2, description="Negatives that a batch shares.")


@dataclass(frozen=True)
class ItemTables(Tables):
    """Item tables of LD4MRec: the same for all users, made once per step.

    Attributes:
        encoder: Z, ``[I, d]``; ``item`` is Z with rows of length one.
        collaborative: C, ``[I, d]``.
        content: M, ``[I, M * d]``, the modalities side by side.
    """

    encoder: Tensor
    collaborative: Tensor
    content: Tensor


class Signals(NamedTuple):
    """What a batch of rows says.

    Attributes:
        behaviour: x̃·Z, ``[B, d]``.
        collaborative: x̃·C, ``[B, d]``.
        preference: The gated mix of x̃·M_m, ``[B, d]``.
        lean: What the gate adds to an equal mix, ``[B, d]``.
        gate: ``[B, M]``.
    """

    behaviour: Tensor
    collaborative: Tensor
    preference: Tensor
    lean: Tensor
    gate: Tensor


class LD4MRec(Recommender):
    r"""LD4MRec from `"LD4MRec: Simplifying and Powering Diffusion Model for Multimedia
    Recommendation" <https://arxiv.org/abs/2309.15363>`_.

    A user is a function of their items: there is no parameter per user. With one learned item table
    E, item tables come from message passing,

    .. math::
        C = \mathrm{mean}_l (\tilde{A}^\top \tilde{A})^l E, \qquad
        M_m = w\, S_m \big(E \odot \sigma(W_m \mathbf{x}_m)\big), \qquad
        Z = C + \mathrm{mean}_m M_m,

    and a user's row :math:`\tilde{\mathbf{x}}_u = \mathbf{x}_u / |N_u|^\nu` becomes scores by

    .. math::
        \mathbf{h}_0 &= \mathbf{x}_t Z + \sum_m (g_{um} - \tfrac{1}{M})\,
        \tilde{\mathbf{x}}_u M_m, \\
        \mathbf{h} &= \mathrm{CNet}(\mathbf{h}_0 \mid t,\; \tilde{\mathbf{x}}_u C,\;
        \textstyle\sum_m g_{um} \tilde{\mathbf{x}}_u M_m), \\
        s_{ui} &= \cos(\mathbf{h}, \mathbf{z}_i) / \tau + b_i .

    *Diffusion.* In training :math:`\mathbf{x}_t = \sqrt{\bar\alpha_t}\tilde{\mathbf{x}}_u +
    \sqrt{1 - \bar\alpha_t}\,\sigma_u \epsilon` with :math:`t` drawn by importance; a part of the
    row is hidden as well. :math:`t = 0` is the observed row, with its own learned time.
    :math:`\sigma_u = \lVert\tilde{\mathbf{x}}_u\rVert / \sqrt{I}` makes a noise level mean the same
    on every catalogue. At inference there is one pass on the observed row: no noise, no chain.

    *Soft reconstruction.* :math:`\hat{y}_{ui} = a\, \mathbf{h} \cdot \mathbf{z}_i + \beta_i` is
    fitted to the row over the **whole** catalogue, exactly and without a tensor ``[B, I]``: see
    :mod:`graphdiff.nn.reconstruction`. With probability p a target is softened by γ: an observed 1
    to 1 - γ, an unobserved 0 to :math:`\gamma \pi_i`, with π the items' popularity relative to the
    most popular one; unobserved entries weigh :math:`\alpha_0`. (A random softening of an
    unobserved zero enters the squared error's gradient only through its mean
    :math:`p \gamma \pi_i`, so that is what is used.)

    *Ranking.* A softmax over shared negatives on the scores s; see
    :func:`graphdiff.nn.losses.sampled_softmax_loss`.

    From the paper are the diffusion of rows, forward-free inference, C-Net with its two signals,
    aggregation with :math:`1/\sqrt{|N_u||N_i|}`, and the softening by p and γ. Ours are the shared
    table with cosine scores, collaborative smoothing in place of the truncated SVD, content tables
    made from the item table, hiding a part of the row, the ranking term, σ_u, and the exact sparse
    form of everything.

    Args:
        config: :class:`LD4MRecConfig`.
        graph: Training interactions and item content.
    """

    Config: ClassVar[type[ModelConfig]] = LD4MRecConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "users"
    folds_in: ClassVar[bool] = True
    uses_content: ClassVar[bool] = True
    config: LD4MRecConfig

    def __init__(self, config: LD4MRecConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        channels = config.hidden_channels
        self.embedding = torch.nn.Parameter(torch.empty(graph.num_items, channels))
        self.bias = torch.nn.Parameter(torch.empty(graph.num_items))
        self.log_temperature = torch.nn.Parameter(torch.empty(()))
        self.reconstruction_bias = torch.nn.Parameter(torch.empty(graph.num_items))
        self.log_scale = torch.nn.Parameter(torch.empty(()))
        self.collaborative = CollaborativeSignal(config.num_layers)
        self.content = torch.nn.ModuleDict(
            {
                name: ModalitySignal(
                    *graph.features(name),
                    channels,
                    config.num_item_layers,
                    config.max_features,
                    config.content_weight,
                )
                for name in graph.modalities
            }
        )
        self.gate = ModalityGate(len(graph.modalities), channels)
        self.schedule = DiffusionSchedule(config.num_steps, config.noise_scale, config.noise_min)
        self.steps = StepSampler(config.num_steps + 1)
        self.cnet = CNet(channels, config.num_blocks, config.num_steps)
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """The values that tuning tries for each setting."""
        return {
            "hidden_channels": [64, 128],
            "lr": [1e-3, 3e-3],
            "num_layers": [1, 2, 3],
            "input_dropout": [0.3, 0.5, 0.7],
            "reconstruction": [0.03, 0.1, 0.3],
            "content_weight": [2.0, 4.0],
        }

    def reset_parameters(self) -> None:
        """Draws all learnable parameters anew and forgets the steps' losses."""
        torch.nn.init.normal_(self.embedding, std=0.1)
        torch.nn.init.zeros_(self.bias)
        torch.nn.init.constant_(self.log_temperature, math.log(self.config.temperature))
        torch.nn.init.zeros_(self.reconstruction_bias)
        torch.nn.init.zeros_(self.log_scale)
        for _, signal in self._content():
            signal.reset_parameters()
        self.gate.reset_parameters()
        self.cnet.reset_parameters()
        self.steps.reset_parameters()

    def tables(self) -> ItemTables:
        """Message passing over all graphs: what is the same for every user."""
        graph = self.graph
        interactions = graph.once("interactions", graph.item_to_user_graph)
        collaborative = self.collaborative(self.embedding, interactions)
        content = [signal(self.embedding, self._similar(name)) for name, signal in self._content()]
        encoder = collaborative
        if content:
            num_present = torch.stack([signal.has for _, signal in self._content()]).sum(dim=0)
            encoder = encoder + sum(content) / num_present.clamp(min=1).unsqueeze(-1)
        return ItemTables(
            item=F.normalize(encoder, dim=-1),
            bias=self.bias,
            encoder=encoder,
            collaborative=collaborative,
            content=torch.cat(content, dim=-1) if content else encoder[:, :0],
        )

    def signals(self, tables: ItemTables, rows: Rows) -> Signals:
        """Encodes rows; those without items are zero."""
        row, item, num_rows = rows
        channels = self.config.hidden_channels
        degree = torch.bincount(row, minlength=num_rows).clamp(min=1).to(tables.item.dtype)
        value = degree.pow(-self.config.row_exponent)[row]
        table = torch.cat([tables.encoder, tables.collaborative, tables.content], dim=-1)
        encoded = encode_rows(table, row, item, value, num_rows)
        behaviour, collaborative, content = encoded.tensor_split([channels, 2 * channels], dim=-1)
        content = content.view(num_rows, -1, channels)
        gate = self.gate(content)
        preference = (gate.unsqueeze(-1) * content).sum(dim=1)
        lean = preference - content.sum(dim=1) / max(1, content.size(1))
        return Signals(behaviour, collaborative, preference, lean, gate)

    def hidden(self, behaviour: Tensor, t: Tensor, signals: Signals) -> Tensor:
        """C-Net's answer, ``[B, d]``.

        Args:
            behaviour: Encoded rows x_t·Z, ``[B, d]``.
            t: Long ``[B]``, 0 … T.
            signals: Of the observed rows.
        """
        return self.cnet(behaviour + signals.lean, t, signals.collaborative, signals.preference)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Soft reconstruction plus ranking, averaged over users; ``batch`` long ``[B]`` users."""
        config, num = self.config, batch.numel()
        row, item, _ = self.graph.rows(batch)
        if item.numel() == 0:
            return 0 * self.embedding.sum()
        tables = self.tables()
        visible = self._uniform(row.numel(), generator) >= config.input_dropout
        signals = self.signals(tables, Rows(row[visible], item[visible], num))
        t, step_weight = self.steps.sample(num, generator)
        hidden = self.hidden(self._diffuse(tables, signals, row[visible], t, generator), t, signals)

        weight = torch.where(visible, config.kept_weight, 1.0).to(hidden.dtype)
        loss = hidden.new_zeros(num)
        if config.reconstruction:
            error = self._reconstruct(tables, hidden, row, item, weight, generator)
            loss = loss + config.reconstruction * error
        if config.ranking:
            ranking = sampled_softmax_loss(
                self._query(hidden),
                tables.item,
                self.bias,
                row,
                item,
                weight,
                self.graph.once("frequency", self._frequency),
                config.num_negatives,
                generator,
            )
            loss = loss + config.ranking * ranking
        self.steps.update(t, loss)
        return (step_weight * loss).mean()

    def _diffuse(
        self,
        tables: ItemTables,
        signals: Signals,
        row: Tensor,
        t: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """x_t·Z, with noise drawn in d dimensions."""
        white = torch.randn(
            signals.behaviour.shape, generator=generator, device=self.device, dtype=torch.float32
        ).to(signals.behaviour.dtype)
        degree = torch.bincount(row, minlength=t.numel()).to(white.dtype)
        # A row of |N| entries 1/|N|^ν has length |N|^(1/2 - ν).
        length = torch.where(degree > 0, degree.clamp(min=1).pow(0.5 - self.config.row_exponent), 0)
        sigma = (length / self.num_items**0.5).unsqueeze(-1)
        noise = sigma * (white @ noise_factor(tables.encoder).t())
        return self.schedule.add_noise(signals.behaviour, noise, t)

    def _reconstruct(
        self,
        tables: ItemTables,
        hidden: Tensor,
        row: Tensor,
        item: Tensor,
        weight: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Error of each user's soft reconstruction over the whole catalogue, ``[B]``."""
        config = self.config
        softened = self._uniform(row.numel(), generator) < config.soft_probability
        target = 1 - config.soft_intensity * softened.to(hidden.dtype)
        frequency = self.graph.once("frequency", self._frequency).to(hidden.dtype)
        popularity = frequency / frequency.max()
        items = catalogue(
            self.log_scale.exp() * tables.encoder,
            self.reconstruction_bias,
            alpha=torch.full_like(popularity, config.unobserved_weight),
            prior=config.soft_probability * config.soft_intensity * popularity,
        )
        return reconstruction_error(hidden, items, row, item, target, weight)

    def vectors(self, query: Query, tables: Tables, num_steps: int = 0) -> Tensor:
        """Vectors ``[B, d]`` of people, made from their rows.

        Args:
            query: Whom to recommend to.
            tables: From :meth:`tables`.
            num_steps: 0 for one pass on the observed row. Otherwise the classical way, to compare
                with: the row is corrupted up to this step (at most T), and the reverse chain is
                walked back, one pass for each step.
        """
        assert isinstance(tables, ItemTables)
        rows = query.rows
        signals = self.signals(tables, rows)
        if num_steps:
            hidden = self._reverse_chain(tables, signals, rows.row, num_steps)
        else:
            now = torch.zeros(rows.num, dtype=torch.long, device=self.device)
            hidden = self.hidden(signals.behaviour, now, signals)
        return self._query(hidden)

    def _query(self, hidden: Tensor) -> Tensor:
        """What is multiplied with ``tables.item`` for ranking scores, ``[B, d]``."""
        # Bounded, as a vanishing temperature would let single scores run away.
        temperature = self.log_temperature.clamp(min=math.log(0.02)).exp()
        # Not F.normalize: a row of which nothing is visible is zero, where its gradient is 1e12.
        length = (hidden.square().sum(dim=-1, keepdim=True) + 0.05**2).sqrt()
        return hidden / (length * temperature)

    def _reverse_chain(
        self, tables: ItemTables, signals: Signals, row: Tensor, num_steps: int
    ) -> Tensor:
        if not 1 <= num_steps <= self.config.num_steps:
            raise ConfigError(
                f"num_steps={num_steps}, but the model diffuses in {self.config.num_steps} steps; "
                f"give 1 to {self.config.num_steps}, or 0 for one pass on the observed row"
            )
        num = signals.behaviour.size(0)
        # Fixed, so that the same question has the same answer.
        generator = torch.Generator(self.device).manual_seed(0)
        t = torch.full((num,), num_steps, device=self.device)
        x_t = self._diffuse(tables, signals, row, t, generator)
        # A predicted row times Z, without the row: decoder and encoder meet in a d x d matrix.
        decode_encode = self.log_scale.exp() * tables.encoder.t() @ tables.encoder
        offset = self.reconstruction_bias @ tables.encoder
        degree = torch.bincount(row, minlength=num).clamp(min=1).to(x_t.dtype)
        value = degree.pow(-self.config.row_exponent).unsqueeze(-1)
        for step in range(num_steps, 0, -1):
            t = torch.full_like(t, step)
            hidden = self.hidden(x_t, t, signals)
            x_t = self.schedule.step(value * (hidden @ decode_encode + offset), x_t, t)
        return hidden

    @torch.no_grad()
    def modality_preference(self, user_index: Tensor | int | list[int]) -> dict[str, Tensor]:
        """How much users lean on each modality.

        Args:
            user_index: User indices, long ``[B]``, a list, or one integer.

        Returns:
            Per modality a share, float ``[B]``; they sum to one for a user whose items have any
            modality, and are zero for others.
        """
        user_index = self._as_users(user_index)
        gate = self.signals(self.tables(), self.graph.rows(user_index)).gate
        return dict(zip(self.graph.modalities, gate.unbind(dim=1), strict=True))

    def _content(self) -> Iterable[tuple[str, ModalitySignal]]:
        return self.content.items()  # type: ignore[return-value]

    def _similar(self, modality: str) -> FixedGraph:
        make = partial(self.graph.similarity_graph, {modality: 1.0})
        return self.graph.once(f"similar_{modality}", make)

    def _frequency(self) -> Tensor:
        degree = self.graph.item_degree().float()
        return degree / degree.sum()

    def _uniform(self, num: int, generator: torch.Generator) -> Tensor:
        return torch.rand(num, generator=generator, device=self.device)
