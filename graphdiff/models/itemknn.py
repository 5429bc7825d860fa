"""ItemKNN: items that the same users chose."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from graphdiff.models.base import BaseConfig
from graphdiff.models.neighborhood import Neighborhood, NeighborhoodConfig
from graphdiff.nn.neighbors import Neighbors, interaction_neighbors


class ItemKNNConfig(NeighborhoodConfig):
    """Settings of :class:`ItemKNN`."""

    num_neighbors: int = Field(200, ge=1, description="Neighbours k of each item.")
    shrinkage: float = Field(100.0, ge=0, description="h, in users: distrust of rare items.")
    row_exponent: float = Field(
        0.5, ge=0, le=1, description="ν: a row is scaled by 1/|N_u|^ν; 0 for the plain cosine."
    )


class ItemKNN(Neighborhood):
    r"""Item-based collaborative filtering, of `"Item-Based Collaborative Filtering Recommendation
    Algorithms" <https://doi.org/10.1145/371920.372071>`_, with a shrunk cosine as its similarity:
    with users' rows scaled, :math:`x_{ui} = 1/|N_u|^\nu`,

    .. math::
        s_{ij} = \frac{\mathbf{x}_i \cdot \mathbf{x}_j}
        {\lVert\mathbf{x}_i\rVert \lVert\mathbf{x}_j\rVert + h} .

    The shrinkage h is that of `"A Troubling Analysis of Reproducibility and Progress in Recommender
    Systems Research" <https://arxiv.org/abs/1911.07698>`_, which shows how much a tuned ItemKNN can
    do. The scaling by ν is ours, in place of that paper's TF-IDF; without it few users with
    very many items decide who is whose neighbour.

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
            "shrinkage": [0.0, 10.0, 100.0, 1000.0],
            "row_exponent": [0.0, 0.5, 1.0],
        }

    def neighbors(self, k: int) -> Neighbors:
        """The k nearest neighbours of each item by the users they share."""
        config = self.config
        return interaction_neighbors(self.graph, k, config.shrinkage, config.row_exponent)
