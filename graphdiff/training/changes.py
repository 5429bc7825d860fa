"""Changes of a model's users, items and interactions, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from graphdiff.datasets.ids import places
from graphdiff.datasets.item_details import DetailTable, aligned_details
from graphdiff.datasets.item_features import FeatureTable
from graphdiff.datasets.layouts.frame import feature_table, frame_details, frame_to_log
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.errors import DataError
from graphdiff.graph.changes import with_interactions, without_nodes
from graphdiff.models.changes import ChangeableModel


@dataclass(frozen=True)
class Additions:
    """Interactions to add to a model, in its numbering, with the users and items that it lacks.

    Attributes:
        user: User of each interaction, long ``[n]``, in the order of time where the interactions
            have times; new users follow the known ones.
        item: Item of each, likewise.
        user_ids: Raw ids of the new users, in the order of their indices.
        item_ids: Raw ids of the new items, likewise.
        features: Features of the new items per modality, float32 ``[len(item_ids), F_m]``; a row
            of NaN where an item lacks it.
        details: Their titles, categories and image addresses, each ``len(item_ids)`` texts.
    """

    user: Tensor
    item: Tensor
    user_ids: list[Any]
    item_ids: list[Any]
    features: dict[str, Tensor]
    details: dict[str, list[str]]


def read_additions(
    model: ChangeableModel,
    interactions: Any,
    features: Mapping[str, Any] | None = None,
    details: Any = None,
) -> Additions:
    """Read interactions, features and details that are to be added; arguments are those of
    :meth:`~graphdiff.models.changes.ChangeableModel.update`.

    Raises:
        DataError: If something does not fit the model.
    """
    if features is not None and not isinstance(features, Mapping):
        raise DataError(
            f"features are of type {type(features).__name__}; give a dictionary with (ids, values) "
            "of each modality"
        )
    log = frame_to_log(interactions, LogSettings.of(split="ratio"))
    tables = {
        name: given if isinstance(given, FeatureTable) else feature_table(name, given)
        for name, given in (features or {}).items()
    }
    _check_features(model, tables)
    users = _Numbering(model.catalogue.positions("user"))
    items = _Numbering(model.catalogue.positions("item"))
    user = users.places(log.user_ids)[log.user]
    item = items.places(log.item_ids)[log.item]
    for table in tables.values():
        items.places(table.ids)
    if log.time is not None:
        order = np.argsort(log.time, kind="stable")
        user, item = user[order], item[order]
    return Additions(
        torch.from_numpy(user).to(model.device),
        torch.from_numpy(item).to(model.device),
        users.new,
        items.new,
        {name: _rows(table, items.new) for name, table in tables.items()},
        _details(details, items.new),
    )


def add(model: ChangeableModel, new: Additions) -> Tensor:
    """Add users, items and interactions to a model's graph and catalogue, and return the user of
    each interaction that it did not know, long ``[m]``.

    In between, the model looks at the interactions, as at answers to what it has learned so far:
    :meth:`~graphdiff.models.changes.ChangeableModel.before_update`.
    """
    graph = model.graph
    if new.item_ids:
        num_neighbors = getattr(model.config, "num_neighbors", 10)
        graph = graph.with_items(new.features, len(new.item_ids), num_neighbors)
    num_users = model.num_users + len(new.user_ids)
    none = new.user[:0]
    model.adopt_graph(with_interactions(graph, none, none, num_users)[0])
    if new.user_ids:
        model.catalogue.grow_users(new.user_ids)
    if new.item_ids:
        model.catalogue.name_items()
        model.catalogue.grow(len(new.item_ids), new.item_ids, new.details)
    graph, added = with_interactions(model.graph, new.user, new.item, num_users)
    if added.size(1):
        model.before_update(added)
        model.adopt_graph(graph)
    return added[0]


def remove(model: ChangeableModel, users: Tensor, items: Tensor) -> Tensor:
    """Remove users and items from a model, and return those of the remaining users who shared an
    item with them, long ``[m]``.

    Args:
        model: The model; modified.
        users: Indices of the users to remove, long ``[n]``.
        items: Indices of the items to remove, long ``[n]``.

    Raises:
        DataError: If no interaction is left.
    """
    graph = model.graph
    keep_users = torch.ones(model.num_users, dtype=torch.bool, device=model.device)
    keep_items = torch.ones(model.num_items, dtype=torch.bool, device=model.device)
    keep_users[users], keep_items[items] = False, False
    shared = torch.zeros_like(keep_items)
    shared[graph.rows(users).item] = True
    shared |= ~keep_items
    near = torch.zeros_like(keep_users)
    near[graph.user[shared[graph.col]]] = True
    changed = without_nodes(graph, keep_users, keep_items)
    if changed.num_interactions == 0:
        raise DataError("no interaction would be left; train a new model on other data")
    model.adopt_graph(changed, keep_items)
    model.catalogue.keep(keep_users, keep_items)
    return near[keep_users].nonzero().flatten()


class _Numbering:
    """Indices of raw ids, where ids that are not known get the next free ones."""

    def __init__(self, known: Mapping[str, int]) -> None:
        self.index = dict(known)
        self.new: list[Any] = []

    def places(self, ids: Any) -> np.ndarray:
        found = np.empty(len(ids), dtype=np.int64)
        for n, one in enumerate(ids.to_pylist()):
            text = str(one)
            if text not in self.index:
                self.index[text] = len(self.index)
                self.new.append(one)
            found[n] = self.index[text]
        return found


def _check_features(model: ChangeableModel, tables: Mapping[str, FeatureTable]) -> None:
    graph = model.graph
    for name, table in tables.items():
        if name not in graph.modalities:
            raise DataError(
                f"features are of {name!r}; the model knows {', '.join(graph.modalities) or 'none'}"
            )
        width = graph.features(name)[0].size(1)
        if table.values.shape[1] != width:
            raise DataError(
                f"features of {name} are {list(table.values.shape)}; expected "
                f"[{len(table.ids)}, {width}]"
            )
        if len(table.ids.unique()) < len(table.ids):
            raise DataError(f"an item has more than one row of {name} features; give one each")


def _details(given: Any, item_ids: list[Any]) -> dict[str, list[str]]:
    """Return the details of items, as text; none if none are given."""
    if given is None:
        return {}
    table = given if isinstance(given, DetailTable) else frame_details(given)
    return aligned_details(table._replace(ids=table.ids.cast(pa.string())), _as_text(item_ids))


def _as_text(item_ids: list[Any]) -> pa.Array:
    return pa.array([str(one) for one in item_ids], pa.string())


def _rows(table: FeatureTable, item_ids: list[Any]) -> Tensor:
    """Return the rows of items, NaN where they have none."""
    place = places(_as_text(item_ids), table.ids.cast(pa.string()))
    rows = np.full((len(item_ids), table.values.shape[1]), np.nan, dtype=np.float32)
    rows[place >= 0] = table.values[place[place >= 0]]
    return torch.from_numpy(rows)
