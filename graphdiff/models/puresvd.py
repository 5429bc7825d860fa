"""PureSVD: a truncated singular value decomposition of the interaction matrix."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.models.base import BaseConfig, Query, Tables
from graphdiff.models.closed_form import ClosedForm
from graphdiff.nn.reconstruction import encode_rows
from graphdiff.nn.spectral import right_singular_vectors


class PureSVDConfig(BaseConfig):
    """Settings of :class:`PureSVD`."""

    hidden_channels: int = Field(64, ge=1, description="Number of singular vectors d.")


class PureSVD(ClosedForm):
    r"""The PureSVD model from `"Performance of Recommender Algorithms on Top-N
    Recommendation Tasks" <https://doi.org/10.1145/1864708.1864721>`_.

    With the truncated singular value decomposition :math:`X \approx U \Sigma V^\top` of the
    interaction matrix, in which unobserved entries are zero,

    .. math::
        \hat{\mathbf{y}}_u = \mathbf{x}_u V V^\top .

    Args:
        config: :class:`PureSVDConfig`.
        graph: Training interactions.
    """

    Config: ClassVar[type[BaseConfig]] = PureSVDConfig
    config: PureSVDConfig
    directions: Tensor

    def __init__(self, config: PureSVDConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        rank = min(config.hidden_channels, graph.num_users, graph.num_items)
        self.register_buffer("directions", torch.zeros(graph.num_items, rank))

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return {"hidden_channels": [4, 8, 16, 32, 48, 64, 96, 128, 192, 256]}

    def solution(self) -> dict[str, Tensor]:
        """Return V as ``directions``, ``[I, d]``."""
        interactions = self.graph.to_scipy()
        return {"directions": right_singular_vectors(interactions, self.directions.size(1))}

    def tables(self) -> Tables:
        """Return V as item vectors."""
        return Tables(item=self.directions)

    def user_vectors(self, query: Query, tables: Tables) -> Tensor:
        """Return x V, ``[B, d]``."""
        row, item, num, _ = query.rows
        return encode_rows(tables.item, row, item, torch.ones_like(tables.item[item, 0]), num)
