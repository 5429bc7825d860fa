"""Catalogues of which only some content is read."""

from __future__ import annotations

from collections.abc import Sequence

from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.errors import ConfigError
from graphdiff.schema import ITEM, modalities, similar


@functional_transform("keep_modalities")
class KeepModalities(BaseTransform):
    """Removes all modalities but some: features, masks and graphs.

    Args:
        names: The modalities to keep; none leaves interactions alone.

    Raises:
        ConfigError: If the data lacks one of them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def forward(self, data: HeteroData) -> HeteroData:
        """Removes the others."""
        there = modalities(data)
        if unknown := sorted(set(self.names) - set(there)):
            raise ConfigError(
                f"the data has no modality {', '.join(map(repr, unknown))}; it has "
                f"{', '.join(there) or 'none'}"
            )
        for name in set(there) - set(self.names):
            del data[ITEM][f"x_{name}"]
            if f"has_{name}" in data[ITEM]:
                del data[ITEM][f"has_{name}"]
            if similar(name) in data.edge_types:
                del data[similar(name)]
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.names)})"
