"""EASE with item features as additional rows."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.models.base import BaseConfig
from graphdiff.models.ease import EASEConfig
from graphdiff.models.item_item import ItemItem
from graphdiff.nn.item_regression import gram, zero_diagonal_regression
from graphdiff.nn.modalities import modality_shares, standardised


class EASEFeaturesConfig(EASEConfig):
    """Settings of :class:`EASEFeatures`."""

    feature_weight: float = Field(
        100.0, ge=0, description="Weight w of all features, in users per item; 0 is EASE."
    )
    modality_weights: dict[str, float] | None = Field(
        None, description="Share α of each modality in w; equal shares by default."
    )


class EASEFeatures(ItemItem):
    r"""EASE with side information, the collective form of `"Closed-Form Models for Collaborative
    Filtering with Side-Information" <https://doi.org/10.1145/3383313.3418480>`_.

    The same item-item weights predict interactions and item features, as if each feature were an
    additional user:

    .. math::
        \min_B \lVert X - XB \rVert_F^2 + w \sum_m \alpha_m \lVert F_m^\top - F_m^\top B \rVert_F^2
        + \lambda \lVert B \rVert_F^2 \;\text{ with }\; \mathrm{diag}(B) = 0,

    which adds :math:`w \sum_m \alpha_m F_m F_m^\top` to the Gram matrix of EASE's closed form. The
    scaling is ours: features are standardised over the items that have them, then each item's
    features are scaled to unit length, so that w is comparable to a number of users. Items that
    lack a modality have a row of zeros. The model can recommend cold items through their features.

    Args:
        config: :class:`EASEFeaturesConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: Above :data:`~graphdiff.nn.item_regression.MAX_DENSE_ITEMS` items, if the data
            has no modality, or ``modality_weights`` names others.
    """

    Config: ClassVar[type[BaseConfig]] = EASEFeaturesConfig
    uses_content: ClassVar[bool] = True
    uses_similarity: ClassVar[bool] = False
    config: EASEFeaturesConfig

    def __init__(self, config: EASEFeaturesConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self.shares = modality_shares(graph.modalities, config.modality_weights, "EASEFeatures")

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return {
            "regularization": [10.0, 25.0, 50.0, 100.0, 200.0, 400.0],
            "feature_weight": [10.0, 30.0, 100.0, 300.0],
        }

    def solution(self) -> dict[str, Tensor]:
        """Return B as ``weight``, ``[I, I]``."""
        total = gram(self.graph)
        for name, share in self.shares.items():
            features = standardised(*self.graph.features(name)).to(total)
            total.addmm_(features, features.t(), alpha=share * self.config.feature_weight)
        return {"weight": zero_diagonal_regression(total, self.config.regularization)}
