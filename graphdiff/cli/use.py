"""Commands that use a trained model: ``evaluate``, ``recommend``, ``serve`` and ``export``."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphdiff.cli.arguments import (
    AsJson,
    DatasetClass,
    ModelClass,
    Root,
    Run,
    import_dataset,
    import_model,
)
from graphdiff.cli.output import print_metrics
from graphdiff.console import print_table, print_text
from graphdiff.errors import ConfigError

if TYPE_CHECKING:
    from graphdiff.models.catalogue import Catalogue


class Split(StrEnum):
    """Held-out pairs to rank for."""

    val = "val"
    test = "test"


class ExportFormat(StrEnum):
    """Formats of exported programs."""

    onnx = "onnx"
    torch = "torch"


class TablePrecision(StrEnum):
    """Precisions of item tables in an export."""

    float32 = "float32"
    bf16 = "bf16"
    int8 = "int8"


Explore = Annotated[
    float,
    typer.Option(min=0, max=1, help="Least share of a list for items without interactions."),
]
Discount = Annotated[
    float, typer.Option(min=0, help="What popular items lose, for more of the tail; 0: nothing.")
]


def evaluate(
    run: Run,
    root: Root = None,
    model: ModelClass = None,
    dataset: DatasetClass = None,
    split: Annotated[Split, typer.Option(help="Held-out pairs to rank for.")] = Split.test,
    mask_validation: Annotated[
        bool | None,
        typer.Option(
            help="Mask validation items in the test ranking.", show_default="as in training"
        ),
    ] = None,
    explore: Explore = 0.0,
    popularity_discount: Discount = 0.0,
    as_json: AsJson = False,
) -> None:
    """Rank the whole catalogue for every held-out user and print the metrics."""
    from graphdiff.evaluation.ranking import describe_masking
    from graphdiff.evaluation.ranking import evaluate as evaluate_model
    from graphdiff.runs import open_run, read_run

    config = read_run(run)
    if mask_validation is None:
        mask_validation = split is Split.test and config.evaluation.mask_validation
    import_model(model)
    import_dataset(dataset)
    trained, data = open_run(run, root, config)
    metrics = evaluate_model(
        trained,
        data,
        split.value,
        mask_validation=mask_validation,
        recommend={"explore": explore, "popularity_discount": popularity_discount},
    )
    masked = describe_masking(mask_validation)
    if as_json:
        print(json.dumps({"split": split.value, "masked": masked, **metrics}, indent=2))
    else:
        print_metrics({split.value: metrics}, masked if split is Split.test else None)


def recommend(
    run: Run,
    user: Annotated[str | None, typer.Option(help="Raw id of a training user.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            help="Raw ids of the past items of any user, the latest last, as A,B,C; repeatable, "
            "and then each is one id, which may contain a comma."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of items.")] = 20,
    why: Annotated[
        bool, typer.Option("--why", help="Give the reasons for each item; for LD4MRec.")
    ] = False,
    explore: Explore = 0.0,
    popularity_discount: Discount = 0.0,
    model: ModelClass = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to a user; the RUN folder is enough, without the dataset.

    The user is one of the training users (--user), or anyone, by their past items (--history).
    """
    if (user is None) == (history is None):
        raise ConfigError("give either --user, the id of a training user, or --history, past items")
    trained = _load(run, model)
    asked: dict[str, Any]
    known: dict[str, Any]
    if user is not None:
        index = int(trained.catalogue.user_index([user]))
        asked = {"user": trained.catalogue.user_id(index)}
        known = {"user_index": index}
    else:
        ids = _split_history(history or [])
        asked = {"history": ids}
        known = {"history": [ids]}
    items, scores = trained.recommend(
        **known, k=k, explore=explore, popularity_discount=popularity_discount
    )
    catalogue = trained.catalogue
    found = [
        {**_described(catalogue, item), "score": score}
        for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True)
        if item >= 0
    ]
    if why:
        for row, item in zip(found, items[0].tolist(), strict=False):
            reasons = trained.explain(item, **known).because()
            row["because"] = [{**_described(catalogue, n), "why": words} for n, words in reasons]
    if as_json:
        print(json.dumps({**asked, "items": found}, indent=2))
        return
    shown = [name for name in ("title", "category") if name in catalogue.details.columns]
    print_table(
        ["rank", "item", *shown, "score", *(["because of"] if why else [])],
        [
            [
                str(rank),
                str(row["item"]),
                *(row.get(name, "") for name in shown),
                f"{row['score']:.4f}",
                *([_in_words(row["because"])] if why else []),
            ]
            for rank, row in enumerate(found, start=1)
        ],
    )


