"""ALS and BPR of the library implicit, ranked as every other model is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError
from graphdiff.graph.store import RecGraph

NAMES = ("implicit-als", "implicit-bpr")


class ImplicitModel:
    """A model of implicit, trained as its documentation does.

    ALS has the weights and settings of the tutorial (BM25 with K1 = 100 and B = 0.8, 64 factors,
    regularisation 0.05, alpha 2), BPR its default settings. Both are deterministic with one thread.

    Args:
        name: One of :data:`NAMES`.
        data: The graph.
        seed: Seed of the model.

    Raises:
        ConfigError: If implicit is not installed.
    """

    def __init__(self, name: str, data: HeteroData, seed: int) -> None:
        try:
            from implicit.als import AlternatingLeastSquares
            from implicit.bpr import BayesianPersonalizedRanking
        except ImportError:
            raise ConfigError(f"{name} needs the package implicit: pip install implicit") from None
        self.rows = RecGraph.from_data(data, content=False).to_scipy().astype(np.float32)
        common: dict[str, Any] = {"random_state": seed, "num_threads": 1, "use_gpu": False}
        self.weighted = name == "implicit-als"
        self.model = (
            AlternatingLeastSquares(factors=64, regularization=0.05, alpha=2.0, **common)
            if self.weighted
            else BayesianPersonalizedRanking(**common)
        )

    def fit(self) -> None:
        """Train."""
        from implicit.nearest_neighbours import bm25_weight

        rows = bm25_weight(self.rows, K1=100, B=0.8).tocsr() if self.weighted else self.rows
        self.model.fit(rows, show_progress=False)

    def recommend(
        self,
        user_index: Tensor,
        *,
        k: int,
        exclude_seen: bool = True,
        exclude_index: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the top-k items of each user."""
        assert exclude_seen
        assert exclude_index is None
        user = user_index.numpy()
        item, score = self.model.recommend(
            user, self.rows[user], N=k, filter_already_liked_items=True
        )
        return torch.from_numpy(item).long(), torch.from_numpy(score)
