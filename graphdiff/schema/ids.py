"""Conversion between indices and raw ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graphdiff.errors import DataError

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

SHOWN = 3


def raw_ids(data: HeteroData, node: str, index: Any) -> list[int] | list[str]:
    """Return the raw ids of users or items.

    Args:
        data: A graph that fits the schema.
        node: ``'user'`` or ``'item'``.
        index: An int, a sequence of ints, or a tensor of any shape, which is flattened.

    Returns:
        One id per index: str where the graph has str ids, otherwise int.

    Raises:
        DataError: If an index is not an integer or out of range.

    Example:
        >>> from graphdiff.schema import build_data
        >>> data = build_data(1, 2, [[0], [1]], item_ids=["a", "b"])
        >>> raw_ids(data, "item", [1, 0])
        ['b', 'a']
    """
    index = torch.as_tensor(index).flatten()
    if index.numel() and (index.is_floating_point() or index.dtype == torch.bool):
        raise DataError(f"{node} indices are {index.dtype}; give integers")
    index, size = index.tolist(), data[node].num_nodes
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
    """Return the index of one user or item.

    Args:
        data: A graph that fits the schema.
        node: ``'user'`` or ``'item'``.
        raw_id: Its raw id. Where ids are integers, a str of digits is accepted too, because command
            lines only have str.

    Raises:
        DataError: If no user or item has this id.

    Example:
        >>> from graphdiff.schema import build_data
        >>> data = build_data(1, 2, [[0], [1]], item_ids=[70, 80])
        >>> index_of(data, "item", 80), index_of(data, "item", "70")
        (1, 0)
    """
    ids = data[node].get("raw_id")
    size = data[node].num_nodes
    try:
        if isinstance(ids, list):
            return ids.index(str(raw_id))
        number = int(raw_id)
        # int() also reads 1.7, True, "1_0" and " 1 ", none of which is the id 1 or 10.
        if isinstance(raw_id, bool) or str(raw_id) not in (str(number), f"{number}.0"):
            raise ValueError
        if ids is None:
            return range(size).index(number)
        return int((ids == number).nonzero()[0, 0])
    except (TypeError, ValueError, IndexError, OverflowError):
        known = ", ".join(map(str, raw_ids(data, node, range(min(size, SHOWN)))))
        raise DataError(
            f"no {node} has the id {raw_id!r}; the graph has {size} {node}s: {known}"
            + (", …" if size > SHOWN else "")
        ) from None
