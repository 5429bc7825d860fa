"""Training: a Lightning module around any model, and :func:`fit`."""

from __future__ import annotations

import csv
import io
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError, Interrupted, RunError, TrainingError
from graphdiff.evaluation.ranking import evaluate
from graphdiff.files import make_folder, remove_parts, write_text
from graphdiff.models.base import ModelConfig, Recommender
from graphdiff.schema import INTERACTS, ITEM, fingerprint, validate
from graphdiff.training.checkpoints import KeepLast, WholeCheckpoints, checkpoint_of
from graphdiff.training.interrupts import StopRequest
from graphdiff.training.watches import FiniteWatch, describe_batch

# Steps between looks at the losses on devices where a look makes the device wait.
CHECK_EVERY = 64
GRAPH = "model.graph."
# Of those that evaluate() ranks by default.
LONGEST_LIST = 20


@dataclass
class FitResult:
    """What training did.

    Attributes:
        epochs: Epochs trained.
        best_epoch: The epoch (from 1) whose weights the model has now.
        val: Validation metrics at that epoch.
        train_seconds: Wall-clock seconds of all epochs, validation left out.
        seconds_per_epoch: Median seconds of an epoch, validation left out.
        history: One row per validated epoch: ``epoch``, ``loss`` (mean over the epoch's steps),
            ``seconds`` of its training, and the validation metrics.
    """

    epochs: int
    best_epoch: int
    val: dict[str, float]
    train_seconds: float
    seconds_per_epoch: float
    history: list[dict[str, float]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


class RecommenderModule(L.LightningModule):
    """Any :class:`~graphdiff.models.base.Recommender` as a Lightning module.

    Args:
        model: The model to train.
        data: Where validation pairs are read from.
        seed: Seed of the generator that all of the model's randomness comes from.
        stop: Asked after each batch whether to go on.
    """

    def __init__(self, model: Recommender, data: HeteroData, seed: int, stop: StopRequest) -> None:
        super().__init__()
        assert isinstance(model.config, ModelConfig)  # it says how to train by gradient
        self.config = model.config
        self.model = model
        self.data = data
        self.seed = seed
        self.stop = stop
        num = model.num_users if model.batch_over == "users" else model.graph.num_interactions
        self.batches = ShuffledBatches(num, model.config.batch_size, seed)
        self.history: list[dict[str, float]] = []
        self.generator: torch.Generator | None = None
        self.average: list[Tensor] = []
        self._generator_state: Tensor | None = None
        self._loss_sum = torch.zeros(())
        self._num_steps = 0
        self._watch = FiniteWatch(self.device)
        self._epoch_start = 0.0
        self.seconds: list[float] = []

    def on_fit_start(self) -> None:
        """Makes the generator on the device that training runs on."""
        self.generator = torch.Generator(self.device)
        if self._generator_state is None:
            self.generator.manual_seed(self.seed)
        else:
            self.generator.set_state(self._generator_state)
        if self.config.ema_decay and not self.average:
            self.average = [p.detach().clone() for p in self.model.parameters()]
        self.average = [average.to(self.device) for average in self.average]

    def configure_optimizers(self) -> Any:
        """Adam with the model's own learning rate, its decay, and weight decay, or those of its
        groups."""
        config = self.config
        # The fused kernel is not there for every device.
        fused = self.device.type in ("cpu", "cuda")
        optimizer = torch.optim.Adam(
            self.model.parameter_groups(),
            lr=config.lr,
            weight_decay=config.weight_decay,
            fused=fused,
        )
        if config.lr_decay == 1:
            return optimizer
        decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, config.lr_decay)
        return {"optimizer": optimizer, "lr_scheduler": decay}

    def on_train_epoch_start(self) -> None:
        """Lets the model prepare its epoch."""
        self._stop_if_asked()
        self._epoch_start = time.perf_counter()
        self._loss_sum = torch.zeros((), device=self.device)
        self._num_steps = 0
        self._watch = FiniteWatch(self.device)
        assert self.generator is not None
        self.model.start_epoch(self.generator)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """One step's loss."""
        assert self.generator is not None
        try:
            loss = self.model.loss(batch, self.generator)
        except RuntimeError:
            self._check_finite()  # Which tells more than what came of it.
            raise
        self._watch.loss(self._num_steps, loss)
        self._loss_sum += loss.detach()
        self._num_steps += 1
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Looks at the gradients before they get into the weights."""
        # A loss scaler makes them infinite at times, sees it and leaves the step out.
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            self._watch.gradients(self._num_steps - 1, self.model.parameters())
        # Elsewhere asking would make the device wait for every step.
        if self.device.type == "cpu" or self._num_steps % CHECK_EVERY == 0:
            self._check_finite()

    def _check_finite(self) -> None:
        found = self._watch.first()
        if found is None:
            return
        step, what = found
        self.batches.set_epoch(self.current_epoch)
        batches = list(self.batches)
        raise TrainingError(
            f"the {what} became no finite number in epoch {self.current_epoch + 1}, batch "
            f"{step + 1} of {len(batches)} ({describe_batch(self.model, batches[step])}); lower "
            f"the learning rate (now {self.config.lr:g}) and train anew"
        )

    def _stop_if_asked(self) -> None:
        if self.stop.signal is not None:
            raise _Stopped

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        """Averages the weights; at the end of an epoch, sums it up."""
        if self.average:
            # Early on the average follows faster, so that it forgets the first draw.
            step = self.trainer.global_step
            decay = min(self.config.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, list(self.model.parameters()), 1 - decay)
        if self._num_steps < self.trainer.num_training_batches:
            self._stop_if_asked()
            return
        self._check_finite()
        self.seconds.append(time.perf_counter() - self._epoch_start)
        self.log("loss", self._loss_sum.item() / self._num_steps, prog_bar=True)

    def on_validation_start(self) -> None:
        """Puts the averaged weights in, to be validated and, if they are best, kept."""
        self._swap_average()

    def on_validation_end(self) -> None:
        """Puts the weights in training back; callbacks have seen the averaged ones."""
        self._swap_average()

    @torch.no_grad()
    def _swap_average(self) -> None:
        # Lightning sets modes without calling train(), and fused optimizers change weights unseen.
        self.model.invalidate_tables()
        for p, average in zip(self.model.parameters(), self.average, strict=False):
            current = p.detach().clone()
            p.copy_(average)
            average.copy_(current)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Full ranking of all validation users; the batch only says that it is time."""
        metrics = evaluate(self.model, self.data, "val")
        loss = self._loss_sum.item() / max(self._num_steps, 1)
        self.history.append(
            {
                "epoch": self.current_epoch + 1,
                "loss": loss,
                "seconds": self.seconds[-1],
                **metrics,
            }
        )
        self.log_dict(metrics, batch_size=1)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a training to go on from another's checkpoint."""
        return {
            "model": type(self.model).__name__,
            "seed": self.seed,
            "data": fingerprint(self.data),
            **{f"setting {k}": v for k, v in self.config.model_dump(mode="json").items()},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps what a resumed run needs beside weights and optimizer; the graph is not needed."""
        assert self.generator is not None
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {n: t for n, t in state.items() if not n.startswith(GRAPH)}
        checkpoint["graphdiff"] = {
            "identity": self.identity,
            "generator": self.generator.get_state(),
            "history": self.history,
            "seconds": self.seconds,
            "average": self.average,
            "model": self.model.training_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it back.

        Raises:
            RunError: If it is another training's.
        """
        state = checkpoint["graphdiff"]
        for name, value in self.identity.items():
            found = state["identity"].get(name)
            if found != value:
                raise RunError(
                    f"the checkpoint is of another training: its {name} is {found}, here it is "
                    f"{value}; resume with what it was begun with, or train anew"
                )
        graph = {n: t for n, t in self.state_dict().items() if n.startswith(GRAPH)}
        checkpoint["state_dict"] |= graph
        self._generator_state = state["generator"].cpu()
        self.history, self.seconds = state["history"], state["seconds"]
        self.average = state["average"]
        self.model.load_training_state(state["model"])


class _Stopped(Exception):
    """Raised between two batches when a person asks to stop."""


class KeepBest(Callback):
    """Remembers the model of the best validated epoch, in memory and, if asked, in a folder, and
    ends the training when that epoch is long past.

    Args:
        monitor: Name of the metric; higher is better.
        patience: Validations without improvement before training stops.
        min_steps: Fewest training steps before it stops for want of patience.
        folder: A RUN folder to save each new best model to.
    """

    def __init__(
        self, monitor: str, patience: int, min_steps: int, folder: Path | None = None
    ) -> None:
        self.monitor, self.folder = monitor, folder
        self.patience, self.min_steps = patience, min_steps
        self.best_epoch = 0
        self.best_value = float("-inf")
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Keeps a resumed training that was over from going on."""
        self._stop_if_past(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Keeps the weights if they are better than any before."""
        if trainer.sanity_checking:
            return
        assert isinstance(module, RecommenderModule)
        row = module.history[-1]
        if self.monitor not in row:
            known = [name for name in row if "@" in name]
            raise ConfigError(f"no metric {self.monitor!r} to monitor; there are {known}")
        if row[self.monitor] > self.best_value:
            self.best_value, self.best_epoch = row[self.monitor], int(row["epoch"])
            self.weights = {
                name: p.detach().to("cpu", copy=True) for name, p in _learned(module.model)
            }
            if self.folder is not None:
                module.model.save_pretrained(self.folder)
        if self.folder is not None:
            _write_history(module.history, self.folder / "metrics.csv")
        self._stop_if_past(trainer, module)

    def _stop_if_past(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, RecommenderModule)
        since = sum(row["epoch"] > self.best_epoch for row in module.history)
        # Not the trainer's own min_steps: that would end an epoch in its middle, and go by what was
        # best back then.
        if since >= self.patience and trainer.global_step >= self.min_steps:
            trainer.should_stop = True

    def restore(self, model: Recommender) -> None:
        """Gives ``model`` the best epoch's weights."""
        with torch.no_grad():
            for name, p in _learned(model):
                p.copy_(self.weights[name])

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "weights": self.weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.best_epoch = state_dict["best_epoch"]
        self.best_value = state_dict["best_value"]
        self.weights = state_dict["weights"]


def _learned(model: Recommender) -> Iterator[tuple[str, Tensor]]:
    """Everything that training changes: the state without the graph."""
    for name, tensor in model.state_dict().items():
        if not name.startswith("graph."):
            yield name, tensor


def _write_history(history: list[dict[str, float]], path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]))
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


