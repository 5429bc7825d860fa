"""Progress of a training: a bar on a terminal, elsewhere one line per validation."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from graphdiff.console import print_status
from graphdiff.training.callbacks import KeepBest
from graphdiff.training.module import RecommenderModule

# Columns of a terminal that the text beside the bar takes.
TEXT_WIDTH = 78


class TrainingProgress(Callback):
    """Display of a training's progress on standard error: the epoch, the monitored metric with its
    best value so far, the validations without improvement that are left, and an upper bound of the
    time left.

    Epochs are counted from 1, as in ``metrics.csv`` and in :class:`FitResult`.

    Args:
        best: The keeper of the best epoch; it must come first among the callbacks.
        epochs: Maximum number of epochs.
    """

    def __init__(self, best: KeepBest, epochs: int) -> None:
        self.best, self.epochs = best, epochs
        self._bar: Progress | None = None
        self._first_epoch = 0
        self._start = 0.0
        self._room = 0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Show the bar, if there is a terminal."""
        self._first_epoch, self._start = trainer.current_epoch, time.perf_counter()
        console = Console(file=sys.stderr)
        if not console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar := max(4, min(30, console.width - TEXT_WIDTH))),
            TextColumn("{task.fields[status]}"),
            console=console,
            transient=True,
        )
        self._room = console.width - bar - len(f"epoch {self.epochs}/{self.epochs}") - 3
        steps = int(trainer.num_training_batches)
        self._bar.add_task(
            "",
            total=steps * self.epochs,
            completed=steps * trainer.current_epoch,
            epoch=min(trainer.current_epoch + 1, self.epochs),
            epochs=self.epochs,
            status="",
        )
        self._bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Advance the bar."""
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, advance=1, epoch=trainer.current_epoch + 1)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Show the metric of the validated epoch."""
        assert isinstance(module, RecommenderModule)
        status, row = self._status(module), module.history[-1]
        if self._bar is not None:
            # A narrow terminal shows what fits, from the left.
            while status and len(", ".join(status)) > self._room:
                status.pop()
            self._bar.update(self._bar.task_ids[0], status=", ".join(status))
        else:
            start = f"epoch {int(row['epoch'])}/{self.epochs}: loss {row['loss']:.4g}"
            print_status(", ".join([start, *status]))

    def _status(self, module: RecommenderModule) -> list[str]:
        best, history = self.best, module.history
        since = sum(row["epoch"] > best.best_epoch for row in history)
        left = max(module.validations(best.patience) - since, 0)
        done = len(module.seconds)
        trained = max(done - self._first_epoch, 1)
        seconds = (time.perf_counter() - self._start) / trained * (self.epochs - done)
        return [
            f"{best.monitor} {history[-1][best.monitor]:.4f} (best {best.best_value:.4f})",
            f"patience {left}",
            f"at most {clock(seconds)} left",
        ]

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Remove the bar."""
        self._stop()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, error: Any) -> None:
        """Remove the bar."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, ``1:05``, or with hours, ``2:01:05``.

    Example:
        >>> clock(65), clock(7265.4)
        ('1:05', '2:01:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
