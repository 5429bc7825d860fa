"""A check that the files of a RUN hold nothing of users and items that were to be forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphdiff.errors import RunError
from graphdiff.models.base import Recommender
from graphdiff.models.storage import IDS, ITEMS, WEIGHTS, load_model
from graphdiff.training.checkpoints import checkpoint_of
from graphdiff.updates.versions import STATE, Version, VersionStore


def verify_forgotten(
    run: Path, version: Version, users: Sequence[str], items: Sequence[str]
) -> list[str]:
    """Read all files of a RUN that could hold interactions, and return their names.

    Args:
        run: The RUN folder.
        version: The version that was made by forgetting.
        users: Raw ids of the users.
        items: Raw ids of the items.

    Raises:
        RunError: If a file still holds one of them, or there is a file that has not been rewritten.
    """
    store = VersionStore(run)
    left = [str(number) for number in store.numbers() if number != version.number]
    if left:
        raise RunError(f"{run} still has versions {', '.join(left)} from before; forget again")
    if checkpoint_of(run).exists():
        raise RunError(f"{checkpoint_of(run)} is from before; remove it")
    checked = []
    for folder in (run, store.path(version.number)):
        _check_model(folder, version, users, items)
        checked += [
            str(path.relative_to(run))
            for name in (WEIGHTS, IDS, ITEMS)
            if (path := folder / name).exists()
        ]
    _check_state(store, version)
    checked.append(str((store.path(version.number) / STATE).relative_to(run)))
    return checked


def _check_model(
    folder: Path, version: Version, users: Sequence[str], items: Sequence[str]
) -> None:
    model = load_model(folder, Recommender)  # type: ignore[type-abstract]
    for node, ids in (("user", users), ("item", items)):
        known = model.catalogue.positions(node)
        there = [one for one in map(str, ids) if one in known]
        if there:
            raise RunError(f"{folder} still knows the {node} {there[0]!r}; forget it again")
    found = (model.num_users, model.num_items, model.graph.num_interactions)
    expected = (version.users, version.items, version.interactions)
    if found != expected:
        raise RunError(
            f"{folder} holds {found[0]} users, {found[1]} items and {found[2]} interactions; "
            f"expected {expected[0]}, {expected[1]} and {expected[2]}: forget again"
        )


def _check_state(store: VersionStore, version: Version) -> None:
    model = store.model(version.number)
    for name, value in store.state(version.number).items():
        parameter = name.rpartition("/")[0]
        if parameter in model.item_parameters and value.dim() and len(value) != version.items:
            raise RunError(
                f"{store.path(version.number) / STATE} has {len(value)} rows of {parameter}; "
                f"expected {version.items}: forget again"
            )
