"""User-item graphs with a loop at every node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphdiff.graph.propagation import FixedGraph, symmetric_norm

if TYPE_CHECKING:
    from graphdiff.graph.store import RecGraph


def self_looped_graph(
    user: Tensor,
    item: Tensor,
    num_users: int,
    num_items: int,
    keep: float = 1.0,
    generator: torch.Generator | None = None,
) -> FixedGraph:
    r"""Build a user-item graph with a loop at every node, :math:`D^{-1/2}(A + I)D^{-1/2}`.

    Args:
        user: Long ``[E]``.
        item: Long ``[E]``, without repeats of a pair.
        num_users: U; users are nodes 0 … U - 1.
        num_items: I; items are nodes U … U + I - 1.
        keep: Probability of keeping each entry of the matrix, scaled by its inverse; the two
            directions of an edge, and loops, are drawn independently.
        generator: Source of that randomness, on the tensors' device; not used at ``keep=1``.

    Returns:
        A graph over U + I nodes.

    Example:
        >>> import torch
        >>> from graphdiff.graph import FixedConv
        >>> user, item = torch.tensor([0]), torch.tensor([1])
        >>> graph = self_looped_graph(user, item, num_users=1, num_items=2)
        >>> FixedConv()(torch.eye(3), graph)
        tensor([[0.5000, 0.0000, 0.5000],
                [0.0000, 1.0000, 0.0000],
                [0.5000, 0.0000, 0.5000]])
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


def self_looped_interactions(graph: RecGraph) -> FixedGraph:
    """Build the :func:`self_looped_graph` of the training interactions."""
    return self_looped_graph(graph.user, graph.col, graph.num_users, graph.num_items)


def self_looped_item_to_user(graph: RecGraph) -> FixedGraph:
    """Build the part of :func:`self_looped_interactions` from items to users."""
    user, item = graph.user_degree() + 1, graph.item_degree() + 1
    weight = (user[graph.user] * item[graph.col]).float().rsqrt()
    return FixedGraph((graph.col, graph.user), weight, graph.num_items, graph.num_users)
