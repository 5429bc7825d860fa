"""Checks of a graph against the schema."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graphdiff.errors import DataError
from graphdiff.schema.details import checked_texts, details_in
from graphdiff.schema.features import check_features, check_modality
from graphdiff.schema.ids import raw_ids
from graphdiff.schema.names import INTERACTS, ITEM, SPLITS, TIME, USER, modalities, pair_keys
from graphdiff.schema.pairs import blocks, found_among, is_ascending
from graphdiff.schema.words import SHOWN, count, is_dense, kind, offending, show

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

# A pair is encoded as one int64, user * I + item, so neither number may be larger.
MAX_NODES = 2**31 - 1


def validate(data: HeteroData) -> None:
    """Raise unless a graph fits the schema.

    Args:
        data: The graph; not modified.

    Raises:
        DataError: For the first violation: the number of offending entries, and the raw ids of the
            first few.
    """
    from torch_geometric.data import HeteroData  # PyG takes seconds to import.

    if not isinstance(data, HeteroData):
        raise DataError(f"expected a torch_geometric.data.HeteroData, found {kind(data)}")
    for node in (USER, ITEM):
        _check_nodes(data, node)
    if INTERACTS not in data.edge_types:
        raise DataError(
            f"the graph has no edges of type {INTERACTS}; give the training interactions as "
            "data['user', 'interacts', 'item'].edge_index"
        )
    keys = {split: _check_pairs(data, split) for split in SPLITS}
    if data[INTERACTS][SPLITS["training"]].size(1) == 0:
        raise DataError("the graph has no training interactions; give at least one")
    _check_times(data)
    for kept, held_out in (
        ("training", "validation"),
        ("training", "test"),
        ("validation", "test"),
    ):
        both = _in_both(data, keys, kept, held_out)
        if both.numel():
            raise DataError(
                f"{count(both.numel(), held_out + ' pair')} also found among the {kept} pairs: "
                f"{_show_pairs(data, both)}; a pair belongs to one of training, validation, test"
            )
    for name in modalities(data):
        _check_features(data, name)
    for name in details_in(data):
        checked_texts(data[ITEM][name], name, data[ITEM].num_nodes)
    for edge_type in data.edge_types:
        if edge_type[0] == edge_type[2] == ITEM and edge_type[1].startswith("similar_"):
            _check_similar(data, edge_type)


def _check_nodes(data: HeteroData, node: str) -> None:
    if node not in data.node_types or "num_nodes" not in data[node]:
        raise DataError(f"the graph has no number of {node}s; set data['{node}'].num_nodes")
    size = data[node].num_nodes
    if isinstance(size, bool) or not isinstance(size, int):
        raise DataError(f"data['{node}'].num_nodes is {kind(size)}; give an int")
    if not 1 <= size <= MAX_NODES:
        raise DataError(f"the graph has {size} {node}s; give from 1 to {MAX_NODES}")
    if "raw_id" in data[node]:
        _check_ids(data[node].raw_id, node, size)


def _check_ids(ids: Any, node: str, size: int) -> None:
    if isinstance(ids, Tensor):
        if not is_dense(ids) or ids.dtype != torch.long or ids.dim() != 1:
            raise DataError(
                f"raw {node} ids are {kind(ids)}; give a long tensor [{size}] or a list of str"
            )
        if ids.numel() == size and ids.unique().numel() == size:
            return  # Without a list of Python numbers, which takes much memory.
        ids = ids.tolist()
    elif not (isinstance(ids, list) and all(isinstance(i, str) for i in ids)):
        raise DataError(
            f"raw {node} ids are {kind(ids)}; give a long tensor [{size}] or a list of str"
        )
    elif any(not _is_text(i) for i in ids):
        odd = next(i for i in ids if not _is_text(i))
        raise DataError(f"raw {node} id {odd!r} is not valid Unicode text; give another id")
    if len(ids) != size:
        raise DataError(f"there are {len(ids)} raw {node} ids but {size} {node}s; give one each")
    if len(set(ids)) != size:
        repeated = [i for i, times in Counter(ids).items() if times > 1]
        raise DataError(
            f"{count(len(repeated), f'raw {node} id')} given more than once: "
            f"{show(repeated)}; ids must differ"
        )


def _is_text(value: str) -> bool:
    """Return whether a str can be encoded, which lone surrogates cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_pairs(data: HeteroData, split: str) -> Tensor | None:
    """Check one split and return its pairs as sorted flat keys; None where training pairs are
    ascending, because their keys may be more than fit into memory."""
    attribute = SPLITS[split]
    if attribute not in data[INTERACTS]:
        raise DataError(
            f"data['user', 'interacts', 'item'] has no {attribute}; "
            "graphdiff.schema.prepare(data) adds empty held-out pairs"
        )
    pairs = data[INTERACTS][attribute]
    _check_index(pairs, attribute)
    num_users, num_items = data[USER].num_nodes, data[ITEM].num_nodes
    for row, (node, size) in enumerate(((USER, num_users), (ITEM, num_items))):
        if pairs.size(1) and not 0 <= int(pairs[row].min()) <= int(pairs[row].max()) < size:
            outside = (pairs[row] < 0) | (pairs[row] >= size)
            raise DataError(
                f"{count(int(outside.sum()), f'{split} pair')} out of range: {node} index "
                f"{show(pairs[row][outside][: SHOWN + 1].tolist())}; the graph has {size} "
                f"{node}s, 0 to {size - 1}"
            )
    if split == "training" and is_ascending(pairs):
        return None
    keys, times = pair_keys(data, pairs).unique(return_counts=True)
    repeated = keys[times > 1]
    if repeated.numel():
        raise DataError(
            f"{count(repeated.numel(), f'{split} pair')} given more than once: "
            f"{_show_pairs(data, repeated)}; give each pair once"
        )
    return keys


