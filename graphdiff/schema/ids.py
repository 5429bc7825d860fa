"""From indices to raw ids and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.errors import DataError

SHOWN = 3


def raw_ids(data: HeteroData, node: str, index: Any) -> list[int] | list[str]:
    """The raw ids of users or items.

    Args:
        data: A graph that fits the schema.
        node: ``'user'`` or ``'item'``.
        index: Indices: an int, a sequence of them, or a tensor of any shape, read flat.

    Returns:
        One id per index: str where the graph was given str, otherwise int.

    Raises:
        DataError: If an index is out of range.
    """
    index = torch.as_tensor(index, dtype=torch.long).flatten().tolist()
    size = data[node].num_nodes
    for i in index:
        if not 0 <= i < size:
            raise DataError(f"{node} index {i} is out of range; the graph has {size} {node}s")
    ids = data[node].get("raw_id")
    if ids is None:
        return index
    if isinstance(ids, Tensor):
        return ids[torch.as_tensor(index, dtype=torch.long, device=ids.device)].tolist()
    return [ids[i] for i in index]


def index_of(data: HeteroData, node: str, raw_id: int | str) -> int:
    """The index of one user or item.

    Args:
        data: A graph that fits the schema.
        node: ``'user'`` or ``'item'``.
        raw_id: Its raw id. Where ids are integers a str of digits is read as one, since a command
            line has nothing but str.

    Raises:
        DataError: If there is no such id.
    """
    ids = data[node].get("raw_id")
    size = data[node].num_nodes
    try:
        if isinstance(ids, list):
            return ids.index(str(raw_id))
        number = int(raw_id)
        if ids is None:
            return range(size).index(number)
        return int((ids == number).nonzero()[0, 0])
    except (ValueError, IndexError, OverflowError):
        known = ", ".join(map(str, raw_ids(data, node, range(min(size, SHOWN)))))
        raise DataError(
            f"no {node} has the id {raw_id!r}; the graph has {size} {node}s: {known}"
            + (", …" if size > SHOWN else "")
        ) from None
