"""GF-CF: graph filters on the item graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.graph.propagation import symmetric_norm
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import BaseConfig, Query, Tables
from graphdiff.models.closed_form import ClosedForm
from graphdiff.nn.item_regression import multiply_rows
from graphdiff.nn.reconstruction import encode_rows
from graphdiff.nn.spectral import right_singular_vectors


class GFCFConfig(BaseConfig):
    """Settings of :class:`GFCF`."""

    hidden_channels: int = Field(
        256, ge=1, description="Frequencies K that the ideal filter keeps."
    )
    ideal_weight: float = Field(0.3, ge=0, description="Weight α of the ideal low-pass filter.")


@dataclass(frozen=True, kw_only=True)
class FilterTables(Tables):
    """Tables of both filters; ``item`` is :math:`D_I^{1/2} V`, ``[I, K]``.

    Attributes:
        encoder: :math:`\\alpha D_I^{-1/2} V`, ``[I, K]``.
        start: Long ``[I + 1]``; item i has the interactions ``by_item[start[i]:start[i + 1]]``.
        by_item: Long ``[E]``, positions of the interactions, sorted by item.
        weight: Float32 ``[E]``, the entries of :math:`\\tilde{R}` in the order of the graph's
            ``col``.
    """

    encoder: Tensor
    start: Tensor
    by_item: Tensor
    weight: Tensor


class GFCF(ClosedForm):
    r"""The GF-CF model from `"How Powerful is Graph Convolution for Recommendation?"
    <https://arxiv.org/abs/2108.07567>`_.

    With :math:`\tilde{R} = D_U^{-1/2} R D_I^{-1/2}` and its K leading right singular vectors V, a
    linear and an ideal low-pass filter on the item graph are applied to a user's row:

    .. math::
        \hat{\mathbf{y}}_u = \mathbf{x}_u \big(\tilde{R}^\top \tilde{R}
        + \alpha D_I^{-1/2} V V^\top D_I^{1/2}\big).

    The linear filter is applied in two hops over the training interactions, without an item-item
    matrix: a batch of B users takes O(B · U) memory.

    Args:
        config: :class:`GFCFConfig`.
        graph: Training interactions.
    """

    Config: ClassVar[type[BaseConfig]] = GFCFConfig
    config: GFCFConfig
    directions: Tensor

    def __init__(self, config: GFCFConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        rank = min(config.hidden_channels, graph.num_users, graph.num_items)
        self.register_buffer("directions", torch.zeros(graph.num_items, rank))

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return {
            "hidden_channels": [16, 32, 64, 128, 192],
            "ideal_weight": [0.1, 0.3, 1.0, 3.0],
        }

    def solution(self) -> dict[str, Tensor]:
        """Return V as ``directions``, ``[I, K]``."""
        normed = self.graph.to_normalized_scipy()
        return {"directions": right_singular_vectors(normed, self.directions.size(1))}

    def tables(self) -> FilterTables:
        """Return the tables of both filters."""
        graph = self.graph
        degree = graph.item_degree()
        start = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        root = degree.float().sqrt().unsqueeze(1)
        return FilterTables(
            item=root * self.directions,
            encoder=self.config.ideal_weight * self.directions / root.clamp(min=1),
            start=start,
            by_item=torch.argsort(graph.col, stable=True),
            weight=symmetric_norm(graph.col, graph.user, graph.num_items, graph.num_users),
        )

    def user_vectors(self, query: Query, tables: Tables) -> Tensor:
        """Return rows in the basis of the ideal filter, ``[B, K]``, without the linear filter."""
        assert isinstance(tables, FilterTables)
        row, item, num, _ = query.rows
        return encode_rows(tables.encoder, row, item, torch.ones_like(tables.encoder[item, 0]), num)

    def scorer(self, query: Query, tables: Tables, **options: Any) -> Callable[[int, int], Tensor]:
        """Return a function that computes the scores of both filters for one block of items."""
        assert isinstance(tables, FilterTables)
        filters = tables  # mypy does not carry the assertion into the closure
        ideal = self.user_vectors(query, filters)
        at_users = self._at_users(query, filters)

        def score_block(start: int, stop: int) -> Tensor:
            first, last = filters.start[[start, stop]].tolist()
            interaction = filters.by_item[first:last]
            linear = multiply_rows(
                at_users,
                self.graph.col[interaction] - start,
                self.graph.user_of(interaction),
                filters.weight[interaction],
                stop - start,
            )
            return torch.addmm(linear.t(), ideal, filters.item[start:stop].t())

        return score_block

    def _at_users(self, query: Query, tables: FilterTables) -> Tensor:
        """Return the rows after the first hop, to the training users: ``[U, B]``."""
        own, column = query.rows.item.unique(return_inverse=True)
        has = tables.weight.new_zeros(own.numel(), query.rows.num)
        has[column, query.rows.row] = 1
        place = own.new_full((self.num_items,), -1)
        place[own] = torch.arange(own.numel(), device=own.device)
        known = place[self.graph.col]
        met = known >= 0
        return multiply_rows(
            has, self.graph.user[met], known[met], tables.weight[met], self.num_users
        )