class ShuffledBatches(Sampler[Tensor]):
    """Batches of shuffled positions; the order is a function of seed and epoch alone, so that a
    resumed run sees what an uninterrupted one would have seen.

    Lightning calls :meth:`set_epoch`.
    """

    def __init__(self, num: int, batch_size: int, seed: int) -> None:
        self.num, self.batch_size, self.seed, self.epoch = num, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        yield from torch.randperm(self.num, generator=generator).split(self.batch_size)


def _loader(batches: ShuffledBatches) -> DataLoader:
    # With no batch size of its own the loader hands each batch of positions on as it is.
    return DataLoader(
        torch.arange(batches.num),  # type: ignore[arg-type]
        sampler=batches,
        batch_size=None,
    )


def fit(
    model: Recommender,
    data: HeteroData,
    *,
    epochs: int = 500,
    patience: int = 30,
    min_steps: int = 1500,
    eval_every: int = 1,
    monitor: str = "recall@20",
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    accelerator: str = "auto",
    precision: str = "32-true",
    progress: bool = True,
) -> FitResult:
    """Trains a model until validation no longer improves, and gives it its best weights back.

    A model that is not trained by gradient (its ``batch_over`` is ``"nothing"``) is solved at once,
    on the device it is on: that counts as one epoch, and the settings of epochs, patience,
    accelerator and precision mean nothing to it.

    Args:
        model: A model made from ``data``; trained in place.
        data: A graph that fits :mod:`graphdiff.schema`, with validation pairs.
        epochs: Most epochs to train.
        patience: Validations without improvement before training stops.
        min_steps: Training steps that patience waits for at least. Many models rank by popularity
            first, get no better for hundreds of steps, and only then learn what people like.
        eval_every: Epochs between validations.
        monitor: Validation metric that chooses the epoch, for example ``"recall@20"``.
        seed: Seeds the parameters, the batches' order and all noise. With the same seed on the
            same machine the result is the same.
        out: A RUN folder. The best model so far, the log ``metrics.csv`` and a checkpoint are
            kept there after each epoch.
        resume: Go on from the checkpoint in ``out``. A model that is solved at once has none and
            is solved anew, with the same result.
        accelerator: Lightning's name of the device kind; ``"auto"`` takes CUDA or MPS if there.
        precision: Lightning's precision, for example ``"bf16-mixed"``.
        progress: Show a progress bar.

    Returns:
        A :class:`FitResult`. The model is on the CPU or device it was trained on, in eval mode.

    Raises:
        DataError: If ``data`` does not fit the schema.
        ConfigError: If there is nothing to validate on, ``monitor`` is not a metric, or another
            argument is out of range.
        RunError: If ``resume`` is asked for and ``out`` has no checkpoint, a damaged one, or one of
            another training.
        TrainingError: If the loss or a gradient stops being a finite number. The model has its best
            weights so far, and ``out`` the last good checkpoint.
        StorageError: If ``out`` cannot be written to. What was there is still whole.
        Interrupted: After Ctrl-C or SIGTERM, at the end of the batch at hand. ``out`` has the last
            whole epoch; to resume from it gives what an uninterrupted training would have.
    """
    validate(data)
    _check_arguments(data, epochs, patience, min_steps, eval_every)
    folder = Path(out) if out is not None else None
    checkpoint = checkpoint_of(folder) if folder is not None else None
    solved = model.batch_over == "nothing"
    if resume and not solved and (checkpoint is None or not checkpoint.is_file()):
        raise RunError(f"nothing to resume: there is no checkpoint in {folder}")

    torch.manual_seed(seed)
    model.reset_parameters()
    if solved:
        return _solve(model, data, monitor, folder, progress)
    best = KeepBest(monitor, patience, min_steps, folder)
    callbacks: list[Callback] = [best]
    if folder is not None and checkpoint is not None:
        make_folder(folder)
        for one in (folder, checkpoint.parent):
            remove_parts(one)
        callbacks.append(KeepLast(checkpoint))
        if not resume:
            checkpoint.unlink(missing_ok=True)  # Nobody shall go on from another training's.
    if progress:
        callbacks.append(RichProgressBar(leave=False))
    with _quiet(), StopRequest() as stop:
        module = RecommenderModule(model, data, seed, stop)
        trainer = _trainer(accelerator, precision, epochs, eval_every, callbacks, progress)
        try:
            trainer.fit(
                module,
                _loader(module.batches),
                DataLoader([0]),  # type: ignore[arg-type]
                ckpt_path=checkpoint if resume else None,
                weights_only=True,
            )
        except TrainingError:
            if best.weights:
                best.restore(model)
            raise
        except (_Stopped, SystemExit):  # Lightning turns a KeyboardInterrupt into the latter.
            if stop.signal is None:
                raise
        if stop.signal is not None:
            raise Interrupted(_what_is_kept(len(module.seconds), folder), stop.signal)
    if not module.history:
        raise ConfigError(
            f"no epoch was validated: epochs={epochs} is less than eval_every={eval_every}"
        )
    best.restore(model)
    model.eval()
    return FitResult(
        epochs=len(module.seconds),
        best_epoch=best.best_epoch,
        val={k: v for k, v in _row(module.history, best.best_epoch).items() if "@" in k},
        train_seconds=sum(module.seconds),
        seconds_per_epoch=torch.tensor(module.seconds).median().item(),
        history=module.history,
    )


