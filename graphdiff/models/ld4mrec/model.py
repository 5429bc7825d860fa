"""LD4MRec: a light diffusion model for multimedia recommendation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from graphdiff.distributed.processes import join_parts
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Query, Recommender, Tables
from graphdiff.models.conversion import as_count
from graphdiff.models.explanation import Explanation
from graphdiff.models.ld4mrec.adoption import ITEM_PARAMETERS, adopt
from graphdiff.models.ld4mrec.calibration import calibrate
from graphdiff.models.ld4mrec.cold_items import ColdItemScores
from graphdiff.models.ld4mrec.config import SEARCH_SPACE, LD4MRecConfig
from graphdiff.models.ld4mrec.draws import Draw, draw_step, training_process
from graphdiff.models.ld4mrec.explain import explain_score
from graphdiff.models.ld4mrec.inference import InferencePass
from graphdiff.models.ld4mrec.item_messages import Propagated
from graphdiff.models.ld4mrec.item_tables import ItemTables
from graphdiff.models.ld4mrec.linear_path import linear_path
from graphdiff.models.ld4mrec.objective import SoftReconstruction
from graphdiff.models.ld4mrec.parts import (
    check_parts,
    item_embedding,
    item_messages,
    noise_schedule,
    with_steps,
)
from graphdiff.models.ld4mrec.presets import PRESETS
from graphdiff.models.ld4mrec.process_settings import build_process
from graphdiff.models.ld4mrec.reverse_chain import reverse_chain
from graphdiff.models.ld4mrec.row_encoding import encode_entries, encode_scaled_rows
from graphdiff.models.ld4mrec.row_signals import Signals, row_signals
from graphdiff.models.ld4mrec.sizes import with_sizes
from graphdiff.models.ld4mrec.training_step import row_losses
from graphdiff.models.recency import Recency
from graphdiff.nn.cnet import CNet
from graphdiff.nn.constants import constant
from graphdiff.nn.diffusion import Schedule, StepSampler
from graphdiff.nn.heads import CosineHeads, InnerProductHeads
from graphdiff.nn.processes import Process
from graphdiff.nn.signals import ModalityGate


class LD4MRec(Recommender):
    r"""LD4MRec from `"LD4MRec: Simplifying and Powering Diffusion Model for Multimedia
    Recommendation" <https://arxiv.org/abs/2309.15363>`_.

    A user is a function of their history: there is no parameter per user. From learned item
    embeddings E (:class:`~graphdiff.models.ld4mrec.item_embedding.ItemEmbedding`), message passing
    makes the item tables

    .. math::
        C = \mathrm{mean}_l (\tilde{A}^\top \tilde{A})^l E, \qquad
        M_m = w\, S_m E, \qquad
        Z = C + \sum_m a_m M_m

    (:class:`~graphdiff.models.ld4mrec.item_messages.ItemMessages`). A user's row
    :math:`\tilde{\mathbf{x}}_u = \mathbf{x}_u / \sqrt{|N_u|}` is mapped to scores by

    .. math::
        \mathbf{h}_0 &= \mathbf{x}_t Z + \sum_m (g_{um} - a_m)\,
        \tilde{\mathbf{x}}_u M_m, \\
        \mathbf{h} &= \mathrm{CNet}(\mathbf{h}_0 \mid t,\; \tilde{\mathbf{x}}_u C,\;
        \textstyle\sum_m g_{um} \tilde{\mathbf{x}}_u M_m), \\
        s_{ui} &= \mathrm{mean}_\eta \cos(\mathbf{h}^\eta, \mathbf{z}^\eta_i) / \tau + b_i .

    *Modality preference.* The gate :math:`g_{um}` is initialised to the global weights
    :math:`a_m` and keeps them unless it is trained (``gated``), which improves accuracy on the
    synthetic data and makes no difference on the real datasets of the benchmarks.

    *Diffusion.* In training :math:`\mathbf{x}_t = \sqrt{\bar\alpha_t}\tilde{\mathbf{x}}_u +
    \sqrt{1 - \bar\alpha_t}\,\sigma_u \epsilon`, with :math:`t` drawn uniformly, or by importance
    as in the paper; a part of the row is hidden as well. :math:`t = 0` is the observed row, with
    its own learned time embedding. :math:`\sigma_u = \lVert\tilde{\mathbf{x}}_u\rVert / \sqrt{I}`
    makes a noise level comparable between catalogues. :mod:`graphdiff.nn.processes` has other
    corruptions (``diffusion.process``). Inference is one pass on the observed row, without noise.

    *Objective.* Soft reconstruction of the row over the whole catalogue
    (:class:`~graphdiff.models.ld4mrec.objective.SoftReconstruction`) and a softmax over shared
    negatives on the scores s (:func:`~graphdiff.nn.losses.sampled_log_partition`). The items of a
    row that are hidden from the encoder are its targets.

    The width is divided among H heads :math:`\eta`, trained independently and averaged: see
    :mod:`graphdiff.nn.heads`. Where rows are long, scores linear in the row are trained beside the
    network (:class:`~graphdiff.models.ld4mrec.linear_path.LinearPath`) and validation weighs them.
    Items without interactions have vectors and a bias of their own, outside of training
    (:class:`~graphdiff.models.ld4mrec.cold_items.ColdItemScores`). Where the data has times, rows
    are ranked for with more weight on their latest items
    (:class:`~graphdiff.models.recency.Recency`).

    From the paper are the diffusion of rows, forward-free inference, C-Net with its two signals,
    aggregation with :math:`1/\sqrt{|N_u||N_i|}`, and the softening by p and γ. Ours are the shared
    table with cosine scores, its heads, shrinking it, the linear term of features, collaborative
    smoothing in place of the truncated SVD, content tables made from it, hiding a part of the row,
    the ranking term, σ_u, and the exact sparse form of everything. ``preset="paper"`` leaves out
    what is ours, as far as the paper is known.

    *Parts.* Process, schedule, C-Net and gate can be given: ``LD4MRec.from_data(data, cnet=…)``. A
    part is any :class:`torch.nn.Module` that is called as the built-in one is. Its ``freeze()``, if
    any, makes its inference form; otherwise a copy in evaluation mode is used. Training resets it
    by ``reset_parameters``, its own or those of its submodules. A :class:`graphdiff.nn.Part` is
    rebuilt on loading; another part is given again: ``LD4MRec.from_pretrained(folder, cnet=…)``.

    Args:
        config: :class:`~graphdiff.models.ld4mrec.config.LD4MRecConfig`.
        graph: Training interactions and item content.
        schedule: A noise schedule like :class:`~graphdiff.nn.DiffusionSchedule`: ``num_steps``,
            ``add_noise(x_0, noise, t)`` and ``step(x_0, x_t, t)``, linear in the rows. It replaces
            the settings ``diffusion.num_steps``, ``noise_scale`` and ``noise_min``.
        process: A process like :class:`~graphdiff.nn.RowProcess`, in place of ``diffusion``'s.
        cnet: A network like :class:`~graphdiff.nn.CNet`, called with ``(hidden, t, collaborative,
            preference)``. Its inference form, if it has one, is called with an integer t.
        gate: A gate like :class:`~graphdiff.nn.ModalityGate`, called with ``(preference,
            shares)``; ``freeze(shares)`` makes its inference form. It replaces ``gated``.
    """

    Config: ClassVar[type[ModelConfig]] = LD4MRecConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "users"
    folds_in: ClassVar[bool] = True
    uses_content: ClassVar[bool] = True
    reads_times: ClassVar[bool] = True
    updatable: ClassVar[bool] = True
    item_parameters: ClassVar[tuple[str, ...]] = ITEM_PARAMETERS
    part_names: ClassVar[tuple[str, ...]] = ("schedule", "process", "cnet", "gate")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    config: LD4MRecConfig
    process: Process

    def __init__(
        self,
        config: LD4MRecConfig,
        graph: RecGraph,
        *,
        schedule: Schedule | None = None,
        process: Process | None = None,
        cnet: torch.nn.Module | None = None,
        gate: torch.nn.Module | None = None,
    ) -> None:
        given = check_parts(schedule=schedule, process=process, cnet=cnet, gate=gate)
        config = with_sizes(with_steps(config, schedule, process), graph)
        super().__init__(config, graph)
        self.given_parts = given
        channels, num_heads = config.hidden_channels, config.num_heads
        num_steps = config.diffusion.num_steps
        self.items = item_embedding(config, graph)
        self.messages = item_messages(config, graph)
        self.bias = torch.nn.Parameter(torch.zeros(graph.num_items))
        self.heads = CosineHeads(num_heads)
        self.reconstruction = SoftReconstruction(graph.num_items, config.objective)
        if gate is None:
            gate = ModalityGate(len(graph.modalities), channels, config.gated)
        self.gate = gate
        self.process = build_process(config, schedule) if process is None else process
        uniform = 0.1 if config.diffusion.importance_sampling else 1.0
        self.steps = StepSampler(num_steps + 1, uniform=uniform)
        blocks = config.num_blocks
        self.cnet = CNet(channels, num_heads, blocks, num_steps) if cnet is None else cnet
        self.linear = linear_path(graph, config)
        self.cold_items = ColdItemScores(config.cold_items)
        self.recency = Recency(config.recency)
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return SEARCH_SPACE

    @property
    def schedule(self) -> Schedule:
        """The schedule of the process's Gaussian noise."""
        return noise_schedule(self.process)

    def reset_parameters(self) -> None:
        """Draw new values for all learnable parameters and discard the losses of the steps."""
        from torch_geometric.nn.inits import reset  # PyG takes seconds to import.

        self.items.reset_parameters()
        torch.nn.init.zeros_(self.bias)
        self.heads.reset_parameters()
        self.reconstruction.reset_parameters()
        self.messages.reset_parameters()
        reset(self.gate)
        reset(self.cnet)
        self.steps.reset_parameters()
        self.cold_items.reset_parameters()
        self.recency.reset_parameters()
        if self.linear is not None:
            self.linear.reset_parameters()

    def start_epoch(self, generator: torch.Generator) -> None:
        """Discard the propagated tables; the first time, also read features and decompose."""
        self.messages.invalidate()
        self.items.start(self.graph, generator)
        self.messages.start(self.graph, generator)
        if self.linear is not None:
            self.linear.start(self.graph, generator)

    @torch.no_grad()
    def tables(self) -> ItemTables:
        """Propagate over all graphs and freeze the parts."""
        shares, channels = self.shares(), self.config.hidden_channels
        encoder, signal_tables = self.messages(self.items(self.graph), self.graph, shares)
        # A linear path that does not count is left out.
        linear = self.linear if self.linear is not None and self.linear.counts else None
        heads, bias = self.scoring()
        inference = InferencePass(self.gate, shares, self.cnet, heads, channels, linear)
        item, bias = self.cold_items(encoder, bias, self.graph, heads)
        beside = None if linear is None else linear.tables(self.graph)
        return ItemTables.build(item, bias, [encoder, *signal_tables], inference, beside)

    def scoring(self) -> tuple[CosineHeads | InnerProductHeads, Tensor]:
        """Return heads and biases of the scores; see :meth:`SoftReconstruction.scoring`."""
        return self.reconstruction.scoring(self.heads, self.bias)

    def calibrate(self, pairs: Tensor) -> None:
        """Set what validation decides; see :mod:`graphdiff.models.ld4mrec.calibration`."""
        calibrate(self, pairs)

    def propagated(
        self, withheld: Tensor | None = None, shares: Tensor | None = None
    ) -> Propagated:
        """Return the item tables of a training step; see :meth:`ItemMessages.for_step`."""
        smooth = training_process(self.config, self.process).smooth
        shares = self.shares() if shares is None else shares
        items = self.items(self.graph, once=not self.messages.in_step(self.graph))
        return self.messages.for_step(items, self.graph, shares, withheld, smooth)

    def shares(self) -> Tensor:
        """Return the global weights of the modalities, ``[M]``: positive, with a sum of one. They
        are equal before training."""
        agreeing = self.config.modality_shares == "agreement"
        return self.items.modality_shares(len(self.graph.modalities), agreeing)

    def signals(self, entries: Tensor, rows: Rows) -> Signals:
        """Return the signals of rows, from C and the M_m of their items ``[nnz, (1 + M) * d]``."""
        return row_signals(encode_entries(entries, rows), self.gate, self.shares())

    def hidden(self, behaviour: Tensor, t: Tensor, signals: Signals) -> Tensor:
        """Return C-Net's output ``[B, d]`` for encoded rows x_t·Z, ``[B, d]``, at the steps
        ``t``, long ``[B]``, with the signals of the observed rows."""
        return self.cnet(behaviour + signals.gate_residual, t, *signals[:2])

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return soft reconstruction plus ranking, a mean over users ``batch``, long ``[B]``."""
        return self.part_loss(batch, generator, slice(None))

    def part_loss(self, batch: Tensor, generator: torch.Generator, part: slice) -> Tensor:
        """Return the contribution of the users ``batch[part]`` to :meth:`loss`."""
        rows, position = self.graph.located_rows(batch)
        if rows.item.numel() == 0:
            return 0 * self.items.weight.sum()
        draw, passing = self.draw(rows, generator), self.config.propagation
        withheld = None
        if passing.hide_targets and passing.num_layers and self.messages.in_step(self.graph):
            withheld = position.masked_select(~draw.visible)
        own, mine = draw.part(rows, part), rows.part(part)
        loss = self.row_losses(mine, own, withheld)
        if self.steps.uniform < 1:
            self.steps.update(draw.t, join_parts(loss, part, rows.num))
        loss = loss.dot((own.step_weight * constant(1 / rows.num, loss)).to(loss.dtype))
        if self.linear is not None and not self.linear.complete:
            # The two share no parameter, so they need no balance.
            loss += self.linear.loss(self.graph, mine, own.visible, generator).sum() / rows.num
        return loss

    def draw(self, rows: Rows, generator: torch.Generator) -> Draw:
        """Draw the random values of a training step on ``rows``, which are not all empty."""
        return draw_step(rows, self.graph, self.steps, self.process, self.config, generator)

    def row_losses(self, rows: Rows, draw: Draw, withheld: Tensor | None = None) -> Tensor:
        """Return the loss of each row, ``[B]``; for ``withheld`` see :meth:`propagated`."""
        return row_losses(self, rows, draw, withheld)

    def user_vectors(self, query: Query, tables: Tables, num_steps: int = 0) -> Tensor:
        """Return user vectors ``[B, d + K]``, computed from the users' rows.

        Args:
            query: The users.
            tables: From :meth:`tables`.
            num_steps: 0 for one pass on the observed row. Otherwise the passes of the reverse
                chain from the corrupted row, at most T, for comparison; see :func:`reverse_chain`.
        """
        assert isinstance(tables, ItemTables)
        weight = self.recency(query.rows)
        encoded = encode_scaled_rows(tables.row_encoder, query.rows, weight)
        if not num_steps:
            return tables.inference(encoded)
        table, smooth = tables.encoder, self.process.smooth
        smoothing = self.messages.smoothing(table, self.graph, self.shares(), smooth)
        hidden = reverse_chain(
            self.process, self.reconstruction, tables, smoothing, encoded, query.rows, num_steps
        )
        return tables.inference.vectors(hidden, encoded)

    @torch.no_grad()
    def modality_preference(
        self,
        user_index: Any = None,
        *,
        user_id: Any = None,
        history: Any = None,
        history_index: Any = None,
    ) -> dict[str, Tensor]:
        """Return each user's weights of the modalities, which differ where the gate is trained.

        Args:
            user_index, user_id, history, history_index: The users, as in :meth:`recommend`.

        Returns:
            Per modality the weights, float ``[B]``. They sum to one for a user whose items have
            any modality, and are zero for others.
        """
        rows = self.query(
            user_index, user_id=user_id, history=history, history_index=history_index
        ).rows
        tables = self.cached_tables()
        assert isinstance(tables, ItemTables)
        encoded = encode_scaled_rows(tables.row_encoder, rows, self.recency(rows))
        gate = row_signals(tables.split(encoded)[1], self.gate, self.shares()).gate
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
        """Split the score of one item for one user into parts.

        With the length of h and the temperature taken as constant, a score is linear in h. The
        parts are the contributions to h of the user's items by their own embeddings, learned from
        interactions (``behaviour``) and from features of each modality (``features_<name>``, where
        they are linear in features), through other users (``collaborative``, where tables are
        smoothed over them), by the content table of each modality (``preference_<name>``, with the
        gate's residual) and by the linear path (``linear``, where there is one). The ``remainder``
        is what C-Net adds to h, and the item's bias. The parts sum to the score.

        Args:
            item_index: The item.
            item_id: Its raw id instead.
            user_index, user_id, history, history_index: The user, as in :meth:`recommend`.
            num_items: Largest number of items of the history to name.

        Raises:
            ConfigError: If not exactly one item and one user are given, or an index is unknown.
            DataError: If a raw id is unknown.
        """
        item = self.catalogue.items(item_index, item_id)
        rows = self.query(
            user_index, user_id=user_id, history=history, history_index=history_index
        ).rows
        return explain_score(self, item, rows, as_count(num_items, "num_items"))

    def adopt_graph(self, graph: RecGraph, kept: Tensor | None = None) -> None:
        """Take over another graph; see :func:`~graphdiff.models.ld4mrec.adoption.adopt`."""
        adopt(self, graph, kept)

    def before_update(self, pairs: Tensor) -> None:
        """Correct the bias of cold items; see :meth:`ColdItemScores.recalibrate`."""
        self.cold_items.recalibrate(self, pairs)

    def start_update(self, generator: torch.Generator) -> None:
        """Decompose the item graph of the new interactions, and start as an epoch does."""
        if self.linear is not None:
            self.linear.discard()
        self.start_epoch(generator)
