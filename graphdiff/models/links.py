"""Connections between items in the data of a model: common users and similar features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.store import RecGraph

if TYPE_CHECKING:
    import networkx as nx

#: The relation of items with common users; other relations are names of modalities.
USERS = "users"


class Link(NamedTuple):
    """A connection between two items.

    Attributes:
        source: Index of an item of the history, or of one between it and the recommended item.
        target: Index of the recommended item, or of one between.
        relation: Name of a modality, or :data:`USERS`.
        weight: Cosine of the features, or the number of common training users.
    """

    source: int
    target: int
    relation: str
    weight: float


def item_links(
    graph: RecGraph, item: int, history: Sequence[int], most_between: int = 2
) -> list[Link]:
    """Return how items of a history are connected with another item.

    The connections are those that messages take: an item is connected with its neighbours in the
    item-item graph of a modality, and with all items of its users. An item between the two is
    connected with both.

    Args:
        graph: Training interactions and item content.
        item: Index of the other item.
        history: Indices of the items.
        most_between: Largest number of items between, for each relation; those with the largest
            product of weights.

    Example:
        >>> import torch
        >>> graph = RecGraph(torch.tensor([0, 2, 4]), torch.tensor([0, 1, 1, 2]), num_items=3)
        >>> item_links(graph, item=1, history=[0])
        [Link(source=0, target=1, relation='users', weight=1.0)]
        >>> [(link.source, link.target) for link in item_links(graph, item=2, history=[0])]
        [(0, 1), (1, 2)]
    """
    past = [one for one in history if one != item]
    links: list[Link] = []
    for name in graph.modalities:
        if hasattr(graph, f"similar_{name}_index"):
            links += _similar_links(graph, name, item, past, most_between)
    return links + _user_links(graph, item, past, most_between)


def _similar_links(
    graph: RecGraph, name: str, item: int, past: list[int], most_between: int
) -> list[Link]:
    """Return links by the features of one modality."""
    x, has = graph.features(name)
    if not past or not has[item]:
        return []
    rowptr, neighbor = graph.cached(_neighbors, name)

    def near(index: int) -> set[int]:
        return set(neighbor[rowptr[index] : rowptr[index + 1]].tolist()) - {index}

    def cosine(one: int, other: int) -> float:
        return F.cosine_similarity(x[one], x[other], dim=0).item()

    mine = near(item)
    links, paths = [], []
    for one in past:
        theirs = near(one)
        if one in mine or item in theirs:
            links.append(Link(one, item, name, cosine(one, item)))
        for between in (mine & theirs) - {item, *past}:
            pair = cosine(one, between), cosine(between, item)
            paths.append((pair[0] * pair[1], one, between, pair))
    return links + _between(paths, item, name, most_between)


def _user_links(graph: RecGraph, item: int, past: list[int], most_between: int) -> list[Link]:
    """Return links by common training users."""
    rowptr, user = graph.cached(_users_of_items)

    def common(index: int) -> Tensor:
        """Return the number of users that each item has in common with one, ``[I]``."""
        users = user[rowptr[index] : rowptr[index + 1]]
        return torch.bincount(graph.rows(users).item, minlength=graph.num_items)

    mine = common(item)
    if not mine.any():
        return []
    links, paths = [], []
    excluded = torch.tensor([item, *past], device=mine.device)
    for one in past:
        if mine[one]:
            links.append(Link(one, item, USERS, float(mine[one])))
            continue  # A detour would add nothing.
        theirs = common(one)
        product = (theirs * mine).index_fill(0, excluded, 0)
        for between in product.topk(min(most_between, product.numel())).indices.tolist():
            if product[between]:
                pair = float(theirs[between]), float(mine[between])
                paths.append((pair[0] * pair[1], one, between, pair))
    return links + _between(paths, item, USERS, most_between)


def _between(
    paths: list[tuple[float, int, int, tuple[float, float]]],
    item: int,
    relation: str,
    most: int,
) -> list[Link]:
    """Return the links of the paths over the best ``most`` items between."""
    kept: list[int] = []
    links = {}
    for _, one, between, pair in sorted(paths, key=lambda path: (-path[0], *path[1:3])):
        if between not in kept and len(kept) < most:
            kept.append(between)
        if between in kept:
            links[one, between] = Link(one, between, relation, pair[0])
            links[between, item] = Link(between, item, relation, pair[1])
    return list(links.values())


def because(past: int, item: int, parts: Mapping[str, float], links: Sequence[Link]) -> list[str]:
    """Return why an item of the history speaks for another, in words.

    Args:
        past: The item of the history.
        item: The other item.
        parts: What ``past`` adds to the score, by part.
        links: From :func:`item_links`.
    """
    found = []
    mine = [link for link in links if link.source == past]
    for name in dict.fromkeys(link.relation for link in mine if link.relation != USERS):
        if parts.get(f"features_{name}", 0.0) + parts.get(f"preference_{name}", 0.0) > 0:
            found.append(f"similar {name}")
    if parts.get("behaviour", 0.0) + parts.get("collaborative", 0.0) > 0:
        direct = [one for one in mine if one.relation == USERS and one.target == item]
        if direct:
            count = int(direct[0].weight)
            found.append("1 user in common" if count == 1 else f"{count} users in common")
        elif any(link.relation == USERS for link in mine):
            found.append("users with similar items")
    if not found and parts:
        found.append(_in_words(max(parts, key=lambda name: parts[name])))
    return found


def _in_words(part: str) -> str:
    kind, _, modality = part.partition("_")
    if modality:
        return f"related {modality}"
    return "related behaviour" if kind in ("behaviour", "collaborative", "linear") else kind


def link_graph(
    item: int,
    score: float,
    contributions: Mapping[int, float],
    links: Sequence[Link],
    name: Callable[[int], Any],
) -> nx.MultiDiGraph:
    """Return links as a graph; see :meth:`graphdiff.models.explanation.Explanation.to_networkx`."""
    import networkx as nx

    graph = nx.MultiDiGraph(score=score)
    for past, value in contributions.items():
        graph.add_node(past, kind="history", label=str(name(past)), contribution=value)
    for link in links:
        for end in (link.source, link.target):
            if end not in graph and end != item:
                kind = USERS if link.relation == USERS else "similar"
                graph.add_node(end, kind=kind, label=str(name(end)))
    graph.add_node(item, kind="recommended", label=str(name(item)))
    for link in links:
        graph.add_edge(link.source, link.target, key=link.relation, weight=link.weight)
    return graph


def _neighbors(graph: RecGraph, name: str) -> tuple[Tensor, Tensor]:
    """Return the neighbours of each item in a modality's graph as ``rowptr`` and ``neighbor``."""
    (source, target), _ = graph.similar(name)
    order = torch.argsort(target, stable=True)
    return _rowptr(target, graph.num_items), source[order]


def _users_of_items(graph: RecGraph) -> tuple[Tensor, Tensor]:
    """Return the users of each item as ``rowptr`` and ``user``."""
    order = torch.argsort(graph.col, stable=True)
    return _rowptr(graph.col, graph.num_items), graph.user[order]


def _rowptr(index: Tensor, size: int) -> Tensor:
    rowptr = index.new_zeros(size + 1)
    rowptr[1:] = torch.bincount(index, minlength=size).cumsum(0)
    return rowptr
