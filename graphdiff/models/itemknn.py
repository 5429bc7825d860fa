"""ItemKNN: items that the same users chose."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from graphdiff.models.base import BaseConfig
from graphdiff.models.neighborhood import Neighborhood, NeighborhoodConfig
from graphdiff.nn.neighbors import Neighbors, interaction_neighbors


class ItemKNNConfig(NeighborhoodConfig):
    """Settings of :class:`ItemKNN`."""

    shrinkage: float = Field(10.0, ge=0, description="h, in users: distrust of rare items.")


class ItemKNN(Neighborhood):
    r"""Item-based collaborative filtering, of `"Item-Based Collaborative Filtering Recommendation
    Algorithms" <https://doi.org/10.1145/371920.372071>`_, with the shrunk cosine

    .. math::
        s_{ij} = \frac{|U_i \cap U_j|}{\sqrt{|U_i||U_j|} + h}

    as its similarity. The shrinkage h is that of `"A Troubling Analysis of Reproducibility and
    Progress in Recommender Systems Research" <https://arxiv.org/abs/1911.07698>`_, which shows how
    much a tuned ItemKNN can do.

    Neighbours are found block by block and kept sparse: memory is O(I · k) and that of the data.

    Args:
        config: :class:`ItemKNNConfig`.
        graph: Training interactions.
    """

    Config: ClassVar[type[BaseConfig]] = ItemKNNConfig
    config: ItemKNNConfig

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """The values that tuning tries for each setting."""
        return {
            "num_neighbors": [20, 50, 100, 200, 500],
            "shrinkage": [0.0, 3.0, 10.0, 30.0, 100.0],
        }

    def neighbors(self, k: int) -> Neighbors:
        """The k nearest neighbours of each item by the users they share."""
        return interaction_neighbors(self.graph, k, self.config.shrinkage)
