"""A log divided by users into parts that fit into memory, filtered and split part by part.

Each part has all rows of some consecutive users, in the order of the log. Whatever concerns one
user or one pair (repeats, splits of a user's interactions) is a matter of one part, and is computed
by the same functions as for a log in memory. What concerns all (degrees, points in time) is counted
over the parts.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.datasets.mapped.columns import ROWS, Column
from graphdiff.datasets.mapped.folder import time_type
from graphdiff.datasets.mapped.order import ordered_at
from graphdiff.datasets.mapped.scan import Log
from graphdiff.datasets.splits import (
    by_ratio,
    cut_times,
    leave_one_out,
    repeated_rows,
)
from graphdiff.errors import DataError

#: Rows of a part: sorting them takes about 0.5 GiB.
PART_ROWS = 2**23


class Parts:
    """The parts of a log, in files, with the rows that are kept.

    Each part has the columns ``row`` (number of the row in the log, ascending, int64), ``user`` and
    ``item`` (int32), and ``time`` and ``label`` where the log has them.

    Args:
        log: The log, whose columns are deleted once they are divided.
        place: A folder for the files.

    Attributes:
        first_user: Number of the first user of each part.
        num_users: Number of users of each part.
        keep: Which rows of each part are kept.
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
        optional = {"time": log.time, "label": log.label}
        own = {"user": log.user, "item": log.item}
        own |= {name: column for name, column in optional.items() if column is not None}
        self._columns = [
            {name: Column(place / f"{name}_{part}", column.dtype) for name, column in own.items()}
            | {"row": Column(place / f"row_{part}", np.int64)}
            for part in range(len(self.first_user))
        ]
        self._divide(own)
        self.keep = [np.ones(len(columns["row"]), dtype=bool) for columns in self._columns]

    def _divide(self, own: dict[str, Column]) -> None:
        start = 0
        for values in zip(*(column.blocks() for column in own.values()), strict=True):
            block = dict(zip(own, values, strict=True))
            part = np.searchsorted(self.first_user, block["user"], side="right") - 1
            order = np.argsort(part, kind="stable")
            bounds = np.searchsorted(part[order], np.arange(len(self._columns) + 1))
            block["row"] = np.arange(start, start + len(order))
            for columns, first, last in zip(self._columns, bounds[:-1], bounds[1:], strict=True):
                for name, column in block.items():
                    columns[name].append(column[order[first:last]])
            start += len(order)
        for columns in self._columns:
            for column in columns.values():
                column.close()
        for column in own.values():
            column.remove()

    def __len__(self) -> int:
        return len(self._columns)

    def read(self, part: int, name: str) -> np.ndarray:
        """Return a column of the kept rows of a part, ``[n]``."""
        return self._columns[part][name].read()[self.keep[part]]

    def has(self, name: str) -> bool:
        """Return whether the log has a column."""
        return name in self._columns[0]

    def time_type(self) -> type[np.generic]:
        """Return the type to write times with: float64 where they are floats, or integers that do
        not fit into 64 bits with sign."""
        if self._columns[0]["time"].dtype.kind == "f":
            return np.float64
        bounds = [(int(one.min()), int(one.max())) for one in self._times() if one.size]
        low = min((low for low, _ in bounds), default=0)
        high = max((high for _, high in bounds), default=0)
        return np.float64 if high > np.iinfo(np.int64).max else time_type(low, high)

    def drop_repeats(self, keep: str) -> None:
        """Keep one row of each pair; see :func:`graphdiff.datasets.interactions.drop_repeats`."""
        by = next(name for name in ("label", "time", "row") if self.has(name))
        left_out = 0
        for n in range(len(self)):
            user, item = self.read(n, "user"), self.read(n, "item")
            key = user.astype(np.int64) * len(self.log.item_ids) + item
            rows, chosen = repeated_rows(key, keep, self.read(n, by).__getitem__)
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
        degree = np.zeros(num_items, dtype=np.int64)
        for n in range(len(self)):
            degree += np.bincount(self.read(n, "item"), minlength=num_items)
        while before != (before := self.num_kept):
            enough, degree = degree >= k, np.zeros_like(degree)
            for n in range(len(self)):
                self._keep_rows(n, enough[self.read(n, "item")])
                user = self.read(n, "user") - self.first_user[n]
                self._keep_rows(n, (np.bincount(user, minlength=self.num_users[n]) >= k)[user])
                degree += np.bincount(self.read(n, "item"), minlength=num_items)
        if before == 0:
            raise DataError(f"nothing is left of the log at k_core={k}")

    def _keep_rows(self, part: int, kept: np.ndarray) -> None:
        """Keep those of the kept rows that a bool ``[n]`` picks."""
        self.keep[part][self.keep[part]] = kept

    @property
    def num_kept(self) -> int:
        """Number of rows that are kept."""
        return sum(int(keep.sum()) for keep in self.keep)

    def used(self) -> dict[str, np.ndarray]:
        """Return which users and which items have a row, bool ``[U]`` and ``[I]``."""
        sizes = {"user": len(self.log.user_ids), "item": len(self.log.item_ids)}
        found = {node: np.zeros(size, dtype=bool) for node, size in sizes.items()}
        for n in range(len(self)):
            for node, there in found.items():
                there[self.read(n, node)] = True
        return found

    def labels(self, settings: LogSettings, place: Path) -> Iterator[np.ndarray]:
        """Yield the split of each kept row, int8 ``[n]``, part by part; see
        :meth:`LogSettings.labels`.

        Args:
            settings: The split.
            place: A folder for files.

        Raises:
            DataError: If the log lacks the column that the split needs.
        """
        kind = settings.split_kind(self.has("label"), self.has("time"))
        if kind == "column":
            yield from (self.read(n, "label") for n in range(len(self)))
        elif kind == "global_time":
            yield from self._by_time(settings)
        else:
            drawn = None if settings.by == "time" else self._random(settings.seed, place / "key")
            for n in range(len(self)):
                user = self.read(n, "user") - self.first_user[n]
                key = self.read(n, "time") if drawn is None else drawn.at(self.read(n, "row"))
                if kind == "ratio":
                    yield by_ratio(user, key, settings.ratios)
                else:
                    yield leave_one_out(user, key)

    def _by_time(self, settings: LogSettings) -> Iterator[np.ndarray]:
        cuts = cut_times(settings.ratios, self.num_kept, self._groups)
        for time in self._times():
            label = np.zeros(len(time), dtype=np.int8)
            for cut in cuts:
                label += time >= cut
            yield label

    def _times(self) -> Iterator[np.ndarray]:
        return (self.read(n, "time") for n in range(len(self)))

    def _groups(self, positions: Sequence[int]) -> dict[int, np.generic]:
        """Return the groups of equal times at some positions and those after them; see
        :func:`~graphdiff.datasets.splits.cut_times`."""
        own = ordered_at(self._times, positions)
        first, after = (np.zeros(len(own), dtype=np.int64) for _ in range(2))
        following: list[list[Any]] = [[] for _ in own]
        for time in self._times():
            for n, value in enumerate(own):
                later = time[time > value]
                first[n] += (time < value).sum()
                after[n] += len(time) - len(later)
                following[n] += [later.min()] if later.size else []
        found = dict(zip(first.tolist(), own, strict=True))
        pairs = zip(after.tolist(), following, strict=True)
        return found | {place: min(times) for place, times in pairs if times}

    def _random(self, seed: int, path: Path) -> Column:
        """Return a column of random numbers of the kept rows, drawn in the order of the log."""
        kept = np.zeros(self.num_rows, dtype=bool)
        for n in range(len(self)):
            kept[self.read(n, "row")] = True
        column, generator = Column(path, np.float64), np.random.default_rng(seed)
        for start in range(0, self.num_rows, ROWS):
            there = kept[start : start + ROWS]
            values = np.zeros(len(there))
            values[there] = generator.random(int(there.sum()))
            column.append(values)
        return column