def _in_both(data: HeteroData, keys: dict[str, Tensor | None], kept: str, held_out: str) -> Tensor:
    """Return the keys of the pairs that two splits share, ascending."""
    known, wanted = keys[kept], keys[held_out]
    assert wanted is not None  # Only training pairs are left without keys.
    if known is None:
        training = data[INTERACTS][SPLITS[kept]]
        return wanted[found_among(wanted, training, data[ITEM].num_nodes)]
    return wanted[torch.isin(wanted, known)]


def _check_index(index: Any, what: str) -> None:
    if not is_dense(index) or index.dtype != torch.long:
        raise DataError(f"{what} is {kind(index)}; give a long tensor [2, *]")
    if index.dim() != 2 or index.size(0) != 2:
        raise DataError(
            f"{what} has shape {list(index.shape)}; give [2, *], users or sources "
            "above items or targets"
        )


def _check_times(data: HeteroData) -> None:
    if TIME not in data[INTERACTS]:
        return
    time, size = data[INTERACTS][TIME], data[INTERACTS][SPLITS["training"]].size(1)
    whole = (torch.int32, torch.long)
    if not is_dense(time) or not (time.dtype in whole or time.is_floating_point()):
        raise DataError(
            f"the times of training pairs are {kind(time)}; give an int32, long or floating "
            f"tensor [{size}], or delete data['user', 'interacts', 'item'].time"
        )
    if time.shape != (size,):
        raise DataError(
            f"the times of training pairs have shape {list(time.shape)} but there are {size} "
            "training pairs; give one time for each"
        )
    odd = 0
    if time.is_floating_point():
        odd = sum(int((~time[part].isfinite()).sum()) for part in blocks(size))
    if odd:
        raise DataError(
            f"{count(odd, 'training pair')} without a finite time; give each a number, or no times "
            "at all"
        )


def _check_features(data: HeteroData, name: str) -> None:
    x, has, size = data[ITEM][f"x_{name}"], data[ITEM].get(f"has_{name}"), data[ITEM].num_nodes
    if not is_dense(x) or x.dtype != torch.float32 or x.requires_grad:
        check_modality(name)
        grad = " that requires grad" if isinstance(x, Tensor) and x.requires_grad else ""
        raise DataError(
            f"x_{name} is {kind(x)}{grad}; give a float32 tensor [{size}, F]; "
            "graphdiff.schema.prepare(data) converts it"
        )
    expected = f"the graph has {size} items"
    ids = partial(raw_ids, data, ITEM)
    check_features(x, name, expected, size, ids)
    nan = x.isnan()
    if nan.any() or has is None:
        raise DataError(
            f"x_{name} has no mask has_{name} that accounts for its missing rows; pass "
            "the graph through graphdiff.schema.prepare(data)"
        )
    if not is_dense(has) or has.dtype != torch.bool or has.shape != (size,):
        raise DataError(f"has_{name} is {kind(has)}; give a bool tensor [{size}]")
    silent = ~has & (x != 0).any(dim=1)
    if silent.any():
        raise DataError(
            f"{offending(silent, ids)} values in x_{name} though has_{name} is "
            "False; pass the graph through graphdiff.schema.prepare(data)"
        )


def _check_similar(data: HeteroData, edge_type: tuple[str, str, str]) -> None:
    store, name, size = data[edge_type], edge_type[1], data[ITEM].num_nodes
    index, weight = store.get("edge_index"), store.get("edge_weight")
    _check_index(index, f"edge_index of {name}")
    outside = ((index < 0) | (index >= size)).any(dim=0)
    if outside.any():
        raise DataError(
            f"{count(int(outside.sum()), f'{name} edge')} out of range; the graph has {size} "
            f"items, 0 to {size - 1}"
        )
    if not is_dense(weight) or not weight.is_floating_point():
        raise DataError(f"edge_weight of {name} is {kind(weight)}; give a floating tensor")
    if weight.shape != index.shape[1:] or not weight.isfinite().all():
        raise DataError(
            f"edge_weight of {name} must hold one finite number for each of the "
            f"{index.size(1)} edges; found {kind(weight)}"
        )


def _show_pairs(data: HeteroData, keys: Tensor) -> str:
    keys, size = keys[: SHOWN + 1], data[ITEM].num_nodes
    users, items = raw_ids(data, USER, keys // size), raw_ids(data, ITEM, keys % size)
    return show([f"user {u!r} item {i!r}" for u, i in zip(users, items, strict=True)], str)
