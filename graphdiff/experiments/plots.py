"""The style of all figures of experiments: colours, labels beside lines, SVG inside a page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from graphdiff.figures import BLUE, new_figure

#: Okabe and Ito's colours, which colour-blind readers can distinguish.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#000000")
LINES = ("-", "--", ":", "-.")
MARKERS = "osD^vP*X"
#: Placeholders for the colours of text, grid lines and lesser bars, which the page sets.
INK, GRID, PALE, GREY = "#010203", "#cfd0d1", "#73b1d6", "#999999"
#: Colours that are others where the page is dark.
SKY = "#56b4e9"
#: Size of all text in points, and the size of a line and of a letter in inches.
FONT, LINE_HEIGHT, LETTER = 10, 0.18, 0.092
#: Models that a figure of lines distinguishes by colour; the others are grey.
MOST_COLOURED = len(COLOURS) - 1
#: matplotlib's settings for figures of a page.
THEME: Any = {
    "font.size": FONT, "axes.labelsize": FONT, "axes.titlesize": FONT, "xtick.labelsize": FONT,
    "ytick.labelsize": FONT, "legend.fontsize": FONT, "text.color": INK, "axes.labelcolor": INK,
    "axes.titlecolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "grid.color": GRID, "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "text.parse_math": False, "svg.fonttype": "none",
    "svg.hashsalt": "graphdiff",
}  # fmt: skip


class Style(NamedTuple):
    """The appearance of a model in all plots."""

    label: str
    color: str
    marker: str


def style(label: str, number: int) -> Style:
    """Return the appearance of the model with this number; those above :data:`MOST_COLOURED` are
    grey."""
    grey = number >= MOST_COLOURED
    palette = [INK if one == "#000000" else one for one in COLOURS if one != "#999999"]
    return Style(label, GREY if grey else palette[number], "o" if grey else MARKERS[number])


def svg(figure: Figure) -> bytes:
    """Return a figure as an SVG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # A fixed salt instead of random identifiers.
    with rc_context({"svg.hashsalt": "graphdiff"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


def inline_svg(figure: Figure, alt: str) -> str:
    """Return a figure, drawn with :data:`THEME`, as an element of an HTML page.

    Text stays text. Text, grid lines, blues and lesser bars have colours of the page:
    ``currentColor``, ``var(--line)``, ``var(--blue)``, ``var(--sky)`` and ``var(--pale)``.

    Args:
        figure: The figure.
        alt: Its text for screen readers.
    """
    buffer = io.BytesIO()
    with rc_context(THEME):
        figure.savefig(
            buffer, format="svg", bbox_inches="tight", metadata={"Date": None}, transparent=True
        )
    text = buffer.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    box = re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+) [\d.]+"', text)
    assert box is not None
    head = f'<svg role="img" aria-label="{escape(alt)}" {box[0]} width="{box[1]}pt">'
    text = head + text[text.index(">") + 1 :].replace("xlink:href", "href")
    # Identifiers that nothing refers to would be there once in each figure.
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda one: one[0] if one[1] in used else "", text)
    text = re.sub(r"font(-family)?: ?[^;\"]*'[^;\"]*", _plain_font, text)
    variables = {
        INK: "currentColor", GRID: "var(--line)", BLUE: "var(--blue)", SKY: "var(--sky)",
        PALE: "var(--pale)",
    }  # fmt: skip
    for color, variable in variables.items():
        text = text.replace(color, variable)
    return text.rstrip("\n")


def _plain_font(found: re.Match[str]) -> str:
    return "font-family: inherit" if found[1] else f"font: {FONT}px system-ui, sans-serif"


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


