"""Compares models on one dataset under one protocol.

    python benchmarks/accuracy.py --dataset tiktok --root DIR --models ld4mrec lightgcn freedom \
        --seeds 3 --out tiktok.json --report tiktok.html

Each model runs with the settings that tuning found on validation
(``benchmarks/configs/<dataset>/<model>.yaml``), or with its defaults where there are none.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from protocol import (
    MASKS_VALIDATION,
    load_data,
    machine,
    model_names,
    run_cell,
    summarise,
    tuned,
)
from report import write_markdown, write_report
from rich.console import Console
from rich.table import Table

from graphdiff.errors import GraphDiffError
from graphdiff.files import write_text
from graphdiff.models.registry import get_model
from graphdiff.schema import fingerprint

SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


def main() -> None:
    arguments = parse()
    console = Console()
    models = model_names(arguments.models)
    data = load_data(arguments.dataset, arguments.root, arguments.features)
    mask_validation = arguments.mask_validation or arguments.dataset in MASKS_VALIDATION
    training = {
        "epochs": arguments.epochs,
        "patience": arguments.patience,
        "eval_every": arguments.eval_every,
        "monitor": arguments.monitor,
    }
    result: dict[str, Any] = {
        "dataset": arguments.dataset,
        "fingerprint": fingerprint(data),
        "protocol": {
            "ranking": "full catalogue, training items left out",
            "mask_validation": mask_validation,
            "epoch_chosen_by": f"validation {arguments.monitor}",
            **training,
        },
        "machine": machine(),
        "models": {},
    }
    earlier = read_earlier(arguments.out, result) if arguments.resume else {}
    for name in models:
        found = tuned(arguments.dataset, name)
        settings = get_model(name).configure(**found.get("settings", {})).model_dump()
        entry: dict[str, Any] = {
            "settings": settings,
            "tuning": {"trials": found.get("trials", 0), "val": found.get("val")},
            "seeds": [],
        }
        result["models"][name] = entry
        for seed in range(arguments.seeds):
            cell = earlier.get((name, seed, json.dumps(settings, sort_keys=True)))
            if cell is None:
                console.print(f"[bold]{name}[/], seed {seed}")
                cell = run_cell(
                    data,
                    name,
                    settings,
                    seed,
                    mask_validation=mask_validation,
                    progress=not arguments.quiet,
                    **training,
                )
            entry["seeds"].append(cell)
            entry.update(summarise(entry["seeds"]))
            console.print(
                f"  epoch {cell['best_epoch']} of {cell['epochs']}, "
                f"{cell['train_seconds']:.1f} s, "
                f"val recall@20 {cell['val']['recall@20']:.4f}, "
                f"test recall@20 {cell['test']['recall@20']:.4f}"
            )
            # After each cell, so that a killed comparison keeps what it has.
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    console.print(table(result))
    console.print(f"figures: {arguments.out}")
    for path, write in ((arguments.report, write_report), (arguments.markdown, write_markdown)):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(result, path)
            console.print(f"report:  {path}")


def read_earlier(path: Path, result: dict[str, Any]) -> dict[tuple[str, int, str], dict[str, Any]]:
    """The finished cells of an earlier run with the same data and protocol."""
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text())
    for key in ("fingerprint", "protocol"):
        if earlier.get(key) != result[key]:
            raise GraphDiffError(
                f"{path} was written with another {key}; give another --out, or leave out --resume"
            )
    return {
        (name, cell["seed"], json.dumps(entry["settings"], sort_keys=True)): cell
        for name, entry in earlier["models"].items()
        for cell in entry["seeds"]
    }


def table(result: dict[str, Any]) -> Table:
    """Test metrics, best model first."""
    out = Table("model", *SHOWN, "s/epoch", "train s")
    ranked = sorted(result["models"].items(), key=lambda kv: -kv[1]["mean"]["test"]["recall@20"])
    for name, entry in ranked:
        mean, std = entry["mean"], entry["std"]
        spread = {m: f"±{std['test'][m]:.4f}" if len(entry["seeds"]) > 1 else "" for m in SHOWN}
        out.add_row(
            get_model(name).__name__,
            *(f"{mean['test'][m]:.4f}{spread[m]}" for m in SHOWN),
            f"{mean['seconds_per_epoch']:.2f}",
            f"{mean['train_seconds']:.0f}",
        )
    return out


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--root", type=Path, help="folder of the dataset's files")
    parser.add_argument("--features", nargs="+", metavar="NAME=FILE", help="for mmrec")
    parser.add_argument("--models", nargs="+", default=["all"], help="names, or all")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0 on")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--report", type=Path, help="HTML report to write")
    parser.add_argument("--markdown", type=Path, help="Markdown table to write")
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--patience", type=int, default=30, help="in validations")
    parser.add_argument("--eval-every", type=int, default=1, help="epochs between validations")
    parser.add_argument("--monitor", default="recall@20")
    parser.add_argument("--mask-validation", action="store_true")
    parser.add_argument("--resume", action="store_true", help="keep finished cells of --out")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except GraphDiffError as error:
        sys.exit(f"accuracy.py: {error}")
