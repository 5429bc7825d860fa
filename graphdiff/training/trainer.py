"""Training of a model by gradient, with Lightning."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader
from torch_geometric.data import HeteroData

from graphdiff.distributed.processes import is_main
from graphdiff.errors import ConfigError, Interrupted, TrainingError
from graphdiff.files import make_folder, remove_parts
from graphdiff.models.base import Recommender
from graphdiff.training.batches import make_loader
from graphdiff.training.callbacks import KeepBest, Report
from graphdiff.training.checkpoints import KeepLast, checkpoint_of
from graphdiff.training.config import TrainingConfig
from graphdiff.training.interrupts import StopRequest
from graphdiff.training.module import RecommenderModule, Stopped
from graphdiff.training.progress import TrainingProgress
from graphdiff.training.result import FitResult
from graphdiff.training.sharding import ShardedModule, check_sharding
from graphdiff.training.sharing import check_processes, process_arguments, report_sharing


class GradientTrainer:
    """Training of a model by gradient; making it checks all that a run needs.

    Args:
        model: The model, trained in place.
        data: The graph with the validation pairs.
        config: Settings of the training.
        folder: A RUN folder, or None.
        progress: Show the progress on standard error.
        report: Called with each row of the history, or None.
    """

    def __init__(
        self,
        model: Recommender,
        data: HeteroData,
        config: TrainingConfig,
        folder: Path | None,
        progress: bool,
        report: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.model, self.data, self.config, self.folder = model, data, config, folder
        check_sharding(model, config)
        self.best = KeepBest(
            config.monitor, config.patience, config.min_steps, config.max_minutes, folder
        )
        callbacks: list[Callback] = [self.best]
        if report is not None and is_main():
            callbacks.append(Report(report))
        if folder is not None:
            callbacks.append(KeepLast(checkpoint_of(folder)))
        if progress and is_main():
            callbacks.append(TrainingProgress(self.best, config.epochs))
            report_sharing(model, config)
        self.lightning = lightning_trainer(config, callbacks)

    def run(self, checkpoint: Path | None, resume: bool) -> FitResult:
        """Train, from the checkpoint if ``resume`` is set; see :func:`fit`."""
        if self.folder is not None and checkpoint is not None and is_main():
            make_folder(self.folder)
            for one in (self.folder, checkpoint.parent):
                remove_parts(one)
            if not resume:
                # A later resume must not find the checkpoint of another training.
                checkpoint.unlink(missing_ok=True)
        with _quiet(), StopRequest() as stop:
            by_cost, threads = self.config.eval_every is None, torch.get_num_threads()
            make = ShardedModule if self.config.shard_items else RecommenderModule
            module = make(self.model, self.data, self.config.seed, stop, by_cost)
            try:
                self.lightning.fit(
                    module,
                    make_loader(module.batches),
                    DataLoader([0]),  # type: ignore[arg-type]
                    ckpt_path=checkpoint if resume else None,
                    weights_only=True,
                )
            except TrainingError:
                if self.best.weights:
                    self.best.restore(module.model)
                raise
            except (Stopped, SystemExit):  # Lightning turns a KeyboardInterrupt into the latter.
                if stop.signal is None:
                    raise
            finally:
                torch.set_num_threads(threads)
            if stop.signal is not None:
                kept = _describe_kept(len(module.seconds), self.folder)
                raise Interrupted(kept, stop.signal)
        return self._result(module)

    def _result(self, module: RecommenderModule) -> FitResult:
        if not module.history:
            raise ConfigError(
                f"no epoch was validated: the checkpoint has {len(module.seconds)} epochs, and "
                f"epochs={self.config.epochs} leaves none to validate; give more epochs"
            )
        # Lightning leaves the model in main memory, whatever device it was trained on.
        module.model.to(self.lightning.strategy.root_device)
        self.best.restore(module.model)
        module.whole().eval()
        (row,) = (row for row in module.history if row["epoch"] == self.best.best_epoch)
        return FitResult(
            epochs=len(module.seconds),
            best_epoch=self.best.best_epoch,
            val={name: value for name, value in row.items() if "@" in name},
            train_seconds=sum(module.seconds),
            seconds_per_epoch=torch.tensor(module.seconds).median().item(),
            out_of_time=self.best.out_of_time,
            history=module.history,
        )


def lightning_trainer(config: TrainingConfig, callbacks: Sequence[Callback] = ()) -> L.Trainer:
    """Return Lightning's trainer.

    Raises:
        ConfigError: If the machine lacks the accelerator.
    """
    accelerator, precision = config.accelerator, config.precision
    check_processes(config)
    try:
        with _quiet():
            return L.Trainer(
                accelerator=accelerator,
                **process_arguments(config),
                precision=precision,
                max_epochs=config.epochs,
                check_val_every_n_epoch=config.eval_every or 1,
                num_sanity_val_steps=0,
                callbacks=list(callbacks),
                logger=False,
                enable_checkpointing=any(isinstance(one, KeepLast) for one in callbacks),
                enable_progress_bar=False,
                enable_model_summary=False,
            )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"cannot train with accelerator={accelerator!r} and precision={precision!r}: {error}"
        ) from None


def _describe_kept(epoch: int, folder: Path | None) -> str:
    if folder is None:
        return f"stopped after epoch {epoch}; nothing was saved, since no folder was given"
    return f"stopped after epoch {epoch}, which {folder} holds complete"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of Lightning and PyTorch that do not apply, during one training."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Batches are slices of an index tensor: there is nothing for workers to do.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            # The new name is not known to earlier versions of PyTorch.
            warnings.filterwarnings("ignore", ".*broadcast_buffers.*deprecated.*")
            # Sums over processes are computed before they are logged.
            warnings.filterwarnings("ignore", ".*sync_dist=True.*")
            warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\).*")
            warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists.*")
            warnings.filterwarnings("ignore", ".*Sparse CSR tensor support is in beta.*")
            warnings.filterwarnings("ignore", ".*Sparse invariant checks are implicitly.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
