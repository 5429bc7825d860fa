"""Callbacks: the best epoch is kept, and training stops when it is long past or time is up."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.distributed.processes import largest_over_processes
from graphdiff.evaluation.ranking import rank
from graphdiff.files import write_text
from graphdiff.models.base import Recommender
from graphdiff.models.popularity import Popularity
from graphdiff.schema import ITEM
from graphdiff.training.module import RecommenderModule
from graphdiff.training.stopping import is_past


class KeepBest(Callback):
    """Keeper of the best validated epoch, in memory and optionally in a folder, which also stops
    training when it is past its best (:func:`~graphdiff.training.stopping.is_past`) or has used its
    time.

    Args:
        monitor: Name of the metric; higher is better.
        patience: Number of validations without improvement before training stops.
        min_steps: Minimum number of training steps of a curve that has not started.
        max_minutes: Minutes of training; None for no limit.
        folder: A RUN folder to save each new best model to.

    Attributes:
        out_of_time: Whether the time was used up before the training was past its best.
        popularity: The metric for a ranking by popularity (:func:`by_popularity`), computed when
            first needed.
    """

    def __init__(
        self,
        monitor: str,
        patience: int,
        min_steps: int,
        max_minutes: float | None = None,
        folder: Path | None = None,
    ) -> None:
        self.monitor, self.folder = monitor, folder
        self.patience, self.min_steps, self.max_minutes = patience, min_steps, max_minutes
        self.out_of_time = False
        self.popularity: float | None = None
        self.popularity_known = False
        self.best_epoch = 0
        self.best_value = float("-inf")
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop a resumed training that had already finished."""
        assert isinstance(module, RecommenderModule)
        # Between two validations an uninterrupted training goes on to the next one.
        if module.history and module.history[-1]["epoch"] == len(module.seconds):
            self._stop_at_end(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Keep the weights if they are better than any before."""
        if trainer.sanity_checking:
            return
        assert isinstance(module, RecommenderModule)
        row = module.history[-1]
        if row[self.monitor] > self.best_value:
            self.best_value, self.best_epoch = row[self.monitor], int(row["epoch"])
            self.weights = {
                name: p.detach().to("cpu", copy=True) for name, p in _learned(module.model)
            }
            if self.folder is not None:
                model = module.whole()
                if trainer.is_global_zero:
                    model.save_pretrained(self.folder)
        if self.folder is not None and trainer.is_global_zero:
            write_history(module.history, self.folder / "metrics.csv")
        self._stop_at_end(trainer, module)

    def _stop_at_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, RecommenderModule)
        # Not the trainer's own min_steps, which ends an epoch in its middle and does not take into
        # account what was found since.
        curve = [row[self.monitor] for row in module.history]
        patience = module.validations(self.patience)
        few_steps = trainer.global_step < self.min_steps
        if not self.popularity_known and few_steps and len(curve) > patience:
            self.popularity = by_popularity(module.data, self.monitor)
            self.popularity_known = True
        if curve and is_past(
            curve,
            len(module.seconds),
            trainer.global_step,
            patience,
            self.min_steps,
            self.popularity,
        ):
            trainer.should_stop = True
        elif curve and self.max_minutes is not None:
            spent = sum(module.seconds) >= 60 * self.max_minutes
            # Processes stop together.
            self.out_of_time = bool(largest_over_processes(spent, module.device))
            trainer.should_stop |= self.out_of_time

    def restore(self, model: Recommender) -> None:
        """Set the weights of ``model`` to those of the best epoch."""
        with torch.no_grad():
            for name, p in _learned(model):
                p.copy_(self.weights[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "weights": self.weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.best_epoch = state_dict["best_epoch"]
        self.best_value = state_dict["best_value"]
        self.weights = state_dict["weights"]


def by_popularity(data: HeteroData, metric: str) -> float | None:
    """Return a metric on validation pairs of a ranking by popularity.

    Returns:
        None where it is no bar for a model: the metric is not one of accuracy, or popular items are
        no better than a random list, as where all held-out items are cold.
    """
    name, length = metric.split("@")
    if name == "coverage":
        return None
    model = Popularity.from_data(data)
    model.solve()
    found = rank(model, data, "val").mean()
    by_chance = int(length) / data[ITEM].num_nodes
    return found[metric] if found[f"recall@{length}"] > by_chance else None


class Report(Callback):
    """Caller of a function with each new row of the history.

    Args:
        report: The function.
    """

    def __init__(self, report: Callable[[dict[str, float]], None]) -> None:
        self.report = report

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Report the row of the epoch that was validated."""
        assert isinstance(module, RecommenderModule)
        self.report(dict(module.history[-1]))


def write_history(history: list[dict[str, float]], path: Path) -> None:
    """Write one line per validated epoch as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]))
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


def _learned(model: Recommender) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that training changes: the state without the graph."""
    for name, tensor in model.state_dict().items():
        if not name.startswith("graph."):
            yield name, tensor
