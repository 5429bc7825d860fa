"""Data files of a folder, without documents and files of the operating system."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePath

#: Suffixes of the tables that can be read; text may be compressed.
SUFFIXES = (".parquet", ".csv", ".tsv", ".txt")
COMPRESSIONS = (".gz", ".bz2", ".zst", ".lz4")

_DOCUMENT = re.compile(r"(readme|licen[cs]e|copying|notice|changelog)([-_. ].*)?", re.IGNORECASE)
_DOCUMENT_SUFFIXES = ("", ".txt", ".md", ".rst", ".pdf", ".html", ".htm", ".bib", ".cff")
_JUNK = {"__macosx", "thumbs.db", "desktop.ini", "_success", "_committed", "_started"}


def is_junk(path: PurePath | str) -> bool:
    """Return whether a path is, or is within, something that an operating system or a program left.

    Such are hidden files (``.DS_Store``, ``._a.inter``, ``.git``), ``__MACOSX`` and ``_SUCCESS``.
    """
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.lower() in _JUNK
        for part in PurePath(path).parts
    )


def is_document(path: PurePath | str) -> bool:
    """Return whether a file is a document such as README or LICENSE."""
    path = PurePath(path)
    known = path.suffix.lower() in _DOCUMENT_SUFFIXES
    return known and _DOCUMENT.fullmatch(path.name) is not None


def data_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the entries of a folder that match a pattern, sorted, without junk and documents."""
    return [p for p in _sorted(folder.glob(pattern)) if not (is_junk(p.name) or is_document(p))]


def data_root(folder: Path) -> Path:
    """Return the folder that holds the data of an archive: the given one, or the only one in it,
    beside which there may be documents and junk.
    """
    entries = data_files(folder)
    if len(entries) == 1 and entries[0].is_dir() and table_suffix(entries[0]) not in SUFFIXES:
        return entries[0]
    return folder


def table_suffix(path: PurePath) -> str:
    """Return a table's suffix in lower case, whether it is compressed or not: ``.tsv``."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return PurePath(name).suffix


def table_stem(path: PurePath) -> str:
    """Return a table's name without its suffixes: ``items`` of ``items.csv.gz``."""
    name = path.name
    for compression in COMPRESSIONS:
        if name.lower().endswith(compression):
            name = name[: -len(compression)]
            break
    return PurePath(name).stem


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.as_posix())
