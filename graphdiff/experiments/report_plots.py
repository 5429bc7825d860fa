"""The figures of a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from graphdiff.evaluation.beyond_accuracy import BEYOND_ACCURACY
from graphdiff.experiments import tables
from graphdiff.experiments.evidence import GAINS
from graphdiff.experiments.plots import (
    GREY,
    INK,
    MOST_COLOURED,
    PALE,
    THEME,
    Style,
    inline_svg,
    label_ends,
    label_points,
    open_figure,
    plain_log,
    style,
    two_ticks,
)
from graphdiff.experiments.published import published
from graphdiff.experiments.ranks import ranking
from graphdiff.figures import BLUE, ORANGE

Result = dict[str, Any]
Styles = dict[str, Style]
METRICS = ("recall@20", "ndcg@20")
#: Widths of panels in inches: two of the first fit beside one another, and each on a phone.
WIDTH, WIDE = 4.2, 5.2


class Plot(NamedTuple):
    """A plot with its heading, what it shows, and the SVG elements of its panels."""

    title: str
    caption: str
    panels: list[str]


def plots(
    result: Result, others: Sequence[Result] = (), names: Sequence[str] | None = None
) -> list[Plot]:
    """Return all plots that a comparison has the figures for.

    Args:
        result: The content of the JSON file of a comparison.
        others: Those of comparisons of the same models on other data, for the ranks.
        names: Names of the datasets of all these in the plot of ranks; see
            :func:`graphdiff.experiments.ranks.ranking`.
    """
    ranked = tables.ranked(result["models"])
    styles = {name: style(tables.label(result, name), n) for n, name in enumerate(ranked)}
    grey = f" Grey: models below the best {MOST_COLOURED}." if len(ranked) > MOST_COLOURED else ""
    drawn: list[tuple[str, str, Callable[[], list[Figure]]]] = [
        ("Accuracy", _accuracy_caption(result), lambda: _accuracy(result, styles)),
        *_gains_of(result, styles),
        (
            "Accuracy against time",
            "Models on the line are the Pareto front: no other is both faster and more accurate. "
            f"Inference is the ranking of the catalogue for all test users.{_references(result)}",
            lambda: _cost(result, styles),
        ),
        (
            "Learning curves",
            "Dots: the epoch that validation selected. Dotted lines: models solved at once." + grey,
            lambda: _curves(result, styles),
        ),
    ]
    for kind, title, axis, size in (
        ("users", "Accuracy by user activity", "training interactions of the user", "users"),
        ("items", "Accuracy by item popularity", "popularity of the held-out item", "pairs"),
    ):
        if _names(result, styles, kind):
            caption = f"Test metrics by {axis}, with the number of {size}.{grey}"
            drawn.append((title, caption, partial(_by_group, result, styles, kind, axis)))
    if _beyond_names(result):
        caption = "Whose items are recommended, and how much lists differ; more is not always "
        caption += "better. The scale of each panel is its own."
        drawn.append(("Beyond accuracy", caption, lambda: _beyond(result, styles)))
    if result.get("dropped_features"):
        caption = f"A level line is a model that reads no features.{grey}"
        drawn.append(("Accuracy with features removed", caption, lambda: _dropped(result, styles)))
    if others:
        caption = "Rank by test recall@20 among the models that all comparisons have."
        results = [result, *others]
        drawn.append(("Ranks over datasets", caption, lambda: _ranks(results, names, styles)))
    with rc_context(THEME):
        return [
            Plot(title, caption, [inline_svg(one, f"{title}. {caption}") for one in figures])
            for title, caption, draw in drawn
            if (figures := draw())
        ]


def _accuracy_caption(result: Result) -> str:
    if (result.get("statistics") or {}).get("metrics"):
        return "Test metrics; lines: 95 % intervals over users."
    if any(len(one["seeds"]) > 1 for one in result["models"].values()):
        return "Test metrics; lines: standard deviation over seeds."
    return "Test metrics."


def _accuracy(result: Result, styles: Styles) -> list[Figure]:
    """Bars of two metrics, the best model on top, with intervals."""
    figures = []
    for metric in METRICS:
        figure = open_figure(WIDTH, 0.7 + 0.25 * len(styles))
        axes = figure.subplots()
        for place, name in enumerate(styles):
            entry = result["models"][name]
            value = entry["mean"]["test"][metric]
            low, high = _ends(result, name, metric)
            axes.barh(place, value, 0.7, color=BLUE if place == 0 else PALE)
            if high > low:
                axes.plot([low, high], [place, place], color=INK, linewidth=1.2)
            text = f"{value:.4f}{tables.mark(result, name, metric)}"
            axes.annotate(
                text, (max(high, value), place), (4, 0), textcoords="offset points", va="center"
            )
        axes.set_title(f"test {metric}", loc="left")
        axes.margins(x=0.24, y=0.02)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="y", visible=False)
        axes.set_yticks(range(len(styles)), [one.label for one in styles.values()])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        figures.append(figure)
    return figures


def _ends(result: Result, name: str, metric: str) -> tuple[float, float]:
    """Return the ends of a model's error bar; equal where there is none."""
    entry = result["models"][name]
    found = (result.get("statistics") or {}).get("metrics", {}).get(metric, {}).get(name)
    if found is not None:
        return found["interval"][0], found["interval"][1]
    mean, std = entry["mean"]["test"][metric], entry["std"]["test"][metric]
    return mean - std, mean + std


