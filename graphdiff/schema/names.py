"""What the stores and attributes of the schema are called."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

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


def beside_edges(store: Mapping[str, Any]) -> list[str]:
    """What stands beside each training interaction in their store: names of tensors ``[E, …]``.

    As PyG has it, what has an entry for each edge belongs to the edges.
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
    """Drops the other training interactions, and what stands beside each of them; ``kept`` is
    bool ``[E]``."""
    beside = beside_edges(store)
    store[SPLITS["training"]] = store[SPLITS["training"]][:, kept]
    for name in beside:
        store[name] = store[name][kept]
