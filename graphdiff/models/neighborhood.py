"""Base of the models that score an item by those of its neighbours that a person has."""

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
    """Neighbours of the items, ``index [I, k]``; ``item`` is their similarity, ``[I, k]``."""

    index: Tensor


class Neighborhood(ClosedForm):
    r"""Base of item-based nearest neighbours.

    With the k nearest neighbours :math:`N_k(i)` of an item,

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
        """The k nearest neighbours of each item."""

    def solution(self) -> dict[str, Tensor]:
        """Neighbours and their similarity."""
        index, similarity = self.neighbors(self.index.size(1))
        return {"index": index, "similarity": similarity}

    def tables(self) -> NeighborTables:
        """The neighbours."""
        return NeighborTables(item=self.similarity, index=self.index)

    def vectors(self, query: Query, tables: Tables) -> Tensor:
        """Not there.

        Raises:
            ConfigError: Always: these scores are no inner product with a person's vector.
        """
        raise ConfigError(
            f"{type(self).__name__} has no vectors of people; ask it with recommend, or take a "
            "model that has, such as PureSVD"
        )

    def scorer(self, query: Query, tables: Tables, **options: Any) -> Callable[[int, int], Tensor]:
        """Sums of similarities, a block of items at a time."""
        assert isinstance(tables, NeighborTables)
        return neighbor_scorer(query.rows, Neighbors(tables.index, tables.item))
