"""Base class of item-based nearest-neighbour models."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import BaseConfig, Query, Tables
from graphdiff.models.closed_form import ClosedForm
from graphdiff.nn.neighbors import Neighbors, neighbor_scorer


class NeighborhoodConfig(BaseConfig):
    """Settings of :class:`Neighborhood`."""

    num_neighbors: int = Field(100, ge=1, description="Neighbours k of each item.")


@dataclass(frozen=True, kw_only=True)
class NeighborTables(Tables):
    """Neighbours of each item, ``index [I, k]``; ``item`` is their similarity, ``[I, k]``."""

    index: Tensor


class Neighborhood(ClosedForm):
    r"""Base class of item-based nearest neighbours: an item is scored by its neighbours in the
    user's history.

    With the k nearest neighbours :math:`N_k(i)` of item i,

    .. math::
        \hat{y}_{ui} = \sum_{j \in N_k(i) \cap N_u} s_{ij} .

    Args:
        config: :class:`NeighborhoodConfig`.
        graph: Training interactions and item content.
    """

    Config: ClassVar[type[BaseConfig]] = NeighborhoodConfig
    config: NeighborhoodConfig
    index: Tensor
    similarity: Tensor

    def __init__(self, config: NeighborhoodConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        shape = graph.num_items, max(1, min(config.num_neighbors, graph.num_items - 1))
        self.register_buffer("index", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("similarity", torch.zeros(shape))

    @abstractmethod
    def neighbors(self, k: int) -> Neighbors:
        """Return the k nearest neighbours of each item."""

    def solution(self) -> dict[str, Tensor]:
        """Return the neighbours and their similarity."""
        index, similarity = self.neighbors(self.index.size(1))
        return {"index": index, "similarity": similarity}

    def tables(self) -> NeighborTables:
        """Return the neighbours and their similarity as tables."""
        return NeighborTables(item=self.similarity, index=self.index)

    def user_vectors(self, query: Query, tables: Tables) -> Tensor:
        """Raise an error: this model has no user vectors.

        Raises:
            ConfigError: Always, because the scores are not inner products.
        """
        raise ConfigError(
            f"{type(self).__name__} has no user vectors; use recommend(), or a model with user "
            "vectors, such as PureSVD"
        )

    def scorer(self, query: Query, tables: Tables, **options: Any) -> Callable[[int, int], Tensor]:
        """Return a function that sums the similarities for one block of items."""
        assert isinstance(tables, NeighborTables)
        return neighbor_scorer(query.rows, Neighbors(tables.index, tables.item))