def plain_log(axes: Axes) -> None:
    """Make the horizontal axis logarithmic, with at least two ticks, as plain numbers that do not
    overlap. What the limits depend on must be final."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    width = axes_size(axes)[0] / math.log(high / low)
    for locator in (
        LogLocator(),
        LogLocator(subs=(1, 3)),
        LogLocator(subs=(1, 2, 5)),
        MaxNLocator(4),
    ):
        found = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
        if len(found) > 2:
            break
    axes.set_xticks(_apart(found, [width * math.log(tick / low) for tick in found]))
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def two_ticks(axes: Axes) -> None:
    """Leave at most two ticks of the horizontal axis, as labels in narrow axes would overlap. The
    limits must be final."""
    low, high = axes.get_xlim()
    width = axes_size(axes)[0] / (high - low)
    ticks = [tick for tick in MaxNLocator(3).tick_values(low, high) if low <= tick <= high]
    ticks = [ticks[0], ticks[-1]] if len(ticks) > 2 else ticks
    axes.set_xticks(_apart(ticks, [width * (tick - low) for tick in ticks]))


def _apart(ticks: Sequence[float], places: Sequence[float]) -> list[float]:
    """Return the first tick and those whose labels do not reach the label before.

    Args:
        ticks: The ticks, ascending.
        places: Where they are, in inches.
    """
    kept: list[float] = []
    end = -math.inf
    for tick, place in zip(ticks, places, strict=True):
        half = LETTER * (len(f"{tick:,g}") + 1) / 2
        if place - half > end:
            kept.append(tick)
            end = place + half
    return kept


def axes_size(axes: Axes) -> tuple[float, float]:
    """Return width and height of axes, in inches."""
    dpi = axes.figure.dpi
    return axes.bbox.width / dpi, axes.bbox.height / dpi


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, Style]]) -> None:
    """Write the labels of lines beside their ends, without overlap. The limits must be final.

    Args:
        axes: The axes.
        ends: Where each line ends, in data, and its style.
    """
    axes.get_xlim(), axes.get_ylim()  # They are computed when they are first asked for.
    gap = LINE_HEIGHT / axes_size(axes)[1]
    to_axes = axes.transScale + axes.transLimits
    places = sorted(
        ((float(to_axes.transform((x, y))[1]), (x, y), one) for x, y, one in ends),
        key=lambda place: place[0],
    )
    heights = spread([place[0] for place in places], gap)
    for (_, end, one), height in zip(places, heights, strict=True):
        axes.annotate(
            one.label,
            end,
            (1.06, height),
            textcoords="axes fraction",
            va="center",
            color=one.color,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": one.color, "linewidth": 0.6, "alpha": 0.7,
                "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 2,
            },
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return heights at least ``gap`` apart, in the same order, from 0 to 1 where there is room,
    and as near to the given ones as moving groups as a whole allows.

    Args:
        heights: Ascending.
        gap: The least distance.

    Example:
        >>> [round(one, 2) for one in spread([0.0, 0.5, 0.5, 1.0], 0.2)]
        [0.0, 0.4, 0.6, 1.0]
        >>> [round(one, 2) for one in spread([0.0, 0.0, 0.0], 0.2)]
        [0.0, 0.2, 0.4]
    """

    def inside(middle: float, count: int) -> float:
        reach = gap * (count - 1) / 2
        return 0.5 if reach > 0.5 else min(max(middle, reach), 1 - reach)

    groups: list[tuple[float, int]] = []  # each with its middle and the number of its members
    for height in heights:
        groups.append((inside(height, 1), 1))
        while len(groups) > 1:
            (low, n), (high, m) = groups[-2:]
            if high - low >= gap * (n + m) / 2 - 1e-12:
                break
            groups[-2:] = [(inside((low * n + high * m) / (n + m), n + m), n + m)]
    return [middle + gap * (k - (n - 1) / 2) for middle, n in groups for k in range(n)]


def label_points(
    axes: Axes,
    points: Sequence[tuple[float, float, Style, bool]],
    lines: Sequence[tuple[float, float, float, float]] = (),
) -> None:
    """Write labels beside points, where possible without overlap, and connect those that are not
    close. The limits must be final.

    Args:
        axes: The axes.
        points: Position in data, label with the colour of its connection, and whether it is bold;
            the first ones are placed first.
        lines: Level or upright lines that labels avoid: x and y of one end and of the other.
    """
    axes.get_xlim(), axes.get_ylim()
    width, height = axes_size(axes)
    to_axes = axes.transScale + axes.transLimits
    places = [to_axes.transform(point[:2]) * (width, height) for point in points]
    taken = [(x - 0.06, y - 0.06, x + 0.06, y + 0.06) for x, y in places]
    for line in lines:
        (x, y), (u, v) = (to_axes.transform(end) * (width, height) for end in (line[:2], line[2:]))
        taken.append((min(x, u), min(y, v) - 0.01, max(x, u) + 0.01, max(y, v) + 0.01))
    for (x, y), (data_x, data_y, look, is_bold) in zip(places, points, strict=True):
        size = LETTER * len(look.label) * (1.1 if is_bold else 1)
        candidates = [
            box
            for distance in (0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0)
            for dx, dy in _AROUND
            if (box := _box(x, y, dx * distance, dy * distance, size))[0] >= 0
            and box[2] <= width + 0.6 and box[1] >= 0 and box[3] <= height
        ]  # fmt: skip
        best = min(candidates, key=lambda box: _overlap(box, taken), default=None)
        if best is None:
            best = _box(x, y, 0.1, 0, size)
        taken.append(best)
        middle = (best[1] + best[3]) / 2
        distant = max(abs(middle - y), best[0] - x, x - best[2]) > 0.2
        axes.annotate(
            look.label,
            (data_x, data_y),
            (best[0] / width, middle / height),
            textcoords="axes fraction",
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": look.color, "linewidth": 0.7, "shrinkA": 0,
                "shrinkB": 3,
            } if distant else None,
            fontweight="bold" if is_bold else None,
        )  # fmt: skip


Box = tuple[float, float, float, float]
_AROUND = (
    (1, 0), (-1, 0), (0.3, 1), (0.3, -1), (-0.3, 1), (-0.3, -1), (1, 0.5), (1, -0.5), (-1, 0.5),
    (-1, -0.5), (1, 1), (1, -1), (-1, 1), (-1, -1),
)  # fmt: skip


def _box(x: float, y: float, dx: float, dy: float, size: float) -> Box:
    left = x + dx if dx > 0 else x + dx - size
    return (left, y + dy - LINE_HEIGHT / 2, left + size, y + dy + LINE_HEIGHT / 2)


def _overlap(box: Box, others: Sequence[Box]) -> float:
    return sum(
        max(0.0, min(box[2], one[2]) - max(box[0], one[0]))
        * max(0.0, min(box[3], one[3]) - max(box[1], one[1]))
        for one in others
    )
