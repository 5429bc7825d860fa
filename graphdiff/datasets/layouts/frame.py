"""Graphs from interaction logs, in a DataFrame or read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch_geometric.data import HeteroData

from graphdiff.datasets.ids import as_ids, column_of
from graphdiff.datasets.interactions import Interactions
from graphdiff.datasets.io.tables import refuse_repeated
from graphdiff.datasets.item_details import DetailTable, aligned_details, detail_table
from graphdiff.datasets.item_features import FeatureTable, align, refuse_misnumbered
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.datasets.splits import TEST, TRAINING, VALIDATION
from graphdiff.errors import DataError
from graphdiff.schema import build_data, checked_features


def from_frame(
    frame: Any,
    features: Mapping[str, Any] | None = None,
    users: Any = None,
    items: Any = None,
    details: Any = None,
    **settings: Any,
) -> HeteroData:
    """Make a graph of an interaction log in a DataFrame.

    Args:
        frame: A pandas or polars DataFrame, a pyarrow Table, or a mapping of columns: one row per
            interaction, with the columns ``user`` and ``item`` and, if there are, ``timestamp``,
            ``rating``, ``split``.
        features: Per modality, ``(ids, values)``: item ids ``[N]`` and N rows of numbers
            ``[N, F]``, in any order and for any items: an array, a tensor, a scipy sparse matrix or
            lists (default: none).
        users: All user ids in the order of their indices (default: those in the log, sorted).
        items: All item ids, likewise.
        details: Titles, categories and image addresses for display: a frame with the column
            ``item`` and any of ``title``, ``category`` and ``image``, for any items in any order
            (default: none).
        **settings: Names of columns, filters and split; see :class:`LogSettings`.

    Returns:
        A graph that fits the schema, with the times of the training interactions if the log has
        times.

    Raises:
        DataError: If the data does not fit.
        ConfigError: If a setting does not exist or is out of range.
    """
    chosen = LogSettings.of(**settings)
    all_users, all_items = (
        None if ids is None else as_ids(column_of(ids, node), node)
        for node, ids in (("user", users), ("item", items))
    )
    tables = {name: feature_table(name, given) for name, given in (features or {}).items()}
    log = frame_to_log(frame, chosen, all_users, all_items)
    shown = frame_details(details, chosen) if details is not None else None
    if details is None and chosen.required_details:
        name = chosen.required_details[0]
        raise DataError(
            f"{name}={chosen.details[name]} names a column of details, and there are none; give "
            "them as details=FRAME"
        )
    return log_to_data(log, chosen, tables, all_users, all_items, details=shown)


def frame_to_log(
    frame: Any,
    settings: LogSettings,
    users: pa.Array | None = None,
    items: pa.Array | None = None,
) -> Interactions:
    """Read an interaction log in a DataFrame.

    Args:
        frame: As for :func:`from_frame`.
        settings: Names of columns, and which of the optional ones are used.
        users: All user ids in the order of their indices (default: those in the log, sorted).
        items: All item ids, likewise.

    Raises:
        DataError: If the frame is no table, lacks users or items, or holds something else.
    """
    columns, names = _columns(frame)
    roles = settings.roles_among(names, "the frame")
    refuse_repeated(names, roles.values(), "the frame")
    read = {role: column_of(columns[name], role) for role, name in roles.items()}
    if len({len(column) for column in read.values()}) > 1:
        sizes = ", ".join(f"{role}: {len(column)}" for role, column in read.items())
        raise DataError(f"the columns differ in length ({sizes}); give one entry per interaction")
    used = settings.used_roles(roles)
    return Interactions.from_table(pa.table(read), users, items, used=used, called=roles)


def log_to_data(
    log: Interactions,
    settings: LogSettings,
    features: Mapping[str, FeatureTable] | None = None,
    users: pa.Array | None = None,
    items: pa.Array | None = None,
    unnamed: list[str] | None = None,
    details: DetailTable | None = None,
) -> HeteroData:
    """Filter and split a log and make a graph of it.

    Args:
        log: The log.
        settings: Filters and split.
        features: Features per modality (default: none).
        users: All user ids, so that those without interactions stay (default: those in the log);
            with a k-core, only those that are in it.
        items: All item ids, likewise.
        unnamed: ``'user'``, ``'item'``, both or none: those without raw ids.
        details: Titles, categories and image addresses of items (default: none).

    Raises:
        DataError: If the data does not fit.
    """
    for name, table in (features or {}).items():
        refuse_misnumbered(table, log.item_ids, name)
    log = settings.filtered(log)
    if users is None:
        log = log.without_unused_ids("user")
    if items is None:
        log = log.without_unused_ids("item")
    label = settings.labels(log)
    train, val, test = (
        np.stack([log.user[label == value], log.item[label == value]]).astype(np.int64)
        for value in (TRAINING, VALIDATION, TEST)
    )
    time = None if log.time is None else log.time[label == TRAINING]
    user_ids, item_ids = log.user_ids, log.item_ids
    del log, label
    aligned = {name: align(table, item_ids, name) for name, table in (features or {}).items()}
    raw = {
        f"{node}_ids": _raw(ids)
        for node, ids in (("user", user_ids), ("item", item_ids))
        if not (node in (unnamed or []) and ids.equals(pa.array(np.arange(len(ids)))))
    }
    shown = aligned_details(details, item_ids) if details is not None else None
    return build_data(
        len(user_ids),
        len(item_ids),
        train,
        val,
        test,
        aligned,
        **raw,
        details=shown,
        train_time=time,
    )


def frame_details(details: Any, settings: LogSettings | None = None) -> DetailTable:
    """Read titles, categories and image addresses in a DataFrame.

    Args:
        details: As for :func:`from_frame`.
        settings: Names of columns (default: those of :class:`LogSettings`).

    Raises:
        DataError: If the frame is no table, lacks items or any detail, or a detail is no text.
    """
    called = settings or LogSettings.of(split="ratio")
    columns, names = _columns(details)
    return detail_table(columns, names, called.item, called.details, called.required_details)


def _columns(frame: Any) -> tuple[Any, list[Any]]:
    """Return a mapping from names to columns, and the names."""
    if not isinstance(frame, (pd.DataFrame, pa.Table)) and hasattr(frame, "__arrow_c_stream__"):
        frame = pa.table(frame)  # Polars and others.
    if isinstance(frame, pa.Table):
        return frame, frame.column_names
    if isinstance(frame, Mapping):
        return frame, list(frame)
    if isinstance(frame, pd.DataFrame):
        return frame, list(frame.columns)
    raise DataError(
        f"the frame is of type {type(frame).__name__}; give a DataFrame, a pyarrow Table, or a "
        "mapping from names to columns"
    )


def feature_table(name: Any, given: Any) -> FeatureTable:
    """Check and convert the features of one modality, given as ``(ids, values)``.

    Raises:
        DataError: If they are not such a pair, or do not fit one another.
    """
    if not (isinstance(given, (tuple, list)) and len(given) == 2):
        raise DataError(
            f"the {name} features are of type {type(given).__name__}; give (ids, values): the item "
            "id of each row, and the rows"
        )
    ids = as_ids(column_of(given[0], "item"), "item")
    values = checked_features(
        given[1], name, len(ids), ids.to_pylist(), f"{len(ids)} item ids are given"
    )
    return FeatureTable(ids, values.cpu().numpy())


def _raw(ids: pa.Array) -> Any:
    """Return raw ids in the form of the schema: a long tensor, or a list of str."""
    if pa.types.is_integer(ids.type):
        return torch.from_numpy(ids.to_numpy(zero_copy_only=False).copy())
    return ids.to_pylist()
