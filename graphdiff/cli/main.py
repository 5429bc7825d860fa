"""The command line: training and using models, and looking at data."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from graphdiff.errors import ConfigError, GraphDiffError, Interrupted

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


class ExportFormat(StrEnum):
    """Programs that an export writes."""

    onnx = "onnx"
    torch = "torch"


class TablePrecision(StrEnum):
    """How an export stores item tables."""

    float32 = "float32"
    bf16 = "bf16"
    int8 = "int8"


@app.command()
def train(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="The RUN folder to write.")] = None,
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
    min_steps: Annotated[
        int, typer.Option(min=0, help="Training steps that patience waits for at least.")
    ] = 1500,
    eval_every: Annotated[int, typer.Option(min=1, help="Epochs between validations.")] = 1,
    monitor: Annotated[str, typer.Option(help="Metric that chooses the epoch.")] = "recall@20",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="For example 32-true, bf16-mixed.")] = "32-true",
    mask_validation: Annotated[
        bool, typer.Option(help="Leave validation items out of the test ranking.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Replace a training that is in the folder already.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with the training in this folder, as it was begun."
        ),
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Train a model, keep the best epoch by validation, and test it.

    With --resume RUN a training that was cut off goes on to the end that it would have had; --root,
    --epochs, --patience, --min-steps and --accelerator may be given anew.
    """
    from graphdiff.runs import resume_run, train_run

    folder = out if resume is None else resume
    if folder is None:
        raise ConfigError("give --out, the folder to write, or --resume, the folder to go on with")
    try:
        if resume is not None:
            given = _given(context) - {"resume", "root"}
            changes = {name: context.params[name] for name in given}
            results = resume_run(folder, root, **changes)
        else:
            results = train_run(
                folder,
                dataset,
                model,
                root=root,
                settings=_settings(config, set_ or []),
                options=_options(dataset, features, option),
                mask_validation=mask_validation,
                overwrite=overwrite,
                epochs=epochs,
                patience=patience,
                min_steps=min_steps,
                eval_every=eval_every,
                monitor=monitor,
                seed=seed,
                accelerator=accelerator,
                precision=precision,
                progress=progress,
            )
    except KeyboardInterrupt as error:
        told = f"{str(error) or 'interrupted'}; go on with: graphdiff train --resume {folder}"
        raise Interrupted(told, getattr(error, "signal", signal.SIGINT)) from None
    console.print(
        f"{results['model']} on {results['dataset']}: epoch {results['best_epoch']} of "
        f"{results['epochs']}, {results['train_seconds']:.1f} s"
    )
    _print_metrics({"val": results["val"], "test": results["test"]})
    console.print(f"written to {folder}")


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
    from graphdiff.evaluation.ranking import evaluate as evaluate_model
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
    index = int(model.catalogue.user_index(user))
    items, scores = model.recommend(index, k=k)
    found = [
        {"item": model.catalogue.item_id(item), "score": score}
        for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True)
        if item >= 0
    ]
    if as_json:
        print(json.dumps({"user": model.catalogue.user_id(index), "items": found}, indent=2))
        return
    table = Table("rank", "item", "score")
    for rank, row in enumerate(found, start=1):
        table.add_row(str(rank), str(row["item"]), f"{row['score']:.4f}")
    console.print(table)


