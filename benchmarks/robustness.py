"""The effect of noise in training on each model.

    python benchmarks/robustness.py --dataset tiktok --root DIR --models ld4mrec lightgcn ease \
        --noise 0 0.1 0.2 0.3 0.5 --mode add --seeds 3 --out robustness.json

Fake interactions are added to training, or real ones dropped (graphdiff.transforms.InjectNoise);
validation and test are unchanged. Each level, model and seed is a training of its own with the
settings that tuning found on the clean data; the seed draws the noise too. Figures: accuracy, its
loss relative to level 0, and how well the model separates noise from true interactions in its
training set (graphdiff.evaluation.noise), where there are both. A plot NAME.svg is written
beside the JSON file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache, partial
from itertools import product
from typing import Any

import options as shared
from torch_geometric.data import HeteroData

from graphdiff.experiments.cells import Cell, CellList, summary
from graphdiff.experiments.compare import named_models
from graphdiff.experiments.plots import COLOURS, MARKERS, add_legend, open_figure, svg
from graphdiff.experiments.tuned import tuned_settings
from graphdiff.files import write_bytes, write_text
from graphdiff.models.presets import NamedModel
from graphdiff.transforms import InjectNoise

METRICS = ("recall@20", "ndcg@20")


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    result = shared.run_or_exit("robustness.py", run, options)
    if options.out is not None:
        write_bytes(options.out.with_suffix(".svg"), plot(result["levels"]))
    if options.markdown:
        write_text(options.markdown, page(result))
    print(f"figures: {options.render or options.out}")


def run(options: argparse.Namespace) -> CellList:
    """Measure all levels, models and seeds."""
    experiment, models = shared.cell_list(options), named_models(options.models)
    experiment.result["mode"] = options.mode
    shares = sorted(set(options.noise))
    experiment.run(cells(experiment.data, options, models, shares))
    experiment.result["levels"] = levels(experiment.requested(), models, shares, options.mode)
    experiment.save()
    return experiment


def cells(
    data: HeteroData,
    options: argparse.Namespace,
    models: list[NamedModel],
    shares: list[float],
) -> Iterator[Cell]:
    """Yield all levels, seeds and models; the graph of a level and a seed is made once."""
    for share, seed in product(shares, range(options.seeds)):
        graph = cache(partial(InjectNoise(share, options.mode, seed), data))
        for model in models:
            settings = tuned_settings(options.dataset, model.name)
            yield Cell(
                model.model,
                model.settings(settings),
                seed,
                graph,
                {"noise": share, "mode": options.mode},
                {"noise": True},
                model.preset,
            )


def levels(
    measured: list[dict[str, Any]],
    models: list[NamedModel],
    shares: list[float],
    mode: str,
) -> list[dict[str, Any]]:
    """Return the mean over seeds of each model at each level, with its loss against level 0."""
    found = []
    for name in (model.name for model in models):
        clean = summary(measured, model=name, noise=0.0, mode=mode)
        for share in shares:
            of_level = summary(measured, model=name, noise=share, mode=mode)
            if of_level is None:
                continue
            test = {metric: of_level["mean"]["test"][metric] for metric in METRICS}
            loss = {}
            if clean is not None:
                base = clean["mean"]["test"]
                loss = {m: 1 - test[m] / base[m] for m in METRICS if base[m] > 0}
            found.append(
                {
                    "model": name,
                    "noise": share,
                    "test": test,
                    "std": {metric: of_level["std"]["test"][metric] for metric in METRICS},
                    "seeds": of_level["count"],
                    "relative_loss": loss,
                    "noise_auc": of_level["mean"].get("noise", {}).get("auc"),
                }
            )
    return found


def page(result: dict[str, Any]) -> str:
    """Return the levels as a Markdown page."""
    head = ["model", "noise", *METRICS, *(f"loss of {m}" for m in METRICS), "noise AUC"]
    rows = [
        [
            one["model"],
            f"{one['noise']:g}",
            *(shared.over_seeds(one["test"][m], one["std"][m], one["seeds"]) for m in METRICS),
            *(f"{100 * one['relative_loss'][m]:.1f} %" if m in one["relative_loss"] else "–"
              for m in METRICS),
            "–" if one["noise_auc"] is None else f"{one['noise_auc']:.3f}",
        ]
        for one in result["levels"]
    ]  # fmt: skip
    verb = "added to" if result["mode"] == "add" else "dropped from"
    note = (
        f"Noise is the share of training interactions {verb} training. Test pairs are clean. "
        f"{shared.masking_note(result)} Mean ± standard deviation over "
        f"{shared.number_of_seeds(result)}; loss is relative to noise 0. Noise AUC: see "
        "docs/robustness.md."
    )
    return shared.page(f"Robustness on {result['dataset']}", head, rows, note)


def plot(found: list[dict[str, Any]]) -> bytes:
    """Return test recall@20 by level and model, as SVG."""
    figure = open_figure(7.5, 3.4)
    axes = figure.subplots()
    for n, name in enumerate(dict.fromkeys(one["model"] for one in found)):
        own = [one for one in found if one["model"] == name]
        axes.errorbar(
            [one["noise"] for one in own],
            [one["test"]["recall@20"] for one in own],
            yerr=[one["std"]["recall@20"] for one in own],
            marker=MARKERS[n % len(MARKERS)],
            color=COLOURS[n % len(COLOURS)],
            capsize=2,
            label=name,
        )
    axes.set_xlabel("noise, as a share of the training interactions")
    axes.set_ylabel("test recall@20")
    if found:
        add_legend(axes)
    return svg(figure)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_cells(parser)
    parser.add_argument("--models", nargs="+", default=["ld4mrec", "lightgcn", "ease"])
    parser.add_argument("--noise", nargs="+", type=float, default=[0, 0.1, 0.2, 0.3, 0.5])
    parser.add_argument("--mode", choices=("add", "drop"), default="add")
    return shared.parse_cells(parser, arguments)


if __name__ == "__main__":
    main()
