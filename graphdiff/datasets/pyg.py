"""Graphs of PyTorch Geometric with other names, and splits by ``RandomLinkSplit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.errors import DataError
from graphdiff.schema import ITEM, SPLITS, USER, build_data, details_in
from graphdiff.schema.names import TIME
from graphdiff.schema.words import kind

EdgeType = tuple[str, str, str]


def from_pyg(
    data: HeteroData,
    user: str = USER,
    item: str = ITEM,
    edge: EdgeType | None = None,
    features: Mapping[str, str] | None = None,
    val: Any = None,
    test: Any = None,
) -> HeteroData:
    """Make a graph that fits the schema of a ``HeteroData`` with other names.

    Args:
        data: The graph; not modified.
        user: Its node type of users.
        item: Its node type of items.
        edge: Its edge type of interactions, in either direction (default: the only one between
            users and items in this direction, or else in the other).
        features: Attribute of the items that holds each modality, such as ``{"image": "x"}``
            (default: every ``x_<modality>``, and ``x`` as the modality ``features``).
        val: Validation pairs (user, item), integer ``[2, *]`` (default: those that the edges hold
            as ``val_edge_label_index``, or none).
        test: Test pairs, likewise.

    Returns:
        A graph that fits :mod:`graphdiff.schema`. Pairs that occur more than once count once; pairs
        in ``val`` and ``test`` are no training pairs. If the edges have ``time`` ``[E]``, training
        pairs keep it, repeated ones the earliest.

    Raises:
        DataError: If a node type, an edge type or an attribute does not exist, or the contents do
            not fit.

    Example:
        >>> data = HeteroData()
        >>> data["customer"].num_nodes = 2
        >>> data["product"].x = torch.ones(3, 4)
        >>> data["customer", "bought", "product"].edge_index = torch.tensor([[0, 1], [2, 0]])
        >>> made = from_pyg(data, user="customer", item="product")
        >>> made["user", "interacts", "item"].edge_index.tolist(), made["item"].x_features.shape
        ([[0, 1], [2, 0]], torch.Size([3, 4]))
    """
    edge = _edge_type(data, user, item, edge)
    held_out: dict[str, Tensor] = {}
    for split, given in (("validation", val), ("test", test)):
        found = data[edge].get(SPLITS[split]) if given is None else torch.as_tensor(given)
        flipped = given is None and edge[0] == item
        held_out[split] = _pairs(found, flipped)
    train = _pairs(data[edge].edge_index, edge[0] == item)
    train = _without(train, torch.cat([*held_out.values()], dim=1))
    time = _times(data, edge, edge[0] == item, train)
    held_out_pairs = held_out["validation"], held_out["test"]
    return _build(data, user, item, features, train, *held_out_pairs, time)


def from_link_split(
    train: HeteroData,
    val: HeteroData,
    test: HeteroData,
    user: str = USER,
    item: str = ITEM,
    edge: EdgeType | None = None,
    features: Mapping[str, str] | None = None,
) -> HeteroData:
    """Make one graph of the three that ``torch_geometric.transforms.RandomLinkSplit`` returns.

    Training pairs are the edges of ``train`` and its positive label edges. Held-out pairs are the
    positive label edges of ``val`` and ``test``. Negative label edges (``edge_label`` 0) are left
    out: graphdiff ranks the whole catalogue. Times of edges are kept as by :func:`from_pyg`, if all
    training pairs are edges; with ``disjoint_train_ratio`` some are label edges, which have none.

    Args:
        train: First graph; features and ids are taken from it.
        val: Second graph.
        test: Third graph.
        user: Node type of users.
        item: Node type of items.
        edge: Edge type of interactions, as for :func:`from_pyg`.
        features: As for :func:`from_pyg`.

    Returns:
        A graph that fits :mod:`graphdiff.schema`.

    Raises:
        DataError: If a graph has no label edges, or as for :func:`from_pyg`.

    Example:
        >>> from torch_geometric.transforms import RandomLinkSplit
        >>> data = HeteroData()
        >>> data["user"].num_nodes, data["item"].num_nodes = 20, 10
        >>> pairs = torch.cartesian_prod(torch.arange(20), torch.arange(10)).t()
        >>> data["user", "rates", "item"].edge_index = pairs
        >>> split = RandomLinkSplit(0.1, 0.1, edge_types=[("user", "rates", "item")])
        >>> made = from_link_split(*split(data))
        >>> made["user", "interacts", "item"].test_edge_label_index.shape
        torch.Size([2, 20])
    """
    edge = _edge_type(train, user, item, edge)
    flipped = edge[0] == item
    val_pairs, test_pairs = (_positives(graph, edge, flipped) for graph in (val, test))
    observed = _pairs(train[edge].edge_index, flipped)
    if "edge_label_index" in train[edge]:
        observed = _pairs(torch.cat([observed, _positives(train, edge, flipped)], dim=1), False)
    held_out = torch.cat([val_pairs, test_pairs], dim=1)
    observed = _without(observed, held_out)
    time = _times(train, edge, flipped, observed)
    return _build(train, user, item, features, observed, val_pairs, test_pairs, time)


def _build(
    data: HeteroData,
    user: str,
    item: str,
    features: Mapping[str, str] | None,
    train: Tensor,
    val: Tensor,
    test: Tensor,
    time: Tensor | None,
) -> HeteroData:
    store = data[item]
    if features is None:
        features = {n[2:]: n for n in store if n.startswith("x_") and n != "x_"}
        features |= {"features": "x"} if "x" in store else {}
    if not isinstance(features, Mapping):
        raise DataError(
            f"features is {kind(features)}; give a mapping from names of modalities to attributes "
            "of the items, such as {'image': 'x'}"
        )
    lacking = [name for name in features.values() if name not in store]
    if lacking:
        raise DataError(f"data['{item}'] has no {lacking[0]}; it has {', '.join(store) or 'none'}")
    numbers = {}
    for node in (user, item):
        numbers[node] = data[node].num_nodes
        if numbers[node] is None:
            raise DataError(f"the number of {node}s is not known; set data['{node}'].num_nodes")
    values = {}
    for modality, name in features.items():
        values[modality] = store[name]
        if f"has_{name.removeprefix('x_')}" in store and name.startswith("x_"):
            has = store[f"has_{name.removeprefix('x_')}"]
            values[modality] = values[modality].masked_fill(~has[:, None], float("nan"))
    return build_data(
        numbers[user],
        numbers[item],
        train,
        val,
        test,
        values,
        user_ids=data[user].get("raw_id"),
        item_ids=store.get("raw_id"),
        details={name: store[name] for name in details_in(data)} if item == ITEM else None,
        train_time=time,
    )


def _edge_type(data: HeteroData, user: str, item: str, edge: EdgeType | None) -> EdgeType:
    if not isinstance(data, HeteroData):
        raise DataError(f"expected a HeteroData, found {type(data).__name__}")
    for node in (user, item):
        if node not in data.node_types:
            raise DataError(
                f"the graph has no nodes {node!r}; it has {', '.join(data.node_types)}: say which "
                "are users and items with user=NAME and item=NAME"
            )
    if edge is None:
        for ends in ((user, item), (item, user)):
            found = [one for one in data.edge_types if (one[0], one[2]) == ends]
            if len(found) == 1:
                return found[0]
            if found:
                raise DataError(
                    f"the graph has {len(found)} types of edges from {ends[0]} to {ends[1]}: "
                    f"{found}; say which are the interactions with edge=TYPE"
                )
    if edge is None or edge not in data.edge_types or {edge[0], edge[2]} != {user, item}:
        wanted = edge or f"between {user} and {item}"
        raise DataError(f"the graph has no edges {wanted}; it has {data.edge_types}")
    return edge


def _positives(data: HeteroData, edge: EdgeType, flipped: bool) -> Tensor:
    """Return the label edges with a label above zero, as pairs (user, item)."""
    if edge not in data.edge_types or "edge_label_index" not in data[edge]:
        raise DataError(
            f"data[{edge}] has no edge_label_index; give the three graphs of RandomLinkSplit with "
            f"edge_types=[{edge}]"
        )
    pairs, label = data[edge].edge_label_index, data[edge].get("edge_label")
    return _pairs(pairs if label is None else pairs[:, label > 0], flipped)


def _pairs(pairs: Tensor | None, flipped: bool) -> Tensor:
    """Return pairs (user, item), each once, sorted."""
    if pairs is None:
        return torch.empty(2, 0, dtype=torch.long)
    if pairs.dim() != 2 or pairs.size(0) != 2 or pairs.is_floating_point():
        raise DataError(f"pairs are {pairs.dtype} {list(pairs.shape)}; give integers [2, *]")
    pairs = (pairs.flip(0) if flipped else pairs).cpu().long()
    return pairs.unique(dim=1) if pairs.numel() else pairs


def _times(data: HeteroData, edge: EdgeType, flipped: bool, pairs: Tensor) -> Tensor | None:
    """Return the time of each pair (user, item), that of its earliest edge; None where the edges
    have no times, or a pair is no edge."""
    time, index = data[edge].get(TIME), data[edge].edge_index
    if not isinstance(time, Tensor) or time.shape != index.shape[1:]:
        return None
    time, index = time.cpu(), (index.flip(0) if flipped else index).cpu().long()
    size = 1 + max(int(found[1].max()) if found.numel() else 0 for found in (pairs, index))
    wanted, key = pairs[0] * size + pairs[1], index[0] * size + index[1]
    order = time.argsort(stable=True)
    order = order[key[order].argsort(stable=True)]
    key = key[order]
    place = torch.searchsorted(key, wanted)
    there = place < key.numel()
    if not (there.all() and torch.equal(key[place], wanted)):
        return None
    return time[order[place]]


def _without(pairs: Tensor, others: Tensor) -> Tensor:
    """Return the pairs that are not among others."""
    size = 1 + max(int(t.max()) if t.numel() else 0 for t in (pairs, others))
    key, other = pairs[0] * size + pairs[1], others[0] * size + others[1]
    return pairs[:, ~torch.isin(key, other)]
