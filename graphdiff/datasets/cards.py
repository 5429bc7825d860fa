"""The cards of datasets: where each comes from, its terms, its files, and how to use it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from graphdiff.datasets.io.folders import data_files
from graphdiff.errors import DataError


class Card(NamedTuple):
    """A dataset's card.

    Attributes:
        name: As in ``--dataset NAME``.
        title: One line that describes it.
        source: Address, paper or publisher, in one line.
        licence: The licence, as far as its publishers state one.
        command: The command that trains on it.
        content: The whole card.
    """

    name: str
    title: str
    source: str
    licence: str
    command: str
    content: dict[str, Any]

    def found(self, folder: Path | None, check: bool = False) -> str:
        """Describe which of the files are in a folder.

        Args:
            folder: The folder, or one whose ``raw`` holds the files (None: no folder).
            check: Compare SHA-256 checksums, if the card has them.
        """
        if "files" not in self.content:
            return "not known here"
        files = {n: e for n, e in self.content["files"].items() if not e.get("optional")}
        if self.content.get("layout") == self.name:
            return "a layout: give any folder that is in it"
        if not self.content["files"]:
            return "none needed"
        if folder is None:
            return "not looked for"
        there = {name: _find(folder, name) for name in files}
        lacking = [name for name, path in there.items() if path is None]
        if len(lacking) == len(there):
            return "none"
        if lacking:
            return f"lacks {', '.join(lacking)}"
        changed = [
            name
            for name, path in there.items()
            if check and path is not None and not _is_as_expected(path, files[name])
        ]
        return f"changed: {', '.join(changed)}" if changed else f"yes, in {folder}"


def cards() -> list[Card]:
    """Return the cards of graphdiff's own datasets, sorted by name.

    Raises:
        DataError: If the cards are missing, or one of them is damaged.
    """
    paths = sorted(cards_folder().glob("*/card.yaml"))
    return [_read(path) for path in paths]


def read_card(name: str) -> Card:
    """Return the card of one of graphdiff's own datasets.

    Raises:
        DataError: If it is missing or damaged.
    """
    return _read(cards_folder() / name / "card.yaml")


def card_names() -> set[str]:
    """Return the names of graphdiff's own datasets that have a card; none where there are none."""
    try:
        return {path.parent.name for path in cards_folder().glob("*/card.yaml")}
    except DataError:
        return set()


def cards_folder() -> Path:
    """Return where the cards are: in the installed package, or beside it in a checkout.

    Raises:
        DataError: If they are in neither.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "cards", package.parent / "datasets"):
        if any(folder.glob("*/card.yaml")):
            return folder
    raise DataError(f"{package} has no cards of datasets; reinstall graphdiff")


def data_folder(root: Path | None, name: str) -> Path | None:
    """Return where a dataset's files would be: ``root/NAME``, with ``$GRAPHDIFF_DATA`` as the
    default for ``root``; None where there is neither.
    """
    parent = root or os.environ.get("GRAPHDIFF_DATA")
    return None if parent is None else Path(parent) / name


def _read(path: Path) -> Card:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        source = content["source"]
        line = source.get("url") or source.get("paper") or source["publisher"]
        licence, command = (str(content[key]).strip() for key in ("licence", "command"))
        return Card(content["name"], content["title"], line, licence, command, content)
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a card: {error!r}") from None


def _find(folder: Path, pattern: str) -> Path | None:
    pattern = pattern.replace("NAME", "*")
    for place in (folder, folder / "raw"):
        for path in data_files(place, pattern):
            return path
    return None


def _is_as_expected(path: Path, entry: dict[str, Any]) -> bool:
    kind, _, expected = entry.get("checksum", "").partition(":")
    if kind != "sha256":
        return True
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == expected
