"""A synthetic catalogue of any size, for measurements of time and memory."""

from __future__ import annotations

import torch

from graphdiff.graph.store import RecGraph

PER_USER, NUM_NEIGHBORS, MODALITIES = 20, 20, ("audio", "image")


def power_law_graph(num_items: int, modalities: bool) -> RecGraph:
    """Return a graph of as many users as items, with power-law popularity of the items.

    Each user has about 20 different items, and each item 20 random neighbours per modality. Random
    neighbours cost at least what real ones do: they are far apart in memory.

    Args:
        num_items: Number of items.
        modalities: Include the item-item graphs of two modalities.
    """
    generator = torch.Generator().manual_seed(0)
    num_users = num_items
    weight = torch.arange(1, num_items + 1, dtype=torch.float64).pow(-0.8)
    cumulative = weight[torch.randperm(num_items, generator=generator)].cumsum(0)
    cumulative /= cumulative[-1].clone()
    # A few more, as some are drawn twice.
    drawn, num = torch.empty(num_users * (PER_USER + 2), dtype=torch.long), 0
    degree = torch.zeros(num_users, dtype=torch.long)
    for users in torch.arange(num_users).split(100_000):
        uniform = torch.rand(len(users), PER_USER + 2, generator=generator, dtype=torch.float64)
        item = torch.searchsorted(cumulative, uniform).clamp(max=num_items - 1)
        key = (users.unsqueeze(1) * num_items + item).unique()
        drawn[num : num + len(key)] = key % num_items
        degree[users] = torch.bincount(key // num_items - users[0], minlength=len(users))
        num += len(key)
    col = drawn[:num].clone()
    del drawn
    rowptr = torch.zeros(num_users + 1, dtype=torch.long)
    rowptr[1:] = degree.cumsum(0)
    if not modalities:
        return RecGraph(rowptr, col, num_items)
    target = torch.arange(num_items).repeat_interleave(NUM_NEIGHBORS)
    similar = {}
    for name in MODALITIES:
        source = torch.randint(num_items, target.shape, generator=generator)
        similar[name] = (torch.stack([source, target]), torch.full(target.shape, 1 / NUM_NEIGHBORS))
    return RecGraph(
        rowptr,
        col,
        num_items,
        {name: torch.zeros(num_items, 1) for name in MODALITIES},
        {name: torch.ones(num_items, dtype=torch.bool) for name in MODALITIES},
        similar,
    )
