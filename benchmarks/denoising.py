"""How well each model separates true interactions from noise.

    python benchmarks/denoising.py --dataset tiktok --root DIR --models ld4mrec lightgcn ease \
        --noise 0.3 --folds 5 --seeds 1 --out denoising.json --markdown denoising.md

Each model is trained with the settings that tuning found, on training interactions of which some
are noise: those of the data itself (synthetic), or fakes added to it (``--noise``; the seed draws
them). It then scores the interactions that it was trained on; and models trained on all folds but
one score those of the remaining fold (graphdiff.evaluation.noise.cross_fitted_scores). A figure is
the probability that a true interaction gets a higher score than a noisy one: over all pairs, and
within users.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import options as shared
from torch_geometric.data import HeteroData

from graphdiff.experiments.cells import Cell, CellList, summary
from graphdiff.experiments.compare import named_models
from graphdiff.experiments.tuned import tuned_settings
from graphdiff.files import write_text
from graphdiff.models.presets import NamedModel
from graphdiff.transforms import InjectNoise

#: Which models score: a heading, and the name of the figures in a cell.
SCORED_BY = (("trained on it", "noise"), ("not trained on it", "cross_fitted"))
FIGURES = (("all pairs", "auc"), ("within users", "auc_within_users"))


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    result = shared.run_or_exit("denoising.py", run, options)
    if options.markdown:
        write_text(options.markdown, page(result))
    print(f"figures: {options.render or options.out}")


def run(options: argparse.Namespace) -> CellList:
    """Measure all models and seeds."""
    experiment, models = shared.cell_list(options), named_models(options.models)
    experiment.result |= {"noise": options.noise, "folds": options.folds}
    experiment.run(cells(experiment.data, options, models))
    experiment.result["models"] = means(experiment.requested(), models)
    experiment.save()
    return experiment


def cells(
    data: HeteroData, options: argparse.Namespace, models: list[NamedModel]
) -> Iterator[Cell]:
    """Yield all seeds and models; the graph of a seed is made once."""
    for seed in range(options.seeds):
        graph = cache(partial(InjectNoise(options.noise, "add", seed), data))
        for model in models:
            settings = tuned_settings(options.dataset, model.name)
            yield Cell(
                model.model,
                model.settings(settings),
                seed,
                graph,
                {"noise": options.noise, "folds": options.folds},
                {"noise": True, "folds": options.folds},
                model.preset,
            )


def means(measured: list[dict[str, Any]], models: list[NamedModel]) -> list[dict[str, Any]]:
    """Return means over seeds, the best at scoring unseen interactions first."""
    found = []
    for name in (model.name for model in models):
        of_model = summary(measured, model=name)
        if of_model is not None and "noise" in of_model["mean"]:
            mean = of_model["mean"]
            row = {"model": name, "seeds": of_model["count"], "test": mean["test"]}
            found.append(row | {key: mean.get(key) for _, key in SCORED_BY})
    return sorted(found, key=lambda row: -(row["cross_fitted"] or row["noise"])["auc"])


def page(result: dict[str, Any]) -> str:
    """Return the models as a Markdown page."""
    heads = [f"{who}: {what}" for who, _ in SCORED_BY for what, _ in FIGURES]
    rows = [
        [
            row["model"],
            *(
                "–" if row[key] is None else f"{row[key].get(figure, float('nan')):.3f}"
                for _, key in SCORED_BY
                for _, figure in FIGURES
            ),
            f"{row['test']['recall@20']:.4f}",
            str(row["seeds"]),
        ]
        for row in result["models"]
    ]
    fakes = f"Fake interactions added to training: {result['noise']:g} of the real ones. "
    note = (
        f"{fakes if result['noise'] else ''}The probability that a true training interaction gets "
        "a higher score than a noisy one, by a model trained on it, and by models trained on the "
        f"other {result['folds'] - 1} of {result['folds']} folds. Recall is that of the model "
        f"trained on all of them, on clean test pairs. {shared.masking_note(result)} See "
        "docs/robustness.md."
    )
    head = ["model", *heads, "test recall@20", "seeds"]
    return shared.page(f"True and noisy interactions on {result['dataset']}", head, rows, note)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_cells(parser)
    parser.add_argument("--models", nargs="+", default=["ld4mrec", "lightgcn", "popularity"])
    parser.add_argument("--noise", type=float, default=0.0, help="share of fake interactions")
    parser.add_argument("--folds", type=int, default=5, help="further trainings of each model")
    return shared.parse_cells(parser, arguments)


if __name__ == "__main__":
    main()
