"""The command line: ``graphdiff train | evaluate | recommend | doctor``."""

from __future__ import annotations

import json
import sys
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
    features: Annotated[
        list[str] | None,
        typer.Option(help="A modality's file, as name=file.npy; repeatable; for mmrec."),
    ] = None,
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
        options={"features": _pairs("--features", features)} if features else {},
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
