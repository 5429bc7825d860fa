"""Popularity: one ranking for all users."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.models.base import BaseConfig, Query, Tables
from graphdiff.models.closed_form import ClosedForm


class Popularity(ClosedForm):
    r"""Score of an item by the number of its training users, :math:`\hat{y}_{ui} = |U_i|`.

    The baseline that every model has to beat.

    Args:
        config: The base settings; the model has none of its own.
        graph: Training interactions.
    """

    count: Tensor

    def __init__(self, config: BaseConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self.register_buffer("count", torch.zeros(graph.num_items))

    def solution(self) -> dict[str, Tensor]:
        """Return the degree of each item as ``count``, ``[I]``."""
        return {"count": self.graph.item_degree()}

    def tables(self) -> Tables:
        """Return item vectors of width one."""
        return Tables(item=self.count.unsqueeze(1))

    def user_vectors(self, query: Query, tables: Tables) -> Tensor:
        """Return ones, ``[B, 1]``."""
        return self.count.new_ones(query.rows.num, 1)
