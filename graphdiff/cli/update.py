"""Commands that change a trained model: ``update``, ``versions`` and ``forget``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphdiff.cli.arguments import AsJson, ModelClass, Run, import_model
from graphdiff.console import print_table, print_text
from graphdiff.errors import ConfigError
from graphdiff.options import split_options

if TYPE_CHECKING:
    from graphdiff.updates.run import Change

Passes = Annotated[
    int | None, typer.Option(min=1, help="How often each user concerned is trained on.")
]
Replay = Annotated[
    float | None, typer.Option(min=0, help="Share of a batch that are users drawn from all.")
]


def update(
    run: Run,
    interactions: Annotated[
        Path, typer.Option(help="CSV, TSV or Parquet file: one row per interaction.")
    ],
    features: Annotated[
        list[str] | None,
        typer.Option(help="Features of new items, as modality=file; repeatable."),
    ] = None,
    content: Annotated[
        list[str] | None,
        typer.Option(
            help="Texts or images of new items, as modality=file or modality=folder, encoded as "
            "at training; repeatable."
        ),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(help="Titles, categories and image addresses of new items, as items.csv."),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(help="Id of the batch.", show_default="a digest of the files and options"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="How the files are read, such as user=customer_id; repeatable.",
            show_default="as the dataset of the RUN",
        ),
    ] = None,
    passes: Passes = None,
    replay: Replay = None,
    keep: Annotated[int, typer.Option(min=1, help="Number of versions to keep.")] = 5,
    model: ModelClass = None,
    as_json: AsJson = False,
) -> None:
    """Take new users, items and interactions into a RUN's model, as a new version.

    The same batch twice changes nothing. A running service takes the new version over by SIGHUP, or
    at once with `graphdiff serve --watch`.
    """
    import_model(model)
    from graphdiff.datasets import InteractionLog
    from graphdiff.datasets.arguments import read_texts
    from graphdiff.updates.run import update_run

    change = update_run(
        run,
        interactions,
        _paths(features, "--features"),
        content=_paths(content, "--content"),
        items=items,
        batch=batch,
        options=read_texts(InteractionLog, split_options(option or (), "--option")),
        keep=keep,
        **_given(passes, replay),
    )
    _show(run, change, as_json)


def forget(
    run: Run,
    user: Annotated[
        list[str] | None, typer.Option(help="Raw id of a user to forget; repeatable.")
    ] = None,
    item: Annotated[
        list[str] | None, typer.Option(help="Raw id of an item to forget; repeatable.")
    ] = None,
    passes: Passes = None,
    replay: Replay = None,
    model: ModelClass = None,
    as_json: AsJson = False,
) -> None:
    """Remove users and items, with all their interactions, from a RUN's model and its files.

    Earlier versions and the checkpoint of the training are removed. Files outside the RUN, such as
    the dataset, are not.
    """
    import_model(model)
    from graphdiff.updates.run import forget_run

    change = forget_run(run, user, item, **_given(passes, replay))
    _show(run, change, as_json)
    if not as_json:
        for name in change.checked:
            print_text(f"checked: {name}")


def versions(
    run: Run,
    rollback: Annotated[
        int | None, typer.Option(min=1, help="Make this version the model of the RUN.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of a RUN's model, or return to one of them."""
    from graphdiff.updates.run import roll_back
    from graphdiff.updates.versions import VersionStore

    if rollback is not None:
        roll_back(run, rollback)
    store = VersionStore(run)
    found, current = store.versions(), store.pointer.number
    if as_json:
        listed = [{**one.model_dump(), "current": one.number == current} for one in found]
        print(json.dumps(listed, indent=2))
        return
    if not found:
        raise ConfigError(f"{run} has no versions yet; `graphdiff update {run}` makes them")
    print_table(
        ["version", "made by", "from", "users", "items", "interactions", "batches"],
        [
            [
                f"{one.number}{' *' if one.number == current else ''}",
                one.kind,
                str(one.parent or ""),
                str(one.users),
                str(one.items),
                str(one.interactions),
                str(len(one.batches)),
            ]
            for one in found
        ],
    )
    print_text("* the model of the RUN")


def _paths(given: list[str] | None, option: str) -> dict[str, Path]:
    return {name: Path(file) for name, file in split_options(given or (), option).items()}


def _given(passes: int | None, replay: float | None) -> dict[str, Any]:
    return {
        name: value for name, value in (("passes", passes), ("replay", replay)) if value is not None
    }


def _show(run: Path, change: Change, as_json: bool) -> None:
    version, result = change.version, change.result
    if as_json:
        steps = {} if result is None else {"steps": result.steps, "seconds": result.seconds}
        print(
            json.dumps({"changed": result is not None, **steps, **version.model_dump()}, indent=2)
        )
        return
    if result is None:
        print_text(f"nothing new: {run} stays at version {version.number}")
        return
    print_text(
        f"{run} is at version {version.number}: {result.users:+d} users, {result.items:+d} items, "
        f"{result.interactions:+d} interactions, {result.steps} steps, {result.seconds:.1f} s"
    )
