"""Simulation of missing features."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.errors import ConfigError
from graphdiff.schema import ITEM, complete_masks, modalities, similar
from graphdiff.seeds import torch_seed


@functional_transform("drop_features")
class DropFeatures(BaseTransform):
    """Remove a share of the items' feature rows.

    ``share`` of the existing rows of each modality is drawn independently, so that an item may lose
    one modality and keep another. The mask ``has_<modality>`` becomes False and the row zero.
    Modality graphs are removed, because they were built with those rows; models rebuild them. With
    the same seed a larger share removes a superset of the rows that a smaller one removes.

    Args:
        share: Share of the rows to remove, from 0 to 1.
        seed: Random seed of the rows (default: 0).

    Raises:
        ConfigError: If ``share`` is not from 0 to 1.

    Example:
        >>> from graphdiff.schema import build_data
        >>> data = build_data(1, 4, [[0], [0]], features={"image": [[1], [2], [3], [4]]})
        >>> DropFeatures(0.5)(data)["item"].has_image.sum()
        tensor(2)
    """

    def __init__(self, share: float, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise ConfigError(f"share is {share}; give a share of the feature rows from 0 to 1")
        self.share, self.seed = share, seed

    def forward(self, data: HeteroData) -> HeteroData:
        """Mark the rows as missing."""
        complete = complete_masks(data)
        generator = torch.Generator().manual_seed(torch_seed(self.seed))
        for name in modalities(data):
            x, has = complete[ITEM][f"x_{name}"], complete[ITEM][f"has_{name}"]
            present = has.nonzero().flatten()
            order = torch.randperm(present.numel(), generator=generator).to(present.device)
            dropped = present[order[: round(self.share * present.numel())]]
            has = has.clone()
            has[dropped] = False
            data[ITEM][f"has_{name}"] = has
            data[ITEM][f"x_{name}"] = x.masked_fill(~has[:, None], 0.0)
            if similar(name) in data.edge_types:
                del data[similar(name)]
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(share={self.share:g}, seed={self.seed})"
