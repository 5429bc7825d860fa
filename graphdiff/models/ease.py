"""EASE: a linear autoencoder in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.recency import recency_weights
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import BaseConfig
from graphdiff.models.held_out import HeldOut, Scorer
from graphdiff.models.item_item import ItemItem
from graphdiff.models.recency import Recency
from graphdiff.nn.item_regression import gram, item_item_scorer, zero_diagonal_regression


class EASEConfig(BaseConfig):
    """Settings that :class:`EASE` and :class:`~graphdiff.models.EASEFeatures` share."""

    regularization: float = Field(100.0, gt=0, description="Penalty λ, in users per item.")


class EASERecencyConfig(EASEConfig):
    """Settings of :class:`EASE`."""

    recency: float | None = Field(
        0.0,
        ge=0,
        description="ρ: an item of a user's row counts (1 + number of later items)^-ρ in rankings; "
        "None for what validation chooses. Other than 0, it needs data with times.",
    )


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
    best λ, the only setting of the paper, grows with the number of interactions per item.

    Weighting the latest items of a row (``recency``, with the weights of
    :func:`graphdiff.graph.recency.recency_weights`) is ours, and the control of LD4MRec's setting
    of the same name: ``preset="recent"``.

    Args:
        config: :class:`EASERecencyConfig`.
        graph: Training interactions.

    Raises:
        ConfigError: Above :data:`graphdiff.nn.item_regression.MAX_DENSE_ITEMS` items, or with
            ``recency`` where the order of the interactions is unknown.
    """

    Config: ClassVar[type[BaseConfig]] = EASERecencyConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"recent": {"recency": None}}
    reads_times: ClassVar[bool] = True
    config: EASERecencyConfig

    def __init__(self, config: EASERecencyConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        if config.recency != 0 and graph.age is None:
            raise ConfigError(
                f"recency={config.recency} needs the order of the interactions, and the data has "
                "no times; set it to 0, or give data['user', 'interacts', 'item'].time"
            )
        self.recency = Recency(config.recency)

    def entries(self, rows: Rows) -> Tensor | None:
        """Return the weights of the items, ``[nnz]``; None where all are 1."""
        return self.recency(rows)

    @torch.no_grad()
    def calibrate(self, pairs: Tensor) -> None:
        """Set ρ by validation, where it was not set and there are pairs."""
        if not (pairs.numel() and self.recency.can_choose(self.graph.age is not None)):
            return
        held_out = HeldOut(self.graph, pairs)
        self.recency.choose(
            lambda exponent: held_out.recall(self._by_rows(held_out.seen, exponent))
        )

    def _by_rows(self, rows: Rows, exponent: float) -> Scorer:
        weight = recency_weights(rows, exponent)

        def score(start: int, stop: int) -> Tensor:
            users = slice(start, stop)
            entries = None if weight is None else weight[rows.entries(users)]
            return item_item_scorer(rows.part(users), self.weight, entries)(0, self.num_items)

        return score

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
        return {"regularization": [3.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]}

    def solution(self) -> dict[str, Tensor]:
        """Return B as ``weight``, ``[I, I]``."""
        return {"weight": zero_diagonal_regression(gram(self.graph), self.config.regularization)}
