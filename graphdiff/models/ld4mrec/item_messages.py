"""Item tables by message passing over the user-item graph and the item-item graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from graphdiff.autocast import without_autocast
from graphdiff.graph.message_graphs import (
    item_to_user_graph,
    item_to_user_graph_without,
    similarity_graph,
)
from graphdiff.graph.round_trips import smoothed
from graphdiff.graph.store import RecGraph
from graphdiff.graph.streamed_messages import inverse_root_degree, is_streamed
from graphdiff.models.ld4mrec.content_embedding import ContentEmbedding
from graphdiff.models.ld4mrec.item_tables import side_by_side
from graphdiff.models.ld4mrec.singular_signal import SingularSignal
from graphdiff.nn.reconstruction import ItemTableSums, sum_item_table
from graphdiff.nn.signals import CollaborativeSignal, ModalitySignal

#: From Z, the graph, items' weights of the modalities and withheld interactions to the smoothed
#: table, or None: see :meth:`graphdiff.nn.RowProcess.smooth`.
Smooth = Callable[[Tensor, RecGraph, Tensor, Tensor | None], Tensor | None]

#: Largest number of messages of a propagation that every training step does.
SMALL_GRAPH = 4_000_000


class Propagated(NamedTuple):
    """Item tables of a training step.

    Attributes:
        table: ``[I, d]``, the part with a gradient.
        shift: ``[I, d]``; Z is ``table + shift``. None where Z is the table.
        signal_tables: C and the M_m side by side, ``[I, (1 + M) * d]``.
        smoothing: SZ - Z, ``[I, d]``, where a process smooths rows by S; otherwise None.
    """

    table: Tensor
    shift: Tensor | None
    signal_tables: Tensor
    smoothing: Tensor | None = None

    def sums(self, residual: Tensor, index: Tensor | None, num_heads: int) -> ItemTableSums:
        """Return the sums over Z that a training step needs; see
        :func:`~graphdiff.nn.reconstruction.sum_item_table`."""
        with without_autocast():
            once = not self.table.is_leaf
            return sum_item_table(self.table, self.shift, residual, index, num_heads, once)


class ItemMessages(torch.nn.Module):
    r"""Item tables that encode rows, from the item embeddings E:

    .. math::
        C = \mathrm{mean}_l (\tilde{A}^\top \tilde{A})^l E, \qquad
        M_m = w\, S_m E, \qquad
        Z = C + \sum_m a_{im} M_m,

    where :math:`a_{im}` are the global weights of the modalities, among those that item i has; see
    :meth:`modality_weights`.

    Instead, C can be a truncated SVD of the interactions
    (:class:`~graphdiff.models.ld4mrec.singular_signal.SingularSignal`), with
    :math:`Z = E + \sum_m a_{im} M_m`; and the content tables can be learned linear maps of the
    items' features, :math:`M_m = w\, D_I^{-1/2} \hat{X}_m P_m`, so that a row's product with
    them aggregates features with the weights :math:`1/\sqrt{|N_u||N_i|}`, as in the paper.

    Message passing touches every interaction, a training step only those of its batch. On small
    graphs every training step propagates, and its gradient flows through. On large ones the tables
    are computed at the start of an epoch and every ``every`` steps, without a gradient. In between
    :math:`Z = E + \Delta` with the shift :math:`\Delta = Z - E` of that moment, so a step moves Z
    as it moves E, and the next propagation spreads the change. (For a symmetric filter F with
    non-negative eigenvalues, following the gradient of FE as if it were E's is gradient descent on
    :math:`F^{1/2}E'`: smoothing once, not twice.)

    Where every step propagates, the batch's targets can be withheld from it. Otherwise an item and
    the items it is to be predicted from would already have met through the very row that the
    prediction is for: target leakage.

    Args:
        num_layers: Round trips L over the user-item graph.
        num_item_layers: Layers on each item-item graph.
        content_weight: w.
        every: Training steps between two propagations; 0 for one in every step. By default 0 on
            small graphs and 100 on large ones. With ``features`` it is 0.
        singular: The truncated SVD that is C in place of smoothed embeddings.
        features: The linear maps of features that make the M_m in place of smoothed embeddings.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2]), num_items=3)
        >>> messages = ItemMessages(num_layers=1, num_item_layers=1, content_weight=2.0)
        >>> encoder, signal_tables = messages(torch.eye(3), graph, shares=torch.ones(0))
        >>> encoder  # items 0 and 1 have a user in common
        tensor([[0.7500, 0.2500, 0.0000],
                [0.2500, 0.7500, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """

    def __init__(
        self,
        num_layers: int,
        num_item_layers: int,
        content_weight: float,
        every: int | None = None,
        singular: SingularSignal | None = None,
        features: ContentEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.collaborative = CollaborativeSignal(num_layers)
        self.content = ModalitySignal(num_item_layers, content_weight)
        self.every = every
        self.singular, self.features = singular, features
        self._last: tuple[Tensor, Tensor, Tensor | None] | None = None
        self._steps_since = 0

    def steps_between(self, graph: RecGraph) -> int:
        """Return the training steps between two propagations; 0 for one in every step, with its
        gradient."""
        if self.features is not None:
            return 0  # The maps of features are trained through the tables.
        if self.every is not None:
            return self.every
        similar = sum(graph.similar(name)[1].numel() for name in graph.modalities)
        num_messages = self.content.num_layers * similar
        if self.singular is None:
            num_messages += 2 * self.collaborative.num_layers * graph.num_interactions
        return 0 if num_messages <= SMALL_GRAPH else 100

    def in_step(self, graph: RecGraph) -> bool:
        """Return whether every step propagates."""
        return self.steps_between(graph) == 0

    def saves_memory(self, graph: RecGraph) -> bool:
        """Return whether tables are weighed in place of messages, which would need a copy of all
        weights: without gradients, on a graph that not every step propagates over."""
        return not torch.is_grad_enabled() and (is_streamed(graph) or not self.in_step(graph))

    def start(self, graph: RecGraph, generator: torch.Generator) -> None:
        """Compute what is fixed during training: the SVD and the directions of features."""
        if self.singular is not None:
            self.singular.start(graph)
        if self.features is not None:
            self.features.start(graph, generator)

    def reset_parameters(self) -> None:
        """Draw the maps of features and discard the tables of earlier steps."""
        self.invalidate()
        if self.features is not None:
            self.features.reset_parameters()

    def change(self, graph: RecGraph, kept: Tensor | None, num: int) -> None:
        """Leave out all items but ``kept``, bool ``[I]`` (default: none), and read the last ``num``
        items of ``graph``, which are new."""
        self.invalidate()
        if self.singular is not None:
            self.singular.change(kept, num)
        if self.features is not None:
            if kept is not None:
                self.features.keep(kept)
            self.features.grow(graph)

    def invalidate(self) -> None:
        """Discard the tables of earlier steps, so that the next training step propagates."""
        self._last = None

    def for_step(
        self,
        items: Tensor,
        graph: RecGraph,
        shares: Tensor,
        withheld: Tensor | None = None,
        smooth: Smooth | None = None,
    ) -> Propagated:
        """Return the tables of a training step, computed now or in an earlier step.

        Args:
            items: E, ``[I, d]``.
            graph: Over the same items.
            shares: Global weights of the modalities, ``[M]``, which sum to one.
            withheld: Positions of interactions, long ``[n]``, that are removed from message
                passing, where every step propagates.
            smooth: Smoothing of the process that corrupts rows; None for none.
        """
        every = self.steps_between(graph)
        if every == 0:
            signal_tables = list(self._signal_tables(items, graph, withheld))
            encoder = self._encoder(items, signal_tables, graph, shares)
            smoothing = self.smoothing(encoder, graph, shares, smooth, withheld)
            return Propagated(encoder, None, torch.cat(signal_tables, dim=1), smoothing)
        if self._last is None or self._steps_since >= every:
            with torch.no_grad():
                encoder, signal_tables = self(items, graph, shares, joined=False)
                smoothing = self.smoothing(encoder, graph, shares, smooth)
                self._last = encoder.sub_(items), side_by_side(signal_tables), smoothing
            self._steps_since = 0
        self._steps_since += 1
        return Propagated(items, *self._last)

    def smoothing(
        self,
        encoder: Tensor,
        graph: RecGraph,
        shares: Tensor,
        smooth: Smooth | None,
        withheld: Tensor | None = None,
    ) -> Tensor | None:
        """Return SZ - Z, ``[I, d]``, of an encoder Z; None where there is no smoothing."""
        if smooth is None:
            return None
        smoothed = smooth(encoder, graph, self.modality_weights(graph, shares), withheld)
        return None if smoothed is None else smoothed - encoder

    @torch.no_grad()
    def forward(
        self, items: Tensor, graph: RecGraph, shares: Tensor, joined: bool = True
    ) -> tuple[Tensor, list[Tensor]]:
        """Return Z, ``[I, d]``, and the signal tables C and M_m, ``[I, d]`` each, without
        gradients. The tables of earlier training steps are discarded.

        Args:
            items: E, ``[I, d]``.
            graph: Over the same items.
            shares: Global weights of the modalities, ``[M]``.
            joined: Return Z as a column of one tensor with the signal tables; otherwise it is
                contiguous, and faster to read as a whole.
        """
        self.invalidate()  # Their memory is needed.
        columns = joined + 1 + len(graph.modalities)
        tables = list(items.new_empty(items.size(0), columns, items.size(1)).unbind(dim=1))
        signal_tables, out = tables[joined:], tables[0] if joined else None
        # One by one, since tables take most of the memory on a large catalogue; a loop over the
        # iterator would hold each of them until the next one is there.
        computed = self._signal_tables(items, graph)
        for signal_table in signal_tables:
            signal_table.copy_(next(computed))
        return self._encoder(items, signal_tables, graph, shares, out), signal_tables

    def _encoder(
        self,
        items: Tensor,
        signal_tables: list[Tensor],
        graph: RecGraph,
        shares: Tensor,
        out: Tensor | None = None,
    ) -> Tensor:
        """Return Z, from E, C and the M_m, in ``out`` if it is given."""
        base = signal_tables[0] if self.singular is None else items
        encoder = base.clone() if out is None else out.copy_(base)
        weights = self.modality_weights(graph, shares).unbind(dim=1)
        for table, weight in zip(signal_tables[1:], weights, strict=True):
            encoder.addcmul_(table, weight.unsqueeze(1))
        return encoder

    def _signal_tables(
        self, items: Tensor, graph: RecGraph, withheld: Tensor | None = None
    ) -> Iterator[Tensor]:
        if self.singular is not None:
            yield self.singular()
        elif self.saves_memory(graph) and graph.col.device.type == "cpu":
            yield smoothed(graph, items, self.collaborative.num_layers)
        elif withheld is None:
            yield self.collaborative(items, graph.cached(item_to_user_graph))
        else:
            yield self.collaborative(items, item_to_user_graph_without(graph, withheld))
        if self.features is not None:
            damping = self.content.weight * graph.cached(inverse_root_degree).to(items.dtype)
            for table in self.features.by_modality().values():
                yield damping * table
            return
        for name in graph.modalities:
            _, has = graph.features(name)
            scaled = not self.saves_memory(graph)
            share = self.content.edge_share if scaled else 1.0
            yield self.content(items, has, graph.cached(similarity_graph, {name: share}), scaled)

    def modality_weights(
        self, graph: RecGraph, shares: Tensor, index: Tensor | None = None
    ) -> Tensor:
        """Return each item's weights of the modalities.

        They are the global weights, normalised to sum to one over the modalities that the item
        has; all are zero where it has none.

        Args:
            graph: With the items' modalities.
            shares: Global weights, ``[M]``.
            index: Items, long ``[n]``; all by default.

        Returns:
            ``[I, M]``, or ``[n, M]``.
        """
        has = graph.cached(_has_modality)
        weight = (has if index is None else has[index]) * shares
        return weight / weight.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


def _has_modality(graph: RecGraph) -> Tensor:
    """Return which items have which modality, bool ``[I, M]``."""
    has = [graph.features(name)[1] for name in graph.modalities]
    return torch.stack(has, dim=1) if has else graph.col.new_zeros(graph.num_items, 0)
