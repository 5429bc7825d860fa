"""Features that say nothing about their items, to measure what true ones are worth."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.errors import ConfigError
from graphdiff.schema import ITEM, complete_masks, modalities, similar
from graphdiff.seeds import torch_seed

Replacement = Literal["shuffled", "noise"]


@functional_transform("replace_features")
class ReplaceFeatures(BaseTransform):
    """Replace the features of items by uninformative ones.

    A model that gains from features of either kind gains from more parameters or from a new regular
    structure, not from content. Which items lack a modality does not change. Modality graphs are
    removed, because they were built from the true features; models rebuild them.

    Args:
        by: ``"shuffled"`` permutes the rows of each modality among the items that have it, with
            a permutation of its own: the features are real, but of other items. ``"noise"``
            replaces them by Gaussian noise with the mean and the standard deviation of each column.
        seed: Random seed (default: 0).

    Raises:
        ConfigError: If ``by`` is neither.

    Example:
        >>> from graphdiff.schema import build_data
        >>> data = build_data(1, 4, [[0], [0]], features={"image": [[1], [2], [3], [4]]})
        >>> ReplaceFeatures("shuffled")(data)["item"].x_image.flatten()
        tensor([1., 2., 4., 3.])
    """

    def __init__(self, by: Replacement, seed: int = 0) -> None:
        if by not in get_args(Replacement):
            raise ConfigError(
                f"by is {by!r}; expected one of {', '.join(map(repr, get_args(Replacement)))}"
            )
        self.by, self.seed = by, seed

    def forward(self, data: HeteroData) -> HeteroData:
        """Replace the rows of all modalities."""
        complete = complete_masks(data)
        generator = torch.Generator().manual_seed(torch_seed(self.seed))
        for name in modalities(data):
            x, has = complete[ITEM][f"x_{name}"], complete[ITEM][f"has_{name}"]
            x = torch.where(has[:, None], x, 0)
            x[has] = self._replaced(x[has], generator)
            data[ITEM][f"has_{name}"], data[ITEM][f"x_{name}"] = has, x
            if similar(name) in data.edge_types:
                del data[similar(name)]
        return data

    def _replaced(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        if self.by == "shuffled":
            return rows[torch.randperm(rows.size(0), generator=generator).to(rows.device)]
        noise = torch.randn(rows.shape, generator=generator).to(rows)
        return rows.mean(dim=0) + noise * rows.std(dim=0, correction=0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.by!r}, seed={self.seed})"
