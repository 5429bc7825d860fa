"""Explanation of one score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from graphdiff.figures import BLUE, ORANGE, new_figure, write_figure
from graphdiff.models.links import USERS, Link, because, link_graph

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes

#: Name of the part that is no sum over the items of the history.
REMAINDER = "remainder"
#: Colours of the relations, from Okabe and Ito's palette; modalities in order of their names.
RELATIONS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#d55e00")
# Inches: a bar with its gap, the title and margins of a panel, and the width of a panel.
BAR, MARGIN, PANEL = 0.26, 0.7, 3.6


class Contribution(NamedTuple):
    """What one item of the history adds to a score.

    Attributes:
        item: Index of the item.
        value: Its contribution.
        parts: The contribution by part; the parts sum to ``value``.
    """

    item: int
    value: float
    parts: dict[str, float]


@dataclass(frozen=True)
class Explanation:
    """One score as a sum of parts.

    All parts but ``remainder`` are sums over the items of the history. So the contributions of the
    items, ``sum(one.value for one in history) + unnamed``, are the score less its remainder.

    Attributes:
        item: Index of the item that is scored.
        score: Its score.
        parts: The parts by name; they sum to ``score``.
        remainder: What ``parts["remainder"]`` is made of: ``cnet``, by which C-Net changes the
            sum over the history, and ``bias``, the item's own.
        gate: The user's weight of each modality.
        history: Contributions of the user's items, largest first; at most as many as were asked
            for.
        unnamed: Sum of the contributions of the user's other items.
        links: How the items of ``history`` and the scored item are connected in the data.
    """

    item: int
    score: float
    parts: dict[str, float]
    remainder: dict[str, float]
    gate: dict[str, float]
    history: list[Contribution]
    unnamed: float = 0.0
    links: list[Link] = field(default_factory=list)

    def because(self, most: int = 2) -> list[tuple[int, list[str]]]:
        """Return the reasons in words: items of the history with a positive contribution, and why.

        A reason needs both: a connection in the data, and a positive contribution by it. Where
        an item has none, the largest part of its contribution is named.

        Args:
            most: Largest number of items.

        Returns:
            Pairs such as ``(14, ["similar image", "7 users in common"])``, the largest contribution
            first.
        """
        found = [one for one in self.history if one.value > 0][:most]
        return [(one.item, because(one.item, self.item, one.parts, self.links)) for one in found]

    def to_networkx(self, name: Callable[[int], Any] = str) -> nx.MultiDiGraph:
        """Return the reasons as a graph of items.

        Nodes are indices of items, with ``label`` and ``kind``: ``history`` (also with
        ``contribution``), ``recommended``, ``similar`` for an item that is similar to both, and
        ``users`` for an item of users who have one of the others. Edges lead from the history to
        the recommended item. Their key is the relation: the name of a modality, with the cosine of
        the features as ``weight``, or ``users``, with the number of common training users.

        Args:
            name: Returns the label of an item from its index.
        """
        contributions = {one.item: one.value for one in self.history}
        return link_graph(self.item, self.score, contributions, self.links, name)

    def plot(self, path: str | Path, name: Callable[[int], Any] | None = None) -> None:
        """Draw the parts of the score and the contributions of the history, and the gate if the
        user has one.

        Args:
            path: File of the figure; its suffix is the format, such as ``.svg`` or ``.png``.
            name: Returns the label of an item from its index, such as ``model.catalogue.title``.
                (default: ``item 7``)

        Raises:
            ConfigError: If the format is unknown.
            OSError: If the file cannot be written.
        """
        name = _numbered if name is None else name
        items = {one.item: (str(name(one.item)), one.value) for one in self.history}
        panels = {
            f"score {self.score:.2f}, by part": [
                (part.replace("_", ", "), value) for part, value in self.parts.items()
            ],
            "by item of the history": [
                *items.values(),
                *([("others", self.unnamed)] if self.unnamed else []),
                *([(REMAINDER, self.parts[REMAINDER])] if REMAINDER in self.parts else []),
            ],
            "weight of each modality": list(self.gate.items()),
        }
        panels = {title: bars for title, bars in panels.items() if bars}
        most = max(map(len, panels.values()))
        figure = new_figure(PANEL * len(panels), MARGIN + 0.3 + BAR * most)
        # Names may contain dollars, which would be taken for mathematics.
        figure.suptitle(str(name(self.item)), fontsize=11, fontweight="bold", parse_math=False)
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, bars) in zip(row, panels.items(), strict=True):
            _draw_bars(axes, title, bars, most)
        write_figure(figure, path)

    def plot_graph(self, path: str | Path, name: Callable[[int], Any] | None = None) -> None:
        """Draw :meth:`to_networkx`: the history on the left, the recommended item on the right.

        Args:
            path: File of the figure; its suffix is the format, such as ``.svg`` or ``.png``.
            name: Returns the label of an item from its index.

        Raises:
            ConfigError: If the format is unknown.
            OSError: If the file cannot be written.
        """
        graph = self.to_networkx(_numbered if name is None else name)
        columns = [
            [node for node, kind in graph.nodes(data="kind") if kind in kinds]
            for kinds in (("history",), ("similar", "users"), ("recommended",))
        ]
        tallest = max(map(len, columns))
        figure = new_figure(2.6 * PANEL, MARGIN + 0.5 * tallest)
        axes = figure.subplots()
        place = {
            node: (float(column), (tallest - len(nodes)) / 2 + n)
            for column, nodes in enumerate(columns)
            for n, node in enumerate(nodes)
        }
        _draw_edges(axes, graph, place)
        for node, (x, y) in place.items():
            axes.text(
                x, y, graph.nodes[node]["label"], ha="center", va="center", parse_math=False,
                fontsize=9, bbox={"boxstyle": "round,pad=0.4", "fc": "white", "ec": "#777777"},
            )  # fmt: skip
        axes.set(xlim=(-0.5, 2.5), ylim=(tallest - 0.4, -0.6))
        axes.axis("off")
        write_figure(figure, path)


def _numbered(index: int) -> str:
    return f"item {index}"


def _draw_bars(axes: Axes, title: str, bars: list[tuple[str, float]], most: int) -> None:
    """Draw horizontal bars with their values, the first at the top, negative ones in orange; bars
    are as thick as in a panel with ``most`` of them."""
    place, values = range(len(bars)), [value for _, value in bars]
    drawn = axes.barh(place, values, 0.7, color=[BLUE if one >= 0 else ORANGE for one in values])
    axes.bar_label(drawn, fmt="%.2f", padding=2, fontsize=9)
    axes.set_yticks(place, [label for label, _ in bars], fontsize=9, parse_math=False)
    axes.set_ylim(most - 0.5, -0.5)
    axes.margins(x=0.25)
    axes.axvline(0, color="#777777", linewidth=0.8)
    axes.set_title(title, fontsize=10)
    axes.tick_params(axis="x", labelsize=9)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_edges(axes: Axes, graph: nx.MultiDiGraph, place: dict[int, tuple[float, float]]) -> None:
    """Draw edges as curves, side by side where two nodes have several, with one legend entry for
    each relation."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyArrowPatch

    found = {key for _, _, key in graph.edges(keys=True)}
    relations = sorted(found, key=lambda one: (one == USERS, one))
    modalities = [one for one in relations if one != USERS]
    colours = {one: RELATIONS[n % len(RELATIONS)] for n, one in enumerate(modalities)}
    colours[USERS] = BLUE
    for source, target, key in graph.edges(keys=True):
        bend = 0.08 * (relations.index(key) - (len(relations) - 1) / 2)
        if place[target][0] - place[source][0] > 1:
            bend -= 0.2  # around the items between
        axes.add_patch(
            FancyArrowPatch(
                place[source],
                place[target],
                connectionstyle=f"arc3,rad={bend}",
                arrowstyle="-",
                color=colours[key],
                linewidth=1.4,
                zorder=0,
            )
        )
    names = {one: "common users" if one == USERS else f"similar {one}" for one in relations}
    axes.legend(
        [Line2D([], [], color=colours[one]) for one in relations],
        [names[one] for one in relations],
        loc="upper center", bbox_to_anchor=(0.5, 0), ncols=max(1, len(relations)),
        frameon=False, fontsize=9,
    )  # fmt: skip
