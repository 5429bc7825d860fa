"""A comparison to look at: one self-contained HTML page, and a table in Markdown."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from jinja2 import Environment, FileSystemLoader

from graphdiff.files import write_text
from graphdiff.models.registry import get_model

COLUMNS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20", "precision@20", "hit_ratio@20",
           "map@20", "mrr@20", "coverage@20")  # fmt: skip
#: Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442")


def write_report(result: dict[str, Any], path: Path) -> None:
    """Renders the JSON of accuracy.py as HTML."""
    ranked = sorted(result["models"], key=lambda n: -_mean(result, n, "test", "recall@20"))
    labels = {name: get_model(name).__name__ for name in ranked}
    best = {c: max(_mean(result, name, "test", c) for name in ranked) for c in COLUMNS}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    page = environment.get_template("report.html.jinja").render(
        result=result,
        ranked=ranked,
        labels=labels,
        columns=COLUMNS,
        best=best,
        bars=_svg(lambda: _bars(result, ranked, labels)),
        curves=_svg(lambda: _curves(result, ranked, labels)),
        cost=_svg(lambda: _cost(result, ranked, labels)),
    )
    write_text(path, page)


def write_markdown(result: dict[str, Any], path: Path) -> None:
    """The accuracy and cost of a comparison as a Markdown page."""
    metrics = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
    protocol, machine = result["protocol"], result["machine"]
    ranked = sorted(result["models"], key=lambda n: -_mean(result, n, "test", "recall@20"))
    lines = [
        f"# {result['dataset']}",
        "",
        f"Test figures, mean ± standard deviation over seeds; {protocol['ranking']}; epoch chosen "
        f"by {protocol['epoch_chosen_by']}. *val* is the validation recall@20 of that epoch; "
        "*trials* counts the settings that tuning tried, 0 standing for the defaults.",
        "",
        f"| model | {' | '.join(metrics)} | val | seeds | trials | epochs | s/epoch | parameters |",
        "| --- |" + " ---: |" * (len(metrics) + 6),
    ]
    for name in ranked:
        entry = result["models"][name]
        mean, std = entry["mean"], entry["std"]
        cells = [f"{mean['test'][m]:.4f} ± {std['test'][m]:.4f}" for m in metrics]
        cells += [
            f"{mean['val']['recall@20']:.4f}",
            str(len(entry["seeds"])),
            str(entry["tuning"]["trials"]),
            f"{mean['epochs']:.0f}",
            f"{mean['seconds_per_epoch']:.2f}",
            f"{mean['parameters']:,.0f}",
        ]
        lines.append(f"| {get_model(name).__name__} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Measured on {machine['processor']}, {machine['threads']} thread(s), {machine['device']}; "
        f"torch {machine['torch']}. Data fingerprint {result['fingerprint']}.",
    ]
    write_text(path, "\n".join(lines) + "\n")


def _mean(result: dict[str, Any], name: str, split: str, metric: str) -> float:
    return result["models"][name]["mean"][split][metric]


def _svg(draw: Callable[[], plt.Figure]) -> str:
    """A figure as a data URI, so that the page needs no other file."""
    # A fixed salt makes the same figures give the same page.
    with plt.rc_context({"svg.hashsalt": "graphdiff", "font.size": 10}):
        figure = draw()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _bars(result: dict[str, Any], ranked: list[str], labels: dict[str, str]) -> plt.Figure:
    metrics = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
    figure, axes = plt.subplots(figsize=(7.5, 3.2))
    width = 0.8 / len(ranked)
    for position, name in enumerate(ranked):
        entry = result["models"][name]
        several = len(entry["seeds"]) > 1
        axes.bar(
            [x + position * width for x in range(len(metrics))],
            [entry["mean"]["test"][m] for m in metrics],
            width,
            yerr=[entry["std"]["test"][m] for m in metrics] if several else None,
            capsize=2,
            label=labels[name],
            color=COLOURS[position % len(COLOURS)],
        )
    axes.set_xticks([x + 0.4 - width / 2 for x in range(len(metrics))], metrics)
    axes.set_ylabel("test, mean ± std over seeds" if several else "test")
    axes.legend(frameon=False)
    _plain(axes)
    return figure


def _curves(result: dict[str, Any], ranked: list[str], labels: dict[str, str]) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(7.5, 3.2))
    for position, name in enumerate(ranked):
        for cell in result["models"][name]["seeds"]:
            history = cell["history"]
            axes.plot(
                [row["epoch"] for row in history],
                [row["recall@20"] for row in history],
                color=COLOURS[position % len(COLOURS)],
                label=labels[name] if cell["seed"] == 0 else None,
                linewidth=1.3,
            )
            axes.plot(
                cell["best_epoch"],
                cell["val"]["recall@20"],
                "o",
                color=COLOURS[position % len(COLOURS)],
            )
    axes.set_xlabel("epoch (dot: the one that validation chose)")
    axes.set_ylabel("validation recall@20")
    axes.legend(frameon=False)
    _plain(axes)
    return figure


def _cost(result: dict[str, Any], ranked: list[str], labels: dict[str, str]) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(7.5, 3.2))
    for position, name in enumerate(ranked):
        mean = result["models"][name]["mean"]
        x, y = mean["train_seconds"], mean["test"]["recall@20"]
        axes.plot(x, y, "o", markersize=9, color=COLOURS[position % len(COLOURS)])
        axes.annotate(labels[name], (x, y), xytext=(8, -3), textcoords="offset points")
    axes.set_xscale("log")
    axes.margins(0.25)
    axes.set_xlabel("training seconds (log)")
    axes.set_ylabel("test recall@20")
    _plain(axes)
    return figure


def _plain(axes: plt.Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
