"""A generated interaction log over time: tastes drift, and users and items keep arriving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from torch_geometric.data import HeteroData

from graphdiff.datasets.arguments import Integer, Number
from graphdiff.datasets.base import RecDataset, TimedLog
from graphdiff.datasets.interactions import Interactions
from graphdiff.datasets.item_features import FeatureTable
from graphdiff.datasets.layouts.frame import log_to_data
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.datasets.published.synthetic_truth import (
    Items,
    Users,
    log_preference,
    make_features,
    make_items,
    make_users,
)
from graphdiff.errors import ConfigError

DAY = 86_400  # seconds
# Shares of the users and the items that are there on the first day; the others arrive later.
USERS_AT_FIRST, ITEMS_AT_FIRST = 0.6, 0.5
# A new item is chosen more often by this log-odds, which fades with its age in days.
NOVELTY, FADING = 1.5, 7.0
# Smallest, exponent and largest of the Pareto law of how many items a user chooses in all.
LEAST, TAIL, MOST = 10.0, 1.4, 120
SMALLEST = {"seed": 0, "num_users": 1, "num_items": 20, "num_days": 5}


class SyntheticDrift(RecDataset):
    r"""An interaction log of some weeks, generated from a seed, in which everything moves.

    Items, features and choices are those of :class:`~graphdiff.datasets.SyntheticMultimedia`, with
    these differences:

    * Tastes drift: on the last day a share ``drift`` of each taste is that of another user, and it
      grows evenly from the first day on.
    * 60 % of the users and half of the items are there on the first day; the others arrive on days
      drawn at random. A new item is chosen more often at first.
    * Each interaction has a time, in seconds from the first day on, and none is noise.

    The graph is split 80 %, 10 %, 10 %. With times, the data is for comparing models that are
    retrained, updated and left unchanged, ``graphdiff backtest --dataset synthetic-drift``, and
    splits, ``benchmarks/global_time.py``.

    Args:
        seed: Seed of everything random (default: 0).
        num_users: U (default: 1500).
        num_items: I, at least 20 (default: 1000).
        num_days: Days, at least 5 (default: 60).
        drift: Share of a taste that is replaced by the last day, from 0 to 1 (default: 0.8).
        split: ``"global_time"`` splits all interactions at two points in time, ``"ratio"`` those of
            each user at random (default: ``"global_time"``).
        root: Folder to store the graph in (default: none, nothing is written).
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once (default: none).
        force_reload: Generate the graph even if it is stored.

    Raises:
        ConfigError: If an argument is out of range.
    """

    name: ClassVar[str] = "synthetic-drift"

    needs_root: ClassVar[bool] = False

    def __init__(
        self,
        seed: Integer = 0,
        num_users: Integer = 1500,
        num_items: Integer = 1000,
        num_days: Integer = 60,
        drift: Number = 0.8,
        split: Literal["global_time", "ratio"] = "global_time",
        root: str | Path | None = None,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        self.seed, self.num_users, self.num_items = seed, num_users, num_items
        self.num_days, self.drift, self.split = num_days, drift, split
        for name, least in SMALLEST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least {least}")
        if not 0 <= drift <= 1:
            raise ConfigError(f"drift is {drift}; give a share from 0 to 1")
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def parameters(self) -> dict[str, Any]:
        """Arguments that the graph depends on."""
        return {name: getattr(self, name) for name in (*SMALLEST, "drift", "split")}

    def read(self) -> HeteroData:
        """Generate the log and split it."""
        log, features = self.read_log()
        settings = LogSettings.of(split=self.split)
        return log_to_data(
            log, settings, features, log.user_ids, log.item_ids, unnamed=["user", "item"]
        )

    def read_log(self) -> TimedLog:
        """Generate the log; users and items are numbered."""
        rng = np.random.default_rng(self.seed)
        items, _ = make_items(rng, self.num_items)
        first, last = (make_users(rng, self.num_users, items) for _ in range(2))
        joins = _arrivals(rng, self.num_users, USERS_AT_FIRST, self.num_days)
        release = _arrivals(rng, self.num_items, ITEMS_AT_FIRST, self.num_days)
        features = make_features(rng, items)
        pareto = LEAST * rng.random(self.num_users) ** (-1 / TAIL)
        rate = np.minimum(pareto, min(MOST, self.num_items // 4)) / self.num_days
        taken = np.zeros((self.num_users, self.num_items), dtype=bool)
        parts = []
        for day in range(self.num_days):
            count = rng.poisson(rate) * (joins <= day)
            user = np.flatnonzero(count)
            share = self.drift * day / (self.num_days - 1)
            taste = (1 - share) * first.taste[user] + share * last.taste[user]
            taste /= np.linalg.norm(taste, axis=-1, keepdims=True)
            novelty = NOVELTY * np.exp((release - day) / FADING)
            there = Items(items.latent, items.popularity + novelty)
            preference = log_preference(Users(taste, first.leaning[user]), there)
            preference[taken[user] | (release > day)] = -np.inf
            row, item = _draw(rng, preference, count[user])
            taken[user[row], item] = True
            time = day * DAY + rng.integers(DAY, size=len(row))
            parts.append(np.stack([user[row], item, time]))
        user, item, time = np.concatenate(parts, axis=1)
        order = np.argsort(time, kind="stable")
        log = Interactions(
            user[order].astype(np.int32),
            item[order].astype(np.int32),
            pa.array(np.arange(self.num_users)),
            pa.array(np.arange(self.num_items)),
            time[order],
        )
        ids = log.item_ids
        return TimedLog(
            log, {name: FeatureTable(ids, x.astype(np.float32)) for name, x in features.items()}
        )


def _arrivals(rng: np.random.Generator, num: int, at_first: float, num_days: int) -> np.ndarray:
    """Return the day on which each of ``num`` users or items arrives, ``[num]``."""
    return np.where(rng.random(num) < at_first, 0, rng.integers(num_days, size=num))


def _draw(
    rng: np.random.Generator, preference: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``count`` items for each row of log-probabilities, without replacement.

    Returns:
        Row and item of each.
    """
    noisy = preference + rng.gumbel(size=preference.shape)
    order = np.argsort(-noisy, axis=1)[:, : count.max(initial=1)]
    possible = np.isfinite(np.take_along_axis(noisy, order, axis=1))
    row, column = np.nonzero((np.arange(order.shape[1]) < count[:, None]) & possible)
    return row, order[row, column]
