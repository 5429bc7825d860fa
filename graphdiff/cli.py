"""The command line: training and using models, and looking at data."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from graphdiff.errors import ConfigError, GraphDiffError

app = typer.Typer(
    help="Multimodal recommendation by light diffusion.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder written by `graphdiff train`.")]
Root = Annotated[Path | None, typer.Option(help="Folder of the dataset's files.")]
Features = Annotated[
    list[str] | None,
    typer.Option(help="A modality's file, as name=file; repeatable; for layouts that take them."),
]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", help="One argument of the dataset, as name=value; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Split(StrEnum):
    """The held-out pairs to rank for."""

    val = "val"
    test = "test"


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="The RUN folder to write.")],
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")] = "synthetic",
    root: Root = None,
    features: Features = None,
    option: Option = None,
    model: Annotated[str, typer.Option(help="Name of the model.")] = "ld4mrec",
    config: Annotated[
        Path | None, typer.Option(help="YAML file with settings of the model.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, as name=value; repeatable.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs to train.")] = 500,
    patience: Annotated[
        int, typer.Option(min=1, help="Validations without improvement before stopping.")
    ] = 30,
    eval_every: Annotated[int, typer.Option(min=1, help="Epochs between validations.")] = 1,
    monitor: Annotated[str, typer.Option(help="Metric that chooses the epoch.")] = "recall@20",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="For example 32-true, bf16-mixed.")] = "32-true",
    mask_validation: Annotated[
        bool, typer.Option(help="Leave validation items out of the test ranking.")
    ] = False,
    resume: Annotated[bool, typer.Option(help="Go on where RUN stopped.")] = False,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Train a model, keep the best epoch by validation, and test it."""
    from graphdiff.runs import train_run

    results = train_run(
        out,
        dataset,
        model,
        root=root,
        settings=_settings(config, set_ or []),
        options=_options(features, option),
        mask_validation=mask_validation,
        epochs=epochs,
        patience=patience,
        eval_every=eval_every,
        monitor=monitor,
        seed=seed,
        accelerator=accelerator,
        precision=precision,
        resume=resume,
        progress=progress,
    )
    console.print(
        f"{results['model']} on {results['dataset']}: epoch {results['best_epoch']} of "
        f"{results['epochs']}, {results['train_seconds']:.1f} s"
    )
    _print_metrics({"val": results["val"], "test": results["test"]})
    console.print(f"written to {out}")


