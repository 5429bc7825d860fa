"""Fingerprint of a dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from graphdiff.schema.names import INTERACTS, ITEM, SPLITS, TIME, USER, modalities, pair_keys
from graphdiff.schema.pairs import (
    blocks,
    is_ascending,
    key_blocks,
    rank_within,
    whole_groups,
)

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

#: Raw ids that are written at a time.
IDS = 2**20


def fingerprint(data: HeteroData, times: bool = True) -> str:
    """Return a hash of a graph's content, equal for equal data.

    It covers sizes, raw ids, the pairs of the three splits in any order, the features with their
    masks, and the order of each user's training pairs in time, if there are times, in any unit; not
    what transforms derive from them.

    Args:
        data: A graph that fits the schema, on any device.
        times: Cover the order in time; without it the hash is that of the data without times.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> from graphdiff.schema import build_data
        >>> one, other = build_data(1, 2, [[0], [0]]), build_data(1, 2, [[0], [1]])
        >>> len(fingerprint(one)), fingerprint(one) == fingerprint(other)
        (16, False)
    """
    digest = hashlib.sha256()

    def add(label: str, size: int, contents: Iterable[Any]) -> None:
        # The length separates neighbouring entries.
        digest.update(f"{label}:{size}:".encode())
        for content in contents:
            digest.update(content)

    for node in (USER, ITEM):
        number = str(data[node].num_nodes).encode()
        add(node, len(number), [number])
        ids = data[node].get("raw_id")
        if ids is not None:
            size = sum(map(len, _written(ids)))
            add(f"{node}.raw_id", size, _written(ids))
    for split, attribute in SPLITS.items():
        pairs = data[INTERACTS][attribute]
        add(split, 8 * pairs.size(1), _keys(data, pairs))
    if times and TIME in data[INTERACTS]:
        add(TIME, 8 * data[INTERACTS][TIME].numel(), _ranks(data))
    for name in modalities(data):
        x = data[ITEM][f"x_{name}"].cpu().numpy().astype("<f4", copy=False)
        add(f"x_{name}{x.shape}", x.nbytes, [np.ascontiguousarray(x)])
        has = data[ITEM][f"has_{name}"].cpu().numpy()
        add(f"has_{name}", has.nbytes, [np.ascontiguousarray(has)])
    return digest.hexdigest()[:16]


def _keys(data: HeteroData, pairs: Tensor) -> Iterator[Any]:
    """Yield the sorted keys of pairs, block by block where they are sorted already."""
    pairs = pairs.cpu()
    if is_ascending(pairs):
        found: Iterable[Tensor] = key_blocks(pairs, data[ITEM].num_nodes)
    else:
        found = [pair_keys(data, pairs).sort().values]
    for keys in found:
        yield keys.numpy().astype("<i8", copy=False)


def _ranks(data: HeteroData) -> Iterator[Any]:
    """Yield the number of the same user's earlier training pairs, in the order of the keys."""
    pairs, time = data[INTERACTS][SPLITS["training"]].cpu(), data[INTERACTS][TIME].cpu()
    if not is_ascending(pairs):
        order = pair_keys(data, pairs).argsort()
        pairs, time = pairs[:, order], time[order]
    for part in whole_groups(pairs[0]):
        rank = rank_within(pairs[0][part], time[part])
        yield rank.numpy().astype("<i8", copy=False)


def _written(ids: Tensor | list[str]) -> Iterator[bytes]:
    """Yield a list of ids as JSON, piece by piece."""
    yield b"["
    for part in blocks(len(ids), IDS):
        listed = ids[part]
        text = json.dumps(listed.tolist() if isinstance(listed, Tensor) else listed)
        yield f"{', ' if part.start else ''}{text[1:-1]}".encode()
    yield b"]"
