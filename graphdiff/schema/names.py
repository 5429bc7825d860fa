"""Names of the stores and attributes of the schema."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from graphdiff.errors import DataError

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

USER = "user"
ITEM = "item"
INTERACTS = (USER, "interacts", ITEM)

#: The attribute of the ``INTERACTS`` store that holds the times of training interactions.
TIME = "time"

#: The attribute of the ``INTERACTS`` store that holds each split.
SPLITS = {
    "training": "edge_index",
    "validation": "val_edge_label_index",
    "test": "test_edge_label_index",
}


#: What the splits are called in files.
NAMES = {"training": "train", "validation": "val", "test": "test"}


def modalities(data: HeteroData) -> list[str]:
    """Return the names of the modalities of the items, sorted."""
    if ITEM not in data.node_types:
        return []
    return sorted(key[2:] for key in data[ITEM] if key.startswith("x_") and key != "x_")


def similar(modality: str) -> tuple[str, str, str]:
    """Return the edge type of one modality's item-item graph."""
    return (ITEM, f"similar_{modality}", ITEM)


def pair_keys(data: HeteroData, pairs: Tensor) -> Tensor:
    """Encode pairs (user, item), long ``[2, P]``, as user · I + item, long ``[P]``.

    Raises:
        DataError: If an index is out of range: its key would be that of another pair.
    """
    for node, index in zip((USER, ITEM), pairs, strict=True):
        size = data[node].num_nodes
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < size:
            raise DataError(
                f"pairs have {node} indices from {int(index.min())} to {int(index.max())}; "
                f"expected 0 to {size - 1}"
            )
    return pairs[0] * data[ITEM].num_nodes + pairs[1]


def edge_attributes(store: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors ``[E, …]`` with one entry per training interaction.

    As in PyG, a tensor with one entry per edge is an attribute of the edges.
    """
    num = store[SPLITS["training"]].size(1)
    return [
        name
        for name, value in store.items()
        if isinstance(value, Tensor)
        and name not in SPLITS.values()
        and value.dim()
        and value.size(0) == num
    ]


def keep_edges(store: MutableMapping[str, Any], kept: Tensor) -> None:
    """Keep some training interactions and their attributes.

    Args:
        store: The ``INTERACTS`` store; modified.
        kept: Bool ``[E]``, False for interactions to remove.
    """
    attributes = edge_attributes(store)
    store[SPLITS["training"]] = store[SPLITS["training"]][:, kept]
    for name in attributes:
        store[name] = store[name][kept]
