"""``graphdiff score``: recommendations for all users, as Parquet files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from graphdiff.cli.arguments import ModelClass, Run
from graphdiff.console import print_status, print_text
from graphdiff.errors import ConfigError


class Engine(StrEnum):
    """Where work is done: in processes of this machine, or on a Ray cluster."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[
    Engine, typer.Option(help="local, or ray for a cluster, with the extra graphdiff-rec[cluster].")
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Address of the Ray cluster, or auto.",
        show_default="RAY_ADDRESS, or a cluster of this machine alone",
    ),
]
Gpus = Annotated[float, typer.Option(min=0, help="GPUs of each worker of the cluster.")]


def score(
    run: Run,
    out: Annotated[Path, typer.Option(help="Folder of the parts to write.")],
    users: Annotated[
        str,
        typer.Option(help="all, or a text file with the raw id of one training user on each line."),
    ] = "all",
    k: Annotated[int, typer.Option("-k", min=1, help="Number of items per user.")] = 50,
    part_users: Annotated[int, typer.Option(min=1, help="Users per file.")] = 10_000,
    engine: EngineOption = Engine.local,
    address: Address = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Workers of the cluster, with one CPU each.")
    ] = 1,
    gpus: Gpus = 0,
    model: ModelClass = None,
    progress: Annotated[bool, typer.Option(help="Print a line for each part.")] = True,
) -> None:
    """Recommend items to every training user and write them to Parquet files.

    OUT gets one file for each 10,000 users, with the columns user, rank, item and score. Scoring
    that was cut off continues with the missing files. With --engine ray, RUN and OUT are on storage
    that all machines share.
    """
    from graphdiff.cluster.score import score as score_run

    plan = score_run(
        run,
        out,
        users=_read_users(users),
        k=k,
        part_users=part_users,
        model=model,
        report=print_status if progress else None,
        engine=engine.value,
        address=address,
        workers=workers,
        gpus=gpus,
    )
    print_text(
        f"{plan.num_users:,} users, up to {plan.k} items each, in {plan.num_parts} files: {out}"
    )


def _read_users(users: str) -> list[str] | None:
    """Return the raw ids of ``--users``, None for all."""
    if users == "all":
        return None
    try:
        ids = Path(users).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--users {users} cannot be read ({error}); give all, or a text file"
        ) from None
    if not ids:
        raise ConfigError(f"--users {users} is empty; give one raw id on each line, or all")
    return ids