def _gains_of(result: Result, styles: Styles) -> list[tuple[str, str, Callable[[], list[Figure]]]]:
    best = next(iter(styles))
    gains = (result.get("statistics") or {}).get("gains", {}).get("recall@20", {}).get(best)
    if gains is None:
        return []
    name, rival = styles[best].label, tables.label(result, gains["rival"])
    caption = (
        f"Users by the difference of their recall@20: {name} is better than {rival} for "
        f"{gains['better']:,} users, worse for {gains['worse']:,}, and equal for "
        f"{gains['equal']:,}, who are left out of the figure."
    )
    title = f"Gain of each user, {name} against {rival}"
    return [(title, caption, lambda: _gains(gains))]


def _gains(gains: dict[str, Any]) -> list[Figure]:
    figure = open_figure(WIDE, 2.6)
    axes = figure.subplots()
    middles = (np.array(GAINS[1:]) + np.array(GAINS[:-1])) / 2
    colours = [BLUE if one > 0 else ORANGE for one in middles]
    axes.bar(middles, gains["counts"], 0.9 * (GAINS[1] - GAINS[0]), color=colours)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel("difference of recall@20")
    axes.set_ylabel("users")
    axes.grid(axis="x", visible=False)
    return [figure]


def _curves(result: Result, styles: Styles) -> list[Figure]:
    figure = open_figure(WIDE, 3.6)
    axes = figure.subplots()
    ends = []
    for name, look in reversed(styles.items()):
        width = 0.7 if look.color == GREY else 1.3
        for number, cell in enumerate(result["models"][name]["seeds"]):
            history = cell["history"]
            if len(history) == 1:
                # A model that is solved at once has no curve; its level is drawn.
                level = history[0]["recall@20"]
                axes.axhline(level, linewidth=width, linestyle=":", color=look.color)
                ends += [(inf, level, look)] * (number == 0)
                continue
            epochs = [row["epoch"] for row in history]
            values = [row["recall@20"] for row in history]
            axes.plot(epochs, values, linewidth=width, color=look.color)
            axes.plot(
                cell["best_epoch"],
                cell["val"]["recall@20"],
                "o",
                markersize=4 * width**0.5,
                color=look.color,
            )
            ends += [(epochs[-1], values[-1], look)] * (number == 0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation recall@20")
    axes.set_ylim(bottom=0)
    right = axes.get_xlim()[1]
    label_ends(axes, [(min(x, right), y, look) for x, y, look in _coloured(ends)])
    return [figure]


def _cost(result: Result, styles: Styles) -> list[Figure]:
    figures = []
    for key, title in (("train_seconds", "training"), ("inference_seconds", "inference")):
        figure = open_figure(WIDE, max(3.6, 0.24 * len(styles)))
        axes = figure.subplots()
        references = [one["recall@20"] for one in published(result).references]
        for value in references:
            axes.axhline(value, color=INK, alpha=0.6, linewidth=1, linestyle="--")
        means = {name: result["models"][name]["mean"] for name in styles}
        # A logarithmic axis has no zero.
        points = {
            name: (max(mean[key], 1e-2), mean["test"]["recall@20"]) for name, mean in means.items()
        }
        front = pareto_front(points)
        for name, (x, y) in points.items():
            look = styles[name]
            axes.plot(x, y, look.marker, markersize=7, color=look.color)
        axes.step(*zip(*(points[name] for name in front), strict=True), where="post", color=INK,
                  alpha=0.4, zorder=1, linewidth=1.5)  # fmt: skip
        axes.set_xlabel(f"{title} seconds, logarithmic scale")
        axes.set_ylabel("test recall@20")
        axes.margins(x=0.12, y=0.12)
        plain_log(axes)
        order = [*front, *(name for name in styles if name not in front)]
        lines = [(axes.get_xlim()[0], value, axes.get_xlim()[1], value) for value in references]
        for (x, y), (u, v) in pairwise(points[name] for name in front):
            lines += [(x, y, u, y), (u, y, u, v)]
        label_points(axes, [(*points[name], styles[name], name in front) for name in order], lines)
        figures.append(figure)
    return figures


def pareto_front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Return the names of the points ``(seconds, accuracy)`` that no other point beats in both,
    the fastest first.

    Example:
        >>> pareto_front({"a": (1.0, 0.1), "b": (2.0, 0.3), "c": (3.0, 0.2), "d": (2.0, 0.2)})
        ['a', 'b']
    """
    front: list[str] = []
    for name in sorted(points, key=lambda one: (points[one][0], -points[one][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def _references(result: Result) -> str:
    """Return a sentence about the published figures of models that graphdiff does not have."""
    listed = [f"{one['title']} ({one['recall@20']:.4f})" for one in published(result).references]
    return f" Dashed: published figures of {', '.join(listed)}." if listed else ""


def _by_group(result: Result, styles: Styles, kind: str, title: str) -> list[Figure]:
    figures = []
    names = _names(result, styles, kind)
    counted = {"users": "users", "items": "test_pairs"}[kind]
    sizes = {one["name"]: one.get(counted) for one in result["groups"][kind]}
    ticks = [name if sizes[name] is None else f"{name}\n({sizes[name]:,})" for name in names]
    for metric in METRICS:
        figure = open_figure(WIDTH, 3.6)
        axes = figure.subplots()
        ends = []
        for name, look in reversed(styles.items()):
            means = result["models"][name]["mean"].get("groups", {}).get(kind, {})
            if all(one in means for one in names):
                values = [means[one][metric] for one in names]
                axes.plot(range(len(names)), values, **_line(look))
                ends.append((len(names) - 1.0, values[-1], look))
        axes.set_xticks(range(len(names)), ticks)
        axes.set_xlabel(title)
        axes.set_title(f"test {metric}", loc="left")
        axes.grid(axis="x", visible=False)
        axes.set_ylim(bottom=0)
        label_ends(axes, _coloured(ends))
        figures.append(figure)
    return figures


def _coloured(ends: list[tuple[float, float, Style]]) -> list[tuple[float, float, Style]]:
    return [one for one in ends if one[2].color != GREY]


def _line(look: Style) -> dict[str, Any]:
    """Return matplotlib's arguments of a line; grey ones are thin and have no markers."""
    if look.color == GREY:
        return {"color": GREY, "linewidth": 0.7}
    return {"color": look.color, "linewidth": 1.5, "marker": look.marker, "markersize": 5}


def _names(result: Result, styles: Styles, kind: str) -> list[str]:
    """Return the groups that some model has figures of, in order."""
    means = [result["models"][name]["mean"].get("groups", {}).get(kind, {}) for name in styles]
    described = result.get("groups", {}).get(kind, [])
    return [one["name"] for one in described if any(one["name"] in mean for mean in means)]


def _beyond_names(result: Result) -> list[str]:
    means = [one["mean"]["test"] for one in result["models"].values()]
    found = [name for name in BEYOND_ACCURACY if any(f"{name}@20" in mean for mean in means)]
    return ["coverage", *found] if found else []


def _beyond(result: Result, styles: Styles) -> list[Figure]:
    """Rows of panels of dots, a panel for each metric, with a line for each model."""
    figures = []
    metrics = _beyond_names(result)
    for names in (metrics[n : n + 3] for n in range(0, len(metrics), 3)):
        figure = open_figure(1.4 * len(names), 0.7 + 0.25 * len(styles))
        room = {"wspace": 0.4}
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False, gridspec_kw=room)[0]
        for axes, metric in zip(panels, names, strict=True):
            for place, (name, look) in enumerate(styles.items()):
                value = result["models"][name]["mean"]["test"].get(f"{metric}@20")
                if value is not None:
                    axes.plot(value, place, "o", markersize=6, color=look.color)
            title = metric.replace("_", "\n").replace("personalization", "personal-\nization")
            axes.set_title("Gini of\nexposure" if metric == "gini" else title)
            axes.margins(x=0.25)
            two_ticks(axes)
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(styles)), [one.label for one in styles.values()])
        panels[0].set_ylim(len(styles) - 0.5, -0.5)
        figures.append(figure)
    return figures


