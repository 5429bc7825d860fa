"""Comparing models from Python: :func:`compare`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from torch_geometric.data import HeteroData

from graphdiff import datasets
from graphdiff.errors import ConfigError
from graphdiff.experiments.comparison import Contestant, ModelComparison
from graphdiff.experiments.execution import Execution
from graphdiff.experiments.protocol import MASKS_VALIDATION, Protocol
from graphdiff.experiments.result import ComparisonResult
from graphdiff.experiments.terms import fingerprints
from graphdiff.experiments.tuned import trainings_of_defaults
from graphdiff.models.base import Recommender
from graphdiff.models.presets import NamedModel
from graphdiff.models.registry import find_model, model_names
from graphdiff.transforms import ColdItems, DropFeatures

ModelLike = str | type[Recommender]


def compare(
    data: str | HeteroData,
    models: ModelLike | Iterable[ModelLike] = "all",
    *,
    seeds: int | Iterable[int] = 1,
    root: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    tuned: bool | str | Path = True,
    epochs: int = 500,
    patience: int = 30,
    min_steps: int = 1500,
    max_minutes: float | None = None,
    eval_every: int | None = None,
    monitor: str = "recall@20",
    mask_validation: bool | None = None,
    split: Literal["standard", "cold-item"] = "standard",
    cold_share: float = 0.1,
    drop_features: Sequence[float] = (),
    split_seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    jobs: int | None = None,
    checkpoints: str | Path | None = None,
    progress: bool = False,
    report: Callable[[str], None] | None = None,
) -> ComparisonResult:
    """Train models on one dataset under one protocol and compare them on its test pairs.

    Validation selects the epoch of each training; the test pairs are read once. A model that does
    not fit the data is skipped, with the reason, and the others go on.

    Args:
        data: Name of a dataset, or a graph that fits :mod:`graphdiff.schema`.
        models: Names, classes, or ``"package.module:Class"``; ``"all"`` for all registered models
            and their presets.
        seeds: Number of seeds, counted from 0, or the seeds. Models in closed form, which are the
            same for all seeds, are measured with the first.
        root: Folder of the files of a named dataset.
        options: Further arguments of the class of a named dataset.
        settings: Settings per name of a model. They replace those that tuning found.
        tuned: Use the settings that tuning found for a named dataset; a path is a folder of files
            that ``graphdiff tune`` wrote, which are preferred to those that come with graphdiff.
            Files that state other data of the same name are not used, which the result notes.
        epochs: Maximum number of epochs; see :func:`graphdiff.fit` for this and the next five.
        patience: Validations without improvement before a training stops.
        min_steps: Training steps before patience can stop a model that has not begun to learn.
        max_minutes: Minutes of a training, without limit by default; those that it ends are listed.
        eval_every: Epochs between validations; by their cost by default.
        monitor: Validation metric that selects the epoch.
        mask_validation: Mask validation items in the test ranking (default: as the published
            protocol of a named dataset does).
        split: ``"cold-item"`` removes items from training and measures on those alone.
        cold_share: Share of the items that ``split="cold-item"`` removes.
        drop_features: Also measure with these shares of the feature rows removed.
        split_seed: Seed of ``split`` and ``drop_features``.
        out: JSON file of the results, written after each training; values per user are kept
            beside it.
        resume: Keep what ``out`` holds of an earlier run.
        jobs: Number of trainings side by side, each in a process of its own (default: all
            trainings in this process, one after another).
        checkpoints: Folder for the state of each training after each epoch; an interrupted
            training is resumed from it.
        progress: Show progress bars.
        report: Called with each line on the progress, for example ``print``.

    Returns:
        The figures with their significance; ``print`` shows the tables.

    Raises:
        ConfigError: If a model, a setting or another argument does not fit.
        GraphDiffError: If the data cannot be loaded or no model could be measured.

    Example:
        >>> from graphdiff import compare
        >>> result = compare("synthetic", ["lightgcn", "ease"], epochs=2)
        >>> result.mean("ease")["recall@20"] > 0
        True
    """
    # Before the data is loaded, which can take long.
    every_seed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not every_seed:
        raise ConfigError("there is no seed to train with; give seeds=1 or more, or a list of them")
    protocol = Protocol(epochs, patience, min_steps, max_minutes, eval_every, monitor)
    name = data if isinstance(data, str) else "data"
    graph = datasets.load(data, root, **(options or {}))[0] if isinstance(data, str) else data
    contestants = _contestants(
        models,
        name if isinstance(data, str) else None,
        tuned,
        settings or {},
        # Of the data that settings are searched on: before a part is withheld.
        cache(partial(fingerprints, graph)),
    )
    made_by = None
    if split == "cold-item":
        transform = ColdItems(cold_share, split_seed)
        graph, made_by = transform(graph), repr(transform)
    elif split != "standard":
        raise ConfigError(f"split is {split!r}; expected 'standard' or 'cold-item'")
    if mask_validation is None:
        mask_validation = name.lower() in MASKS_VALIDATION
    comparison = ModelComparison(
        name,
        graph,
        contestants,
        replace(protocol, mask_validation=mask_validation, split=made_by),
        Execution(
            out=None if out is None else Path(out),
            resume=resume,
            jobs=1 if jobs is None else jobs,
            in_process=jobs is None,
            checkpoints=None if checkpoints is None else Path(checkpoints),
            progress=progress,
        ),
        report or _ignore,
        seeds=every_seed,
        drop_features=[DropFeatures(share, split_seed) for share in drop_features],
    )
    return ComparisonResult(comparison.compare())


def named_models(models: ModelLike | Iterable[ModelLike]) -> list[NamedModel]:
    """Return models by name or class, without repetitions.

    Args:
        models: Names, classes, or ``"package.module:Class"``; ``"all"`` for all registered models
            and their presets.

    Raises:
        ConfigError: If there is no such model, or none is given.
    """
    if isinstance(models, str | type):
        models = [models]
    found: list[NamedModel] = []
    for one in models:
        if one == "all":
            found += map(find_model, model_names())
        else:
            found.append(find_model(one) if isinstance(one, str) else NamedModel(one))
    if not found:
        raise ConfigError("there is no model to compare; give the name of at least one, or 'all'")
    return list(dict.fromkeys(found))


def _ignore(line: str) -> None:
    """Print nothing."""


def _contestants(
    models: ModelLike | Iterable[ModelLike],
    dataset: str | None,
    tuned: bool | str | Path,
    settings: Mapping[str, Mapping[str, Any]],
    data: Callable[[], tuple[str, str]],
) -> list[Contestant]:
    folder = None if isinstance(tuned, bool) else Path(tuned)
    found = []
    for model in named_models(models):
        if (given := settings.get(model.name)) is not None:
            one = Contestant(model, given)
        elif dataset is None or tuned is False:
            one = Contestant(model)
        else:
            one = Contestant.tuned(model, dataset, folder, data)
        earlier = 0 if dataset is None else trainings_of_defaults(dataset, model.name)
        found.append(replace(one, earlier_runs=earlier))
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"two of the models are named {', '.join(sorted(twice))}; give classes of different "
            "names"
        )
    if unused := set(settings) - set(names):
        raise ConfigError(
            f"settings are given for {', '.join(sorted(unused))}, which is not compared; the "
            f"models are {', '.join(names)}"
        )
    return found
