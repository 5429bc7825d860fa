"""Whether a model and a dataset have the same users and items, and nothing held out was learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.errors import DataError
from graphdiff.graph.store import RecGraph
from graphdiff.schema import INTERACTS, ITEM, SPLITS, USER
from graphdiff.schema.pairs import key_blocks

#: Ids that are compared at a time.
BLOCK = 2**20


def check_agreement(model: Any, data: HeteroData, split: str, advice: str) -> None:
    """Check that a model can be measured on a split of a dataset.

    The model may have further users and items behind those of the data, as after updates. What an
    object lacks is not checked: one that only recommends is taken as it is.

    Args:
        model: An object that recommends items.
        data: A graph that fits :mod:`graphdiff.schema`.
        split: ``"validation"`` or ``"test"``.
        advice: What to do instead, for the message.

    Raises:
        DataError: If the model knows fewer users or items, one with another raw id is at the same
            place, or the model was trained on held-out pairs that are no training interactions of
            the data.
    """
    for node in (ITEM, USER):
        known, num = getattr(model, f"num_{node}s", None), int(data[node].num_nodes)
        if isinstance(known, int) and known < num:
            raise DataError(f"the model knows {known} {node}s but the data has {num}; {advice}")
        _check_ids(model, data, node, advice)
    graph, held_out = getattr(model, "graph", None), data[INTERACTS].get(SPLITS[split])
    if isinstance(graph, RecGraph) and held_out is not None and held_out.numel():
        _check_held_out(graph, data, held_out, split, advice)


def _check_ids(model: Any, data: HeteroData, node: str, advice: str) -> None:
    own = getattr(getattr(model, "catalogue", None), f"{node}_ids", None)
    found = data[node].get("raw_id")
    if own is None or found is None:
        return
    first, num = None, 0
    for start in range(0, len(found), BLOCK):
        theirs = found[start : start + BLOCK]
        theirs = theirs.tolist() if isinstance(theirs, Tensor) else list(theirs)
        mine = own[start : start + BLOCK][: len(theirs)]
        if mine != theirs:
            # Ids are the same if their texts are.
            pairs = enumerate(zip(mine, theirs, strict=True))
            other = [n for n, (one, two) in pairs if str(one) != str(two)]
            num += len(other)
            if other and first is None:
                first = (start + other[0], theirs[other[0]], mine[other[0]])
    if first is not None:
        place, expected, known = first
        raise DataError(
            f"{num} of the data's {len(found)} {node}s are not at their places in the model: "
            f"{node} {place} is {expected!r} in the data and {known!r} in the model, which was "
            f"made from other data or changed; {advice}"
        )


def _check_held_out(
    graph: RecGraph, data: HeteroData, held_out: Tensor, split: str, advice: str
) -> None:
    user, item = held_out.to(graph.col.device)
    learned = graph.contains(user, item)
    if not learned.any():
        return
    num_items = int(data[ITEM].num_nodes)
    key = (user * num_items + item)[learned].cpu()
    # Data may hold out what it also trains on; then that is what is to be measured.
    meant = torch.zeros_like(key, dtype=torch.bool)
    for block in key_blocks(data[INTERACTS].edge_index, num_items):
        meant |= torch.isin(key, block.cpu())
    num = int((~meant).sum())
    if num:
        raise DataError(
            f"{num} of the data's {user.numel()} {split} pairs are among the training interactions "
            f"of the model, which does not recommend what it has seen; {advice}"
        )
