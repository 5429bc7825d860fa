"""Why an item is recommended."""

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
    """One score, taken apart.

    Attributes:
        score: The score of the item.
        parts: What it is made of, by name; they sum to ``score``.
        gate: Per modality, how much the person leans on it.
        history: Items of the user by index and what each adds to the score, the most first.
    """

    score: float
    parts: dict[str, float]
    gate: dict[str, float]
    history: list[tuple[int, float]]

    def plot(self, path: str | Path, name: Callable[[int], Any] = str) -> None:
        """Draws the parts of the score, the person's items that add most, and the gate.

        Args:
            path: Where the picture goes; the suffix says the format, such as ``.svg`` or ``.png``.
            name: What an item is called, from its index, such as ``model.catalogue.item_id``.

        Raises:
            ConfigError: If there is no such format.
            OSError: If it cannot be written.
        """
        panels = {
            f"score {self.score:.2f}, and what it is made of": {
                part.replace("_", " "): value for part, value in self.parts.items()
            },
            "items of the person, and what they add": {
                f"item {name(index)}": value for index, value in self.history
            },
            "leans on": self.gate,
        }
        panels = {title: bars for title, bars in panels.items() if bars}
        figure = new_figure(3.4 * len(panels), 0.9 + 0.26 * max(map(len, panels.values())))
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, bars) in zip(row, panels.items(), strict=True):
            _draw(axes, title, bars)
        write_figure(figure, path)


def _draw(axes: Axes, title: str, bars: dict[str, float]) -> None:
    """Horizontal bars with their values, the first at the top; those below zero in orange."""
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
