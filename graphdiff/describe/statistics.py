"""Statistics of a dataset, and what is unusual about it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff import datasets
from graphdiff.schema import INTERACTS, ITEM, SPLITS, USER, fingerprint, modalities
from graphdiff.schema.names import TIME, pair_keys

QUANTILES = {"min": 0.0, "median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}

# Cosine from which two rows count as nearly the same, and number of items that are compared.
NEAR, SAMPLE = 0.999, 1000
BLOCK = 8192


def describe_dataset(
    name: str, root: str | Path | None = None, **options: Any
) -> tuple[HeteroData, dict[str, Any]]:
    """Read a dataset and describe it.

    Args:
        name: Name of a dataset; see :func:`graphdiff.datasets.load`.
        root: Folder of its files.
        **options: Further arguments of the dataset's class.

    Returns:
        The graph, and its :func:`describe` with ``notes``: warnings of the reader, such as repeated
        rows that were dropped.

    Raises:
        DataError: If it cannot be read, for example because pairs are in two splits; the message
            has their number.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = datasets.load(name, root, **options)[0]
    notes = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    return data, {"dataset": name, **describe(data), "notes": notes}


def describe(data: HeteroData) -> dict[str, Any]:
    """Describe a dataset.

    Args:
        data: A graph that fits the schema.

    Returns:
        A dictionary of plain values, for JSON:

        * ``users``, ``items``, ``pairs`` (of each split), ``sparsity`` (share of all pairs that are
          not training pairs), ``times`` (whether training pairs have any), ``fingerprint``;
        * ``degrees`` of users and items in training: quantiles, mean, number without any, and
          ``gini``, from 0 where all are equal to 1;
        * ``held_out`` of validation and test: number of users, of users without a training pair,
          and of pairs on items without one;
        * ``repeated_pairs`` within a split and ``shared_pairs`` between two; a graph that fits the
          schema has none;
        * ``modalities``: channels, coverage, zero rows, rows that another item has as well, the
          share of (sampled) items whose nearest other item is almost the same, and for each split
          the pairs whose user has an item of the same row in training.
    """
    num_users, num_items = data[USER].num_nodes, data[ITEM].num_nodes
    pairs = {split: data[INTERACTS][attribute] for split, attribute in SPLITS.items()}
    train = pairs["training"]
    degree = {
        USER: train[0].bincount(minlength=num_users),
        ITEM: train[1].bincount(minlength=num_items),
    }
    keys = {split: pair_keys(data, found) for split, found in pairs.items()}
    return {
        "fingerprint": fingerprint(data),
        "users": num_users,
        "items": num_items,
        "pairs": {split: found.size(1) for split, found in pairs.items()},
        "sparsity": 1 - train.size(1) / (num_users * num_items),
        "times": TIME in data[INTERACTS],
        "degrees": {f"{node}s": _degrees(found) for node, found in degree.items()},
        "held_out": {split: _held_out(pairs[split], degree) for split in ("validation", "test")},
        "repeated_pairs": {s: len(found) - len(found.unique()) for s, found in keys.items()},
        "shared_pairs": {
            f"{one} and {other}": int(torch.isin(keys[other], keys[one]).sum())
            for one, other in (
                ("training", "validation"),
                ("training", "test"),
                ("validation", "test"),
            )
        },
        "modalities": {name: _modality(data, name, pairs) for name in modalities(data)},
    }


def _degrees(degree: Tensor) -> dict[str, float]:
    ordered = degree.sort().values.double()
    rank = torch.arange(1, len(ordered) + 1, dtype=torch.double)
    total = ordered.sum()
    gini = 2 * (rank * ordered).sum() / (len(ordered) * total) - (len(ordered) + 1) / len(ordered)
    last = len(ordered) - 1
    return {
        **{name: int(ordered[round(q * last)]) for name, q in QUANTILES.items()},
        "mean": float(total / len(ordered)),
        "none": int((degree == 0).sum()),
        "gini": float(gini),
    }


def _held_out(pairs: Tensor, degree: dict[str, Tensor]) -> dict[str, int]:
    users = pairs[0].unique()
    return {
        "users": len(users),
        "users_without_training_pairs": int((degree[USER][users] == 0).sum()),
        "pairs_on_items_without_training_pairs": int((degree[ITEM][pairs[1]] == 0).sum()),
    }


def _modality(data: HeteroData, name: str, pairs: dict[str, Tensor]) -> dict[str, Any]:
    x, has = data[ITEM][f"x_{name}"], data[ITEM][f"has_{name}"]
    group, size = _same_rows(x, has)
    return {
        "channels": x.size(1),
        "coverage": float(has.float().mean()),
        "missing": int((~has).sum()),
        "zero_rows": int(((x == 0).all(dim=1) & has).sum()),
        "constant_channels": int((x[has] == x[has][:1]).all(dim=0).sum()) if has.any() else 0,
        "repeated_rows": int(((size > 1)[group] & has).sum()),
        "nearly_repeated": _nearly_repeated(x[has]),
        "pairs_with_a_twin_in_training": {
            split: _twins(pairs["training"], pairs[split], group, has)
            for split in ("validation", "test")
        },
    }


def _same_rows(x: Tensor, has: Tensor) -> tuple[Tensor, Tensor]:
    """Return a group number per item, equal for items with equal rows, and the groups' sizes.

    Items without the modality are groups of their own.
    """
    rows = np.ascontiguousarray(x.cpu().numpy() + np.float32(0))  # -0.0 is 0.0
    _, group = np.unique(rows.view(f"V{rows.shape[1] * 4}").ravel(), return_inverse=True)
    number = torch.from_numpy(group).long()
    absent = ~has.cpu()
    number[absent] = int(number.max()) + 1 + torch.arange(int(absent.sum()))
    return number, number.bincount()


def _nearly_repeated(x: Tensor) -> float:
    """Return the share of at most 1000 items with another item at a cosine of 0.999 or more."""
    if len(x) < 2:
        return 0.0
    unit = torch.nn.functional.normalize(x, dim=1)
    picked = torch.linspace(0, len(x) - 1, min(len(x), SAMPLE)).long().unique()
    nearest = torch.full((len(picked),), -1.0)
    for start in range(0, len(x), BLOCK):
        cosine = unit[picked] @ unit[start : start + BLOCK].t()
        itself = (picked >= start) & (picked < start + BLOCK)
        cosine[itself, picked[itself] - start] = -1.0
        nearest = torch.maximum(nearest, cosine.amax(dim=1))
    return float((nearest >= NEAR).float().mean())


def _twins(train: Tensor, held_out: Tensor, group: Tensor, has: Tensor) -> int:
    """Count held-out pairs on an item with the same row as a training item of the same user."""
    count = int(group.max()) + 1
    known = train[:, has[train[1]]]
    wanted = held_out[:, has[held_out[1]]]
    twin = torch.isin(wanted[0] * count + group[wanted[1]], known[0] * count + group[known[1]])
    return int(twin.sum())
