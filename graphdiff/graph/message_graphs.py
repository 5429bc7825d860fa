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

    Example:
        >>> import torch
        >>> from graphdiff.graph import FixedConv, RecGraph
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)
        >>> FixedConv()(torch.eye(4), user_item_graph(graph))[0]  # What the first user receives.
        tensor([0.0000, 0.0000, 0.7071, 0.5000])
    """
    user, item = graph.user, graph.col + graph.num_users
    if keep is not None:
        user, item = user[keep], item[keep]
    source, target = torch.cat([user, item]), torch.cat([item, user])
    num_nodes = graph.num_users + graph.num_items
    weight = symmetric_norm(source, target, num_nodes, num_nodes)
    return FixedGraph(torch.stack([source, target]), weight, num_nodes, num_nodes)


def sample_by_degree(graph: RecGraph, share: float, generator: torch.Generator) -> Tensor:
    r"""Sample interactions without replacement, with probability proportional to
    :math:`1/\sqrt{|N_u||N_i|}`, so that those between popular nodes are left out first.

    Args:
        graph: Training interactions.
        share: Share of the interactions to sample, at least one.
        generator: Source of randomness, on the graph's device.

    Returns:
        Long positions in ``graph.col``, ascending.

    Example:
        >>> import torch
        >>> from graphdiff.graph import RecGraph
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)
        >>> sample_by_degree(graph, 1.0, torch.Generator().manual_seed(0))
        tensor([0, 1, 2])
    """
    num = max(1, round(graph.num_interactions * share))
    user_degree, item_degree = graph.user_degree(), graph.item_degree()
    weight = (user_degree[graph.user] * item_degree[graph.col]).float().rsqrt()
    # Exponential race: the smallest E/w are a sample without replacement proportional to w, for
    # any number of edges (torch.multinomial is limited to 2^24).
    race = torch.empty_like(weight).exponential_(generator=generator) / weight
    return race.topk(num, largest=False).indices.sort().values


def item_to_user_graph(graph: RecGraph, normalized: bool = True) -> FixedGraph:
    r"""Build the graph from items to their users, with weights :math:`1/\sqrt{|N_u||N_i|}`, or
    weights of one where not ``normalized``.

    Example:
        >>> import torch
        >>> from graphdiff.graph import FixedConv, RecGraph
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)
        >>> FixedConv()(torch.eye(2), item_to_user_graph(graph, normalized=False))
        tensor([[1., 1.],
                [0., 1.]])
    """
    weight = (
        symmetric_norm(graph.col, graph.user, graph.num_items, graph.num_users)
        if normalized
        else torch.ones_like(graph.col, dtype=torch.float32)
    )
    return FixedGraph((graph.col, graph.user), weight, graph.num_items, graph.num_users)


def item_to_user_graph_without(graph: RecGraph, interaction: Tensor) -> FixedGraph:
    """Build :func:`item_to_user_graph` as if some interactions did not exist.

    The degrees, and with them the weights of all other edges, do not count these interactions.
    Costs a fraction of a new graph.

    Args:
        graph: Training interactions.
        interaction: Long positions ``[n]`` in ``graph.col``, without repeats.

    Example:
        >>> import torch
        >>> from graphdiff.graph import FixedConv, RecGraph
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)
        >>> FixedConv()(torch.eye(2), item_to_user_graph_without(graph, torch.tensor([2])))
        tensor([[0.7071, 0.7071],
                [0.0000, 0.0000]])
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

    Example:
        >>> from graphdiff.graph import FixedConv, RecGraph
        >>> from graphdiff.schema import build_data
        >>> data = build_data(1, 2, [[0], [0]], features={"image": [[1, 0], [1, 1]]})
        >>> graph = RecGraph.from_data(data, num_neighbors=1)
        >>> FixedConv()(torch.eye(2), similarity_graph(graph, {"image": 0.5}))
        tensor([[0.0000, 0.5000],
                [0.5000, 0.0000]])
    """
    graphs = [(share, *graph.similar(name)) for name, share in dict(shares).items()]
    size = (graph.num_items, graph.num_items)
    if len(graphs) == 1:  # without copying the edges, nor weights that stay as they are
        share, edge_index, weight = graphs[0]
        return FixedGraph(edge_index, weight if share == 1 else share * weight, *size)
    return FixedGraph(
        torch.cat([edge_index for _, edge_index, _ in graphs], dim=1),
        torch.cat([share * weight for share, _, weight in graphs]),
        *size,
    )


def strongest_similarity_graph(graph: RecGraph) -> FixedGraph:
    """Build the union of all modalities' item-item graphs; an edge of several of them gets its
    largest weight.

    Example:
        >>> from graphdiff.graph import FixedConv, RecGraph
        >>> from graphdiff.schema import build_data
        >>> features = {"image": [[1, 0], [1, 1]], "text": [[1], [2]]}
        >>> data = build_data(1, 2, [[0], [0]], features=features)
        >>> graph = RecGraph.from_data(data, num_neighbors=1)
        >>> FixedConv()(torch.eye(2), strongest_similarity_graph(graph))
        tensor([[0., 1.],
                [1., 0.]])
    """
    graphs = [graph.similar(name) for name in graph.modalities]
    pairs = [edge_index.long() for (edge_index, _) in graphs]
    key = torch.cat([target * graph.num_items + source for source, target in pairs])
    weight = torch.cat([weight for _, weight in graphs])
    key, edge = key.unique(return_inverse=True)
    largest = weight.new_zeros(key.numel()).scatter_reduce(
        0, edge, weight, "amax", include_self=False
    )
    edge_index = torch.stack([key % graph.num_items, key // graph.num_items])
    return FixedGraph(edge_index, largest, graph.num_items, graph.num_items)


def _user(graph: RecGraph) -> Tensor:
    return graph.user
