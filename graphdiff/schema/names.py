"""What the stores and attributes of the schema are called."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData

USER = "user"
ITEM = "item"
INTERACTS = (USER, "interacts", ITEM)

#: The attribute of the ``INTERACTS`` store that holds each split.
SPLITS = {
    "training": "edge_index",
    "validation": "val_edge_label_index",
    "test": "test_edge_label_index",
}


def modalities(data: HeteroData) -> list[str]:
    """The names of the modalities that the items have features of, sorted."""
    if ITEM not in data.node_types:
        return []
    return sorted(key[2:] for key in data[ITEM] if key.startswith("x_") and key != "x_")


def similar(modality: str) -> tuple[str, str, str]:
    """The edge type of one modality's item-item graph."""
    return (ITEM, f"similar_{modality}", ITEM)


def pair_keys(data: HeteroData, pairs: Tensor) -> Tensor:
    """Pairs (user, item), long ``[2, P]``, as one integer each: user · I + item, long ``[P]``."""
    return pairs[0] * data[ITEM].num_nodes + pairs[1]
