"""``graphdiff tune``: a search for a model's settings on validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graphdiff.cli.arguments import Features, Option, Root
from graphdiff.cli.compare import print_line
from graphdiff.cli.score import Address, Engine, EngineOption, Gpus
from graphdiff.cli.training_options import (
    DEFAULTS,
    Epochs,
    EvalEvery,
    MaxMinutes,
    MinSteps,
    Patience,
)
from graphdiff.options import dataset_options, parse_options


def tune(
    model: Annotated[
        str, typer.Option(help="Name of the model, MODEL-PRESET, or package.module:Class.")
    ],
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")] = "synthetic",
    root: Root = None,
    features: Features = None,
    option: Option = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the results: OUT/DATASET/MODEL.yaml, in lower case.")
    ] = Path("tuned"),
    trials: Annotated[
        int, typer.Option(min=1, help="Maximum number of trials, those of earlier runs included.")
    ] = 10,
    hours: Annotated[
        float | None,
        typer.Option(help="No trial starts after so many hours, those of earlier runs included."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    try_first: Annotated[
        list[str] | None,
        typer.Option(help="Settings to try after the defaults, as name=value."),
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(help="Settings that are not searched, as name=value."),
    ] = None,
    earlier_runs: Annotated[
        int,
        typer.Option(
            min=0,
            help="Trainings on the same validation pairs that led to the defaults; comparisons "
            "state them beside the trials.",
        ),
    ] = 0,
    epochs: Epochs = DEFAULTS.epochs,
    patience: Patience = DEFAULTS.patience,
    min_steps: MinSteps = DEFAULTS.min_steps,
    max_minutes: MaxMinutes = DEFAULTS.max_minutes,
    eval_every: EvalEvery = DEFAULTS.eval_every,
    monitor: Annotated[str, typer.Option(help="Metric that is maximised.")] = DEFAULTS.monitor,
    jobs: Annotated[int, typer.Option(min=1, help="Trials side by side.")] = 1,
    engine: EngineOption = Engine.local,
    address: Address = None,
    gpus: Gpus = 0,
) -> None:
    """Search the settings of a model on validation, with a budget of trials or hours.

    A search that was interrupted is resumed. Test pairs are never read. Use the result with
    `graphdiff compare --tuned-folder OUT` or `graphdiff train --config OUT/DATASET/MODEL.yaml`.
    Needs the extra: graphdiff-rec[tune].
    """
    from graphdiff.experiments.workers import warm_up

    # Imports take seconds: those of the processes run beside the ones below.
    if engine is Engine.local:
        warm_up()
    from graphdiff import datasets
    from graphdiff.experiments.protocol import Protocol
    from graphdiff.experiments.tune import Budget
    from graphdiff.experiments.tune import tune as search
    from graphdiff.models.registry import find_model

    # All that can be checked before the data is loaded, which can take long.
    named = find_model(model)
    budget = Budget(trials, hours, seed, jobs, earlier_runs)
    protocol = Protocol(epochs, patience, min_steps, max_minutes, eval_every, monitor)
    fixed = parse_options(fix or [], "--fix")
    first = parse_options(try_first or [], "--try-first")
    data = datasets.load(dataset, root, **dataset_options(dataset, features, option))[0]
    arguments: dict[str, Any] = {
        "budget": budget,
        "protocol": protocol,
        "fixed": fixed,
        "try_first": first,
        "report": print_line,
    }
    if engine is Engine.ray:
        from graphdiff.cluster.tune import tune_on_ray

        tune_on_ray(dataset, data, named, out, address=address, gpus=gpus, **arguments)
    else:
        search(dataset, data, named, out, **arguments)
