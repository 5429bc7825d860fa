"""Popularity: the same ranking for everybody."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.models.base import BaseConfig, Query, Tables
from graphdiff.models.closed_form import ClosedForm


class Popularity(ClosedForm):
    r"""An item's score is the number of its training users, :math:`\hat{y}_{ui} = |U_i|`.

    It is what every model has to beat.

    Args:
        config: It has no settings.
        graph: Training interactions.
    """

    count: Tensor

    def __init__(self, config: BaseConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self.register_buffer("count", torch.zeros(graph.num_items))

    def solution(self) -> dict[str, Tensor]:
        """The items' degrees."""
        return {"count": self.graph.item_degree()}

    def tables(self) -> Tables:
        """Items of one number."""
        return Tables(item=self.count.unsqueeze(1))

    def vectors(self, query: Query, tables: Tables) -> Tensor:
        """Ones, ``[B, 1]``."""
        return self.count.new_ones(query.rows.num, 1)
