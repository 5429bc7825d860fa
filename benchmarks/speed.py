"""How fast models reach their accuracy on one thread.

    python benchmarks/speed.py --dataset lfm2k --root DIR --repeats 3 --out speed.json

Each model is trained with its defaults, by ``graphdiff.fit``, with a different seed in each repeat
and in a process of its own. The figures are medians over the repeats: processor seconds, validation
included, to the best validated epoch and to the end; validation recall@20; and the seconds until a
model's validation recall@20 passes the best one of each other model. The learning curves are kept.
Test pairs are not read. ``implicit-als`` and ``implicit-bpr`` are models of the library implicit,
where it is installed.

    python benchmarks/speed.py --render speed.json --markdown speed.md

writes the page of figures that were measured earlier.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from implicit_models import NAMES as IMPLICIT
from implicit_models import ImplicitModel
from options import add_data, add_training, dataset_options, page, training_options
from torch_geometric.data import HeteroData

from graphdiff import datasets
from graphdiff.errors import ConfigError, GraphDiffError
from graphdiff.evaluation.ranking import rank
from graphdiff.experiments.machine import machine
from graphdiff.experiments.workers import in_own_process, warm_up
from graphdiff.files import make_folder, write_text
from graphdiff.models import get_model
from graphdiff.models.base import ModelConfig, Recommender
from graphdiff.schema import fingerprint
from graphdiff.training.fit import fit

METRIC = "recall@20"
MODELS = ("ld4mrec", "lightgcn", "bm3", "ease", "easefeatures", "popularity", *IMPLICIT)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.render is not None:
        result = json.loads(options.render.read_text())
    else:
        warm_up()
        result = run(options)
    if options.markdown:
        write_text(options.markdown, render(result))
    print(f"figures: {options.render or options.out}")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all models, and write the figures after each."""
    data = datasets.load(options.dataset, options.root, **dataset_options(options))[0]
    training = training_options(options)
    result: dict[str, Any] = {
        "dataset": options.dataset,
        "fingerprint": fingerprint(data),
        "machine": machine() | {"threads": options.threads},
        "training": training,
        "repeats": options.repeats,
        "models": {},
        "skipped": {},
    }
    make_folder(options.out.parent)
    for name in options.models:
        settings = {} if name in IMPLICIT else settings_of(name, options.set)
        try:
            runs = [
                in_own_process(measure, data, name, settings, seed, options.threads, training)
                for seed in range(options.repeats)
            ]
        except GraphDiffError as error:
            result["skipped"][name] = str(error)
            print(f"{name}: skipped, {error}")
            continue
        result["models"][name] = {"settings": settings, "runs": runs} | figures(runs)
        print(f"{name}: {summary(result['models'][name])}")
        result["passes"] = passes(result["models"])
        write_text(options.out, json.dumps(result) + "\n")
    return result


def settings_of(name: str, given: list[str]) -> dict[str, Any]:
    """Return the settings among ``given``, as MODEL.NAME=VALUE, that are of a model."""
    settings = {}
    for text in given:
        model, _, setting = text.partition(".")
        key, found, value = setting.partition("=")
        if not found:
            raise ConfigError(f"{text!r} is no setting; give MODEL.NAME=VALUE")
        if model == name:
            settings[key] = json.loads(value)
    return settings


def measure(
    data: HeteroData,
    name: str,
    settings: dict[str, Any],
    seed: int,
    threads: int,
    training: dict[str, Any],
) -> dict[str, Any]:
    """Train one model and return its learning curve: epochs, recall and seconds since the start.

    ``seconds`` are those of the processor, of all threads; ``wall_seconds`` those of a clock.
    """
    torch.set_num_threads(threads)
    curve: list[dict[str, float]] = []
    start, wall = time.process_time(), time.perf_counter()

    def mark(row: dict[str, float]) -> None:
        seconds = time.process_time() - start
        curve.append({"epoch": row["epoch"], METRIC: row[METRIC], "seconds": seconds})

    if name in IMPLICIT:
        model = ImplicitModel(name, data, seed)
        model.fit()
        steps = 1
        mark({"epoch": 1, **rank(model, data, "val").mean()})
    else:
        recommender = get_model(name).from_data(data, **settings)
        steps = steps_per_epoch(recommender)
        fit(
            recommender,
            data,
            seed=seed,
            progress=False,
            accelerator="cpu",
            report=mark,
            **training,
        )
    return {
        "seed": seed,
        "steps_per_epoch": steps,
        "epochs": curve[-1]["epoch"],
        "seconds": time.process_time() - start,
        "wall_seconds": time.perf_counter() - wall,
        "curve": curve,
    }


