"""Classes that other distributions declare, or that users name as ``package.module:Class``."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from graphdiff.errors import ConfigError


def declared(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by their names in lower case."""
    return {point.name.lower(): point for point in entry_points(group=group)}


def load_declared(point: EntryPoint, kind: str) -> Any:
    """Return the object of an entry point.

    Args:
        point: The entry point.
        kind: What it declares, for the message: ``"model"`` or ``"dataset"``.

    Raises:
        ConfigError: If it cannot be imported.
    """
    try:
        return point.load()
    except Exception as error:  # Another distribution's code may fail in any way.
        raise ConfigError(
            f"the {kind} {point.name!r} is declared as {point.value}, which cannot be imported: "
            f"{error!r}"
        ) from None


def find_object(place: str, kind: str, import_module: bool) -> Any:
    """Return the object that ``package.module:Class`` names.

    Args:
        place: The name.
        kind: What it names, for the message and the option: ``"model"`` or ``"dataset"``.
        import_module: Import the module, searched for in the working directory too. Turn it off
            for a name that comes from a file and not from the user: then the module must have been
            imported already.

    Raises:
        ConfigError: If it cannot be imported, or may not be.
    """
    module, _, path = place.partition(":")
    if not import_module and module not in sys.modules:
        raise ConfigError(
            f"the {kind} {place!r} is a class of your own, and a name from a file imports nothing; "
            f"import {module} first, or on the command line give --{kind} {place}"
        )
    if import_module and str(Path.cwd()) not in sys.path and "" not in sys.path:
        # A console script's path lacks the working directory, where the user's module may be.
        sys.path.append(str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # The user's module may fail in any way.
        raise ConfigError(
            f"{place!r} cannot be imported ({error!r}); expected package.module:Class"
        ) from None
    return found
