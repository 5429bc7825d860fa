"""``graphdiff compare``: models on one dataset under one protocol."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from graphdiff.cli.arguments import Features, Option, Root
from graphdiff.cli.training_options import (
    DEFAULTS,
    Epochs,
    EvalEvery,
    MaxMinutes,
    MinSteps,
    Monitor,
    Patience,
)
from graphdiff.console import print_text
from graphdiff.errors import ConfigError, Interrupted
from graphdiff.options import dataset_options

if TYPE_CHECKING:
    from graphdiff.experiments.result import ComparisonResult


class DataSplit(StrEnum):
    """The split of a comparison."""

    standard = "standard"
    cold_item = "cold-item"


def compare(
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")] = "synthetic",
    root: Root = None,
    features: Features = None,
    option: Option = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="Names, MODEL-PRESET, or package.module:Class; all registered models and their "
            "presets by default."
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Number of seeds, counted from 0; one for models in closed form."),
    ] = 1,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    render: Annotated[
        Path | None,
        typer.Option(help="JSON file of an earlier comparison: train nothing, write its pages."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="HTML report to write.")] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            help="JSON file of a comparison on other data, for a plot of ranks in the report; "
            "repeatable."
        ),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Markdown page to write.")] = None,
    latex: Annotated[Path | None, typer.Option(help="LaTeX tables to write, for booktabs.")] = None,
    epochs: Epochs = DEFAULTS.epochs,
    patience: Patience = DEFAULTS.patience,
    min_steps: MinSteps = DEFAULTS.min_steps,
    max_minutes: MaxMinutes = DEFAULTS.max_minutes,
    eval_every: EvalEvery = DEFAULTS.eval_every,
    monitor: Monitor = DEFAULTS.monitor,
    tuned: Annotated[
        bool, typer.Option(help="Use the settings that tuning found, where there are any.")
    ] = True,
    tuned_folder: Annotated[
        Path | None, typer.Option(help="Folder of further settings, from `graphdiff tune --out`.")
    ] = None,
    mask_validation: Annotated[
        bool | None,
        typer.Option(
            help="Mask validation items in the test ranking.",
            show_default="as the published protocol of the dataset",
        ),
    ] = None,
    split: Annotated[
        DataSplit,
        typer.Option(help="cold-item removes items from training and measures on those alone."),
    ] = DataSplit.standard,
    cold_share: Annotated[float, typer.Option(help="Share of items that cold-item removes.")] = 0.1,
    drop_features: Annotated[
        list[float] | None,
        typer.Option(help="Also measure with these shares of the feature rows removed."),
    ] = None,
    split_seed: Annotated[
        int, typer.Option(min=0, help="Seed of cold items and removed feature rows.")
    ] = 0,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            help="Trainings side by side, which share the cores; all finish sooner, while each "
            "takes longer.",
        ),
    ] = 1,
    resume: Annotated[bool, typer.Option(help="Keep the finished trainings of --out.")] = False,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the state of each training after each epoch, to resume trainings of "
            "hours; measured time and memory then include the writing."
        ),
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Compare models on a dataset: train each under one protocol, test for significance.

    Each training runs in a process of its own, with the settings that tuning found. A model that
    does not fit the data is skipped, with the reason.
    """
    if (out is None) == (render is None):
        raise ConfigError(
            "give --out FILE.json to run a comparison, or --render FILE.json to show one"
        )
    if render is not None:
        from graphdiff.experiments.result import ComparisonResult

        result = ComparisonResult.read(render)
    else:
        from graphdiff.experiments.workers import warm_up

        # Imports take seconds: those of the processes run beside the ones below.
        warm_up()
        from graphdiff.experiments.compare import compare as compare_models

        try:
            result = compare_models(
                dataset,
                models or "all",
                seeds=seeds,
                root=root,
                options=dataset_options(dataset, features, option),
                tuned=tuned_folder or tuned,
                epochs=epochs,
                patience=patience,
                min_steps=min_steps,
                max_minutes=max_minutes,
                eval_every=eval_every,
                monitor=monitor,
                mask_validation=mask_validation,
                split=split.value,
                cold_share=cold_share,
                drop_features=drop_features or [],
                split_seed=split_seed,
                out=out,
                resume=resume,
                jobs=jobs,
                checkpoints=checkpoints,
                progress=progress,
                report=print_line,
            )
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"interrupted; finished trainings are kept in {out}: resume with the same command "
                "and --resume",
                getattr(error, "signal", signal.SIGINT),
            ) from None
    show(result, render or out, report, markdown, latex, also or [])


def print_line(line: str) -> None:
    """Print a line on the progress at once, also where the output is a file."""
    print_text(line)
    sys.stdout.flush()


def show(
    result: ComparisonResult,
    source: Path | None,
    report: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
    also: Sequence[Path] = (),
) -> None:
    """Print the tables of a comparison and write its pages.

    Args:
        result: The comparison.
        source: Its JSON file.
        report: HTML report to write.
        markdown: Markdown page to write.
        latex: LaTeX tables to write.
        also: JSON files of comparisons on other data, for the report.
    """
    from graphdiff.experiments.cells import read_results
    from graphdiff.experiments.ranks import dataset_names
    from graphdiff.experiments.report import (
        print_table,
        write_html,
        write_latex,
        write_markdown,
    )
    from graphdiff.files import make_folder

    others = [read_results(path) for path in also]
    paths = [] if source is None else [source, *also]
    names = dataset_names([result.content, *others], paths)
    # Tables are wide; a file that they are sent to is as wide as needed.
    print_table(result.content, Console(width=None if sys.stdout.isatty() else 150))
    print_text(f"figures: {source}")
    for path, write in (
        (report, partial(write_html, others=others, names=names)),
        (markdown, write_markdown),
        (latex, write_latex),
    ):
        if path:
            make_folder(path.parent)
            write(result.content, path)
            print_text(f"report:  {path}")
