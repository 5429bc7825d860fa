"""Files of an interaction log in a folder."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from graphdiff.datasets.io.folders import (
    COMPRESSIONS,
    SUFFIXES,
    data_files,
    table_stem,
    table_suffix,
)
from graphdiff.datasets.io.tables import is_text
from graphdiff.datasets.item_features import modalities_in
from graphdiff.errors import DataError

#: Names of the files; tables may have any of the known suffixes.
INTERACTIONS, USERS, ITEMS, FEATURES, META = (
    "interactions",
    "users",
    "items",
    "features_",
    "meta.json",
)


def find_interactions(folder: Path, others: Collection[str]) -> str:
    """Return the name of the table of interactions: ``interactions.*``, or the only table.

    Args:
        folder: The folder.
        others: Names of files with another purpose.

    Raises:
        DataError: If there is none, or more than one.
    """
    tables = [path for path in data_files(folder) if table_suffix(path) in SUFFIXES]
    named = [path.name for path in tables if table_stem(path) == INTERACTIONS]
    found = named or [
        path.name
        for path in tables
        if table_stem(path) not in (USERS, ITEMS)
        and not path.name.startswith(FEATURES)
        and path.name not in others
    ]
    if len(found) != 1:
        raise DataError(
            f"{folder} holds {len(found)} tables that could be the interactions"
            f"{': ' + ', '.join(found) if found else ''}; expected {INTERACTIONS}.parquet, .csv or "
            ".tsv, or say which with file=NAME"
        )
    return found[0]


def find_table(folder: Path, stem: str) -> Path | None:
    """Return the table of this name, whichever suffix it has; None if there is none.

    Raises:
        DataError: If there is more than one.
    """
    names = [f"{stem}{suffix}" for suffix in SUFFIXES]
    names += [f"{name}{end}" for name in names if name != f"{stem}.parquet" for end in COMPRESSIONS]
    found = [path for name in names if (path := folder / name).exists()]
    if len(found) > 1:
        raise DataError(f"{folder} holds {' and '.join(p.name for p in found)}; leave one there")
    return found[0] if found else None


def find_features(folder: Path) -> dict[str, str]:
    """Return the file of each modality: ``features_<modality>.*``, and those in ``items.parquet``.

    Raises:
        DataError: If there are two files of a modality.
    """
    found: dict[str, str] = {}
    for path in data_files(folder, f"{FEATURES}*"):
        if table_suffix(path) in (".npy", *SUFFIXES):
            modality = table_stem(path).removeprefix(FEATURES)
            if modality in found:
                raise DataError(
                    f"{folder} holds {found[modality]} and {path.name}; leave one there, or say "
                    f"which with features={modality}=FILE"
                )
            found[modality] = path.name
    items = find_table(folder, ITEMS)
    if items is not None and not is_text(items):
        found = dict.fromkeys(modalities_in(items), items.name) | found
    return found


def unnamed_count(folder: Path, node: str) -> int | None:
    """Return the number of users or items if ``meta.json`` says that they have no ids, or None.

    Raises:
        DataError: If ``meta.json`` is damaged.
    """
    path = folder / META
    if not path.exists():
        return None
    try:
        size = json.loads(path.read_text(encoding="utf-8")).get("unnamed", {}).get(f"{node}s")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from None
    if size is not None and (type(size) is not int or not 0 < size < 2**31):
        raise DataError(f"{path} says that there are {size!r} {node}s; expected a number")
    return size
