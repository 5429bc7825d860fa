"""Training of any model: :func:`fit`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from graphdiff.console import print_status
from graphdiff.errors import ConfigError, DataError, RunError
from graphdiff.evaluation.agreement import check_agreement
from graphdiff.evaluation.metrics import DEFAULT_KS, metric_names
from graphdiff.evaluation.ranking import rank
from graphdiff.files import make_folder
from graphdiff.models.base import Recommender
from graphdiff.schema import INTERACTS, ITEM, USER, validate
from graphdiff.seeds import torch_seed
from graphdiff.training.callbacks import write_history
from graphdiff.training.checkpoints import checkpoint_of
from graphdiff.training.config import TrainingConfig, training_config
from graphdiff.training.result import FitResult
from graphdiff.training.trainer import GradientTrainer, lightning_trainer

__all__ = ["FitResult", "check_accelerator", "check_monitor", "check_training", "fit"]

_ADVICE = "make the model with from_data(data)"


def fit(
    model: Recommender,
    data: HeteroData,
    config: TrainingConfig | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    report: Callable[[dict[str, float]], None] | None = None,
    **settings: Any,
) -> FitResult:
    """Train a model until validation no longer improves, and restore its best weights.

    A model that is not trained by gradient (its ``batch_over`` is ``"nothing"``) is solved in one
    step on its device: that counts as one epoch, and the settings of epochs, patience, accelerator
    and precision have no effect.

    Everything that can be checked beforehand is checked before the first step.

    Args:
        model: A model made from ``data``; trained in place.
        data: A graph that fits :mod:`graphdiff.schema`, with validation pairs.
        config: Settings of the training. (default: those of
            :class:`~graphdiff.training.config.TrainingConfig`)
        out: A RUN folder. The best model so far, the log ``metrics.csv`` and a checkpoint are
            saved there after each epoch.
        resume: Continue from the checkpoint in ``out``. A model that is solved in one step has
            none and is solved again, with the same result.
        progress: Show the progress on standard error: a bar on a terminal, elsewhere one line per
            validation.
        report: Called with each row of :attr:`FitResult.history` as soon as its epoch is validated.
        **settings: Fields of :class:`~graphdiff.training.config.TrainingConfig` that replace those
            of ``config``:

            * ``epochs``: Maximum number of epochs (default: 500).
            * ``patience``: Number of validations without improvement before training stops
              (default: 30).
            * ``min_steps``: Minimum number of training steps before patience can stop a model that
              has not begun to learn. Many rank by popularity first, do not improve for hundreds of
              steps, and only then learn preferences (default: 1500). The whole rule is that of
              :func:`graphdiff.training.stopping.is_past`.
            * ``max_minutes``: Minutes of training, validations not counted, after which the next
              validation is the last. How far a training gets then depends on the machine
              (default: no limit).
            * ``eval_every``: Number of epochs between validations. By default 1; where a validation
              is more work than half an epoch, as many as make it half (at most 10), and
              ``patience`` counts epochs. The work is counted, not timed, so that the same training
              validates in the same epochs.
            * ``monitor``: Validation metric that selects the epoch (default: ``"recall@20"``).
            * ``seed``: Seed of the parameters, the batches' order and all noise, a non-negative
              integer of any size. The same seed on the same machine gives the same result
              (default: 0).
            * ``accelerator``: Lightning's name of the device kind; ``"auto"`` selects CUDA or MPS
              if available (default: ``"auto"``).
            * ``devices``: Devices of each machine, with one process each, which Lightning starts
              unless something else has (default: 1).
            * ``num_nodes``: Number of machines (default: 1).
            * ``strategy``: ``"ddp"`` where processes share each batch by PyTorch's
              DistributedDataParallel, the same as one process up to rounding; ``"ray"`` for the
              same inside a worker of Ray Train; ``"auto"`` for ``"ddp"`` if there is more than one
              process (default: ``"auto"``).
            * ``shard_items``: Divide the items among the processes (default: False). For
              :class:`~graphdiff.models.LD4MRec`. The trained model is that of the main process.
            * ``precision``: ``"32-true"``, ``"64-true"`` or ``"bf16-mixed"``, which every model can
              be trained with. Rankings are not computed in mixed precision (default:
              ``"32-true"``).

    Returns:
        A :class:`FitResult`. The model is on the device it was trained on, in eval mode.

    Raises:
        DataError: If ``data`` does not fit the schema, has other users or items than the model, or
            holds out pairs that the model has as training interactions.
        ConfigError: If there is nothing to validate on, ``monitor`` is not a metric, or another
            setting is unknown or out of range.
        RunError: If ``resume`` is set and ``out`` has no checkpoint, a damaged one, or one of
            another training.
        TrainingError: If the loss or a gradient is not finite. The model has its best weights so
            far, and ``out`` the last good checkpoint.
        StorageError: If ``out`` cannot be written to. Files that were there are unchanged.
        Interrupted: After Ctrl-C or SIGTERM, at the end of the current batch. ``out`` has the last
            complete epoch; resuming gives the result of an uninterrupted training.
    """
    config = training_config(config, settings)
    validate(data)
    _check_sizes(model, data)
    check_agreement(model, data, "validation", _ADVICE)
    check_training(data, config)
    folder = Path(out) if out is not None else None
    checkpoint = checkpoint_of(folder) if folder is not None else None
    solved = model.batch_over == "nothing"
    if resume and not solved and (checkpoint is None or not checkpoint.is_file()):
        raise RunError(f"nothing to resume: there is no checkpoint in {folder}")

    trainer = None if solved else GradientTrainer(model, data, config, folder, progress, report)
    torch.manual_seed(torch_seed(config.seed))
    model.reset_parameters()
    model.train()  # Loaded models, and parts of other models, are in evaluation mode.
    if trainer is None:
        return _solve(model, data, folder, progress, report)
    return trainer.run(checkpoint, resume)


def _check_sizes(model: Recommender, data: HeteroData) -> None:
    mine = model.num_users, model.num_items
    found = data[USER].num_nodes, data[ITEM].num_nodes
    if mine != found:
        raise DataError(
            f"the data has {found[0]:,} users and {found[1]:,} items, and the model was made from "
            f"data with {mine[0]:,} and {mine[1]:,}; {_ADVICE}"
        )


def check_monitor(monitor: str) -> None:
    """Check that ``monitor`` is a metric that training validates by.

    Raises:
        ConfigError: If it is not.
    """
    names = metric_names()
    if monitor not in names:
        raise ConfigError(f"no metric {monitor!r} to monitor; there are {', '.join(names)}")


def check_training(data: HeteroData, config: TrainingConfig) -> None:
    """Check that training with ``config`` can validate on ``data``.

    Raises:
        ConfigError: If ``monitor`` is not a metric, the catalogue is smaller than the lists that
            are evaluated, or there are no validation pairs.
    """
    check_monitor(config.monitor)
    num_items = data[ITEM].num_nodes
    if num_items < max(DEFAULT_KS):
        raise ConfigError(
            f"the catalogue has {num_items} item{'s' * (num_items > 1)}, and training validates "
            f"with lists of {max(DEFAULT_KS)}; give data with at least as many items"
        )
    if data[INTERACTS].val_edge_label_index.numel() == 0:
        raise ConfigError(
            "fit needs validation pairs to choose the epoch by, and the data has none; set "
            "data['user', 'interacts', 'item'].val_edge_label_index, split a PyG graph with "
            "RandomLinkSplit and graphdiff.datasets.from_link_split, or read a log with split="
        )


def check_accelerator(config: TrainingConfig) -> None:
    """Check that the machine has the accelerator, in the precision, that ``config`` asks for.

    Raises:
        ConfigError: If it has not.
    """
    lightning_trainer(config)


def _solve(
    model: Recommender,
    data: HeteroData,
    folder: Path | None,
    progress: bool,
    report: Callable[[dict[str, float]], None] | None,
) -> FitResult:
    """Fit a model that is solved in one step: one epoch, on the model's device."""
    start = time.perf_counter()
    if progress:
        print_status(f"Solving {type(model).__name__} for {model.num_items:,} items, in one step")
    with torch.no_grad():
        model.solve()
        model.calibrate(data[INTERACTS].val_edge_label_index.to(model.device))
    model.eval()
    model.invalidate_tables()
    seconds = time.perf_counter() - start
    val = rank(model, data, "val").mean()
    history = [{"epoch": 1, "loss": 0.0, "seconds": seconds, **val}]
    if folder is not None:
        make_folder(folder)
        model.save_pretrained(folder)
        write_history(history, folder / "metrics.csv")
    if report is not None:
        report(history[0])
    return FitResult(
        epochs=1,
        best_epoch=1,
        val=val,
        train_seconds=seconds,
        seconds_per_epoch=seconds,
        history=history,
    )
