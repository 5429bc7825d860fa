"""An interaction log as columns of integers, and the filters that precede its split.

Columnar: nothing here loops over rows, so that a log of 50 million rows can be read.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import pyarrow as pa

from graphdiff.datasets.columns import (
    read_labels,
    read_ratings,
    read_times,
    read_training_times,
)
from graphdiff.datasets.faults import Where
from graphdiff.datasets.ids import encode_ids, places, show
from graphdiff.datasets.splits import repeated_rows
from graphdiff.errors import DataError

#: Optional columns by role: the attribute, and the function that reads it.
ROLES: dict[str, tuple[str, Callable[[Any, Where], np.ndarray]]] = {
    "split": ("label", read_labels),
    "timestamp": ("time", read_times),
    "rating": ("rating", read_ratings),
}


@dataclass(frozen=True)
class Interactions:
    """An interaction log in columns, each with one entry per interaction.

    Attributes:
        user: Index into ``user_ids``, int32 ``[E]``.
        item: Index into ``item_ids``, int32 ``[E]``.
        user_ids: Raw ids, int64 or string ``[U]``.
        item_ids: Raw ids, int64 or string ``[I]``.
        time: Integers or floats ``[E]``, or None. Where the split is a column and times are not
            used, held-out rows may have none, and are 0.
        rating: float64 ``[E]``, or None.
        label: Split of each row, int8 ``[E]``, or None.
    """

    user: np.ndarray
    item: np.ndarray
    user_ids: pa.Array
    item_ids: pa.Array
    time: np.ndarray | None = None
    rating: np.ndarray | None = None
    label: np.ndarray | None = None

    def __len__(self) -> int:
        """The number of interactions."""
        return len(self.user)

    @classmethod
    def from_table(
        cls,
        table: pa.Table,
        users: pa.Array | None = None,
        items: pa.Array | None = None,
        text: bool = False,
        used: Collection[str] = ROLES,
        called: Mapping[str, str] | None = None,
    ) -> Self:
        """Make a log of a table with the columns ``user`` and ``item`` and, optionally,
        ``timestamp``, ``rating`` and ``split``.

        Args:
            table: The table.
            users: All user ids in the order of their indices (default: those in the table,
                sorted).
            items: All item ids, likewise.
            text: Whether the table came from a text file; see
                :func:`~graphdiff.datasets.ids.encode_ids`.
            used: Which of ``timestamp``, ``rating`` and ``split`` are used (default: all). Another
                one that cannot be read is left out, with a warning.
            called: What the file calls the column of each role, for messages (default: its role).

        Raises:
            DataError: If a column holds something else, or an id is not among those given.
        """
        columns: dict[str, Any] = {}
        places_of = {role: Where((called or {}).get(role, role)) for role in table.column_names}
        for node, known in (("user", users), ("item", items)):
            codes, ids = encode_ids(table[node], node, text, places_of[node])
            if known is not None:
                place = places(ids, known)
                if (place < 0).any():
                    raise DataError(
                        f"{int((place < 0).sum())} {node}s of the interactions are not in the list "
                        f"of all {node}s: {show(ids.filter(pa.array(place < 0)))}"
                    )
                codes, ids = place.astype(np.int32)[codes], known
            columns[node], columns[f"{node}_ids"] = codes, ids
        by_column = "split" in used and "split" in table.column_names
        for role, (column, read) in ROLES.items():
            if role in table.column_names:
                if role == "timestamp" and role not in used and by_column:
                    read = partial(read_training_times, label=columns["label"])
                try:
                    columns[column] = read(table[role], places_of[role])
                except DataError as error:
                    if role in used:
                        raise
                    warnings.warn(
                        f"the column of {role}s is ignored, because it is not used here and "
                        f"cannot be read: {error}",
                        stacklevel=2,
                    )
        return cls(**columns)

    def select(self, keep: np.ndarray) -> Self:
        """Return the rows that a bool ``[E]`` or an index ``[*]`` picks; the ids stay."""
        picked: dict[str, Any] = {
            name: None if column is None else column[keep]
            for name in ("user", "item", "time", "rating", "label")
            for column in (getattr(self, name),)
        }
        return replace(self, **picked)

    def without_unused_ids(self, node: str) -> Self:
        """Leave out the users or items that no row has, and renumber the others."""
        codes, ids = getattr(self, node), getattr(self, f"{node}_ids")
        used = np.bincount(codes, minlength=len(ids)) > 0
        if used.all():
            return self
        place = np.cumsum(used, dtype=np.int32) - 1
        return replace(self, **{node: place[codes], f"{node}_ids": ids.filter(pa.array(used))})


def keep_rated(log: Interactions, least: float) -> Interactions:
    """Leave out what is rated below ``least``, or not rated.

    Raises:
        DataError: If the log has no ratings, or none that high.
    """
    if log.rating is None:
        raise DataError(
            f"the log has no column of ratings, which min_rating={least:g} needs; say what it is "
            "called, such as rating=NAME"
        )
    return _not_empty(log.select(log.rating >= least), f"no interaction is rated {least} or above")


def drop_repeats(log: Interactions, keep: str) -> Interactions:
    """Keep one row of each pair of user and item, and warn of the number left out.

    Args:
        log: The log.
        keep: ``'first'`` or ``'last'``: by split if the log has one (training before validation
            before test), otherwise by time if it has times, otherwise by row; or ``'error'`` to
            refuse repeats.

    Raises:
        DataError: If there are repeats and ``keep`` is ``'error'``.
    """
    key = log.user.astype(np.int64) * len(log.item_ids) + log.item
    by = log.label if log.label is not None else log.time
    rows, chosen = repeated_rows(key, keep, lambda rows: rows if by is None else by[rows])
    if len(rows) == 0:
        return log
    left_out = len(rows) - len(chosen)
    if keep == "error":
        raise DataError(
            f"{left_out} rows repeat a pair of user and item; keep the first or the last of each "
            "with duplicates=first or duplicates=last"
        )
    warnings.warn(
        f"{left_out} rows that repeat a pair of user and item were left out; the {keep} one counts",
        stacklevel=2,
    )
    mask = np.ones(len(log), dtype=bool)
    mask[rows] = False
    mask[chosen] = True
    return log.select(mask)


def k_core(log: Interactions, k: int) -> Interactions:
    """Leave out users and items with fewer than ``k`` interactions, until all have ``k``.

    Users and items that are left out leave the ids as well.

    Raises:
        DataError: If nothing is left.
    """
    keep = np.ones(len(log), dtype=bool)
    before = -1
    while before != (before := int(keep.sum())):
        for codes, ids in ((log.user, log.user_ids), (log.item, log.item_ids)):
            keep &= np.bincount(codes[keep], minlength=len(ids))[codes] >= k
    log = _not_empty(log.select(keep), f"nothing is left of the log at k_core={k}")
    return log.without_unused_ids("user").without_unused_ids("item")


def _not_empty(log: Interactions, message: str) -> Interactions:
    if len(log) == 0:
        raise DataError(message)
    return log
