"""Models over time: at points in time, retrained, updated, or left as they were.

At each cut-off a model answers for the window up to the next one. Nothing later than a cut-off is
trained on (:func:`~graphdiff.datasets.splits.split_by_time`), and every model is given the users'
histories up to the cut-off, as a service gives them.

=============  =====================================================================================
``retrained``  trained from the start on everything before the cut-off
``updated``    trained once, before the first window, and updated at each cut-off since
``unchanged``  trained once, before the first window; knows the items of that time alone
=============  =====================================================================================

Training validates on the last interactions before its cut-off, and takes them in by an update
afterwards, where the model can be updated, so that the first two have learned from the same data.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff import datasets
from graphdiff.datasets.base import TimedLog
from graphdiff.datasets.layouts.frame import log_to_data
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.datasets.splits import LATER, TimeSplit, cutoff_times, split_by_time
from graphdiff.errors import ConfigError
from graphdiff.evaluation.ranking import rank
from graphdiff.experiments.machine import machine
from graphdiff.files import make_folder, write_text
from graphdiff.models.base import ModelConfig, Recommender
from graphdiff.models.registry import get_model
from graphdiff.schema import INTERACTS, ITEM, USER, raw_ids
from graphdiff.training.checkpoints import checkpoint_of
from graphdiff.training.config import TrainingConfig, training_config
from graphdiff.training.fit import fit
from graphdiff.training.update import saved_state

ARMS = ("retrained", "updated", "unchanged")
#: Share of the interactions before a cut-off that training validates on: the last ones.
VALIDATION_SHARE = 0.1
KS = (10, 20)


def backtest(
    dataset: str,
    model: str = "ld4mrec",
    *,
    root: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    cutoffs: int = 4,
    first: float = 0.5,
    update: Mapping[str, Any] | None = None,
    training: TrainingConfig | None = None,
    out: Path | None = None,
    report: Callable[[str], None] = print,
    **changes: Any,
) -> dict[str, Any]:
    """Compare a model retrained, updated and unchanged at points in time.

    Args:
        dataset: Name of a dataset that is a log with times.
        model: Name of the model. One that cannot be updated is only retrained or left unchanged.
        root: Folder of the dataset's files.
        options: Further arguments of the dataset's class.
        settings: Settings of the model. (default: its own)
        cutoffs: Number of cut-offs at which models are retrained and updated, at least 1. They
            follow the point in time before which the first training takes its interactions.
        first: Share of the log before that point.
        update: Settings of updates; see :class:`~graphdiff.training.update.UpdateConfig`.
        training: Settings of trainings.
        out: JSON file to write the result to.
        report: Called with a line on each model that was measured.
        **changes: Fields of :class:`~graphdiff.training.config.TrainingConfig`.

    Returns:
        The result as JSON values: for each cut-off the sizes of its window, and for each of
        :data:`ARMS` recall@k, NDCG@k, recall of items that are new in the window
        (``cold_recall@20``), and the seconds and steps of the training or update.

    Raises:
        ConfigError: If the dataset has no log with times, or a setting does not exist or fit.
        DataError: If the log has too few different times.
    """
    if cutoffs < 1:
        raise ConfigError(f"cutoffs is {cutoffs}; give at least 1")
    cls = get_model(model)
    cls.configure(**(settings or {}))
    config = training_config(training, changes)
    timed = datasets.load(dataset, root, **(options or {})).read_log()
    assert timed.log.time is not None
    points = [*cutoff_times(timed.log.time, cutoffs + 1, first).tolist(), None]
    result: dict[str, Any] = {
        "dataset": dataset,
        "options": dict(options or {}),
        "model": cls.__name__,
        "settings": dict(settings or {}),
        "update": dict(update or {}),
        "training": config.model_dump(mode="json"),
        "first": first,
        "machine": machine(),
        "cutoffs": [],
    }
    runner = _Runner(cls, dict(settings or {}), config, dict(update or {}), timed)
    runner.begin(points[0], points[1])
    for number, (before, cutoff, until) in enumerate(
        zip(points, points[1:-1], points[2:], strict=False), start=1
    ):
        row = runner.measure(before, cutoff, until)
        result["cutoffs"].append({"number": number, **row})
        for arm, figures in row["models"].items():
            report(
                f"cut-off {number} {arm}: recall@20 {figures['recall@20']:.4f}, "
                f"{figures['seconds']:.1f} s"
            )
    if out is not None:
        make_folder(out.parent)
        write_text(out, json.dumps(result, indent=1) + "\n")
    return result


class _Runner:
    """The models of a backtest, from one cut-off to the next."""

    def __init__(
        self,
        cls: type[Recommender],
        settings: dict[str, Any],
        training: TrainingConfig,
        update: dict[str, Any],
        timed: TimedLog,
    ) -> None:
        self.cls, self.settings, self.training, self.update = cls, settings, training, update
        log, self.features = timed
        assert log.time is not None
        # So that histories and updates are in the order of time, which models may use.
        self.log = log.select(np.argsort(log.time, kind="stable"))
        assert self.log.time is not None
        self.time = self.log.time

    def begin(self, cutoff: float, until: float) -> None:
        """Train the model that is updated or left unchanged."""
        self.unchanged, self.state, _ = self._train(cutoff, until)
        self.updated = copy.deepcopy(self.unchanged)

    def measure(self, before: float, cutoff: float, until: float | None) -> dict[str, Any]:
        """Train and update up to a cut-off, and measure all models on its window."""
        data, split = self._window(cutoff, until)
        retrained, _, cost = self._train(cutoff, until)
        models = {"retrained": (retrained, cost)}
        if self.cls.updatable:
            models["updated"] = self.updated, self._update(before, cutoff, until)
        models["unchanged"] = self.unchanged, {"seconds": 0.0, "steps": 0}
        cold = torch.bincount(data[INTERACTS].edge_index[1], minlength=data[ITEM].num_nodes) == 0
        return {
            "cutoff": cutoff,
            "training": data[INTERACTS].edge_index.size(1),
            "test": data[INTERACTS].test_edge_label_index.size(1),
            "new_users": split.new_users,
            "new_items": split.new_items,
            "of_new_users": split.of_new_users,
            "of_new_items": split.of_new_items,
            "models": {
                arm: {**_figures(one, data, cold), **paid} for arm, (one, paid) in models.items()
            },
        }

    def _train(
        self, cutoff: float, until: float | None
    ) -> tuple[Recommender, dict[str, Tensor], dict[str, Any]]:
        """Train on what precedes a cut-off; return model, optimizer's state, and cost."""
        earlier = np.sort(self.time[self.time < cutoff])
        start = earlier[round((1 - VALIDATION_SHARE) * len(earlier))].item()
        data, _ = self._window(cutoff, until, start)
        model = self.cls.from_data(data, **self.settings)
        with tempfile.TemporaryDirectory() as folder:
            fitted = fit(model, data, self.training, out=folder, progress=False)
            state = saved_state(checkpoint_of(Path(folder)), model)
        cost = {"seconds": fitted.train_seconds, "steps": fitted.epochs * _steps(model)}
        if self.cls.updatable:
            late = model.update(self._rows(start, cutoff), state=state, **self.update)
            state = late.state
            cost = {
                "seconds": cost["seconds"] + late.seconds,
                "steps": cost["steps"] + late.steps,
            }
        return model, state, cost

    def _update(self, before: float, cutoff: float, until: float | None) -> dict[str, Any]:
        """Update up to a cut-off, also with the items that appear until the next one."""
        known = self.log.item if until is None else self.log.item[self.time < until]
        there = pa.array(np.bincount(known, minlength=len(self.log.item_ids)) > 0)
        ids = set(self.log.item_ids.filter(there).to_pylist())
        features = {
            name: table._replace(ids=table.ids.filter(pa.array(mask)), values=table.values[mask])
            for name, table in self.features.items()
            for mask in (np.array([one in ids for one in table.ids.to_pylist()]),)
        }
        done = self.updated.update(
            self._rows(before, cutoff), features, state=self.state, **self.update
        )
        self.state = done.state
        return {"seconds": done.seconds, "steps": done.steps}

    def _rows(self, start: float, stop: float) -> pa.Table:
        chosen = self.log.select((self.time >= start) & (self.time < stop))
        return pa.table(
            {
                "user": self.log.user_ids.take(chosen.user),
                "item": self.log.item_ids.take(chosen.item),
            }
        )

    def _window(
        self, cutoff: float, until: float | None, validation_from: float | None = None
    ) -> tuple[HeteroData, TimeSplit]:
        """Return the graph with the window after a cut-off as its test pairs."""
        log = self.log
        split = split_by_time(
            log.user, log.item, self.time, cutoff, validation_from=validation_from, until=until
        )
        kept = split.label != LATER
        log = replace(log.select(kept), label=split.label[kept])
        return log_to_data(log, LogSettings.of(split="column"), self.features), split