@app.command()
def serve(
    run: Run,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    queue: Annotated[int, typer.Option(min=1, help="Most requests that wait.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Most requests answered in one call.")] = 64,
    wait_ms: Annotated[float, typer.Option(min=0, help="How long a request waits for others.")] = 2,
) -> None:
    """Answer over HTTP for anybody whose items are given, with a page to try it out.

    SIGHUP loads the RUN folder anew, without a pause. Needs the extra: graphdiff[serve].
    """
    try:
        from graphdiff.serving.service import serve as serve_run
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"serving needs {error.name}; install it with: pip install 'graphdiff[serve]'"
        ) from None
    serve_run(run, host, port, queue=queue, batch=batch, wait=wait_ms / 1000)


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

    data, found = describe_dataset(dataset, root, **_options(dataset, features, option))
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
    from graphdiff.datasets.cards import data_folder
    from graphdiff.datasets.registry import list_cards

    rows = [
        {
            "name": card.name,
            "title": card.title,
            "source": card.source,
            "licence": card.licence,
            "files": card.found(data_folder(root, card.name), check),
            "command": card.command,
        }
        for card in list_cards()
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

    meta = conversion.convert(source, out, from_, **_options(from_, features, option))
    console.print(
        f"{meta['users']} users, {meta['items']} items, {meta['training']} + "
        f"{meta['validation']} + {meta['test']} pairs, "
        f"{', '.join(meta['channels']) or 'no features'}: written to {out} as {to.value}"
    )


@app.command()
def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    format_: Annotated[
        ExportFormat, typer.Option("--format", help="What runs it.")
    ] = ExportFormat.onnx,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of items.")] = 20,
    tables: Annotated[
        TablePrecision, typer.Option(help="How item tables are stored.")
    ] = TablePrecision.float32,
) -> None:
    """Write a RUN's LD4MRec as a program that recommends to anybody whose items are given."""
    from graphdiff.models.base import Recommender
    from graphdiff.models.storage import load_model
    from graphdiff.serving.export import export as export_model

    model = load_model(run, Recommender)  # type: ignore[type-abstract]
    export_model(model, out, format_.value, k, tables.value)
    console.print(f"written to {out}, {out.stat().st_size / 2**20:.1f} MiB")


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


def _given(context: typer.Context) -> set[str]:
    """Names of the options that were given on the command line."""
    return {
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }


def _settings(config: Path | None, pairs: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if config is not None:
        if not config.is_file():
            raise ConfigError(f"no file {config}; give a YAML file with settings of the model")
        loaded = _yaml(str(config), config.read_bytes()) or {}
        if isinstance(loaded, dict):
            loaded = loaded.get("settings", loaded)
        if not (isinstance(loaded, dict) and all(isinstance(name, str) for name in loaded)):
            raise ConfigError(f"{config} holds {type(loaded).__name__}; expected name: value lines")
        settings.update(loaded)
    settings.update((n, _yaml(f"--set {n}", v)) for n, v in _pairs("--set", pairs).items())
    return settings


def _options(dataset: str, features: list[str] | None, option: list[str] | None) -> dict[str, Any]:
    """Return arguments of a dataset from the command line."""
    from graphdiff.datasets import parse_options

    options = parse_options(dataset, _pairs("--option", option or []))
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


def _yaml(what: str, text: str | bytes) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{what} is not readable YAML: {_one_line(error)}") from None


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


# The base of what typer raises for arguments that do not fit; it has no public name of its own.
_UsageError: Any = typer.BadParameter.__base__


def main() -> None:
    """Entry point. What is at fault is told in one line; with ``--debug`` anywhere among the
    arguments the traceback is printed instead.

    Exit codes: 0 done; 2 a mistake in the request, the data or the folder; 1 an error in graphdiff
    itself; 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        # Not app(): that would print usage errors on several lines and hide interruptions.
        command = typer.main.get_command(app)
        with command.make_context("graphdiff", arguments or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except BrokenPipeError:
        # Who reads has seen enough; nothing shall be written to them at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (KeyboardInterrupt, Exception) as error:
        if debug:
            raise
        line, code = _told(error)
        print(f"graphdiff: {line}", file=sys.stderr)
        sys.exit(code)


def _told(error: BaseException) -> tuple[str, int]:
    """What to print about an error, on one line, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return _one_line(error) or "interrupted", 128 + getattr(error, "signal", signal.SIGINT)
    if isinstance(error, GraphDiffError):
        return _one_line(error), 2
    if isinstance(error, _UsageError):
        return f"{_one_line(error.format_message())}; see graphdiff --help", 2
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or _one_line(error)}", 2
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({_one_line(error)}); try a smaller batch_size", 2
    kind = type(error).__name__
    return f"an error in graphdiff ({kind}: {_one_line(error)}); --debug shows where", 1


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    main()
