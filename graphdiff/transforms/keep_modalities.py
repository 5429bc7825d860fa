"""Selection of modalities."""

from __future__ import annotations

from collections.abc import Sequence

from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.errors import ConfigError
from graphdiff.schema import ITEM, modalities, similar


@functional_transform("keep_modalities")
class KeepModalities(BaseTransform):
    """Remove all other modalities: features, masks and graphs.

    Args:
        names: The modalities to keep; an empty sequence removes all.

    Raises:
        ConfigError: If the data lacks one of them.

    Example:
        >>> from graphdiff.schema import build_data
        >>> features = {"image": [[1], [2]], "text": [[3], [4]]}
        >>> data = KeepModalities(["text"])(build_data(1, 2, [[0], [0]], features=features))
        >>> "x_image" in data["item"], "x_text" in data["item"]
        (False, True)
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def forward(self, data: HeteroData) -> HeteroData:
        """Remove the other modalities."""
        names = modalities(data)
        if unknown := sorted(set(self.names) - set(names)):
            raise ConfigError(
                f"the data has no modality {', '.join(map(repr, unknown))}; it has "
                f"{', '.join(names) or 'none'}"
            )
        for name in set(names) - set(self.names):
            del data[ITEM][f"x_{name}"]
            if f"has_{name}" in data[ITEM]:
                del data[ITEM][f"has_{name}"]
            if similar(name) in data.edge_types:
                del data[similar(name)]
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.names)})"
