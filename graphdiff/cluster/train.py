"""Training on a Ray cluster: Ray Train starts the processes, Lightning trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from graphdiff.cluster.engine import connected
from graphdiff.errors import ConfigError, RunError
from graphdiff.runs import check_folder, check_settings, resume_run, train_run
from graphdiff.training.checkpoints import checkpoint_of
from graphdiff.training.config import RunConfig, run_config

#: How often a training goes on after a worker or its machine was lost.
MOST_FAILURES = 3


def train_on_ray(
    folder: Path,
    config: RunConfig,
    *,
    num_workers: int = 1,
    gpus: float = 0,
    address: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a model by workers of a Ray cluster that share each batch, and write a RUN folder.

    A lost worker is replaced, and the training goes on after the last complete epoch.

    Args:
        folder: The RUN folder, on storage that all machines share, as are the dataset's files.
        config: Model, dataset, and settings of training and test.
        num_workers: Number of workers, with one CPU and one process each.
        gpus: GPUs of each worker.
        address: Address of the cluster; see :func:`~graphdiff.cluster.engine.connected`.
        overwrite: Replace a training that is already in the folder.

    Returns:
        The content of ``results.json``.

    Raises:
        ConfigError: If Ray is not installed, or a setting does not exist or fit.
        RunError: If the folder already holds a training, or the workers failed.
    """
    check_folder(folder, overwrite)
    if check_settings(config)[0].batch_over == "nothing":
        raise ConfigError(
            f"{config.model.name} is solved in one step by one process; train it without --engine"
        )
    training = config.training.model_copy(update={"strategy": "ray"})
    config = config.model_copy(update={"training": training})
    own_state = folder.resolve() / "checkpoints" / "ray"
    with connected(address):
        from ray.train import FailureConfig, ScalingConfig
        from ray.train import RunConfig as RayRunConfig
        from ray.train.torch import TorchTrainer

        checkpoint_of(folder).unlink(missing_ok=True)
        resources = {"CPU": 1.0, "GPU": gpus} if gpus else {"CPU": 1.0}
        trainer = TorchTrainer(
            _train,
            train_loop_config={"folder": str(folder.resolve()), "config": _with_root(config)},
            scaling_config=ScalingConfig(
                num_workers=num_workers, use_gpu=gpus > 0, resources_per_worker=resources
            ),
            # Checkpoints are those of the RUN folder; Ray keeps nothing but its own state.
            run_config=RayRunConfig(
                storage_path=str(own_state),
                failure_config=FailureConfig(max_failures=MOST_FAILURES),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:  # Ray wraps whatever a worker raised.
            raise RunError(f"training on the cluster failed: {_reason(error)}") from error
        finally:
            shutil.rmtree(own_state, ignore_errors=True)
    return json.loads((folder / "results.json").read_text())


def _with_root(config: RunConfig) -> dict[str, Any]:
    """Return the configuration with the dataset's folder as other processes find it."""
    values = config.model_dump()
    if (root := values["dataset"]["root"]) is not None:
        values["dataset"]["root"] = str(Path(root).resolve())
    return values


def _train(settings: dict[str, Any]) -> None:
    """Train in one worker, or go on where an earlier one stopped."""
    folder = Path(settings["folder"])
    # The first checkpoint is written when all workers have begun, so they agree.
    if checkpoint_of(folder).is_file():
        resume_run(folder, progress=False)
    else:
        train_run(folder, run_config(settings["config"]), overwrite=True, progress=False)


def _reason(error: BaseException) -> str:
    """Return the last line of what a worker raised."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        error = next(iter(failures.values()))
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
