"""ContentKNN: item-based nearest neighbours by content."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from graphdiff.graph.store import RecGraph
from graphdiff.models.base import BaseConfig
from graphdiff.models.neighborhood import Neighborhood, NeighborhoodConfig
from graphdiff.nn.modalities import centred, modality_shares
from graphdiff.nn.neighbors import Neighbors, content_neighbors


class ContentKNNConfig(NeighborhoodConfig):
    """Settings of :class:`ContentKNN`."""

    num_neighbors: int = Field(20, ge=1, description="Neighbours k of each item.")
    centre: bool = Field(True, description="Subtract the mean features before the cosine.")
    modality_weights: dict[str, float] | None = Field(
        None, description="Share of each modality in the similarity; equal shares by default."
    )


class ContentKNN(Neighborhood):
    r"""Item-based nearest neighbours with a similarity of item features only.

    .. math::
        s_{ij} = \max\Big(0, \frac{\sum_m \alpha_m \cos(\mathbf{x}_{i,m}, \mathbf{x}_{j,m})}
        {\sum_m \alpha_m}\Big),

    where the sums run over the modalities that both items have. The neighbours are exact. As a
    baseline, the model shows how well content alone can do; it can recommend cold items.

    Args:
        config: :class:`ContentKNNConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality, or ``modality_weights`` names others.
    """

    Config: ClassVar[type[BaseConfig]] = ContentKNNConfig
    uses_content: ClassVar[bool] = True
    uses_similarity: ClassVar[bool] = False
    config: ContentKNNConfig

    def __init__(self, config: ContentKNNConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self.shares = modality_shares(graph.modalities, config.modality_weights, "ContentKNN")

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return {"num_neighbors": [5, 10, 20, 50, 100, 200], "centre": [False, True]}

    def neighbors(self, k: int) -> Neighbors:
        """Return the k nearest neighbours of each item by content."""
        features = [self.graph.features(name) for name in self.shares]
        if self.config.centre:
            features = [(centred(x, has), has) for x, has in features]
        return content_neighbors(features, list(self.shares.values()), k)
