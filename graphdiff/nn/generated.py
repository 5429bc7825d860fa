"""User-item graphs that a model generates: a few items for each user."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.propagation import FixedGraph, symmetric_norm


def chosen_pairs(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The interactions of a generated graph.

    Args:
        chosen: Long ``[U, k]``, items chosen for each user; -1 stands for none.

    Returns:
        ``(user, item)``, long ``[E]`` each, by ascending user.
    """
    user, place = (chosen >= 0).nonzero(as_tuple=True)
    return user, chosen[user, place]


def self_looped_graph(
    user: Tensor,
    item: Tensor,
    num_users: int,
    num_items: int,
    keep: float = 1.0,
    generator: torch.Generator | None = None,
) -> FixedGraph:
    r"""A user-item graph with a loop at every node, :math:`D^{-1/2}(A + I)D^{-1/2}`.

    Args:
        user: Long ``[E]``.
        item: Long ``[E]``, without repeats of a pair.
        num_users: U; users are nodes 0 … U - 1.
        num_items: I; items are nodes U … U + I - 1.
        keep: Chance of each entry of the matrix to be kept, scaled by its inverse; both
            directions of an edge, and loops, are drawn for themselves.
        generator: Source of that randomness, on the tensors' device; not read at ``keep=1``.
    """
    num_nodes = num_users + num_items
    loop = torch.arange(num_nodes, device=user.device)
    source = torch.cat([user, item + num_users, loop])
    target = torch.cat([item + num_users, user, loop])
    weight = symmetric_norm(source, target, num_nodes, num_nodes)
    if keep < 1:
        kept = torch.rand(weight.shape, generator=generator, device=weight.device) < keep
        source, target, weight = source[kept], target[kept], weight[kept] / keep
    return FixedGraph(torch.stack([source, target]), weight, num_nodes, num_nodes)
