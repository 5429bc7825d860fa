"""Recommendations for all users, as a folder of Parquet files.

=====================  ==========================================================================
``_plan.json``         the model, the users and the settings that all parts belong to
``part-00000.parquet`` recommendations of consecutive users: columns ``user``, ``rank`` (from 1),
                       ``item`` and ``score``, users and items by raw id
=====================  ==========================================================================

Each part is written atomically under its own name, so a part that is there is complete, and a part
that is computed twice is there once. A run that was cut off continues with the missing parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graphdiff.cluster.engine import connected
from graphdiff.cluster.parts import PartScorer, Plan
from graphdiff.errors import ConfigError, RunError
from graphdiff.files import make_folder, remove_parts, write_text
from graphdiff.models.base import Recommender
from graphdiff.models.registry import get_model
from graphdiff.models.storage import load_model, read_config

# Readers of Parquet folders skip names that begin with an underscore.
PLAN = "_plan.json"


def score(
    run: Path,
    folder: Path,
    *,
    users: Sequence[Any] | None = None,
    k: int = 50,
    part_users: int = 10_000,
    model: str | None = None,
    report: Callable[[str], None] | None = None,
    engine: str = "local",
    address: str | None = None,
    workers: int = 1,
    gpus: float = 0,
) -> Plan:
    """Recommend items to all training users of a RUN, or to some, and write them to a folder.

    A folder that holds some of the parts of the same plan is completed.

    Args:
        run: A RUN folder.
        folder: The folder to write. With a cluster, both are on storage that all machines share.
        users: Raw ids of the users, in the order of the parts; all training users by default.
        k: Items per user; a user's own items are not recommended.
        part_users: Users per part.
        model: Class of the model as ``package.module:Class``, if it is not declared.
        report: Called with a line of text after each part.
        engine: ``"local"``, in this process, or ``"ray"``, on a cluster.
        address: Address of the cluster; see :func:`~graphdiff.cluster.engine.connected`.
        workers: Workers of the cluster that hold the model, with one CPU each.
        gpus: GPUs of each worker.

    Returns:
        The plan. All of its parts are in the folder.

    Raises:
        ConfigError: If a setting is out of range, or Ray is not installed.
        DataError: If a user's id is unknown.
        RunError: If ``run`` is no RUN, ``folder`` holds recommendations of another plan, or parts
            are missing in the end because workers wrote to another machine's disk.
        StorageError: If the folder cannot be written to.
    """
    if engine not in ("local", "ray"):
        raise ConfigError(f"engine is {engine!r}; give local or ray")
    if min(part_users, workers) < 1:
        raise ConfigError(f"part_users is {part_users} and workers is {workers}; give at least 1")
    plan, index = _plan(run, users, k, part_users, model)
    make_folder(folder)
    remove_parts(folder)
    _keep_plan(folder, plan)
    missing, arguments = plan.missing(folder), (run.resolve(), folder.resolve(), plan, index, model)
    report = report or (lambda line: None)
    if missing and engine == "local":
        scorer = PartScorer(*arguments)
        for part in missing:
            scorer.write(part)
            report(f"part {part} of {plan.num_parts}")
    elif missing:
        from graphdiff.cluster.ray_score import write_parts

        with connected(address) as ray:
            for part, node in write_parts(ray, arguments, missing, workers, gpus):
                report(f"part {part} of {plan.num_parts} by node {node}")
    if lost := plan.missing(folder):
        raise RunError(
            f"{len(lost)} of {plan.num_parts} parts are not in {folder}; workers on other machines "
            "must see the same folder, so give one on shared storage and score again"
        )
    return plan


def _plan(
    run: Path, users: Sequence[Any] | None, k: int, part_users: int, model: str | None
) -> tuple[Plan, list[int] | None]:
    """Return the plan and the indices of its users, None for all."""
    section = read_config(run)["model"]
    if model is not None:
        get_model(model)
    trained = load_model(run, Recommender)  # type: ignore[type-abstract]
    if not 1 <= k <= trained.num_items:
        raise ConfigError(f"k is {k} with a catalogue of {trained.num_items} items; give 1 to that")
    index, named = None, "all"
    if users is not None:
        index = trained.catalogue.user_index(list(users)).tolist()
        named = hashlib.sha256(json.dumps(index).encode()).hexdigest()
    num_users = trained.num_users if index is None else len(index)
    files = dict(section.get("files") or {})
    return Plan(type(trained).__name__, files, k, named, num_users, part_users), index


def _keep_plan(folder: Path, plan: Plan) -> None:
    """Write the plan, or check that the folder belongs to it.

    Raises:
        RunError: If the folder holds another plan, or parts without one.
    """
    path = folder / PLAN
    if not path.exists():
        if any(folder.glob("part-*.parquet")):
            raise RunError(f"{folder} holds parts without {PLAN}; give another folder")
        write_text(path, json.dumps(asdict(plan), indent=2) + "\n")
        return
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    for name, value in asdict(plan).items():
        if not isinstance(found, dict) or found.get(name) != value:
            kept = found.get(name) if isinstance(found, dict) else found
            raise RunError(
                f"{folder} holds recommendations of another plan: its {name} is {kept}, here it is "
                f"{value}; give another folder, or remove that one"
            )
