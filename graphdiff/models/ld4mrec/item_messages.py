"""What an item table becomes by message passing, over people and over items that are alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from graphdiff.graph.message_graphs import (
    item_to_user_graph,
    item_to_user_graph_without,
    similarity_graph,
)
from graphdiff.graph.propagation import FixedGraph
from graphdiff.graph.store import RecGraph
from graphdiff.nn.signals import CollaborativeSignal, ModalitySignal

#: Most messages of one propagation that a training step may be burdened with.
SMALL_GRAPH = 4_000_000


class Propagated(NamedTuple):
    """What message passing said, now or some training steps ago.

    Attributes:
        table: ``[I, d]``, what gradients flow into.
        shift: ``[I, d]``; Z is ``table + shift``.
        guides: C and the M_m, ``[I, d]`` each.
    """

    table: Tensor
    shift: Tensor
    guides: list[Tensor]


class ItemMessages(torch.nn.Module):
    r"""From items' embeddings E to the tables that people are read with,

    .. math::
        C = \mathrm{mean}_l (\tilde{A}^\top \tilde{A})^l E, \qquad
        M_m = w\, S_m E, \qquad
        Z = C + \sum_m a_{im} M_m,

    where :math:`a_{im}` are the shares of the modalities, among those that item i has: see
    :meth:`weights`.

    On small graphs a training step makes them anew, and its gradient flows through; on large ones
    they are made at times, without a gradient, and move in between as E does: see
    :class:`~graphdiff.models.LD4MRec`. The graphs and the shares of the modalities, ``[M]``, which
    sum to one, are the caller's, and are told each time.

    Args:
        num_layers: Round trips over the user-item graph.
        num_item_layers: Layers on each item-item graph.
        content_weight: w.
        every: Training steps between two propagations; 0 for one in every step. By default 0 on
            small graphs and 100 on large ones.
    """

    def __init__(
        self, num_layers: int, num_item_layers: int, content_weight: float, every: int | None = None
    ) -> None:
        super().__init__()
        self.collaborative = CollaborativeSignal(num_layers)
        self.content = ModalitySignal(num_item_layers, content_weight)
        self.every = every
        self._last: tuple[Tensor, list[Tensor]] | None = None
        self._steps_since = 0

    def steps_between(self, graph: RecGraph) -> int:
        """Training steps between two propagations; 0 for one in every step, with its gradient."""
        if self.every is not None:
            return self.every
        similar = sum(graph.similar(name)[1].numel() for name in graph.modalities)
        num_messages = 2 * self.collaborative.num_layers * graph.num_interactions
        num_messages += self.content.num_layers * similar
        return 0 if num_messages <= SMALL_GRAPH else 100

    def forget(self) -> None:
        """Has the next training step make the tables anew."""
        self._last = None

    def for_step(
        self, items: Tensor, graph: RecGraph, shares: Tensor, withheld: Tensor | None = None
    ) -> Propagated:
        """The tables for a training step, made now or not so long ago.

        Args:
            items: E, ``[I, d]``.
            graph: Over the same items.
            shares: Of the modalities, ``[M]``.
            withheld: Positions of interactions, long ``[n]``, that messages do not pass along where
                the tables are made now.
        """
        every = self.steps_between(graph)
        if every == 0:
            guides = list(self._guides(items, graph, withheld))
            encoder = self._encoder(guides, graph, shares)
            return Propagated(encoder, encoder.new_zeros(1, 1).expand_as(encoder), guides)
        if self._last is None or self._steps_since >= every:
            with torch.no_grad():
                encoder, guides = self(items, graph, shares)
                self._last = encoder.sub_(items), guides
            self._steps_since = 0
        self._steps_since += 1
        return Propagated(items, *self._last)

    @torch.no_grad()
    def forward(
        self, items: Tensor, graph: RecGraph, shares: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Z, ``[I, d]``, and the guides C and M_m, ``[I, d]`` each, without gradients."""
        # Filled piece by piece: tables are what a large catalogue's memory goes into.
        table = items.new_empty(items.size(0), 1 + len(graph.modalities), items.size(1))
        for column, guide in enumerate(self._guides(items, graph)):
            table[:, column] = guide
        guides = list(table.unbind(dim=1))
        return self._encoder(guides, graph, shares), guides

    def _encoder(self, guides: list[Tensor], graph: RecGraph, shares: Tensor) -> Tensor:
        """Z of C and the M_m."""
        encoder = guides[0].clone()
        weights = self.weights(graph, shares).unbind(dim=1)
        for table, weight in zip(guides[1:], weights, strict=True):
            encoder.addcmul_(table, weight.unsqueeze(1))
        return encoder

    def _guides(
        self, items: Tensor, graph: RecGraph, withheld: Tensor | None = None
    ) -> Iterator[Tensor]:
        if withheld is None:
            interactions = graph.cached(item_to_user_graph)
        else:
            interactions = item_to_user_graph_without(graph, withheld)
        yield self.collaborative(items, interactions)
        for name in graph.modalities:
            _, has = graph.features(name)
            yield self.content(items, has, self._similar(graph, name))

    def _similar(self, graph: RecGraph, modality: str) -> FixedGraph:
        return graph.cached(similarity_graph, {modality: self.content.edge_share})

    def weights(self, graph: RecGraph, shares: Tensor, index: Tensor | None = None) -> Tensor:
        """Each item's shares of the modalities, ``[I, M]``, or those of the items at ``index``,
        long ``[n]``, by those of all, ``[M]``: they sum to one over the modalities that the item
        has, or to zero where it has none."""
        has = graph.cached(_has_modality)
        weight = (has if index is None else has[index]) * shares
        return weight / weight.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


def _has_modality(graph: RecGraph) -> Tensor:
    """Return which items have which modality, bool ``[I, M]``."""
    has = [graph.features(name)[1] for name in graph.modalities]
    return torch.stack(has, dim=1) if has else graph.col.new_zeros(graph.num_items, 0)