@app.command()
def evaluate(
    run: Run,
    root: Root = None,
    split: Annotated[Split, typer.Option(help="Which held-out pairs.")] = Split.test,
    mask_validation: Annotated[
        bool, typer.Option(help="Leave validation items out of the test ranking.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rank the whole catalogue for every held-out user and print the metrics."""
    from graphdiff.evaluation import evaluate as evaluate_model
    from graphdiff.runs import open_run

    model, data = open_run(run, root)
    metrics = evaluate_model(model, data, split.value, mask_validation=mask_validation)
    if as_json:
        print(json.dumps({"split": split.value, **metrics}, indent=2))
    else:
        _print_metrics({split.value: metrics})


@app.command()
def recommend(
    run: Run,
    user: Annotated[str, typer.Option(help="Raw id of a user.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Number of items.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Recommend items to a user; needs the RUN folder alone."""
    from graphdiff.models.base import Recommender
    from graphdiff.models.storage import load_model

    model = load_model(run, Recommender)  # type: ignore[type-abstract]
    index = model.index_of_user(user)
    items, scores = model.recommend(index, k)
    found = [
        {"item": model.raw_item(item), "score": score}
        for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True)
        if item >= 0
    ]
    if as_json:
        print(json.dumps({"user": model.raw_user(index), "items": found}, indent=2))
        return
    table = Table("rank", "item", "score")
    for rank, row in enumerate(found, start=1):
        table.add_row(str(rank), str(row["item"]), f"{row['score']:.4f}")
    console.print(table)


@app.command()
def describe(
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")],
    root: Root = None,
    features: Features = None,
    option: Option = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the degrees into this .png or .svg.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what a dataset holds and what is odd about it."""
    from graphdiff.describe import describe_dataset, plot_degrees

    data, found = describe_dataset(dataset, root, **_options(features, option))
    if plot is not None:
        plot_degrees(data, plot)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = Table("what", "found")
    for what, value in _flat(found):
        table.add_row(what, value)
    console.print(table)


@app.command(name="datasets")
def list_datasets(
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the datasets' folders, NAME in each; or $GRAPHDIFF_DATA."),
    ] = None,
    check: Annotated[bool, typer.Option(help="Compare the files' checksums.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the datasets that have a card: source, licence, whether they are there, command."""
    from graphdiff.datasets.cards import cards, data_folder

    rows = [
        {
            "name": card.name,
            "title": card.title,
            "source": card.source,
            "licence": card.licence,
            "files": card.found(data_folder(root, card.name), check),
            "command": card.command,
        }
        for card in cards()
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        console.print(f"[bold]{row['name']}[/]  {row['title']}", highlight=False)
        for key in ("source", "licence", "files", "command"):
            console.print(f"  {key:8} {row[key]}", highlight=False, markup=False, soft_wrap=True)


class Layout(StrEnum):
    """What can be converted to."""

    parquet = "parquet"


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="The dataset's folder, or an archive of it.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    from_: Annotated[
        str, typer.Option("--from", help="Its layout: csv, diffmm, mmrec, pairs, parquet, recbole.")
    ],
    to: Annotated[Layout, typer.Option("--to", help="The layout to write.")] = Layout.parquet,
    features: Features = None,
    option: Option = None,
) -> None:
    """Convert a dataset to Parquet files, to read with `--dataset parquet`."""
    from graphdiff.datasets import convert as conversion

    meta = conversion.convert(source, out, from_, **_options(features, option))
    console.print(
        f"{meta['users']} users, {meta['items']} items, {meta['training']} + "
        f"{meta['validation']} + {meta['test']} pairs, "
        f"{', '.join(meta['channels']) or 'no features'}: written to {out} as {to.value}"
    )


@app.command()
def doctor() -> None:
    """Tell what is installed, which devices are there, and whether the pieces work together."""
    from graphdiff.doctor import examine

    table = Table("what", "found", "state")
    findings = examine()
    for finding in findings:
        state = "[green]ok[/]" if finding.ok else ("[red]fails[/]" if finding.needed else "absent")
        table.add_row(finding.what, finding.found, state)
    console.print(table)
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)


def _settings(config: Path | None, pairs: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if config is not None:
        if not config.is_file():
            raise ConfigError(f"no file {config}; give a YAML file with settings of the model")
        loaded = yaml.safe_load(config.read_text()) or {}
        if not isinstance(loaded, dict):
            raise ConfigError(f"{config} holds {type(loaded).__name__}; expected name: value lines")
        settings.update(loaded.get("settings", loaded))
    settings.update((n, yaml.safe_load(value)) for n, value in _pairs("--set", pairs).items())
    return settings


def _options(features: list[str] | None, option: list[str] | None) -> dict[str, Any]:
    """Arguments of a dataset's class from the command line."""
    pairs = _pairs("--option", option or [])
    # A name such as y or 1 is text all the same.
    texts = {"user", "item", "timestamp", "rating", "split_column", "file", "delimiter"}
    options = {n: v if n in texts else yaml.safe_load(v) for n, v in pairs.items()}
    if features:
        options["features"] = _pairs("--features", features)
    return options


def _flat(found: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The entries of nested dictionaries, one line each."""
    for name, value in found.items():
        what = f"{above} {name}".strip().replace("_", " ")
        if isinstance(value, dict):
            yield from _flat(value, what)
        elif isinstance(value, list):
            yield from ((what, text) for text in value)
        else:
            yield what, f"{value:.4g}" if isinstance(value, float) else str(value)


def _pairs(option: str, texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise ConfigError(f"{option} {name + equals + value!r} is not name=value")
    return {name: value for name, _, value in pairs}


def _print_metrics(splits: dict[str, dict[str, float]]) -> None:
    table = Table("metric", *splits)
    for name in next(iter(splits.values())):
        table.add_row(name, *(f"{metrics[name]:.4f}" for metrics in splits.values()))
    console.print(table)


def main() -> None:
    """Entry point: a mistake of the user's prints one line and exits with 2; with ``--debug``
    anywhere on the line it prints the traceback."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments)
    except GraphDiffError as error:
        if debug:
            raise
        print(f"graphdiff: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
