"""A log divided by users into parts that fit into memory, filtered and split part by part.

Each part has all rows of some consecutive users, in the order of the log. Whatever concerns one
user or one pair (repeats, splits of a user's interactions) is a matter of one part, and is computed
by the same functions as for a log in memory. What concerns all (degrees, points in time) is counted
over the parts.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.datasets.mapped.columns import ROWS, Column
from graphdiff.datasets.mapped.order import ordered_at
from graphdiff.datasets.mapped.scan import Log
from graphdiff.datasets.splits import (
    by_ratio,
    leave_one_out,
    repeated_rows,
    split_points,
)
from graphdiff.errors import DataError

#: Rows of a part: sorting them takes about 0.5 GiB.
PART_ROWS = 2**23


class Part(NamedTuple):
    """Rows of consecutive users.

    Attributes:
        first_user: Number of the first user.
        row: Row of the log, ascending, int64 ``[n]``.
        user: Number of the user, int32 ``[n]``.
        item: Number of the item, int32 ``[n]``.
    """

    first_user: int
    row: np.ndarray
    user: np.ndarray
    item: np.ndarray

    def select(self, keep: np.ndarray) -> Part:
        """Return the rows that a bool ``[n]`` picks."""
        return Part(self.first_user, self.row[keep], self.user[keep], self.item[keep])


class Parts:
    """The parts of a log, in files, with the rows that are kept.

    Args:
        log: The log, whose columns of users and items are deleted once they are divided.
        place: A folder for the files.
    """

    def __init__(self, log: Log, place: Path) -> None:
        self.log = log
        self.num_rows = len(log.user)
        num_users = len(log.user_ids)
        count = np.zeros(num_users, dtype=np.int64)
        for user in log.user.blocks():
            count += np.bincount(user, minlength=num_users)
        # Part n has the users whose first row is in the n-th piece of rows grouped by user.
        piece = (np.cumsum(count) - count) // PART_ROWS
        self.first_user = np.searchsorted(piece, np.unique(piece))
        self.num_users = np.diff(self.first_user, append=num_users)
        num = len(self.first_user)
        kinds = {"row": np.int64, "user": np.int32, "item": np.int32}
        self.columns = [
            {name: Column(place / f"{name}_{part}", kind) for name, kind in kinds.items()}
            for part in range(num)
        ]
        self._divide()
        self.keep: list[np.ndarray] = [
            np.ones(len(columns["row"]), dtype=bool) for columns in self.columns
        ]

    def _divide(self) -> None:
        start = 0
        for user, item in zip(self.log.user.blocks(), self.log.item.blocks(), strict=True):
            part = np.searchsorted(self.first_user, user, side="right") - 1
            order = np.argsort(part, kind="stable")
            bounds = np.searchsorted(part[order], np.arange(len(self.columns) + 1))
            row = np.arange(start, start + len(user))
            for columns, first, last in zip(self.columns, bounds[:-1], bounds[1:], strict=True):
                rows = order[first:last]
                columns["row"].append(row[rows])
                columns["user"].append(user[rows])
                columns["item"].append(item[rows])
            start += len(user)
        for columns in self.columns:
            for column in columns.values():
                column.close()
        self.log.user.remove()
        self.log.item.remove()

    def __iter__(self) -> Iterator[Part]:
        """Yield the parts with the rows that are kept."""
        for part in range(len(self.columns)):
            yield self[part]

    def __getitem__(self, part: int) -> Part:
        columns = {name: column.read() for name, column in self.columns[part].items()}
        return Part(int(self.first_user[part]), **columns).select(self.keep[part])

    def drop_repeats(self, keep: str) -> None:
        """Keep one row of each pair; see :func:`graphdiff.datasets.interactions.drop_repeats`."""
        by = self.log.label if self.log.label is not None else self.log.time
        left_out = 0
        for n, part in enumerate(self):
            key = part.user.astype(np.int64) * len(self.log.item_ids) + part.item
            rows, chosen = repeated_rows(key, keep, partial(_order, by, part.row))
            left_out += len(rows) - len(chosen)
            self.keep[n][rows] = False
            self.keep[n][chosen] = True
        if left_out and keep == "error":
            raise DataError(
                f"{left_out} rows repeat a pair of user and item; keep the first or the last of "
                "each with duplicates=first or duplicates=last"
            )
        if left_out:
            warnings.warn(
                f"{left_out} rows that repeat a pair of user and item were left out; the {keep} "
                "one counts",
                stacklevel=3,
            )

    def k_core(self, k: int) -> None:
        """Leave out users and items with fewer than ``k`` interactions, until all have ``k``.

        Raises:
            DataError: If nothing is left.
        """
        num_items, before = len(self.log.item_ids), -1
        enough = sum(np.bincount(part.item, minlength=num_items) for part in self) >= k
        while before != (before := self.num_kept):
            degree = np.zeros(num_items, dtype=np.int64)
            for n, columns in enumerate(self.columns):
                user, item = columns["user"].read() - self.first_user[n], columns["item"].read()
                keep = self.keep[n]
                keep &= enough[item]
                keep &= (np.bincount(user[keep], minlength=self.num_users[n]) >= k)[user]
                degree += np.bincount(item[keep], minlength=num_items)
            enough = degree >= k
        if before == 0:
            raise DataError(f"nothing is left of the log at k_core={k}")

    @property
    def num_kept(self) -> int:
        """Number of rows that are kept."""
        return sum(int(keep.sum()) for keep in self.keep)

    def used(self) -> dict[str, np.ndarray]:
        """Return which users and which items have a row, bool ``[U]`` and ``[I]``."""
        users = np.zeros(len(self.log.user_ids), dtype=bool)
        items = np.zeros(len(self.log.item_ids), dtype=bool)
        for part in self:
            users[part.user], items[part.item] = True, True
        return {"user": users, "item": items}

    def labels(self, settings: LogSettings, place: Path) -> Iterator[np.ndarray]:
        """Yield the split of each kept row, int8 ``[n]``, part by part; see
        :meth:`LogSettings.labels`.

        Raises:
            DataError: If the log lacks the column that the split needs.
        """
        time, label = self.log.time, self.log.label
        kind = settings.split_kind(label is not None, time is not None)
        by_time = settings.by == "time"
        if kind == "column":
            assert label is not None
            for part in self:
                yield label.at(part.row)
            return
        if kind == "global_time":
            assert time is not None
            points = split_points(settings.ratios, self.num_kept)
            cuts = ordered_at(lambda: (time.at(part.row) for part in self), points)
            yield from self._by_time(time, cuts)
            return
        key = time if by_time else self._random(settings.seed, place / "key")
        assert key is not None
        for part in self:
            user, own = part.user - part.first_user, key.at(part.row)
            if kind == "ratio":
                yield by_ratio(user, own, settings.ratios)
            else:
                yield leave_one_out(user, own)

    def _by_time(self, time: Column, cuts: np.ndarray) -> Iterator[np.ndarray]:
        some = False
        for part in self:
            own = time.at(part.row)
            label = sum((own >= cut).astype(np.int8) for cut in cuts) + np.zeros(len(own), np.int8)
            some = some or bool((label == 0).any())
            yield label
        if not some:
            raise DataError(
                "the interactions have too few different times to be split by time; use another "
                "split"
            )

    def _random(self, seed: int, path: Path) -> Column:
        """Return a column of random numbers of the kept rows, drawn in the order of the log."""
        kept = np.zeros(self.num_rows, dtype=bool)
        for part in self:
            kept[part.row] = True
        column, generator = Column(path, np.float64), np.random.default_rng(seed)
        for start in range(0, self.num_rows, ROWS):
            there = kept[start : start + ROWS]
            values = np.zeros(len(there))
            values[there] = generator.random(int(there.sum()))
            column.append(values)
        return column


def _order(by: Column | None, row: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return what rows of a part are ordered by: a column of the log, or their place in it."""
    return row[rows] if by is None else by.at(row[rows])
