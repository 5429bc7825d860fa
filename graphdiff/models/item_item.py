"""Base class of linear models with a dense item-item matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import BaseConfig, Query, Tables
from graphdiff.models.closed_form import ClosedForm
from graphdiff.nn.item_regression import check_dense, item_item_scorer


class ItemItem(ClosedForm):
    r"""Base class of models that score a user's row by an item-item matrix,
    :math:`\hat{\mathbf{y}}_u = \mathbf{x}_u W`.

    Args:
        config: The model's settings.
        graph: Training interactions and item content.

    Raises:
        ConfigError: Above :data:`~graphdiff.nn.item_regression.MAX_DENSE_ITEMS` items, because W is
            dense.
    """

    weight: Tensor

    def __init__(self, config: BaseConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        check_dense(graph.num_items, type(self).__name__)
        self.register_buffer("weight", torch.zeros(graph.num_items, graph.num_items))

    def tables(self) -> Tables:
        """Return the columns of W as item vectors."""
        return Tables(item=self.weight.t())

    def user_vectors(self, query: Query, tables: Tables) -> Tensor:
        """Return the users' rows, dense ``[B, I]``; :meth:`scorer` does not need them."""
        rows, entries = query.rows, self.entries(query.rows)
        vectors = self.weight.new_zeros(rows.num, self.num_items)
        vectors[rows.row, rows.item] = 1.0 if entries is None else entries.to(vectors.dtype)
        return vectors

    def entries(self, rows: Rows) -> Tensor | None:
        """Return the values of rows, ``[nnz]``; None where all are 1."""
        return None

    def scorer(self, query: Query, tables: Tables, **options: Any) -> Callable[[int, int], Tensor]:
        """Return a function that sums rows of W for one block of items."""
        return item_item_scorer(query.rows, tables.item.t(), self.entries(query.rows))