def _check_arguments(
    data: HeteroData, epochs: int, patience: int, min_steps: int, eval_every: int
) -> None:
    for name, value, least in (
        ("epochs", epochs, 1),
        ("patience", patience, 1),
        ("min_steps", min_steps, 0),
        ("eval_every", eval_every, 1),
    ):
        if value < least:
            raise ConfigError(f"{name} is {value}; give at least {least}")
    num_items = data[ITEM].num_nodes
    if num_items < LONGEST_LIST:
        raise ConfigError(
            f"the catalogue has {num_items} item{'s' * (num_items > 1)}, and training validates by "
            f"lists of {LONGEST_LIST}; with fewer items there is nothing to choose"
        )
    if data[INTERACTS].val_edge_label_index.numel() == 0:
        raise ConfigError(
            "fit needs validation pairs to choose the epoch by, and the data has none; "
            "set data['user', 'interacts', 'item'].val_edge_label_index"
        )


def _trainer(
    accelerator: str,
    precision: str,
    epochs: int,
    eval_every: int,
    callbacks: list[Callback],
    progress: bool,
) -> L.Trainer:
    try:
        return L.Trainer(
            accelerator=accelerator,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            max_epochs=epochs,
            check_val_every_n_epoch=eval_every,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            plugins=[WholeCheckpoints()],
            logger=False,
            enable_checkpointing=any(isinstance(one, KeepLast) for one in callbacks),
            enable_progress_bar=progress,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"cannot train with accelerator={accelerator!r} and precision={precision!r}: {error}"
        ) from None


