"""Held-out pairs of a sample of the users."""

from __future__ import annotations

import copy

import torch
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError
from graphdiff.schema.names import INTERACTS, SPLITS, USER


def sample_held_out(data: HeteroData, num_users: int, seed: int = 0) -> HeteroData:
    """Return a shallow copy of a graph with the held-out pairs of a random sample of the users.

    Args:
        data: A graph that fits the schema; not modified.
        num_users: Number of users, at least 1; all if fewer have held-out pairs.
        seed: Any non-negative integer; the same seed draws the same users.

    Raises:
        ConfigError: If ``num_users`` is less than 1.

    Example:
        >>> from graphdiff.schema import build_data
        >>> data = build_data(3, 3, [[0, 1, 2], [0, 1, 2]], test=[[0, 1, 2], [1, 2, 0]])
        >>> found = sample_held_out(data, num_users=2)
        >>> found["user", "interacts", "item"].test_edge_label_index.shape
        torch.Size([2, 2])
    """
    if num_users < 1:
        raise ConfigError(f"a sample of {num_users} users is asked for; give at least 1")
    held_out = [attribute for split, attribute in SPLITS.items() if split != "training"]
    has = torch.zeros(data[USER].num_nodes, dtype=torch.bool)
    for attribute in held_out:
        has[data[INTERACTS][attribute][0].cpu()] = True
    users = has.nonzero().flatten()
    generator = torch.Generator().manual_seed(seed % 2**63)
    drawn = users[torch.randperm(users.numel(), generator=generator)[:num_users]]
    chosen = torch.zeros_like(has)
    chosen[drawn] = True
    sampled = copy.copy(data)
    for attribute in held_out:
        pairs = data[INTERACTS][attribute]
        sampled[INTERACTS][attribute] = pairs[:, chosen.to(pairs.device)[pairs[0]]]
    return sampled