def _dropped(result: Result, styles: Styles) -> list[Figure]:
    figure = open_figure(WIDE, 3.6)
    axes = figure.subplots()
    sections = result["dropped_features"]
    shares = sorted(sections, key=float)
    last, ends = 100 * float(shares[-1]), []
    for name, look in reversed(styles.items()):
        points = [(0.0, result["models"][name]["mean"]["test"]["recall@20"])]
        points += [
            (100 * float(share), sections[share]["models"][name]["mean"]["test"]["recall@20"])
            for share in shares
            if name in sections[share]["models"]
        ]
        if len(points) == 1:
            axes.axhline(points[0][1], linewidth=1, color=look.color)
        else:
            axes.plot(*zip(*points, strict=True), **_line(look))
        ends.append((last, points[-1][1], look))
    axes.set_xlabel("feature rows removed, %")
    axes.set_ylabel("test recall@20")
    axes.set_ylim(bottom=0)
    label_ends(axes, _coloured(ends))
    return [figure]


def _ranks(results: Sequence[Result], names: Sequence[str] | None, styles: Styles) -> list[Figure]:
    """One line for each model over datasets, by rank; nothing where no two models are in all."""
    if len(set.intersection(*(set(one["models"]) for one in results))) < 2:
        return []
    of = ranking(results, names=names)
    num_models, num_datasets = of.ranks.shape
    figure = open_figure(1.5 + 1.1 * num_datasets, max(2.4, 0.28 * num_models))
    axes = figure.subplots()
    ends = []
    for name, places, mean in zip(of.models, of.ranks, of.mean, strict=True):
        look = styles[name]
        axes.plot(range(num_datasets), places, **_line(look))
        label = f"{look.label}, mean {mean:.1f}"
        ends.append((num_datasets - 1.0, float(places[-1]), look._replace(label=label)))
    axes.set_xticks(range(num_datasets), of.datasets)
    axes.set_yticks(range(1, num_models + 1))
    axes.set_ylim(num_models + 0.5, 0.5)
    axes.set_ylabel("rank")
    axes.grid(axis="y", visible=False)
    label_ends(axes, ends)
    return [figure]
