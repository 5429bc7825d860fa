"""LD4MRec: a light diffusion model for multimedia recommendation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Query, Recommender, Tables
from graphdiff.models.catalogue import check_new_items
from graphdiff.models.explanation import Explanation
from graphdiff.models.ld4mrec.content_embedding import ContentEmbedding
from graphdiff.models.ld4mrec.inference import SOFT_LENGTH, SettledPass
from graphdiff.models.ld4mrec.item_messages import ItemMessages, Propagated
from graphdiff.models.ld4mrec.linear_path import LinearPath
from graphdiff.nn.cnet import CNet
from graphdiff.nn.diffusion import DiffusionSchedule, StepSampler
from graphdiff.nn.heads import head_blocks, join_heads, normalize_heads, split_heads
from graphdiff.nn.losses import Negatives, draw_negatives, sampled_log_partition
from graphdiff.nn.reconstruction import (
    Catalogue,
    Quadratic,
    noise_factor,
    read_catalogue,
    reconstruction_error,
    sum_items,
    sum_rows,
)
from graphdiff.nn.signals import ModalityGate


class LD4MRecConfig(ModelConfig):
    """Settings of :class:`LD4MRec`."""

    hidden_channels: int = Field(256, ge=1, description="Width of all heads together.")
    num_heads: int = Field(
        4, ge=1, description="Heads H, which learn to rank each on its own and are averaged."
    )
    lr: float = Field(3e-3, gt=0, description="Learning rate of Adam.")
    batch_size: int = Field(512, ge=1, description="Users per training step.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay of the average of the weights.")
    num_blocks: int = Field(1, ge=0, description="Conditional residual blocks K of C-Net.")
    num_layers: int = Field(2, ge=0, description="Round trips over the user-item graph.")
    num_item_layers: int = Field(1, ge=0, description="Layers on each item-item graph.")
    num_neighbors: int = Field(20, ge=1, description="Neighbours k in each item-item graph.")
    content_weight: float = Field(2.0, ge=0, description="w of the content tables.")
    content_rank: int = Field(
        64,
        ge=0,
        description="Most principal directions R of a modality's features that an item's embedding "
        "is linear in; 0 for none.",
    )
    shrinkage: float = Field(
        3.0, ge=0, description="κ: an item with n interactions has n / (n + κ) of its embedding."
    )
    propagate_every: int | None = Field(
        None,
        ge=0,
        description="Training steps between two propagations over the graphs; 0 for one in every "
        "step, with its gradient. By default 0 on small graphs and 100 on large ones.",
    )
    row_exponent: float = Field(0.5, ge=0, le=1, description="ν: a row is scaled by 1/|N_u|^ν.")
    num_steps: int = Field(20, ge=1, description="Diffusion steps T.")
    noise_scale: float = Field(0.1, gt=0, lt=1, description="s: largest variance of the noise.")
    noise_min: float = Field(0.01, gt=0, le=1, description="α_min: smallest share of s.")
    input_dropout: float = Field(
        0.5, ge=0, lt=1, description="Share of a row's items that the encoder does not see."
    )
    hide_interactions: bool = Field(
        True,
        description="A batch's hidden items are hidden from message passing as well, where every "
        "step does it.",
    )
    kept_weight: float = Field(
        0.0, ge=0, description="Weight of the items that it does see; hidden ones weigh 1."
    )
    temperature: float = Field(0.2, gt=0, description="τ of the ranking scores, at the start.")
    unobserved_weight: float = Field(0.1, ge=0, description="α₀ of items not observed.")
    soft_probability: float = Field(0.0, ge=0, le=1, description="p of softening a target.")
    soft_intensity: float = Field(0.1, ge=0, le=1, description="γ: how far it is softened.")
    reconstruction: float = Field(0.1, ge=0, description="Weight of the reconstruction error.")
    ranking: float = Field(1.0, ge=0, description="Weight of the ranking loss.")
    num_negatives: int = Field(2048, ge=2, description="Negatives that a batch shares.")
    diffusion: bool = Field(
        True, description="Corrupt rows in training; without, all are at step 0, as observed."
    )
    importance_sampling: bool = Field(
        False, description="Draw steps by how much they have to teach, and not uniformly."
    )
    modality_shares: Literal["agreement", "equal"] = Field(
        "agreement",
        description="What a modality counts: by how alike a person's items are in it, or the same "
        "for all; the same where content_rank is 0.",
    )
    gated: bool = Field(False, description="Learn each user's own lean on modalities.")
    linear_rank: int = Field(
        0, ge=0, description="K of the linear path, a multiple of hidden_channels; 0 for none."
    )
    linear_ridge: float = Field(2000.0, gt=0, description="λ of the linear path.")
    linear_weight: float = Field(
        0.5, ge=0, description="ω: standard deviations of a user's scores by the linear path."
    )

    @model_validator(mode="after")
    def _whole_parts(self) -> Self:
        if self.linear_rank % self.hidden_channels:
            raise ValueError(
                f"linear_rank={self.linear_rank} is no multiple of "
                f"hidden_channels={self.hidden_channels}"
            )
        if self.hidden_channels % self.num_heads:
            raise ValueError(
                f"hidden_channels={self.hidden_channels} cannot be shared out among "
                f"num_heads={self.num_heads}"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class ItemTables(Tables):
    """Item tables of LD4MRec: the same for all users.

    ``item`` is Z with rows of length one, ``[I, d]``, and beside it the linear path's item
    factors, ``[I, K]``.

    Attributes:
        read: ``[I, (2 + M) * d + K]``: Z, C, the M_m and what the linear path reads side by side,
            so that a row is encoded by all of them at once.
        channels: d.
        settled: From encoded rows to vectors, with the weights of now.
    """

    read: Tensor
    channels: int
    settled: SettledPass

    @property
    def encoder(self) -> Tensor:
        """Z, ``[I, d]``."""
        return self.read[:, : self.channels]

    @property
    def guides(self) -> Tensor:
        """C and the M_m side by side, ``[I, (1 + M) * d]``."""
        rank = self.item.size(1) - self.channels
        return self.read[:, self.channels : self.read.size(1) - rank]


class Signals(NamedTuple):
    """What a batch of rows says.

    Attributes:
        collaborative: x̃·C, ``[B, d]``.
        preference: The gated mix of x̃·M_m, ``[B, d]``.
        lean: What the gate adds to the mix by everybody's shares, ``[B, d]``.
        gate: ``[B, M]``.
    """

    collaborative: Tensor
    preference: Tensor
    lean: Tensor
    gate: Tensor


class Draw(NamedTuple):
    """All that is random about a training step.

    Attributes:
        visible: Bool ``[nnz]``, items that the encoder sees.
        t: Long ``[B]``, diffusion steps.
        step_weight: ``[B]``, corrects for steps not being drawn uniformly.
        noise: White, ``[B, d]``.
        softened: Bool ``[nnz]``, items whose target is softened.
        negatives: What the ranking loss contrasts with.
    """

    visible: Tensor
    t: Tensor
    step_weight: Tensor
    noise: Tensor
    softened: Tensor
    negatives: Negatives


class LD4MRec(Recommender):
    r"""LD4MRec from `"LD4MRec: Simplifying and Powering Diffusion Model for Multimedia
    Recommendation" <https://arxiv.org/abs/2309.15363>`_.

    A user is a function of their items: there is no parameter per user. With one learned item table
    :math:`\bar{E}`, item tables come from message passing,

    .. math::
        \mathbf{e}_i = \frac{n_i}{n_i + \kappa} \bar{\mathbf{e}}_i
        + \sum_m \hat{\mathbf{x}}_{im} P_m, \qquad
        C = \mathrm{mean}_l (\tilde{A}^\top \tilde{A})^l E, \qquad
        M_m = w\, S_m E, \qquad
        Z = C + \sum_m a_m M_m,

    where the fewer interactions :math:`n_i` an item has, the more it is what its features and its
    neighbours say: few interactions may be chance, and Adam moves rare embeddings as far as others.
    The learned maps :math:`P_m` of features start the larger, the more alike a person's items look;
    see :class:`~graphdiff.models.ld4mrec.content_embedding.ContentEmbedding`. A user's row
    :math:`\tilde{\mathbf{x}}_u = \mathbf{x}_u / |N_u|^\nu` becomes scores by

    .. math::
        \mathbf{h}_0 &= \mathbf{x}_t Z + \sum_m (g_{um} - a_m)\,
        \tilde{\mathbf{x}}_u M_m, \\
        \mathbf{h} &= \mathrm{CNet}(\mathbf{h}_0 \mid t,\; \tilde{\mathbf{x}}_u C,\;
        \textstyle\sum_m g_{um} \tilde{\mathbf{x}}_u M_m), \\
        s_{ui} &= \mathrm{mean}_\eta \cos(\mathbf{h}^\eta, \mathbf{z}^\eta_i) / \tau + b_i .

    *Preference.* The gate :math:`g_{um}` starts as :math:`a_m` and stays so, unless it is to learn
    what each person leans on (``gated``): that pays where people differ in it, as in the synthetic
    data, and makes no difference on the real data at hand.

    *Heads.* The width is shared out among H heads :math:`\eta`, with parts of the tables and of
    C-Net of their own. Each learns to rank and to reconstruct as if it were alone, so that they
    err in different ways, and their mean errs less than any: an ensemble with one item table,
    answered by one inner product. They share the gate, the biases, τ and all that is drawn but
    the noise.

    *Propagation off the step.* Message passing touches every interaction, a training step only a
    batch's. On large graphs it is therefore done at the start of an epoch, and every
    ``propagate_every`` steps, without a gradient: in between :math:`Z = E + \Delta` with the shift
    :math:`\Delta = Z - E` of that moment, and a step moves Z as it moves E. The next propagation
    spreads what was learned. (For a symmetric filter F with non-negative eigenvalues, following the
    gradient of FE as if it were E's is gradient descent on :math:`F^{1/2}E'`: smoothing once, not
    twice.) On small graphs every step propagates, and the gradient flows through it.

    *Nothing looks ahead.* The items of a row that the encoder does not see are what it learns to
    predict. In every step's propagation messages do not pass along them either: otherwise an item
    and those it is to be predicted from would have met through this very row.

    *Diffusion.* In training :math:`\mathbf{x}_t = \sqrt{\bar\alpha_t}\tilde{\mathbf{x}}_u +
    \sqrt{1 - \bar\alpha_t}\,\sigma_u \epsilon` with :math:`t` drawn uniformly, or by importance
    as in the paper, which makes no difference here; a part of the row is hidden as well.
    :math:`t = 0` is the observed row, with its own learned time.
    :math:`\sigma_u = \lVert\tilde{\mathbf{x}}_u\rVert / \sqrt{I}` makes a noise level mean the same
    on every catalogue. At inference there is one pass on the observed row: no noise, no chain.

    *Reconstruction.* Each head's
    :math:`\hat{y}_{ui} = a\, \mathbf{h}^\eta \cdot \mathbf{z}^\eta_i + \beta_i` is fitted to the
    row over the **whole** catalogue, exactly and without a tensor ``[B, I]``: see
    :mod:`graphdiff.nn.reconstruction`. With probability p a target is softened by γ: an observed 1
    to 1 - γ, an unobserved 0 to :math:`\gamma \pi_i`, with π the items' popularity relative to the
    most popular one; unobserved entries weigh :math:`\alpha_0`. (A random softening of an
    unobserved zero enters the squared error's gradient only through its mean
    :math:`p \gamma \pi_i`, so that is what is used.) Softening is off by default, as it makes no
    difference here: see the ablation in ``benchmarks/results``.

    *Ranking.* A softmax over shared negatives on the scores s; see
    :func:`graphdiff.nn.losses.sampled_log_partition`.

    *The linear path,* off by default, adds the scores of a linear item-item model of low rank,
    found in closed form when training begins, to the s of an answer: see
    :class:`graphdiff.models.ld4mrec.linear_path.LinearPath`. Its scores have a standard deviation
    of ω over the catalogue, for everybody. Training does not look at it: it is smooth where the
    network is sharp, which likelihood on training rows does not reward. It pays on dense data.

    From the paper are the diffusion of rows, forward-free inference, C-Net with its two signals,
    aggregation with :math:`1/\sqrt{|N_u||N_i|}`, and the softening by p and γ. Ours are the shared
    table with cosine scores, its heads, shrinking it, what features add to it, collaborative
    smoothing in place of the truncated SVD, content tables made from it, hiding a part of the row,
    the ranking term, σ_u, and the exact sparse form of everything.

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
        self.content = (
            ContentEmbedding(graph, channels, config.content_rank)
            if config.content_rank and graph.modalities
            else None
        )
        self.bias = torch.nn.Parameter(torch.empty(graph.num_items))
        self.log_temperature = torch.nn.Parameter(torch.empty(()))
        self.reconstruction_bias = torch.nn.Parameter(torch.empty(graph.num_items))
        self.log_scale = torch.nn.Parameter(torch.empty(()))
        self.messages = ItemMessages(
            config.num_layers,
            config.num_item_layers,
            config.content_weight,
            config.propagate_every,
        )
        self.gate = ModalityGate(len(graph.modalities), channels).requires_grad_(config.gated)
        self.schedule = DiffusionSchedule.linear(
            config.num_steps, config.noise_scale, config.noise_min
        )
        self.steps = StepSampler(
            config.num_steps + 1, uniform=0.1 if config.importance_sampling else 1.0
        )
        self.cnet = CNet(channels, config.num_heads, config.num_blocks, config.num_steps)
        self.linear = (
            LinearPath(graph.num_items, config.linear_rank, config.linear_ridge)
            if config.linear_rank
            else None
        )
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """The values that tuning tries for each setting."""
        return {
            "hidden_channels": [64, 128, 256],
            "num_heads": [1, 2, 4],
            "num_negatives": [512, 2048],
            "batch_size": [512, 1024],
            "lr": [1e-3, 3e-3],
            "num_blocks": [0, 1],
            "num_layers": [0, 1, 2, 3],
            "input_dropout": [0.3, 0.5, 0.7, 0.85],
            "reconstruction": [0.03, 0.1, 0.3, 1.0],
            "content_weight": [1.0, 2.0, 4.0],
            "content_rank": [0, 64],
            "gated": [False, True],
            "linear_rank": [0, 512],
            "linear_ridge": [50.0, 300.0, 2000.0],
        }

    def reset_parameters(self) -> None:
        """Draws all learnable parameters anew and forgets the steps' losses."""
        torch.nn.init.normal_(self.embedding, std=0.1)
        if self.content is not None:
            self.content.reset_parameters()
        torch.nn.init.zeros_(self.bias)
        torch.nn.init.constant_(self.log_temperature, math.log(self.config.temperature))
        torch.nn.init.zeros_(self.reconstruction_bias)
        torch.nn.init.zeros_(self.log_scale)
        self.messages.forget()
        self.gate.reset_parameters()
        self.cnet.reset_parameters()
        self.steps.reset_parameters()

    @torch.no_grad()
    def tables(self) -> ItemTables:
        """Message passing over all graphs."""
        encoder, guides = self.messages(self._items(), self.graph, self.shares())
        item, read = normalize_heads(encoder, self.config.num_heads), [encoder, *guides]
        if self.linear is not None:
            item = torch.cat([item, self.linear.item.to(item.dtype)], dim=1)
            read.append(self.linear.read.to(item.dtype))
        return ItemTables(
            item=item,
            bias=self.bias,
            read=torch.cat(read, dim=1),
            channels=self.config.hidden_channels,
            settled=SettledPass(
                self.gate,
                self.shares(),
                self.cnet,
                self._temperature().item(),
                self.config.linear_rank,
                self.config.linear_weight,
            ),
        )

    def start_epoch(self, generator: torch.Generator) -> None:
        """Has message passing done anew; before the first one, also reads features and solves the
        linear path."""
        self.messages.forget()
        if self.content is not None:
            self.content.start(self.graph, generator)
        if self.linear is not None:
            self.linear.solve(self.graph)

    def propagated(self, withheld: Tensor | None = None) -> Propagated:
        """Message passing for a training step: done now, or not so long ago; see the class.

        Args:
            withheld: Positions of interactions, long ``[n]``, that messages do not pass along where
                it is done now.
        """
        return self.messages.for_step(self._items(), self.graph, self.shares(), withheld)

    def shares(self) -> Tensor:
        """What each modality counts, ``[M]``: above zero, and all together one. Before training has
        begun all count the same."""
        weight = self.gate.bias.new_ones(len(self.graph.modalities))
        if self.content is not None and self.config.modality_shares == "agreement":
            # The least is for items that have nothing else.
            weight = self.content.agreement.clamp(min=1e-6)
        return weight / weight.sum()

    def _items(self, index: Tensor | None = None) -> Tensor:
        """E, ``[I, d]``, or its rows ``index``, long ``[n]``."""
        embedding = self._by_behaviour(index)
        return embedding if self.content is None else embedding + self.content(index)

    def _by_behaviour(self, index: Tensor | None = None) -> Tensor:
        """The part of E that interactions alone have taught."""
        embedding = self.embedding if index is None else self.embedding[index]
        return embedding * self._degree_share(index) if self.config.shrinkage else embedding

    def _degree_share(self, index: Tensor | None) -> Tensor:
        """n / (n + κ), ``[I, 1]``, or its rows ``index``."""
        share = self.graph.cached(_degree_share, self.config.shrinkage)
        return (share if index is None else share[index]).to(self.embedding.dtype)

    def signals(self, guides: Tensor, rows: Rows) -> Signals:
        """Encodes rows by ``guides`` ``[nnz, (1 + M) * d]``, those of their items; empty rows are
        zero."""
        return self.read_signals(self._encode(guides, rows))

    def read_signals(self, encoded: Tensor) -> Signals:
        """What rows times the guides, ``[B, (1 + M) * d]``, say."""
        num_modalities, channels = self.gate.weight.shape
        collaborative, content = encoded.tensor_split([channels], dim=-1)
        if not num_modalities:
            nothing = torch.zeros_like(collaborative)
            return Signals(collaborative, nothing, nothing, content)
        content = content.view(encoded.size(0), num_modalities, channels)
        shares = self.shares()
        gate = self.gate(content, shares)
        preference = (gate.unsqueeze(1) @ content).squeeze(1)
        usual = (shares.unsqueeze(-1) * content).sum(dim=1)
        return Signals(collaborative, preference, preference - usual, gate)

    def split(self, encoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows times :attr:`ItemTables.read`, taken apart: by Z, ``[B, d]``; by the guides,
        ``[B, (1 + M) * d]``; by the linear path, ``[B, K]``."""
        start, stop = self.config.hidden_channels, encoded.size(1) - self.config.linear_rank
        return encoded[:, :start], encoded[:, start:stop], encoded[:, stop:]

    def _encode(self, read: Tensor, rows: Rows) -> Tensor:
        """Scaled rows times a table of which ``read`` ``[nnz, d]`` are the rows of their items."""
        return self._row_value(rows).unsqueeze(-1) * sum_rows(read, rows.row, rows.num)

    def encoded(self, rows: Rows, tables: ItemTables) -> Tensor:
        """Scaled rows times :attr:`ItemTables.read`, ``[B, (2 + M) * d + K]``, for answering."""
        return self._row_value(rows).unsqueeze(-1) * sum_items(tables.read, rows)

    def _row_value(self, rows: Rows) -> Tensor:
        """The entries of scaled rows, :math:`1 / |N_u|^\\nu`, one for each row: ``[B]``."""
        return rows.degree().clamp(min=1).to(self.bias.dtype).pow(-self.config.row_exponent)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Soft reconstruction plus ranking, averaged over users; ``batch`` long ``[B]`` users."""
        rows, position = self.graph.located_rows(batch)
        if rows.item.numel() == 0:
            return 0 * self.embedding.sum()
        draw = self.draw(rows, generator)
        hide = self.config.hide_interactions and self.config.num_layers > 0
        withheld = position[~draw.visible] if hide else None
        loss = self.row_losses(rows, draw, withheld)
        self.steps.update(draw.t, loss)
        return (draw.step_weight * loss).mean()

    def hidden(self, behaviour: Tensor, t: Tensor, signals: Signals) -> Tensor:
        """C-Net's answer, ``[B, d]``.

        Args:
            behaviour: Encoded rows x_t·Z, ``[B, d]``.
            t: Long ``[B]``, 0 … T.
            signals: Of the observed rows.
        """
        return self.cnet(behaviour + signals.lean, t, signals.collaborative, signals.preference)

    def draw(self, rows: Rows, generator: torch.Generator) -> Draw:
        """Draws what is random about a training step on ``rows``, which are not all empty."""
        config, nnz, device = self.config, rows.item.numel(), self.device
        visible = torch.rand(nnz, generator=generator, device=device) >= config.input_dropout
        t, step_weight = self.steps.sample(rows.num, generator)
        if not config.diffusion:
            t, step_weight = torch.zeros_like(t), torch.ones_like(step_weight)
        size = (rows.num, config.hidden_channels)
        # Drawn in float32 whatever the model's dtype, so that a seed means the same.
        noise = torch.randn(size, generator=generator, device=device, dtype=torch.float32)
        softened = torch.rand(nnz, generator=generator, device=device) < config.soft_probability
        negatives = draw_negatives(
            rows.item,
            self.graph.trained_items(),
            self._frequency(),
            config.num_negatives,
            generator,
        )
        return Draw(visible, t, step_weight, noise.to(self.bias.dtype), softened, negatives)

    def row_losses(self, rows: Rows, draw: Draw, withheld: Tensor | None = None) -> Tensor:
        """The loss of each row, ``[B]``, in one reading of the catalogue; for ``withheld`` see
        :meth:`propagated`."""
        config, propagated = self.config, self.propagated(withheld)
        row, item, num = rows
        nnz, seen = item.numel(), draw.visible.nonzero().flatten()
        # Throughout: the gradient of x[index] is several times slower than index_select's.
        index = torch.cat([item, draw.negatives.item])
        with self._full_precision():
            catalogue = read_catalogue(
                propagated.table,
                propagated.shift,
                self.reconstruction_bias,
                self._popularity().to(self.bias.dtype),
                index,
                config.num_heads,
            )
        read = catalogue.rows[:nnz]
        visible = Rows(row[seen], item[seen], num)
        guides = [guide.index_select(0, visible.item) for guide in propagated.guides]
        signals = self.signals(torch.cat(guides, dim=1), visible)
        behaviour = self._encode(read.index_select(0, seen), visible)
        hidden = self.hidden(
            self._diffuse(behaviour, catalogue.gram, visible, draw.t, draw.noise), draw.t, signals
        )
        weight = torch.where(draw.visible, config.kept_weight, 1.0).to(read.dtype)
        with self._full_precision():
            # A quadratic form in few digits would drown the error in its own rounding.
            error = self._reconstruct(
                catalogue, read, hidden.to(read.dtype), rows, draw.softened, weight
            )

        # Each head's own scores: H times what it has in the mean.
        direction = normalize_heads(catalogue.rows, config.num_heads)
        query = config.num_heads * self._query(hidden)
        bias, against_bias = self.bias.index_select(0, index).tensor_split([nnz])
        competing = sampled_log_partition(
            self._heads(query), self._heads(direction[nnz:]), against_bias, draw.negatives
        )
        score = self._heads(query.index_select(0, row) * direction[:nnz]).sum(dim=-1) + bias
        surprise = competing.index_select(1, row) - score
        ranking = torch.zeros_like(error).index_add(1, row, weight * surprise)
        return (config.reconstruction * error + config.ranking * ranking).mean(dim=0)

    def _temperature(self) -> Tensor:
        """τ, bounded, as a vanishing one would let single scores run away."""
        return self.log_temperature.clamp(min=math.log(0.02)).exp()

    def _query(self, hidden: Tensor) -> Tensor:
        """What is multiplied with ``tables.item`` for ranking scores, ``[B, d]``."""
        heads = hidden.unflatten(-1, (self.config.num_heads, -1))
        # Not F.normalize: a row of which nothing is visible is zero, where its gradient is 1e12.
        length = (heads.square().sum(dim=-1, keepdim=True) + SOFT_LENGTH**2).sqrt()
        scale = self.config.num_heads**0.5 * self._temperature()
        return (heads / (length * scale)).flatten(-2)

    def _heads(self, x: Tensor) -> Tensor:
        """``[*, H * d]`` to ``[H, *, d]``."""
        return split_heads(x, self.config.num_heads)

    def _full_precision(self) -> torch.autocast:
        """Switches mixed precision off."""
        return torch.autocast(self.device.type, enabled=False)

    def _diffuse(
        self, behaviour: Tensor, gram: Tensor, rows: Rows, t: Tensor, noise: Tensor
    ) -> Tensor:
        """x_t·Z of encoded rows ``behaviour``, by white ``noise`` in d dimensions and what the
        columns of each head have to do with each other, ``gram`` ``[H, d / H, d / H]``."""
        # A row of |N| entries 1/|N|^ν has length |N|^(1/2 - ν).
        length = rows.degree().to(noise.dtype).sqrt() * self._row_value(rows)
        sigma = (length / self.num_items**0.5).unsqueeze(-1)
        encoded = join_heads(self._heads(noise) @ noise_factor(gram).mT)
        return self.schedule.add_noise(behaviour, sigma * encoded, t)

    def _reconstruct(
        self,
        catalogue: Catalogue,
        read: Tensor,
        hidden: Tensor,
        rows: Rows,
        softened: Tensor,
        weight: Tensor,
    ) -> Tensor:
        """Error of each head's soft reconstruction of each user over the whole catalogue,
        ``[H, B]``; ``read`` ``[nnz, H * d]`` are Z's rows of the users' items."""
        config, scale, bias = self.config, self.log_scale.exp(), self.reconstruction_bias
        soften = config.soft_probability * config.soft_intensity
        prior = soften * self._popularity().to(bias.dtype)
        everywhere = Quadratic(
            weight=config.unobserved_weight,
            matrix=scale.square() * catalogue.gram,
            linear=scale * (soften * catalogue.prior - catalogue.bias),
            constant=(prior - bias).square().sum(),
        )
        score = self._heads(hidden.index_select(0, rows.row) * read).sum(dim=-1)
        score = scale * score + bias.index_select(0, rows.item)
        target = 1 - config.soft_intensity * softened.to(hidden.dtype)
        return reconstruction_error(
            self._heads(hidden), everywhere, rows.row, score, target, weight, prior[rows.item]
        )

    def user_vectors(self, query: Query, tables: Tables, num_steps: int = 0) -> Tensor:
        """Vectors ``[B, d + K]`` of people, made from their rows.

        Args:
            query: Whom to recommend to.
            tables: From :meth:`tables`.
            num_steps: 0 for one pass on the observed row. Otherwise the classical way, to compare
                with: the row is corrupted up to this step (at most T), and the reverse chain is
                walked back, one pass for each step.
        """
        assert isinstance(tables, ItemTables)
        rows = query.rows
        encoded = self.encoded(rows, tables)
        if not num_steps:
            return tables.settled(encoded)
        return tables.settled.vectors(
            self._reverse_chain(tables, encoded, rows, num_steps), encoded
        )

    def _reverse_chain(
        self, tables: ItemTables, encoded: Tensor, rows: Rows, num_steps: int
    ) -> Tensor:
        if not 1 <= num_steps <= self.config.num_steps:
            raise ConfigError(
                f"num_steps={num_steps}, but the model diffuses in {self.config.num_steps} steps; "
                f"give 1 to {self.config.num_steps}, or 0 for one pass on the observed row"
            )
        settled, behaviour = tables.settled, self.split(encoded)[0]
        start, *signals = settled.told(encoded).unbind(dim=1)
        lean = start - behaviour
        # Fixed, so that the same question has the same answer.
        generator = torch.Generator(self.device).manual_seed(0)
        noise = torch.randn(behaviour.shape, generator=generator, device=self.device)
        t = torch.full((rows.num,), num_steps, device=self.device)
        encoder = tables.encoder
        gram = encoder.t() @ encoder
        blocks = head_blocks(gram, self.config.num_heads)
        x_t = self._diffuse(behaviour, blocks, rows, t, noise.to(behaviour.dtype))
        # A predicted row times Z, without the row: decoder and encoder meet in a d x d matrix.
        # What all heads agree on is their mean.
        decode_encode = self.log_scale.exp() / self.config.num_heads * gram
        offset = self.reconstruction_bias @ encoder
        value = self._row_value(rows).unsqueeze(-1)
        for step in range(num_steps, 0, -1):
            t = torch.full_like(t, step)
            hidden = settled.hidden(torch.stack([x_t + lean, *signals], dim=1), step)
            x_t = self.schedule.step(value * (hidden @ decode_encode + offset), x_t, t)
        return hidden

    @torch.no_grad()
    def modality_preference(
        self,
        user_index: Any = None,
        *,
        user_id: Any = None,
        history: Any = None,
        history_index: Any = None,
    ) -> dict[str, Tensor]:
        """How much people lean on each modality: all people the same, unless the gate learns
        (``gated``).

        Args:
            user_index: The users, by one of four arguments as in :meth:`recommend`.
            user_id: Raw ids of training users.
            history: Raw ids of past items.
            history_index: Indices of past items.

        Returns:
            Per modality a share, float ``[B]``; they sum to one for a person whose items have any
            modality, and are zero for others.
        """
        rows = self.query(
            user_index, user_id=user_id, history=history, history_index=history_index
        ).rows
        encoded = self.encoded(rows, self._item_tables())
        gate = self.read_signals(self.split(encoded)[1]).gate
        return dict(zip(self.graph.modalities, gate.unbind(dim=1), strict=True))

    @torch.no_grad()
    def explain(
        self,
        item_index: Any = None,
        *,
        item_id: Any = None,
        user_index: Any = None,
        user_id: Any = None,
        history: Any = None,
        history_index: Any = None,
        num_items: int = 10,
    ) -> Explanation:
        r"""Takes the score of one item for one person apart.

        With the length of h and the temperature taken as given, a score is linear in h, and h is a
        sum: of what the person's items say by their own vectors, learned of interactions
        (``behaviour``) and read from their features of each modality (``features_<name>``, where
        ``content_rank`` is not 0), through other people (``collaborative``), through alike items
        of each modality (``preference_<name>``, with the gate's lean on it), and what C-Net adds
        (``network``). What the linear path says of each item (``linear``, where there is one) and
        the item's ``bias`` come on top. The parts sum to the score.

        Args:
            item_index: The item.
            item_id: Its raw id, instead.
            user_index: The user, by one of four arguments as in :meth:`recommend`.
            user_id: Raw id of a training user.
            history: Raw ids of past items.
            history_index: Indices of past items.
            num_items: Most contributing items to name.

        Raises:
            ConfigError: If not exactly one item and one user are given, or an index is out of
                range.
            DataError: If a raw id is unknown.
        """
        item = self.catalogue.items(item_index, item_id)
        rows = self.query(
            user_index, user_id=user_id, history=history, history_index=history_index
        ).rows
        if item.numel() != 1 or rows.num != 1:
            raise ConfigError(
                f"explain takes one item and one user; {item.numel()} and {rows.num} were given"
            )
        with self.evaluation_mode():
            return self._explain(int(item), rows, self._item_tables(), num_items)

    def _explain(self, item: int, rows: Rows, tables: ItemTables, num_items: int) -> Explanation:
        names, value = self.graph.modalities, self._row_value(rows)
        encoder, guides, linear = self.split(tables.read[rows.item])
        signals = self.signals(guides, rows)
        collaborative, *content = guides.split(self.config.hidden_channels, dim=1)
        own = {"behaviour": self._by_behaviour(rows.item)}
        if self.content is not None:
            said = self.content.by_modality(rows.item)
            own |= {f"features_{name}": part for name, part in said.items()}
        # A table is the mean of E and of what has passed along each number of edges.
        own = {name: part / (self.config.num_layers + 1) for name, part in own.items()}
        shares = self.shares()
        weight = self.messages.weights(self.graph, shares, rows.item) + signals.gate[0] - shares
        # What each of the person's items adds to h, part by part: [nnz, d] each.
        added = {**own, "collaborative": collaborative - sum(own.values())}
        for m, name in enumerate(names):
            added[f"preference_{name}"] = content[m] * weight[:, m : m + 1]
        behaviour = self._encode(encoder, rows)
        hidden = self.hidden(behaviour, rows.item.new_zeros(1), signals)
        # s = h · direction + b, with the lengths of h's heads taken as given.
        query, heads = self._heads(self._query(hidden)), self._heads(hidden)
        # A head that has nothing to say is zero, and so is what it says of an item.
        scale = (query * heads).sum(dim=-1) / heads.square().sum(dim=-1).clamp(min=1e-12)
        own_item, linear_item = tables.item[item].tensor_split([self.config.hidden_channels])
        direction = (scale * self._heads(own_item)).flatten()
        each = {name: value * (part @ direction) for name, part in added.items()}
        score = hidden @ direction
        if self.linear is not None:
            length = linear.sum(dim=0).norm().clamp(min=1e-12)
            each["linear"] = self.config.linear_weight * (linear @ linear_item) / length
            score = score + each["linear"].sum()
        parts = {name: part.sum().item() for name, part in each.items()}
        parts["network"] = ((hidden - behaviour - signals.lean) @ direction).item()
        parts["bias"] = self.bias[item].item()
        by_item = torch.stack(list(each.values())).sum(dim=0)
        top = by_item.topk(min(num_items, by_item.numel()))
        return Explanation(
            score=score.item() + parts["bias"],
            parts=parts,
            gate=dict(zip(names, signals.gate[0].tolist(), strict=True)),
            history=list(zip(rows.item[top.indices].tolist(), top.values.tolist(), strict=True)),
        )

    def _item_tables(self) -> ItemTables:
        tables = self.cached_tables()
        assert isinstance(tables, ItemTables)
        return tables

    @torch.no_grad()
    def add_items(self, features: Mapping[str, Any], *, item_id: Any = None) -> Tensor:
        """Adds items to the catalogue without training.

        A new item is known by its features alone: in each modality it hears of its nearest items
        among those there were, with weights as in
        :class:`~graphdiff.transforms.ModalityGraph`. Its biases are the mean of those of items that
        nobody has touched in training, or of all. What is recommended among the items there were
        does not change.

        Args:
            features: Per modality ``[n, F_m]``; a row of NaN where an item lacks it. A modality
                that is not given is lacking.
            item_id: Raw ids of the items, where the model has raw ids.

        Returns:
            Indices of the new items, long ``[n]``.

        Raises:
            DataError: If features do not fit, or an id is missing or known already.
        """
        num, ids = check_new_items(self.graph, self.catalogue, features, item_id)
        first = self.num_items
        untouched = self.graph.item_degree() == 0
        if not untouched.any():
            untouched = ~untouched
        self.graph = self.graph.with_items(features, num, self.config.num_neighbors)
        if self.content is not None:
            self.content.grow(self.graph)
        for name in ("embedding", "bias", "reconstruction_bias"):
            old = getattr(self, name)
            new = old.new_zeros(num, *old.shape[1:])
            if old.dim() == 1:
                new += old[untouched].mean()
            setattr(self, name, torch.nn.Parameter(torch.cat([old, new])))
        if self.linear is not None:
            self.linear.grow(num)
        self.catalogue.grow(num, ids)
        self.invalidate_tables()
        self.messages.forget()
        return torch.arange(first, first + num, device=self.device)

    def _frequency(self) -> Tensor:
        """Each item's share of all interactions, ``[I]``."""
        return self.graph.cached(_frequency)

    def _popularity(self) -> Tensor:
        """π, each item's interactions relative to the most popular one's, ``[I]``."""
        return self.graph.cached(_popularity)


def _degree_share(graph: RecGraph, shrinkage: float) -> Tensor:
    degree = graph.item_degree().float().unsqueeze(-1)
    return degree / (degree + shrinkage)


def _frequency(graph: RecGraph) -> Tensor:
    degree = graph.item_degree().float()
    return degree / degree.sum()


def _popularity(graph: RecGraph) -> Tensor:
    frequency = graph.cached(_frequency)
    return frequency / frequency.max()
