"""Explanation of one score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphdiff.figures import BLUE, ORANGE, new_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Explanation:
    """One score as a sum of parts.

    Attributes:
        score: The score of the item.
        parts: The parts by name; they sum to ``score``.
        gate: The user's weight of each modality.
        history: The user's items by index with their contributions to the score, largest first.
    """

    score: float
    parts: dict[str, float]
    gate: dict[str, float]
    history: list[tuple[int, float]]

    def plot(self, path: str | Path, name: Callable[[int], Any] = str) -> None:
        """Draw the parts of the score, the contributions of the history, and the gate.

        Args:
            path: File of the figure; its suffix is the format, such as ``.svg`` or ``.png``.
            name: Returns the label of an item from its index, such as
                ``model.catalogue.item_id``.

        Raises:
            ConfigError: If the format is unknown.
            OSError: If the file cannot be written.
        """
        panels = {
            f"score {self.score:.2f} by part": {
                part.replace("_", " "): value for part, value in self.parts.items()
            },
            "contribution of the history": {
                f"item {name(index)}": value for index, value in self.history
            },
            "modality gate": self.gate,
        }
        panels = {title: bars for title, bars in panels.items() if bars}
        figure = new_figure(3.4 * len(panels), 0.9 + 0.26 * max(map(len, panels.values())))
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, bars) in zip(row, panels.items(), strict=True):
            _draw_bars(axes, title, bars)
        write_figure(figure, path)


def _draw_bars(axes: Axes, title: str, bars: dict[str, float]) -> None:
    """Draw horizontal bars with their values, the first at the top, negative ones in orange."""
    place = range(len(bars))
    colours = [BLUE if value >= 0 else ORANGE for value in bars.values()]
    drawn = axes.barh(place, list(bars.values()), color=colours)
    axes.bar_label(drawn, fmt="%.2f", padding=2, fontsize=8)
    # Raw ids may contain dollars, which would be taken for mathematics.
    axes.set_yticks(place, list(bars), fontsize=9, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