class _ByHistory:
    """A model that answers for the users and items of a graph, by their raw ids.

    Args:
        model: The model, which may know other users and items.
        data: The graph, with the users' histories as training interactions, in the order of time.
    """

    def __init__(self, model: Recommender, data: HeteroData) -> None:
        self.model, self.num_items = model, int(data[ITEM].num_nodes)
        self.users = [str(one) for one in raw_ids(data, USER, range(data[USER].num_nodes))]
        known = model.catalogue.positions("item")
        ids = raw_ids(data, ITEM, range(self.num_items))
        self.to_model = torch.tensor([known.get(str(one), -1) for one in ids])
        self.to_data = torch.full((model.num_items + 1,), -1)
        there = (self.to_model >= 0).nonzero().flatten()
        self.to_data[self.to_model[there]] = there
        user, item = data[INTERACTS].edge_index
        self.histories: list[list[int]] = [[] for _ in self.users]
        for u, i in zip(user.tolist(), self.to_model[item].tolist(), strict=True):
            if i >= 0:
                self.histories[u].append(i)

    def recommend(self, user_index: Tensor, *, k: int, **options: Any) -> tuple[Tensor, Tensor]:
        """Return the top-k items of each user, as indices of the graph."""
        asked = user_index.tolist()
        allowed = self.to_data[:-1] >= 0
        num = min(k, self.model.num_items)
        if self.model.folds_in:
            histories = [self.histories[u] for u in asked]
            found = self.model.recommend(history_index=histories, k=num, candidate_index=allowed)
        else:
            found = self._by_id(asked, num, allowed)
        item, score = (one.cpu() for one in found)
        pad = torch.nn.functional.pad
        item, score = pad(item, (0, k - num), value=-1), pad(score, (0, k - num), value=-torch.inf)
        return self.to_data[item], score

    def _by_id(self, asked: list[int], k: int, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """Answer for users who were there in training; others get an empty list."""
        known = self.model.catalogue.positions("user")
        place = torch.tensor([known.get(self.users[u], -1) for u in asked])
        item = torch.full((len(asked), k), -1)
        score = torch.full((len(asked), k), -torch.inf)
        rows = (place >= 0).nonzero().flatten()
        if rows.numel():
            pairs = [
                (n, i) for n, row in enumerate(rows.tolist()) for i in self.histories[asked[row]]
            ]
            exclude = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(dim=1)
            item[rows], score[rows] = self.model.recommend(
                place[rows], k=k, exclude_index=exclude, candidate_index=allowed
            )
        return item, score


def _figures(model: Recommender, data: HeteroData, cold: Tensor) -> dict[str, float | None]:
    ranking = rank(_ByHistory(model, data), data, "test", KS)
    mean, of_cold = ranking.mean(), ranking.of_items(cold)
    found: dict[str, float | None] = {
        f"{name}@{k}": mean[f"{name}@{k}"] for k in KS for name in ("recall", "ndcg")
    }
    found["cold_recall@20"] = of_cold.mean()["recall@20"] if of_cold.user.numel() else None
    return found


def _steps(model: Recommender) -> int:
    """Return the training steps of an epoch."""
    if not isinstance(model.config, ModelConfig) or model.batch_over == "nothing":
        return 1
    num = model.num_users if model.batch_over == "users" else model.graph.num_interactions
    return -(-num // model.config.batch_size)