def _what_is_kept(epoch: int, folder: Path | None) -> str:
    if folder is None:
        return f"stopped after epoch {epoch}; nothing was kept, as no folder was given"
    return f"stopped after epoch {epoch}, which {folder} holds whole"


def _solve(
    model: Recommender, data: HeteroData, monitor: str, folder: Path | None, progress: bool
) -> FitResult:
    """:func:`fit` for a model that is solved at once: one epoch, on the model's device."""
    start = time.perf_counter()
    if progress:
        told = f"Solving {type(model).__name__} for {model.num_items:,} items, in one step"
        Console(stderr=True, highlight=False).print(told)
    with torch.no_grad():
        model.solve()
    model.eval()
    model.invalidate_tables()
    seconds = time.perf_counter() - start
    val = evaluate(model, data, "val")
    if monitor not in val:
        raise ConfigError(f"no metric {monitor!r} to monitor; there are {list(val)}")
    history = [{"epoch": 1, "loss": 0.0, "seconds": seconds, **val}]
    if folder is not None:
        make_folder(folder)
        model.save_pretrained(folder)
        _write_history(history, folder / "metrics.csv")
    return FitResult(
        epochs=1,
        best_epoch=1,
        val=val,
        train_seconds=seconds,
        seconds_per_epoch=seconds,
        history=history,
    )


def _row(history: list[dict[str, float]], epoch: int) -> dict[str, float]:
    return next(row for row in history if row["epoch"] == epoch)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Lightning's advice that does not apply, for the time of one training."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Batches are slices of an index tensor: there is nothing for workers to do.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\).*")
            warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists.*")
            warnings.filterwarnings("ignore", ".*Sparse CSR tensor support is in beta.*")
            warnings.filterwarnings("ignore", ".*Sparse invariant checks are implicitly.*")
            yield
    finally:
        logger.setLevel(level)
