"""A comparison as a page: one self-contained HTML file, Markdown, LaTeX or the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from graphdiff.console import visible
from graphdiff.errors import ConfigError
from graphdiff.experiments import tables
from graphdiff.experiments.conclusion import about_data, conclusion
from graphdiff.experiments.notes import masking, notes
from graphdiff.experiments.report_plots import plots
from graphdiff.experiments.tables import Entry, Table
from graphdiff.files import make_folder, write_text

TEMPLATE = Path(__file__).with_name("report.html.jinja")


def write_page(result: dict[str, Any], path: Path) -> None:
    """Write a comparison in the format that the suffix of ``path`` names.

    Args:
        result: The content of the JSON file of a comparison.
        path: File to write: ``.html``, ``.md`` or ``.tex``.

    Raises:
        ConfigError: If the suffix is another.
    """
    if path.suffix not in WRITERS:
        raise ConfigError(
            f"{path} has no known format; give a name that ends in {', '.join(WRITERS)}"
        )
    make_folder(path.parent)
    WRITERS[path.suffix](result, path)


def write_html(
    result: dict[str, Any],
    path: Path,
    others: Sequence[dict[str, Any]] = (),
    names: Sequence[str] | None = None,
) -> None:
    """Write a comparison as a self-contained HTML page.

    Args:
        result: The content of the JSON file of a comparison.
        path: File to write.
        others: Contents of comparisons on other data, for a plot of ranks.
        names: Names of the datasets of all these in that plot; see
            :func:`graphdiff.experiments.ranks.ranking`.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, trim_blocks=True
    )
    page = environment.get_template(TEMPLATE.name).render(
        result=result,
        ranked=tables.ranked(result["models"]),
        labels={name: tables.label(result, name) for name in result["models"]},
        masking=masking(result),
        accuracy=tables.accuracy(result),
        further=[*_further(result), tables.all_metrics(result)],
        notes=notes(result),
        summary=_summary(result),
        plots=plots(result, others, names),
    )
    write_text(path, page)


def write_markdown(result: dict[str, Any], path: Path) -> None:
    """Write all tables of a comparison as a Markdown page."""
    lines = [f"# {result['dataset']}", ""]
    for sentence in _summary(result):
        lines += [_text(sentence), ""]
    lines += [*table_to_markdown(tables.accuracy(result)), ""]
    lines += [f"- {_text(note)}" for note in notes(result)]
    for table in _further(result):
        lines += ["", f"## {table.title}", "", *table_to_markdown(table)]
    write_text(path, "\n".join(lines) + "\n")


def _summary(result: dict[str, Any]) -> list[str]:
    return [one for one in (conclusion(result), about_data(result)) if one]


def write_latex(result: dict[str, Any], path: Path) -> None:
    """Write the accuracy and the cost of a comparison as LaTeX tables, for ``booktabs``."""
    parts = ["% \\usepackage{booktabs}"]
    name = re.sub(r"[^a-z0-9]+", "-", result["dataset"].lower())
    accuracy, cost = tables.accuracy(result), tables.cost(result)
    caption = f"{accuracy.title}; {masking(result)}"
    parts += ["", *_latex(accuracy, caption, f"tab:{name}-accuracy", notes(result))]
    parts += ["", *_latex(cost, cost.title, f"tab:{name}-cost", [cost.note])]
    write_text(path, "\n".join(parts) + "\n")


#: Functions by suffix of the file that they write.
WRITERS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    ".html": write_html,
    ".md": write_markdown,
    ".tex": write_latex,
}


def print_table(result: dict[str, Any], console: Console) -> None:
    """Print accuracy, cost and notes.

    Args:
        result: The content of the JSON file of a comparison.
        console: Where they are printed.
    """
    for table in (tables.accuracy(result), tables.cost(result)):
        console.print(rich_table(table))
    for note in notes(result):
        style = "yellow" if note.startswith(("Warning", "Skipped")) else "dim"
        console.print(Text(visible(note), style), soft_wrap=True)


def rich_table(table: Table) -> RichTable:
    """Return a table for the terminal, without its note."""
    out = RichTable()
    for n, name in enumerate(table.head):
        out.add_column(name, justify="right" if n else "left", overflow="fold")
    for row in table.rows:
        out.add_row(*map(_rich, row))
    return out


def _rich(entry: Entry) -> Text:
    text = " ".join(filter(None, (entry.text + entry.mark, entry.spread)))
    return Text(visible(text), "bold" if entry.best else "")


def _further(result: dict[str, Any]) -> list[Table]:
    """Return all tables except the first."""
    dropped, beyond = tables.dropped(result), tables.beyond(result)
    return [
        *tables.evidence(result),
        *tables.groups(result),
        *([beyond] if beyond else []),
        *([dropped] if dropped else []),
        tables.cost(result),
    ]


def table_to_markdown(table: Table) -> list[str]:
    """Return the lines of a table in Markdown, with its note below it."""

    def shown(entry: Entry) -> str:
        text = f"**{entry.text}**" if entry.best else entry.text
        return _text(" ".join(filter(None, (text, entry.spread)))) + entry.mark.replace("*", "\\*")

    lines = markdown_table(
        list(map(_text, table.head)), [[shown(entry) for entry in row] for row in table.rows]
    )
    return [*lines, "", _text(table.note)] if table.note else lines


def markdown_table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table; all columns but the first are aligned right."""
    return [
        f"| {' | '.join(head)} |",
        "| --- |" + " ---: |" * (len(head) - 1),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _text(text: str) -> str:
    # A bar would end a cell, and a lone asterisk begin emphasis.
    return re.sub(r"(?<!\*)\*(?!\*)", r"\\*", text.replace("|", "\\|"))


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "–": "--", "…": r"\ldots{}",
    "<": "$<$", ">": "$>$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_LATEX.get(one, one) for one in text)


def _latex(table: Table, caption: str, name: str, remarks: list[str]) -> list[str]:
    def shown(entry: Entry) -> str:
        text = rf"\textbf{{{_tex(entry.text)}}}" if entry.best else _tex(entry.text)
        mark = rf"\textsuperscript{{{_tex(entry.mark)}}}" if entry.mark else ""
        spread = rf" {{\scriptsize {_tex(entry.spread)}}}" if entry.spread else ""
        return text + mark + spread

    return [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{_tex(caption)}}}",
        rf"\label{{{name}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
        r"\toprule",
        " & ".join(map(_tex, table.head)) + r" \\",
        r"\midrule",
        *(" & ".join(map(shown, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip\footnotesize",
        *(_tex(remark) for remark in remarks),
        r"\end{table*}",
    ]
