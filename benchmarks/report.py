"""A comparison to read: one self-contained HTML page, a page in Markdown, a table in LaTeX."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import plots
import tables
from jinja2 import Environment, FileSystemLoader
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable
from tables import Cell, Table

from graphdiff.files import write_text


def write_report(result: dict[str, Any], path: Path) -> None:
    """Renders a comparison as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    page = environment.get_template("report.html.jinja").render(
        result=result,
        ranked=tables.ranked(result["models"]),
        labels={name: tables.label(result, name) for name in result["models"]},
        accuracy=tables.accuracy(result),
        further=[*_further(result), tables.all_metrics(result)],
        notes=tables.notes(result),
        figures=plots.figures(result),
    )
    write_text(path, page)


def write_markdown(result: dict[str, Any], path: Path) -> None:
    """All tables of a comparison as a Markdown page."""
    lines = [f"# {result['dataset']}", "", *_markdown(tables.accuracy(result)), ""]
    lines += [f"- {_text(note)}" for note in tables.notes(result)]
    for table in _further(result):
        lines += ["", f"## {table.title}", "", *_markdown(table)]
        if table.note:
            lines += ["", _text(table.note)]
    write_text(path, "\n".join(lines) + "\n")


def write_latex(result: dict[str, Any], path: Path) -> None:
    """The accuracy and cost of a comparison as LaTeX tables, for a page with ``booktabs``."""
    parts = ["% \\usepackage{booktabs}"]
    name = re.sub(r"[^a-z0-9]+", "-", result["dataset"].lower())
    for kind, table, remarks in (
        ("accuracy", tables.accuracy(result), tables.notes(result)),
        ("cost", tables.cost(result), [tables.cost(result).note]),
    ):
        parts += ["", *_latex(table, f"tab:{name}-{kind}", remarks)]
    write_text(path, "\n".join(parts) + "\n")


def print_table(result: dict[str, Any], console: Console) -> None:
    """Accuracy and cost, and what must be known about them, on the terminal."""
    for table in (tables.accuracy(result), tables.cost(result)):
        out = RichTable()
        for n, name in enumerate(table.head):
            out.add_column(name, justify="right" if n else "left", overflow="fold")
        for row in table.rows:
            texts = [escape(" ".join(filter(None, (c.text + c.mark, c.spread)))) for c in row]
            out.add_row(
                *(f"[bold]{t}[/]" if c.best else t for t, c in zip(texts, row, strict=True))
            )
        console.print(out)
    for note in tables.notes(result):
        style = "yellow" if note.startswith(("Warning", "Skipped")) else "dim"
        console.print(escape(note), style=style, highlight=False, soft_wrap=True)


def _further(result: dict[str, Any]) -> list[Table]:
    """All tables but the first."""
    dropped = tables.dropped(result)
    return [
        *tables.evidence(result),
        *tables.groups(result),
        *([dropped] if dropped else []),
        tables.cost(result),
    ]


def _markdown(table: Table) -> list[str]:
    def told(cell: Cell) -> str:
        text = f"**{cell.text}**" if cell.best else cell.text
        return _text(" ".join(filter(None, (text, cell.spread)))) + cell.mark.replace("*", "\\*")

    return [
        f"| {' | '.join(map(_text, table.head))} |",
        "| --- |" + " ---: |" * (len(table.head) - 1),
        *(f"| {' | '.join(told(cell) for cell in row)} |" for row in table.rows),
    ]


def _text(text: str) -> str:
    # A bar would end a cell, and a lone asterisk begin emphasis.
    return re.sub(r"(?<!\*)\*(?!\*)", r"\\*", text.replace("|", "\\|"))


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "–": "--", "…": r"\ldots{}", "<": "$<$", ">": "$>$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_LATEX.get(one, one) for one in text)


def _latex(table: Table, name: str, remarks: list[str]) -> list[str]:
    def told(cell: Cell) -> str:
        text = rf"\textbf{{{_tex(cell.text)}}}" if cell.best else _tex(cell.text)
        mark = rf"$^{{{cell.mark}}}$" if cell.mark else ""
        spread = rf" {{\scriptsize {_tex(cell.spread)}}}" if cell.spread else ""
        return text + mark + spread

    return [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{_tex(table.title)}}}",
        rf"\label{{{name}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
        r"\toprule",
        " & ".join(map(_tex, table.head)) + r" \\",
        r"\midrule",
        *(" & ".join(map(told, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip\footnotesize",
        *(_tex(remark) for remark in remarks),
        r"\end{table*}",
    ]
