"""Terminal output: data is printed as it is, never as rich's markup.

Raw ids, paths and messages may contain brackets (``[red]``) or emoji codes (``:smile:``), which
rich would interpret, and control characters, which the terminal would. Everything that is printed
goes through these functions.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

# Text, or text with a rich style, such as ("ok", "green").
Part = str | tuple[str, str]

# Control characters, lone surrogates, and separators of lines and paragraphs.
_INVISIBLE = {"Cc", "Cs", "Zl", "Zp"}
_BIDIRECTIONAL = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def visible(text: str) -> str:
    """Return ``text`` with control characters as escapes, such as ``\\n`` for a line break."""
    return "".join(
        repr(c)[1:-1] if unicodedata.category(c) in _INVISIBLE or ord(c) in _BIDIRECTIONAL else c
        for c in text
    )


def print_text(*parts: Part, stderr: bool = False) -> None:
    """Print one line, of any width.

    Args:
        *parts: Pieces of the line: text, or text with a rich style such as ``("ok", "green")``.
        stderr: Print to standard error.
    """
    _console(stderr).print(_text(*parts), soft_wrap=True)


def print_status(text: str) -> None:
    """Print a line on the progress of a computation to standard error."""
    print_text(text, stderr=True)


def print_table(header: Sequence[str], rows: Iterable[Sequence[Part]]) -> None:
    """Print a table, as :func:`show_table` does.

    Args:
        header: Names of the columns.
        rows: Cells of each row: text, or text with a rich style.
    """
    table = Table()
    for name in header:
        table.add_column(_text(name), overflow="fold")
    for row in rows:
        table.add_row(*map(_text, row))
    show_table(table)


def show_table(table: Table) -> None:
    """Print a table of rich. Where the output is not a terminal, cells are never wrapped."""
    console = _console()
    if not console.is_terminal:
        console.width = max(console.width, _width(console, table))
    console.print(table)


def _text(*parts: Part) -> Text:
    return Text.assemble(
        *(visible(p) if isinstance(p, str) else (visible(p[0]), p[1]) for p in parts)
    )


def _console(stderr: bool = False) -> Console:
    # Made for each call, since tests and notebooks replace the standard streams.
    file: Any = sys.stderr if stderr else sys.stdout
    return Console(file=file, highlight=False, markup=False, emoji=False)


def _width(console: Console, table: Table) -> int:
    options = console.options.update(width=2**16)
    return Measurement.get(console, options, table).maximum