def _described(catalogue: Catalogue, index: int) -> dict[str, Any]:
    """Return id and details of an item, without pictures that are not at an address."""
    details = catalogue.details.of(index)
    shown = {name: text for name, text in details.items() if not text.startswith("data:")}
    return {"item": catalogue.item_id(index), **shown}


def _in_words(reasons: list[dict[str, Any]]) -> str:
    """Return the reasons for an item as one text."""
    return "; ".join(
        f"{one.get('title') or one['item']}: {', '.join(one['why'])}" for one in reasons
    )


def serve(
    run: Run,
    model: ModelClass = None,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    queue: Annotated[int, typer.Option(min=1, help="Maximum number of waiting requests.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Most requests answered in one call.")] = 64,
    wait_ms: Annotated[float, typer.Option(min=0, help="How long a request waits for others.")] = 2,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A host that requests may name, as NAME or NAME:PORT; repeatable.",
            show_default="localhost and --host",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token that changes need.",
            show_default="$GRAPHDIFF_TOKEN, or a new one, which is printed",
        ),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of RUN folders that /reload may load.", show_default="RUN only"),
    ] = None,
    watch: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds between two looks whether RUN holds a new model, which is then loaded.",
            show_default="0, never",
        ),
    ] = 0,
    image_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A host from which the page may load pictures of items; repeatable.",
            show_default="none, so that no request leaves the machine",
        ),
    ] = None,
) -> None:
    """Answer over HTTP for any user whose history is given, with a page to try it.

    SIGHUP reloads the RUN folder without a pause. Needs the extra: graphdiff-rec[serve].
    """
    try:
        from graphdiff.serving.service import serve as serve_run
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"serving needs {error.name}; install it with: pip install 'graphdiff-rec[serve]'"
        ) from None
    import_model(model)
    serve_run(
        run,
        host,
        port,
        token_file=token_file,
        allow_host=allow_host or (),
        runs=runs,
        watch=watch,
        image_host=image_host or (),
        queue=queue,
        batch=batch,
        wait=wait_ms / 1000,
    )


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    format_: Annotated[
        ExportFormat, typer.Option("--format", help="Format of the program.")
    ] = ExportFormat.onnx,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of items.")] = 20,
    tables: Annotated[
        TablePrecision, typer.Option(help="Precision of the item tables.")
    ] = TablePrecision.float32,
    model: ModelClass = None,
) -> None:
    """Write a RUN's LD4MRec as a program that recommends to any user whose history is given."""
    from graphdiff.serving.export import export as export_model

    export_model(_load(run, model), out, format_.value, k, tables.value)
    print_text(f"written to {out}, {out.stat().st_size / 2**20:.1f} MiB")


def _split_history(given: list[str]) -> list[str]:
    """Return the ids of ``--history``: separated by commas if it is given once, else one each."""
    ids = given[0].split(",") if len(given) == 1 else given
    if not all(ids):
        raise ConfigError(f"--history {','.join(given)!r} has an empty id; give ids as A,B,C")
    return ids


def _load(run: Path, model: str | None) -> Any:
    from graphdiff.models.base import Recommender
    from graphdiff.models.storage import load_model

    import_model(model)
    return load_model(run, Recommender)  # type: ignore[type-abstract]
