"""A recommender as a Lightning module."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.distributed.processes import (
    in_group,
    largest_over_processes,
    num_processes,
    sum_over_processes,
)
from graphdiff.errors import RunError, TrainingError
from graphdiff.evaluation.ranking import RecommendsItems, rank
from graphdiff.models.base import ModelConfig, Recommender
from graphdiff.schema import INTERACTS, fingerprint
from graphdiff.seeds import torch_seed
from graphdiff.training.adam import adam
from graphdiff.training.batches import ShuffledBatches, describe_batch
from graphdiff.training.interrupts import StopRequest
from graphdiff.training.sharing import shared_loss, shared_ranking
from graphdiff.training.watches import FiniteWatch
from graphdiff.training.work import (
    PER_PARAMETER,
    PER_VALUE,
    CountWork,
    epochs_between_validations,
    suitable_threads,
)

# Steps between checks of the losses on devices that have to wait for a check.
CHECK_EVERY = 64
GRAPH = "model.graph."


class Stopped(Exception):
    """Raised between two batches after a stop request."""


class RecommenderModule(L.LightningModule):
    """Any :class:`~graphdiff.models.base.Recommender` as a Lightning module.

    Args:
        model: The model to train.
        data: The graph with the validation pairs.
        seed: Seed of the generator that provides all randomness of the model.
        stop: Checked after each batch.
        by_cost: Choose the epochs between validations by their cost; otherwise the trainer's.

    Attributes:
        history: One row per validated epoch; see :class:`~graphdiff.training.fit.FitResult`.
        seconds: Seconds of each epoch, validation not included.
        average: Moving average of the parameters, empty unless ``ema_decay`` is set.
    """

    #: Whether each process computes a part of every batch; otherwise all compute the whole batch.
    shares_batches = True

    def __init__(
        self,
        model: Recommender,
        data: HeteroData,
        seed: int,
        stop: StopRequest,
        by_cost: bool = False,
    ) -> None:
        super().__init__()
        assert isinstance(model.config, ModelConfig)  # It has the settings of the optimizer.
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
        self._step_work: float | None = None  # counted in the first step
        self._counted = CountWork()
        self._by_cost, self._eval_every = by_cost, 0  # 0 until it is chosen

    def on_fit_start(self) -> None:
        """Create the generator on the training device."""
        self.generator = torch.Generator(self.device)
        if self._generator_state is None:
            self.generator.manual_seed(torch_seed(self.seed))
        else:
            self.generator.set_state(self._generator_state)
        if self.config.ema_decay and not self.average:
            self.average = [p.detach().clone() for p in self.model.parameters()]
        self.average = [average.to(self.device) for average in self.average]
        if self._eval_every:
            self.trainer.check_val_every_n_epoch = self._eval_every

    def configure_optimizers(self) -> Any:
        """Return Adam with the learning rate, its decay, and the weight decay of the model or of
        its parameter groups."""
        config = self.config
        groups = self.model.parameter_groups()
        optimizer = adam(groups, config.lr, config.weight_decay, self.device)
        if config.lr_decay == 1:
            return optimizer
        decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, config.lr_decay)
        return {"optimizer": optimizer, "lr_scheduler": decay}

    def on_train_epoch_start(self) -> None:
        """Reset the sums and let the model prepare its epoch."""
        self._stop_if_requested()
        self._epoch_start = time.perf_counter()
        self._loss_sum = torch.zeros((), device=self.device)
        self._num_steps = 0
        self._watch = FiniteWatch(self.device)
        assert self.generator is not None
        self.model.start_epoch(self.generator)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the loss of one step."""
        assert self.generator is not None
        try:
            if self._step_work is None:
                loss = self._first_loss(batch, self.generator)
            else:
                loss = self._loss(batch, self.generator)
        except RuntimeError:
            self._check_finite()  # An earlier value that is not finite is the more useful error.
            raise
        self._watch.loss(self._num_steps, loss)
        self._loss_sum += loss.detach()
        self._num_steps += 1
        # DistributedDataParallel averages the gradients of the processes; the loss is their sum.
        return loss * num_processes() if self.shares_batches and in_group() else loss

    def _loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        if self.shares_batches:
            return shared_loss(self.model, batch, generator)
        return self.model.loss(batch, generator)

    def _first_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of the first step, and count its work."""
        with self._counted:
            return self._loss(batch, generator)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients; in the first step, choose the number of threads by its work."""
        if self._step_work is not None:
            super().backward(loss, *args, **kwargs)
            return
        with self._counted:
            super().backward(loss, *args, **kwargs)
        updated = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self._step_work = self._counted.work + PER_VALUE * PER_PARAMETER * updated
        # Whoever sets this variable has chosen.
        if self.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            most = torch.get_num_threads()
            torch.set_num_threads(suitable_threads(self._step_work, most))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Check the gradients before they change the weights."""
        # A loss scaler makes gradients infinite at times, detects it and skips the step.
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            self._watch.gradients(self._num_steps - 1, self.model.parameters())
        # Elsewhere a check at every step would make the device wait.
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
            f"the {what} is not finite in epoch {self.current_epoch + 1}, batch "
            f"{step + 1} of {len(batches)} ({describe_batch(self.model, batches[step])}); lower "
            f"the learning rate (now {self.config.lr:g}) and train again"
        )

    def _stop_if_requested(self) -> None:
        signal = self.stop.signal
        # Elsewhere an exchange at every step would make the device wait.
        if self.device.type == "cpu" or self._num_steps % CHECK_EVERY == 0:
            signal = largest_over_processes(signal or 0, self.device) or None
        elif in_group():
            signal = None  # Processes stop together.
        if signal is not None:
            self.stop.signal = signal
            raise Stopped

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        """Update the averaged weights; at the end of an epoch, log its loss and time."""
        if self.average:
            # Early on the average follows faster, so that it forgets the initial weights.
            step = self.trainer.global_step
            decay = min(self.config.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, list(self.model.parameters()), 1 - decay)
        if self._num_steps < self.trainer.num_training_batches:
            self._stop_if_requested()
            return
        self._check_finite()
        if self.shares_batches:
            sum_over_processes(self._loss_sum)
        self.seconds.append(time.perf_counter() - self._epoch_start)
        self.log("loss", self._loss_sum.item() / self._num_steps, prog_bar=True)

    def on_validation_start(self) -> None:
        """Swap the averaged weights in, to be validated and, if they are best, kept."""
        self._swap_average()

    def on_validation_end(self) -> None:
        """Swap the training weights back, after the callbacks have seen the averaged ones."""
        self._swap_average()

    @torch.no_grad()
    def _swap_average(self) -> None:
        # Lightning sets modes without calling train(), and fused optimizers do not count versions.
        self.model.invalidate_tables()
        for p, average in zip(self.model.parameters(), self.average, strict=False):
            current = p.detach().clone()
            p.copy_(average)
            average.copy_(current)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Rank the catalogue for all validation users; the batch only triggers it."""
        with CountWork() if self._by_cost and not self._eval_every else nullcontext() as counted:
            self.model.calibrate(self.data[INTERACTS].val_edge_label_index.to(self.device))
            metrics = rank(self.ranking(), self.data, "val").mean()
        if counted is not None and self._step_work is not None:
            epoch = self._step_work * len(self.batches)
            every = epochs_between_validations(epoch, counted.work)
            # Processes validate together.
            self._eval_every = largest_over_processes(every, self.device)
            self.trainer.check_val_every_n_epoch = self._eval_every
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

    def validations(self, patience: int) -> int:
        """Return the number of validations in ``patience`` epochs where their distance was chosen
        by cost, at least 10 or all; ``patience`` otherwise."""
        if self._eval_every <= 1:
            return patience
        return min(patience, max(-(-patience // self._eval_every), 10))

    def ranking(self) -> RecommendsItems:
        """Return what validation ranks with."""
        return shared_ranking(self.model)

    def whole(self) -> Recommender:
        """Return the model with its current weights, to be saved."""
        return self.model

    @property
    def identity(self) -> dict[str, Any]:
        """Values that a checkpoint must share with the training that resumes from it."""
        return {
            "model": type(self.model).__name__,
            "seed": self.seed,
            "data": fingerprint(self.data),
            **{f"setting {k}": v for k, v in self.config.model_dump(mode="json").items()},
            **{f"part {k}": v for k, v in self.model.describe_parts().items()},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a resumed run needs beside weights and optimizer, and drop the graph."""
        assert self.generator is not None
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {n: t for n, t in state.items() if not n.startswith(GRAPH)}
        checkpoint["graphdiff"] = {
            "identity": self.identity,
            "generator": self.generator.get_state(),
            "history": self.history,
            "seconds": self.seconds,
            "eval_every": self._eval_every,
            "average": self.average,
            "model": self.model.training_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state that :meth:`on_save_checkpoint` added.

        Raises:
            RunError: If the checkpoint belongs to another training.
        """
        state = checkpoint["graphdiff"]
        for name, value in self.identity.items():
            found = state["identity"].get(name)
            if found != value:
                raise RunError(
                    f"the checkpoint is of another training: its {name} is {found}, here it is "
                    f"{value}; resume with the original settings and data, or train again"
                )
        weights = checkpoint["state_dict"]
        # Lightning converts the model to the precision of the training only after it has loaded
        # the weights, which would round them.
        self.to(next(t.dtype for t in weights.values() if t.is_floating_point()))
        weights |= {n: t for n, t in self.state_dict().items() if n.startswith(GRAPH)}
        self._generator_state = state["generator"].cpu()
        self.history, self.seconds = state["history"], state["seconds"]
        self.average, self._eval_every = state["average"], state["eval_every"]
        self.model.load_training_state(state["model"])
