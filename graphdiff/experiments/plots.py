"""The figures of a report, as data URIs, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from graphdiff.experiments import tables
from graphdiff.experiments.published import published
from graphdiff.figures import new_figure

#: Okabe and Ito's colours, which colour-blind readers can distinguish.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#000000")
LINES = ("-", "--", ":", "-.")
MARKERS = "osD^vP*X"
SIZE = (7.5, 3.4)


class Plot(NamedTuple):
    """A plot with its heading, its text for screen readers, and its data URI."""

    title: str
    alt: str
    uri: str


class Style(NamedTuple):
    """The appearance of a model in all plots."""

    label: str
    color: str
    line: str
    marker: str


def plots(result: dict[str, Any]) -> list[Plot]:
    """Return all plots that a comparison has the figures for."""
    ranked = tables.ranked(result["models"])
    styles = {
        name: Style(
            tables.label(result, name),
            COLOURS[n % len(COLOURS)],
            LINES[n // len(COLOURS) % len(LINES)],
            MARKERS[n % len(MARKERS)],
        )
        for n, name in enumerate(ranked)
    }
    drawn: list[tuple[str, str, Callable[..., Figure]]] = [
        ("Accuracy", "Bar chart of test metrics per model", _bars),
        ("Learning curves", "Validation recall@20 per epoch and model", _curves),
        ("Accuracy against training time", "Test recall@20 against training seconds", _cost),
    ]
    if _names(result, styles, "users"):
        drawn.append(
            ("Accuracy by user activity", "Test metrics by training interactions", _activity)
        )
    if _names(result, styles, "items"):
        drawn.append(
            ("Accuracy by item popularity", "Test metrics from cold to head items", _popularity)
        )
    if result.get("dropped_features"):
        drawn.append(
            ("Accuracy with features removed", "Test recall@20 by the share missing", _dropped)
        )
    return [Plot(title, alt, _uri(draw(result, styles))) for title, alt, draw in drawn]


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # A fixed salt instead of random identifiers.
    with rc_context({"svg.hashsalt": "graphdiff"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


def open_figure(width: float, height: float) -> Figure:
    """Return an empty figure for :func:`svg`, which makes it as large as its content needs.

    Args:
        width: Width without legends, in inches.
        height: Height without legends, in inches.
    """
    figure = new_figure(width, height)
    # A layout engine would squeeze the axes to make room for tall legends beside them.
    figure.set_layout_engine("none")
    return figure


def add_legend(axes: Axes) -> None:
    """Add a legend beside the axes, in as many columns as it needs to be no taller."""
    entries = len(axes.get_legend_handles_labels()[1])
    axes.legend(
        frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), ncols=max(1, -(-entries // 12))
    )


def _uri(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg(figure)).decode()


def _bars(result: dict[str, Any], styles: dict[str, Style]) -> Figure:
    figure = open_figure(*SIZE)
    axes = figure.subplots()
    width = 0.8 / len(styles)
    several = any(len(result["models"][name]["seeds"]) > 1 for name in styles)
    for position, (name, style) in enumerate(styles.items()):
        entry = result["models"][name]
        axes.bar(
            [x + position * width for x in range(len(tables.SHOWN))],
            [entry["mean"]["test"][m] for m in tables.SHOWN],
            width,
            yerr=[entry["std"]["test"][m] for m in tables.SHOWN] if several else None,
            capsize=2,
            label=style.label,
            color=style.color,
            hatch="/" * (list(LINES).index(style.line)),
        )
    axes.set_xticks([x + 0.4 - width / 2 for x in range(len(tables.SHOWN))], tables.SHOWN)
    axes.set_ylabel("test, mean ± std over seeds" if several else "test")
    _finish(axes)
    return figure


def _curves(result: dict[str, Any], styles: dict[str, Style]) -> Figure:
    figure = open_figure(*SIZE)
    axes = figure.subplots()
    for name, style in styles.items():
        for number, cell in enumerate(result["models"][name]["seeds"]):
            look: dict[str, Any] = {
                "color": style.color,
                "label": style.label if number == 0 else None,
            }
            history = cell["history"]
            if len(history) == 1:
                # A model that is solved at once has no curve; its level is drawn.
                axes.axhline(history[0]["recall@20"], linewidth=1, linestyle=":", **look)
                continue
            epochs = [row["epoch"] for row in history]
            values = [row["recall@20"] for row in history]
            axes.plot(epochs, values, linewidth=1.3, linestyle=style.line, **look)
            axes.plot(cell["best_epoch"], cell["val"]["recall@20"], "o", color=style.color)
    axes.set_xlabel("epoch (dot: selected by validation; dotted line: solved at once)")
    axes.set_ylabel("validation recall@20")
    _finish(axes)
    return figure


def _cost(result: dict[str, Any], styles: dict[str, Style]) -> Figure:
    figure = open_figure(*SIZE)
    axes = figure.subplots()
    for name, style in styles.items():
        mean = result["models"][name]["mean"]
        # A logarithmic axis has no zero.
        x, y = max(mean["train_seconds"], 1e-3), mean["test"]["recall@20"]
        axes.plot(x, y, style.marker, markersize=9, color=style.color)
        axes.annotate(style.label, (x, y), xytext=(8, -3), textcoords="offset points")
    axes.set_xscale("log")
    axes.margins(0.25)
    for reference in published(result).references:
        axes.axhline(reference["recall@20"], color="#555555", linewidth=1, linestyle="--")
        axes.annotate(
            f"{reference['title']}, published",
            (0.01, reference["recall@20"]),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            color="#555555",
        )
    axes.set_xlabel("training seconds (log)")
    axes.set_ylabel("test recall@20")
    _plain(axes)
    return figure


def _activity(result: dict[str, Any], styles: dict[str, Style]) -> Figure:
    return _by_group(result, styles, "users", "training interactions of the user")


def _popularity(result: dict[str, Any], styles: dict[str, Style]) -> Figure:
    return _by_group(result, styles, "items", "popularity of the held-out item")


def _by_group(result: dict[str, Any], styles: dict[str, Style], kind: str, title: str) -> Figure:
    figure = open_figure(9.5, 3.4)
    both = figure.subplots(1, 2, gridspec_kw={"wspace": 0.3})
    for axes, metric in zip(both, ("recall@20", "ndcg@20"), strict=True):
        names = _names(result, styles, kind)
        for name, style in styles.items():
            means = result["models"][name]["mean"].get("groups", {}).get(kind, {})
            if all(one in means for one in names):
                axes.plot(
                    range(len(names)),
                    [means[one][metric] for one in names],
                    color=style.color,
                    linestyle=style.line,
                    marker=style.marker,
                    label=style.label,
                )
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel(title)
        axes.set_ylabel(f"test {metric}")
        _plain(axes)
    add_legend(both[1])
    return figure


def _names(result: dict[str, Any], styles: dict[str, Style], kind: str) -> list[str]:
    """Return the groups that some model has figures of, in order."""
    means = [result["models"][name]["mean"].get("groups", {}).get(kind, {}) for name in styles]
    described = result.get("groups", {}).get(kind, [])
    return [one["name"] for one in described if any(one["name"] in mean for mean in means)]


def _dropped(result: dict[str, Any], styles: dict[str, Style]) -> Figure:
    figure = open_figure(*SIZE)
    axes = figure.subplots()
    sections = result["dropped_features"]
    shares = sorted(sections, key=float)
    for name, style in styles.items():
        points = [(0.0, result["models"][name]["mean"]["test"]["recall@20"])]
        points += [
            (100 * float(share), sections[share]["models"][name]["mean"]["test"]["recall@20"])
            for share in shares
            if name in sections[share]["models"]
        ]
        look: dict[str, Any] = {"color": style.color, "linestyle": style.line, "label": style.label}
        if len(points) == 1:
            axes.axhline(points[0][1], linewidth=1, **look)
        else:
            axes.plot(*zip(*points, strict=True), marker=style.marker, **look)
    axes.set_xlabel("feature rows removed, % (level line: a model without features)")
    axes.set_ylabel("test recall@20")
    _finish(axes)
    return figure


def _finish(axes: Axes) -> None:
    add_legend(axes)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
