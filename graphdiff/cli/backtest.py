"""``graphdiff backtest``: models retrained, updated and unchanged over time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphdiff.cli.arguments import Features, Option, Root, Setting, SettingsFile, model_settings
from graphdiff.cli.training_options import (
    DEFAULTS,
    Accelerator,
    Epochs,
    EvalEvery,
    MinSteps,
    Patience,
    Seed,
)
from graphdiff.console import print_table, print_text
from graphdiff.options import dataset_options, parse_options


def backtest(
    dataset: Annotated[
        str, typer.Option(help="Name of the dataset, a log with times.")
    ] = "synthetic-drift",
    root: Root = None,
    features: Features = None,
    option: Option = None,
    model: Annotated[
        str, typer.Option(help="Name of the model, or package.module:Class.")
    ] = "ld4mrec",
    config: SettingsFile = None,
    set_: Setting = None,
    update: Annotated[
        list[str] | None,
        typer.Option(help="One setting of updates, such as passes=5; repeatable."),
    ] = None,
    cutoffs: Annotated[int, typer.Option(min=1, help="Number of cut-offs.")] = 4,
    first: Annotated[
        float, typer.Option(help="Share of the log that the first training takes.")
    ] = 0.5,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Markdown page to write.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Figure to write, .svg or .png.")] = None,
    epochs: Epochs = DEFAULTS.epochs,
    patience: Patience = DEFAULTS.patience,
    min_steps: MinSteps = DEFAULTS.min_steps,
    eval_every: EvalEvery = DEFAULTS.eval_every,
    seed: Seed = DEFAULTS.seed,
    accelerator: Accelerator = DEFAULTS.accelerator,
) -> None:
    """Compare a model retrained, updated and unchanged at points in time."""
    from graphdiff.experiments import backtest_report
    from graphdiff.experiments.backtest import backtest as run
    from graphdiff.figures import check_figure
    from graphdiff.files import make_folder, write_text

    if plot is not None:
        check_figure(plot)
    result = run(
        dataset,
        model,
        root=root,
        options=dataset_options(dataset, features, option),
        settings=model_settings(config, set_),
        cutoffs=cutoffs,
        first=first,
        update=parse_options(update or (), "--update"),
        out=out,
        report=print_text,
        epochs=epochs,
        patience=patience,
        min_steps=min_steps,
        eval_every=eval_every,
        seed=seed,
        accelerator=accelerator,
    )
    print_table(["cut-off", "model", *backtest_report.SHOWN], backtest_report.table_rows(result))
    for line in backtest_report.summary(result):
        print_text(line)
    if plot is not None:
        backtest_report.plot(result, plot)
    if markdown is not None:
        make_folder(markdown.parent)
        write_text(markdown, backtest_report.markdown(result, plot.name if plot else None))
