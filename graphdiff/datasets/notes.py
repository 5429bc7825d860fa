"""Notes: what a reader warned of, kept with the processed file so that it can be shown again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

# What has been shown, as Python keeps it to show a warning once.
_shown: dict[Any, Any] = {}


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collect the messages of the warnings of the block, each once, and show them when it ends.

    Python's filters of warnings have their usual effect on what is shown, and none on what is
    collected. Only instances of ``UserWarning`` are collected.
    """
    notes: list[str] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield notes
    finally:
        of_user = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
        notes.extend(dict.fromkeys(of_user))
        for one in caught:
            warnings.warn_explicit(
                one.message, one.category, one.filename, one.lineno, registry=_shown
            )


def show_notes(notes: Sequence[str]) -> None:
    """Warn of what was noted when a processed file was made."""
    for note in notes:
        warnings.warn_explicit(note, UserWarning, "graphdiff", 0, registry=_shown)


def read_notes(metadata: Mapping[str, str]) -> list[str]:
    """Return the notes of a processed file; none where it has none that can be read."""
    try:
        found = json.loads(metadata.get("notes", "[]"))
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, list):
        return []
    return [note for note in found if isinstance(note, str)]
