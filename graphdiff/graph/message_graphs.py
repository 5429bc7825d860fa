"""Graphs for message passing, built from the store.

Each function takes the store first, so that ``graph.cached(build, *args)`` builds it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphdiff.graph.propagation import FixedGraph, symmetric_norm

if TYPE_CHECKING:
    from graphdiff.graph.store import RecGraph


def user_item_graph(graph: RecGraph, keep: Tensor | None = None) -> FixedGraph:
    r"""Build the user-item graph over ``U + I`` nodes, users first, with weights
    :math:`1/\sqrt{|N_u||N_i|}` in both directions.

    Args:
        graph: Training interactions.
        keep: Long positions of the interactions to keep, all by default; degrees are counted on
            the kept interactions.
    """
    user, item = graph.user, graph.col + graph.num_users
    if keep is not None:
        user, item = user[keep], item[keep]
    source, target = torch.cat([user, item]), torch.cat([item, user])
    num_nodes = graph.num_users + graph.num_items
    weight = symmetric_norm(source, target, num_nodes, num_nodes)
    return FixedGraph(torch.stack([source, target]), weight, num_nodes, num_nodes)


def item_to_user_graph(graph: RecGraph, normalized: bool = True) -> FixedGraph:
    r"""Build the graph from items to their users, with weights :math:`1/\sqrt{|N_u||N_i|}`, or
    weights of one where not ``normalized``."""
    weight = (
        symmetric_norm(graph.col, graph.user, graph.num_items, graph.num_users)
        if normalized
        else torch.ones_like(graph.col, dtype=torch.float32)
    )
    edge_index = torch.stack([graph.col, graph.user])
    return FixedGraph(edge_index, weight, graph.num_items, graph.num_users)


def item_to_user_graph_without(graph: RecGraph, interaction: Tensor) -> FixedGraph:
    """Build :func:`item_to_user_graph` as if some interactions did not exist.

    The degrees, and with them the weights of all other edges, do not count these interactions.
    Costs a fraction of a new graph.

    Args:
        graph: Training interactions.
        interaction: Long positions ``[n]`` in ``graph.col``, without repeats.
    """
    user = graph.cached(_user)
    weight = torch.ones_like(graph.col, dtype=torch.float32).index_fill_(0, interaction, 0)
    for index, degree in ((user, graph.user_degree()), (graph.col, graph.item_degree())):
        removed = torch.bincount(index[interaction], minlength=degree.numel())
        # A node without any other edge gets weight zero, not infinity.
        weight *= (degree - removed).clamp(min=1).rsqrt()[index]
    return graph.cached(item_to_user_graph).reweighted((graph.col, user), weight)


def similarity_graph(graph: RecGraph, shares: Mapping[str, float]) -> FixedGraph:
    """Build one item-item graph from those of some modalities, each scaled by its share.

    Messages go from neighbour to item.

    Args:
        graph: With modality graphs.
        shares: Modality to factor of its edge weights.
    """
    graphs = [(share, *graph.similar(name)) for name, share in dict(shares).items()]
    return FixedGraph(
        torch.cat([edge_index for _, edge_index, _ in graphs], dim=1),
        torch.cat([share * weight for share, _, weight in graphs]),
        graph.num_items,
        graph.num_items,
    )


def strongest_similarity_graph(graph: RecGraph) -> FixedGraph:
    """Build the union of all modalities' item-item graphs; an edge of several of them gets its
    largest weight."""
    graphs = [graph.similar(name) for name in graph.modalities]
    key = torch.cat([target * graph.num_items + source for (source, target), _ in graphs])
    weight = torch.cat([weight for _, weight in graphs])
    key, edge = key.unique(return_inverse=True)
    largest = weight.new_zeros(key.numel()).scatter_reduce(
        0, edge, weight, "amax", include_self=False
    )
    edge_index = torch.stack([key % graph.num_items, key // graph.num_items])
    return FixedGraph(edge_index, largest, graph.num_items, graph.num_items)


def _user(graph: RecGraph) -> Tensor:
    return graph.user
