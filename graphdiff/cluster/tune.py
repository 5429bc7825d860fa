"""Search of settings on a Ray cluster: each trial is a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from graphdiff.cluster.engine import connected
from graphdiff.errors import GraphDiffError, RunError
from graphdiff.experiments.tune import tune
from graphdiff.models.base import Recommender
from graphdiff.models.presets import NamedModel


def tune_on_ray(
    dataset: str,
    data: HeteroData,
    model: type[Recommender] | NamedModel,
    folder: Path,
    *,
    address: str | None = None,
    gpus: float = 0,
    **arguments: Any,
) -> dict[str, Any]:
    """Search the settings of a model with the trials on a Ray cluster.

    The study is kept on this machine and can be resumed here, with or without a cluster. Ray
    repeats the trial of a lost worker.

    Args:
        dataset: Name of the dataset.
        data: Its graph, which Ray sends to every machine once.
        model: The class of the model, whose module workers import, or a model with its preset.
        folder: The result is written to ``folder/DATASET/MODEL.yaml``.
        address: Address of the cluster; see :func:`~graphdiff.cluster.engine.connected`.
        gpus: GPUs of each trial, beside one CPU.
        **arguments: Further arguments of :func:`~graphdiff.experiments.tune.tune`;
            ``budget.jobs`` is the number of trials side by side.

    Returns:
        The content of the file.

    Raises:
        ConfigError: If Ray is not installed, or a setting does not exist or fit.
        RunError: If no trial succeeded.
    """
    with connected(address) as ray:
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=-1)(_answer)
        graph = ray.put(data)

        def call(function: Any, _: Path, *given: Any, **options: Any) -> Any:
            """Call ``function`` with the graph in place of its file."""
            try:
                # Ray gives a task as many threads as it has CPUs.
                result = ray.get(task.remote(function, graph, *given, **options | {"threads": 1}))
            except ray.exceptions.RayError as error:
                raise RunError(f"its worker failed: {type(error).__name__}") from error
            if isinstance(result, GraphDiffError):
                raise result
            return result

        return tune(dataset, data, model, folder, call=call, **arguments)


def _answer(function: Any, *arguments: Any, **options: Any) -> Any:
    """Return a result or an error of the package; Ray would wrap the error."""
    try:
        return function(*arguments, **options)
    except GraphDiffError as error:
        return error
