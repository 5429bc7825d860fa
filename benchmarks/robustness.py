"""What noise in training costs each model.

    python benchmarks/robustness.py --dataset tiktok --root DIR --models ld4mrec lightgcn ease \
        --noise 0 0.1 0.2 0.3 0.5 --mode add --seeds 3 --out robustness.json

Fake interactions are added to training, or real ones dropped (graphdiff.transforms.InjectNoise);
validation and test stay as they are. Each level, model and seed is trained anew with the settings
that tuning found on the clean data; the seed draws the noise too. Figures: accuracy, its loss
relative to level 0, and how well the model tells noise from truth among what it was trained on
(graphdiff.evaluation.noise), where there is both. A plot NAME.svg comes beside the JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache, partial
from itertools import product
from typing import Any

from cells import Cells, Work, add_arguments, markdown, over_seeds, run_or_exit
from plots import COLOURS, MARKERS
from protocol import model_names, tuned
from rich.console import Console
from torch_geometric.data import HeteroData

from graphdiff.files import write_bytes, write_text
from graphdiff.models.registry import get_model
from graphdiff.transforms import InjectNoise

METRICS = ("recall@20", "ndcg@20")


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    cells = run_or_exit("robustness.py", run, options)
    write_bytes(options.out.with_suffix(".svg"), plot(cells.result["levels"]))
    if options.markdown:
        write_text(options.markdown, page(cells.result))
    Console().print(f"figures: {options.out}")


def run(options: argparse.Namespace, console: Console) -> Cells:
    """Measures all levels, models and seeds."""
    cells, models = Cells(options, console), model_names(options.models)
    cells.result["mode"] = options.mode
    shares = sorted(set(options.noise))
    cells.run(work(cells.data, options, models, shares))
    cells.result["levels"] = levels(cells, models, shares, options.mode)
    cells.save()
    return cells


def work(
    data: HeteroData, options: argparse.Namespace, models: list[str], shares: list[float]
) -> Iterator[Work]:
    """All levels, seeds and models; the graph of a level and a seed is made once."""
    for share, seed in product(shares, range(options.seeds)):
        graph = cache(partial(InjectNoise(share, options.mode, seed), data))
        for name in models:
            settings = tuned(options.dataset, name).get("settings", {})
            key = {
                "noise": share,
                "mode": options.mode,
                "model": name,
                "seed": seed,
                "settings": get_model(name).configure(**settings).model_dump(),
            }
            yield Work(key, graph, {"noise": True})


def levels(cells: Cells, models: list[str], shares: list[float], mode: str) -> list[dict[str, Any]]:
    """Means over seeds of each model at each level, with the loss relative to level 0."""
    found = []
    for name in models:
        clean = cells.summary(model=name, noise=0.0, mode=mode)
        for share in shares:
            summary = cells.summary(model=name, noise=share, mode=mode)
            if summary is None:
                continue
            test = {metric: summary["mean"]["test"][metric] for metric in METRICS}
            loss = {}
            if clean is not None:
                base = clean["mean"]["test"]
                loss = {m: 1 - test[m] / base[m] for m in METRICS if base[m] > 0}
            found.append(
                {
                    "model": name,
                    "noise": share,
                    "test": test,
                    "std": {metric: summary["std"]["test"][metric] for metric in METRICS},
                    "seeds": summary["count"],
                    "relative_loss": loss,
                    "noise_auc": summary["mean"].get("noise", {}).get("auc"),
                }
            )
    return found


def page(result: dict[str, Any]) -> str:
    """The levels as a Markdown page."""
    head = ["model", "noise", *METRICS, *(f"loss of {m}" for m in METRICS), "noise AUC"]
    rows = [
        [
            one["model"],
            f"{one['noise']:g}",
            *(over_seeds(one["test"][m], one["std"][m], one["seeds"]) for m in METRICS),
            *(f"{100 * one['relative_loss'][m]:.1f} %" if m in one["relative_loss"] else "–"
              for m in METRICS),
            "–" if one["noise_auc"] is None else f"{one['noise_auc']:.3f}",
        ]
        for one in result["levels"]
    ]  # fmt: skip
    verb = "added to" if result["mode"] == "add" else "dropped from"
    note = (
        f"Noise is the share of training interactions {verb} training. Test pairs are clean. "
        "Mean ± standard deviation over seeds; loss is relative to noise 0. Noise AUC: see "
        "docs/robustness.md."
    )
    return markdown(f"Robustness on {result['dataset']}", head, rows, note)


def plot(found: list[dict[str, Any]]) -> bytes:
    """Test recall@20 by level and model, as SVG."""
    import io

    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.hashsalt": "graphdiff", "font.size": 10}):
        figure, axes = plt.subplots(figsize=(7.5, 3.4))
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
            axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return buffer.getvalue()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--models", nargs="+", default=["ld4mrec", "lightgcn", "ease"])
    parser.add_argument("--noise", nargs="+", type=float, default=[0, 0.1, 0.2, 0.3, 0.5])
    parser.add_argument("--mode", choices=("add", "drop"), default="add")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
