"""Recall against recall of items of the tail: what a discount of popularity buys, and costs.

    python benchmarks/tail.py --dataset lfm2k --root DIR --models ld4mrec mgcn smore --seeds 3 \
        --out tail.json --markdown tail.md

Each model is trained once per seed, with the settings that tuning found. Its validation lists are
then ranked with each discount (``recommend(popularity_discount=...)``), which needs no training.
Test pairs are not read. A plot NAME.svg is written beside the JSON file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import options as shared
from torch_geometric.data import HeteroData

from graphdiff.experiments.cells import Cell, CellList, summary
from graphdiff.experiments.compare import named_models
from graphdiff.experiments.graphs import given
from graphdiff.experiments.plots import COLOURS, MARKERS, add_legend, open_figure, svg
from graphdiff.experiments.tuned import tuned_settings
from graphdiff.files import write_bytes, write_text
from graphdiff.models.presets import NamedModel

DISCOUNTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
#: A curve ends where recall is below this share of what it is without a discount.
SHOWN = 0.5
RECALL, TAIL = "recall@20", "tail_recall@20"


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    result = shared.run_or_exit("tail.py", run, options)
    write_bytes((options.out or options.render).with_suffix(".svg"), plot(result))
    if options.markdown:
        write_text(options.markdown, page(result))
    print(f"figures: {options.render or options.out}")


def run(options: argparse.Namespace) -> CellList:
    """Train all models and seeds and rank with all discounts."""
    experiment, models = shared.cell_list(options), named_models(options.models)
    experiment.run(cells(experiment.data, options, models))
    experiment.save()
    return experiment


def cells(
    data: HeteroData, options: argparse.Namespace, models: list[NamedModel]
) -> Iterator[Cell]:
    """Yield all models and seeds."""
    discounts = sorted({0.0, *options.discounts})
    views = {f"{one:g}": {"popularity_discount": one} for one in discounts}
    graph = given(data)
    for model, seed in product(models, range(options.seeds)):
        settings = model.settings(tuned_settings(options.dataset, model.name))
        measured = {"test": False, "views": views}
        yield Cell(model.model, settings, seed, graph, {}, measured, model.preset)


def curves(result: dict[str, Any]) -> dict[str, list[tuple[float, float, float]]]:
    """Return by model its discounts with recall and tail recall, means over seeds, as far as recall
    is a fair share of what it is without one."""
    found = {}
    for name in dict.fromkeys(cell["key"]["model"] for cell in result["cells"]):
        one = summary(result["cells"], model=name)
        if one is None:
            continue
        points = [
            (float(discount), figures[RECALL], figures[TAIL])
            for discount, figures in one["mean"]["views"].items()
        ]
        found[name] = [point for point in points if point[1] >= SHOWN * points[0][1]]
    return found


def best_recall(curve: list[tuple[float, float, float]], tail: float) -> float | None:
    """Return the largest recall of a curve where its tail recall is at least the given one, between
    two measured discounts by linear interpolation; None where it never is.

    Example:
        >>> best_recall([(0.0, 0.4, 0.1), (1.0, 0.3, 0.3)], 0.2)
        0.35
    """
    reached = [recall for _, recall, found in curve if found >= tail]
    for (_, recall, here), (_, later, there) in pairwise(curve):
        if here < tail < there:
            share = (tail - here) / (there - here)
            reached.append((1 - share) * recall + share * later)
    return max(reached, default=None)


def page(result: dict[str, Any]) -> str:
    """Return the curves as a Markdown page, the best recall first."""
    found = sorted(curves(result).items(), key=lambda one: -one[1][0][1])
    lines = [f"# Recall and recall of the tail on {result['dataset']}", ""]
    if found:
        (first, curve), *others = found
        head = ["model", RECALL, TAIL, f"{RECALL} of {first} at that {TAIL}"]
        rows = [[first, *map(_shown, (*curve[0][1:], None))]]
        for name, (start, *_) in others:
            there = best_recall(curve, start[2])
            rows.append([name, *map(_shown, (start[1], start[2], there))])
        lines += [
            "Without a discount, and the first model with the discount that it needs there:",
            "",
        ]
        lines += [*shared.markdown_table(head, rows), ""]
    for name, curve in found:
        rows = [[f"{n:g}", *map(_shown, point)] for n, *point in curve]
        lines += [f"## {name}", "", *shared.markdown_table(["discount", RECALL, TAIL], rows), ""]
    lines.append(
        f"Validation figures, means over {shared.number_of_seeds(result)}. Tail: the least popular "
        "items, with a third of all training interactions. Discounts are in standard deviations of "
        "a user's scores; rows below half of the first recall are left out."
    )
    lines += [f"\nSkipped: {one['key']['model']}: {one['reason']}." for one in result["skipped"]]
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def plot(result: dict[str, Any]) -> bytes:
    """Return the curves of all models, as SVG."""
    figure = open_figure(6.5, 4.2)
    axes = figure.subplots()
    for n, (name, curve) in enumerate(curves(result).items()):
        axes.plot(
            [tail for _, _, tail in curve],
            [recall for _, recall, _ in curve],
            marker=MARKERS[n % len(MARKERS)],
            markersize=4,
            color=COLOURS[n % len(COLOURS)],
            label=name,
        )
    axes.set_xlabel(f"validation {TAIL}")
    axes.set_ylabel(f"validation {RECALL}")
    if axes.lines:
        add_legend(axes)
    return svg(figure)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_cells(parser)
    parser.add_argument("--models", nargs="+", default=["ld4mrec", "mgcn", "smore", "popularity"])
    parser.add_argument(
        "--discounts", nargs="+", type=float, default=list(DISCOUNTS), metavar="NUMBER"
    )
    return shared.parse_cells(parser, arguments)


if __name__ == "__main__":
    main()
