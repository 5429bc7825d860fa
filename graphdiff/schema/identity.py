"""Fingerprint of a dataset."""

from __future__ import annotations

import hashlib
import json

from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.schema.names import INTERACTS, ITEM, SPLITS, USER, modalities, pair_keys


def fingerprint(data: HeteroData) -> str:
    """Return a hash of a graph's content, equal for equal data.

    It covers sizes, raw ids, the pairs of the three splits in any order, and the features with
    their masks; not what transforms derive from them.

    Args:
        data: A graph that fits the schema, on any device.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> from graphdiff.schema import build_data
        >>> one, other = build_data(1, 2, [[0], [0]]), build_data(1, 2, [[0], [1]])
        >>> len(fingerprint(one)), fingerprint(one) == fingerprint(other)
        (16, False)
    """
    digest = hashlib.sha256()

    def add(label: str, content: bytes) -> None:
        # The length separates neighbouring entries.
        digest.update(f"{label}:{len(content)}:".encode())
        digest.update(content)

    for node in (USER, ITEM):
        add(node, str(data[node].num_nodes).encode())
        ids = data[node].get("raw_id")
        if ids is not None:
            listed = ids.tolist() if isinstance(ids, Tensor) else ids
            add(f"{node}.raw_id", json.dumps(listed).encode())
    for split, attribute in SPLITS.items():
        keys = pair_keys(data, data[INTERACTS][attribute]).sort().values
        add(split, keys.cpu().numpy().astype("<i8").tobytes())
    for name in modalities(data):
        x = data[ITEM][f"x_{name}"].cpu().numpy().astype("<f4")
        add(f"x_{name}{x.shape}", x.tobytes())
        add(f"has_{name}", data[ITEM][f"has_{name}"].cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