def steps_per_epoch(model: Recommender) -> int:
    """Return the training steps of an epoch; 1 for a model in closed form."""
    if not isinstance(model.config, ModelConfig) or model.batch_over == "nothing":
        return 1
    num = model.num_users if model.batch_over == "users" else model.graph.num_interactions
    return -(-num // model.config.batch_size)


def best(run: dict[str, Any]) -> dict[str, float]:
    """Return the row of the best epoch of a run."""
    return max(run["curve"], key=lambda row: row[METRIC])


def figures(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Return the medians over the runs of one model."""
    return {
        METRIC: median(best(one)[METRIC] for one in runs),
        "best_epoch": median(best(one)["epoch"] for one in runs),
        "epochs": median(one["epochs"] for one in runs),
        "seconds_to_best": median(best(one)["seconds"] for one in runs),
        "seconds": median(one["seconds"] for one in runs),
        "wall_seconds": median(one["wall_seconds"] for one in runs),
    }


def passes(models: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return for each model the median seconds until it passes each other model's best recall;
    None where most of its runs never do."""
    found: dict[str, dict[str, float | None]] = {name: {} for name in models}
    for (name, one), (other, target) in product(models.items(), repeat=2):
        if name == other:
            continue
        seconds = [
            next(
                (row["seconds"] for row in run["curve"] if row[METRIC] >= target[METRIC]),
                float("inf"),
            )
            for run in one["runs"]
        ]
        middle = median(seconds)
        found[name][other] = middle if middle < float("inf") else None
    return found


def summary(model: dict[str, Any]) -> str:
    """Return the figures of a model in one line."""
    return (
        f"validation {METRIC} {model[METRIC]:.4f} at epoch {model['best_epoch']:g} of "
        f"{model['epochs']:g}, {model['seconds_to_best']:.1f} s of {model['seconds']:.1f} s"
    )


def render(result: dict[str, Any]) -> str:
    """Return the Markdown page of the figures."""
    models = result["models"]
    target = max(models, key=lambda name: models[name][METRIC])
    others = [name for name in ("lightgcn", "easefeatures") if name in models and name != target]
    head = ["model", f"validation {METRIC}", "best epoch", "epochs", "s to best", "s in all"]
    head += [f"s to {name}'s best" for name in others]
    rows = []
    for name, one in sorted(models.items(), key=lambda pair: -pair[1][METRIC]):
        to = [result["passes"][name].get(other) for other in others]
        rows.append(
            [
                name,
                f"{one[METRIC]:.4f}",
                f"{one['best_epoch']:g}",
                f"{one['epochs']:g}",
                f"{one['seconds_to_best']:.1f}",
                f"{one['seconds']:.1f}",
                *("–" if seconds is None else f"{seconds:.1f}" for seconds in to),
            ]
        )
    threads, repeats = result["machine"]["threads"], result["repeats"]
    note = (
        f"Defaults of each model; medians of {repeats} seed{'s' * (repeats > 1)}; processor "
        f"seconds with {threads} thread{'s' * (threads > 1)}, validation included, on "
        f"{result['machine']['processor']}. –: never reached. Test pairs are not read."
    )
    for name, reason in result["skipped"].items():
        note += f"\n\n{name}: skipped, {reason}."
    return page(f"Time to accuracy: {result['dataset']}", head, rows, note)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data(parser)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="MODEL.NAME=VALUE", help="settings, as JSON values"
    )
    parser.add_argument("--repeats", type=int, default=3, help="trainings of each model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--render", type=Path, metavar="JSON", help="train nothing, write its page")
    parser.add_argument("--markdown", type=Path, help="Markdown page to write")
    add_training(parser)
    options = parser.parse_args(arguments)
    if (options.out is None) == (options.render is None):
        parser.error("give --out FILE.json to measure, or --render FILE.json to write its page")
    return options


if __name__ == "__main__":
    main()
