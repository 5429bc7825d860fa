"""EASE: a linear autoencoder in closed form."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from graphdiff.models.base import BaseConfig
from graphdiff.models.item_item import ItemItem
from graphdiff.nn.item_regression import gram, zero_diagonal_regression


class EASEConfig(BaseConfig):
    """Settings of :class:`EASE`."""

    regularization: float = Field(100.0, gt=0, description="Penalty λ, in users per item.")


class EASE(ItemItem):
    r"""The EASEᴿ model from `"Embarrassingly Shallow Autoencoders for Sparse Data"
    <https://arxiv.org/abs/1905.03375>`_.

    Linear regression of each item on all others: with the interaction matrix X,

    .. math::
        \hat{\mathbf{y}}_u = \mathbf{x}_u B, \qquad
        B = \arg\min_B \lVert X - XB \rVert_F^2 + \lambda \lVert B \rVert_F^2
        \;\text{ with }\; \mathrm{diag}(B) = 0,

    which gives :math:`B_{ij} = -P_{ij} / P_{jj}` with
    :math:`P = (X^\top X + \lambda \mathrm{I})^{-1}`, computed in double precision in O(I³). The
    best λ, the only setting, grows with the number of interactions per item.

    Args:
        config: :class:`EASEConfig`.
        graph: Training interactions.

    Raises:
        ConfigError: Above :data:`graphdiff.nn.item_regression.MAX_DENSE_ITEMS` items.
    """

    Config: ClassVar[type[BaseConfig]] = EASEConfig
    config: EASEConfig

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return {"regularization": [3.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]}

    def solution(self) -> dict[str, Tensor]:
        """Return B as ``weight``, ``[I, I]``."""
        return {"weight": zero_diagonal_regression(gram(self.graph), self.config.regularization)}
