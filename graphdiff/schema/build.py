"""Entry points of data: arrays, or a graph built by hand."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from graphdiff.errors import DataError
from graphdiff.schema.checks import validate
from graphdiff.schema.details import ItemDetails
from graphdiff.schema.features import as_features, check_modality
from graphdiff.schema.names import INTERACTS, ITEM, SPLITS, TIME, USER, modalities
from graphdiff.schema.words import is_dense, kind

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


def build_data(
    num_users: int,
    num_items: int,
    train: Any,
    val: Any = None,
    test: Any = None,
    features: Mapping[str, Any] | None = None,
    user_ids: Any = None,
    item_ids: Any = None,
    details: Mapping[str, Any] | None = None,
    train_time: Any = None,
) -> HeteroData:
    """Build a checked graph from arrays.

    Args:
        num_users: U.
        num_items: I.
        train: Training pairs (user, item): integer tensor or array ``[2, E]``.
        val: Validation pairs, integer ``[2, *]`` (default: none).
        test: Test pairs, integer ``[2, *]`` (default: none).
        features: Per modality ``[I, F]`` real numbers, cast to float32 by
            :func:`~graphdiff.schema.checked_features`: a tensor, array, data frame, scipy sparse
            matrix or lists; a row is all NaN where an item lacks the modality (default: no
            modality).
        user_ids: Raw user ids, U integers or strings, all different (default: the indices).
        item_ids: Raw item ids, likewise.
        details: Any of ``title``, ``category`` and ``image``, each with I texts, for display; see
            :class:`ItemDetails` (default: none).
        train_time: When each training pair happened, real numbers ``[E]`` in the order of
            ``train``, in any unit; stored as long if they are integers, otherwise as float64
            (default: not known).

    Returns:
        A graph that fits the schema.

    Raises:
        DataError: If something does not fit, with what was found and what was expected.

    Example:
        >>> train, image = [[0, 0, 1], [0, 1, 2]], [[1], [2], [3]]
        >>> data = build_data(2, 3, train, features={"image": image})
        >>> data["item"].x_image.tolist(), data["item"].has_image.tolist()
        ([[1.0], [2.0], [3.0]], [True, True, True])
    """
    from torch_geometric.data import HeteroData  # PyG takes seconds to import.

    data = HeteroData()
    for node, count, ids in ((USER, num_users, user_ids), (ITEM, num_items, item_ids)):
        data[node].num_nodes = int(count) if isinstance(count, np.integer) else count
        if ids is not None:
            data[node].raw_id = _as_ids(ids, node)
    for (split, attribute), pairs in zip(SPLITS.items(), (train, val, test), strict=True):
        data[INTERACTS][attribute] = _as_pairs(pairs, split)
    if train_time is not None:
        data[INTERACTS][TIME] = _as_times(train_time)
    if features is not None and not isinstance(features, Mapping):
        raise DataError(
            f"features is {kind(features)}; give a mapping from modality to an array "
            f"[{num_items}, F]"
        )
    for name, values in (features or {}).items():
        check_modality(name)
        data[ITEM][f"x_{name}"] = values
    if details:
        data[ITEM].update(ItemDetails(data[ITEM].num_nodes, details).columns)
    return prepare(data)


def prepare(data: HeteroData) -> HeteroData:
    """Complete and check a graph built by hand.

    Features are converted to float32 tensors, masks completed as by :func:`complete_masks`, and
    absent held-out pairs become empty.

    Args:
        data: The graph; not modified.

    Returns:
        A shallow copy that fits the schema.

    Raises:
        DataError: If something does not fit, with what was found and what was expected.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data["user"].num_nodes, data["item"].num_nodes = 1, 2
        >>> data["user", "interacts", "item"].edge_index = torch.tensor([[0], [1]])
        >>> data["item"].x_image = [[float("nan")], [3]]
        >>> prepare(data)["item"].has_image
        tensor([False,  True])
    """
    data = copy.copy(data)
    for name in modalities(data):
        data[ITEM][f"x_{name}"] = as_features(data[ITEM][f"x_{name}"], name)
    data = complete_masks(data)
    if INTERACTS in data.edge_types:
        for attribute in ("val_edge_label_index", "test_edge_label_index"):
            if attribute not in data[INTERACTS]:
                data[INTERACTS][attribute] = torch.empty(2, 0, dtype=torch.long)
    validate(data)
    return data


def complete_masks(data: HeteroData) -> HeteroData:
    """Replace all-NaN feature rows by zeros and mark them as False in ``has_<modality>``.

    An existing mask is kept and also becomes False for NaN rows. Rows that are NaN in part stay
    unchanged, for :func:`validate` to reject.

    Args:
        data: The graph; not modified.

    Returns:
        A shallow copy with a mask for every modality.
    """
    data = copy.copy(data)
    for name in modalities(data):
        x, has = data[ITEM][f"x_{name}"], data[ITEM].get(f"has_{name}")
        if not (is_dense(x) and x.dim() == 2 and x.is_floating_point()):
            continue
        present = ~x.isnan().all(dim=1)
        if is_dense(has) and has.dtype == torch.bool and has.shape == present.shape:
            present &= has
        elif has is not None:
            continue
        data[ITEM][f"has_{name}"] = present
        if not present.all():
            data[ITEM][f"x_{name}"] = x.masked_fill(~present[:, None], 0.0)
    return data


def _as_pairs(pairs: Any, split: str) -> Tensor:
    if pairs is None:
        return torch.empty(2, 0, dtype=torch.long)
    pairs = _as_tensor(pairs, f"the {split} pairs", "pairs")
    integral = not (pairs.is_floating_point() or pairs.is_complex() or pairs.dtype == torch.bool)
    # An empty list has no meaningful dtype.
    if not integral and pairs.numel():
        raise DataError(f"the {split} pairs are {pairs.dtype}; give integer user and item indices")
    if pairs.numel() == 0:
        return torch.empty(2, 0, dtype=torch.long)
    return pairs.long()


def _as_times(times: Any) -> Tensor:
    times = _as_tensor(times, "the times of training pairs", "times")
    if times.is_complex() or times.dtype == torch.bool:
        raise DataError(f"the times of training pairs are {times.dtype}; give real numbers")
    if times.is_floating_point():
        return times.detach().double()
    # Unsigned numbers of 64 bits may be larger than any long.
    fits = times.dtype != torch.uint64 or times.numel() == 0 or not (times.long() < 0).any()
    return times.long() if fits else times.double()


def _as_tensor(values: Any, what: str, noun: str) -> Tensor:
    if isinstance(values, Tensor):
        return values
    if np.ma.is_masked(values):
        raise DataError(f"{what} have masked entries; give {noun} without missing values")
    try:
        array = np.asarray(values)
        # torch takes over arrays that are contiguous, writable and of native byte order.
        array = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
        return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} cannot be read as an array of numbers: {error}") from None


def _as_ids(ids: Any, node: str) -> Tensor | list[str]:
    if isinstance(ids, Tensor):
        return ids
    listed = np.asarray(ids).tolist() if isinstance(ids, np.ndarray) else list(ids)
    if all(isinstance(i, str) for i in listed):
        return [str(i) for i in listed]
    if all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i in listed):
        large = [int(i) for i in listed if not -(2**63) <= i < 2**63]
        if large:
            raise DataError(f"raw {node} id {large[0]} has more than 64 bits; give ids as str")
        return torch.tensor([int(i) for i in listed], dtype=torch.long)
    odd = next(i for i in listed if not isinstance(i, (int, np.integer)) or isinstance(i, bool))
    raise DataError(f"raw {node} ids must be all integers or all str; found {odd!r} among them")
