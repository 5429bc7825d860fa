"""How well each model tells true interactions from noise.

    python benchmarks/denoising.py --dataset tiktok --root DIR --models ld4mrec lightgcn ease \
        --noise 0.3 --folds 5 --seeds 1 --out denoising.json --markdown denoising.md

Each model is trained with the settings that tuning found, on training interactions of which some
are noise: those of the data itself (synthetic), or fakes added to it (``--noise``; the seed draws
them). It then judges what it was trained on (``model.interaction_scores()``); and
models trained on all folds but one judge the one that they have not seen
(graphdiff.evaluation.noise.cross_fitted_scores). A figure is the chance that a true interaction is
believed more than a noisy one: over all pairs, and within users.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from cells import Cells, Work, add_arguments, markdown, run_or_exit
from protocol import model_names, tuned
from rich.console import Console
from torch_geometric.data import HeteroData

from graphdiff.files import write_text
from graphdiff.models.registry import get_model
from graphdiff.transforms import InjectNoise

#: Who judges: a heading, and where a cell has the figures.
JUDGES = (("trained on it", "noise"), ("not trained on it", "cross_fitted"))
FIGURES = (("all pairs", "auc"), ("within users", "auc_within_users"))


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    cells = run_or_exit("denoising.py", run, options)
    if options.markdown:
        write_text(options.markdown, page(cells.result))
    Console().print(f"figures: {options.out}")


def run(options: argparse.Namespace, console: Console) -> Cells:
    """Measures all models and seeds."""
    cells, models = Cells(options, console), model_names(options.models)
    cells.result |= {"noise": options.noise, "folds": options.folds}
    cells.run(work(cells.data, options, models))
    cells.result["models"] = means(cells, models)
    cells.save()
    return cells


def work(data: HeteroData, options: argparse.Namespace, models: list[str]) -> Iterator[Work]:
    """All seeds and models; the graph of a seed is made once."""
    for seed in range(options.seeds):
        graph = cache(partial(InjectNoise(options.noise, "add", seed), data))
        for name in models:
            settings = tuned(options.dataset, name).get("settings", {})
            key = {
                "noise": options.noise,
                "folds": options.folds,
                "model": name,
                "seed": seed,
                "settings": get_model(name).configure(**settings).model_dump(),
            }
            yield Work(key, graph, {"noise": True, "folds": options.folds})


def means(cells: Cells, models: list[str]) -> list[dict[str, Any]]:
    """Means over seeds, the best judge of what it has not seen first."""
    found = []
    for name in models:
        summary = cells.summary(model=name)
        if summary is not None and "noise" in summary["mean"]:
            mean = summary["mean"]
            row = {"model": name, "seeds": summary["count"], "test": mean["test"]}
            found.append(row | {judge: mean.get(judge) for _, judge in JUDGES})
    return sorted(found, key=lambda row: -(row["cross_fitted"] or row["noise"])["auc"])


def page(result: dict[str, Any]) -> str:
    """The models as a Markdown page."""
    heads = [f"{who}: {what}" for who, _ in JUDGES for what, _ in FIGURES]
    rows = [
        [
            row["model"],
            *(
                "–" if row[judge] is None else f"{row[judge].get(figure, float('nan')):.3f}"
                for _, judge in JUDGES
                for _, figure in FIGURES
            ),
            f"{row['test']['recall@20']:.4f}",
            str(row["seeds"]),
        ]
        for row in result["models"]
    ]
    fakes = f"Fakes added to training: {result['noise']:g} of its interactions. "
    note = (
        f"{fakes if result['noise'] else ''}The chance that a true training interaction is "
        "believed more than a noisy one, by a model trained on it, and by models trained on the "
        f"other {result['folds'] - 1} of {result['folds']} folds. Recall is that of the model "
        "trained on all of them, on clean test pairs. See docs/robustness.md."
    )
    head = ["model", *heads, "test recall@20", "seeds"]
    return markdown(f"Telling truth from noise on {result['dataset']}", head, rows, note)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--models", nargs="+", default=["ld4mrec", "lightgcn", "popularity"])
    parser.add_argument("--noise", type=float, default=0.0, help="share of fake interactions")
    parser.add_argument("--folds", type=int, default=5, help="further trainings of each model")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
