"""The critical-difference diagram of a ranking."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from graphdiff.experiments.ranks import DatasetRanks
from graphdiff.figures import BLUE, new_figure, write_figure

INK, GREY = "#222222", "#777777"
#: Heights in rows of text: of the axis over the first group, and between groups.
ABOVE, BETWEEN = 1.0, 0.4


def plot_ranking(of: DatasetRanks, names: Mapping[str, str], path: Path) -> None:
    """Draw mean ranks on an axis, and a bar over each group of models without significant
    differences (Demšar, JMLR 2006).

    Args:
        of: The ranking.
        names: Labels of its models.
        path: File to write; its suffix determines the format.

    Raises:
        ConfigError: If the suffix of ``path`` is no format of figures.
    """
    with rc_context({"font.size": 9, "text.parse_math": False, "svg.fonttype": "none"}):
        write_figure(_draw(of, names), path)


def _draw(of: DatasetRanks, names: Mapping[str, str]) -> Figure:
    mean, groups = of.mean, of.cliques()
    num = len(mean)
    half = (num + 1) // 2
    first_row = ABOVE + BETWEEN * len(groups) + 0.6
    figure = new_figure(8, 0.9 + 0.22 * (first_row + half))
    axes = figure.subplots()
    margin = 0.45 * num
    axes.set_xlim(1 - margin, num + margin)
    axes.set_ylim(first_row + half, -2.6)
    axes.axis("off")
    axes.plot([1, num], [0, 0], color=INK, linewidth=1)
    for rank in _ticks(num):
        axes.plot([rank, rank], [0, -0.25], color=INK, linewidth=1)
        axes.text(rank, -0.4, str(rank), ha="center", va="bottom", color=INK)
    # The critical difference, as a length at the axis' best end.
    width = min(of.critical_difference, num - 1)
    axes.plot([1, 1 + width], [-1.7, -1.7], color=GREY, linewidth=2)
    text = f"critical difference {of.critical_difference:.2f}"
    axes.text(1 + width / 2, -1.9, text, ha="center", va="bottom", color=GREY)
    for n, (name, rank) in enumerate(zip(of.models, mean, strict=True)):
        left = n < half
        row = first_row + (n if left else num - 1 - n)
        edge = 1 - 0.1 * margin if left else num + 0.1 * margin
        color = BLUE if n == 0 else INK
        axes.plot([rank, rank, edge], [0, row, row], color=color, linewidth=0.8)
        side = "right" if left else "left"
        shift = -0.03 * margin if left else 0.03 * margin
        axes.text(
            edge + shift, row, f"{names[name]}  {rank:.2f}", ha=side, va="center", color=color
        )
    for n, (first, last) in enumerate(groups):
        height = ABOVE + BETWEEN * n
        axes.plot([mean[first], mean[last]], [height] * 2, color=GREY, linewidth=3, alpha=0.8)
    return figure


def _ticks(num: int) -> list[int]:
    """Return the ranks that the axis shows: all, or some of many."""
    step = 1 if num <= 12 else 2 if num <= 24 else 4
    return [*range(1, num + 1, step)]
