"""A page about a dataset, complete in one HTML file."""

from __future__ import annotations

import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_geometric.data import HeteroData

from graphdiff.describe.oddities import oddities
from graphdiff.describe.plots import degree_figure, similarity_figure
from graphdiff.files import make_folder, write_text
from graphdiff.schema import modalities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #8886; text-align: right; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; background: #fff; border-radius: 8px; padding: .5rem; }
figure svg { width: 100%; height: auto; }
"""


def write_page(data: HeteroData, found: dict[str, Any], path: str | Path) -> None:
    """Write a page with the description of a dataset, what is unusual in it, and figures.

    Args:
        data: The graph.
        found: Its description, from :func:`~graphdiff.describe.describe_dataset` or
            :func:`~graphdiff.describe.describe`.
        path: The HTML file. It needs no network.

    Raises:
        StorageError: If the file cannot be written.
    """
    name = found.get("dataset", "Dataset")
    odd = oddities(found)
    parts = [f"<h1>{escape(str(name))}</h1>"]
    if odd:
        items = "".join(f"<li>{escape(line)}</li>" for line in odd)
        parts.append(f"<h2>Unusual</h2><ul>{items}</ul>")
    else:
        parts.append("<p>Nothing unusual was found.</p>")
    for title, header, rows in tables(found):
        parts.append(f"<h2>{escape(title)}</h2>{_table(header, rows)}")
        if title == "Degrees in training":
            parts.append(_svg(degree_figure(data), "Users and items by training interactions"))
    for modality in modalities(data):
        if bool(data["item"][f"has_{modality}"].any()):
            caption = f"Similarity of {modality} features within histories"
            parts += [
                f"<h2>{escape(modality)}</h2>",
                _svg(similarity_figure(data, modality), caption),
            ]
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width">'
        f"<title>{escape(str(name))}</title><style>{STYLE}</style><body>{''.join(parts)}</body>"
        "</html>\n"
    )
    path = Path(path)
    make_folder(path.parent)
    write_text(path, page)


def tables(found: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return a description as tables: title, names of the columns, and rows."""
    sizes = [["users", found["users"]], ["items", found["items"]]]
    sizes += [[f"{split} pairs", number] for split, number in found["pairs"].items()]
    sizes += [["sparsity", found["sparsity"]], ["times", "yes" if found["times"] else "no"]]
    sizes += [["fingerprint", found["fingerprint"]]]
    made = [("Sizes", ["", "value"], [[name, _value(value)] for name, value in sizes])]
    for title, groups in (
        ("Degrees in training", found["degrees"]),
        ("Held-out pairs", found["held_out"]),
        ("Modalities", found["modalities"]),
    ):
        if groups:
            made.append((title, *_grouped(groups)))
    pairs = {"repeated": found["repeated_pairs"], "shared": found["shared_pairs"]}
    rows = [
        [f"{kind} in {where}", _value(number)]
        for kind, numbers in pairs.items()
        for where, number in numbers.items()
        if number
    ]
    if rows:
        made.append(("Repeated and shared pairs", ["", "pairs"], rows))
    return made


def _grouped(groups: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return groups of the same properties as a table: one row per property."""
    names = list(groups)
    rows: list[list[str]] = []
    for key, value in groups[names[0]].items():
        inner = list(value) if isinstance(value, dict) else [None]
        for part in inner:
            label = key if part is None else f"{key}: {part}"
            values = [groups[n][key] if part is None else groups[n][key][part] for n in names]
            rows.append([label.replace("_", " "), *map(_value, values)])
    return ["", *names], rows


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(header: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(header, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _svg(figure: Figure, caption: str) -> str:
    from matplotlib import rc_context

    content = io.StringIO()
    with rc_context({"svg.hashsalt": "graphdiff"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    drawing = content.getvalue()
    return (
        f"<figure>{drawing[drawing.index('<svg') :]}<figcaption>{escape(caption)}</figcaption>"
        "</figure>"
    )
