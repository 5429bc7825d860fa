"""The protocol that every benchmark shares: one model, one seed, one dataset, one set of figures.

Splits are fixed. Validation chooses the epoch (and, in tune.py, the settings); the test pairs are
read once, with the weights of that epoch. Ranking is over the whole catalogue with training items
left out, by the same code for every model.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
import yaml
from torch_geometric.data import HeteroData

import graphdiff
from graphdiff import datasets
from graphdiff.evaluation import evaluate
from graphdiff.models.registry import MODELS, get_model
from graphdiff.schema import INTERACTS
from graphdiff.training import fit

CONFIGS = Path(__file__).parent / "configs"

#: Which published protocol leaves validation items out of the test ranking.
MASKS_VALIDATION = {"ml-1m-clean", "ml-1m-noisy"}


def load_data(dataset: str, root: Path | None, features: list[str] | None = None) -> HeteroData:
    """A dataset's graph; ``features`` are ``name=file`` for layouts that take them."""
    options = {"features": dict(text.split("=", 1) for text in features)} if features else {}
    return datasets.load(dataset, root, **options)[0]


def model_names(wanted: list[str]) -> list[str]:
    return list(MODELS) if wanted == ["all"] else [name.lower() for name in wanted]


def tuned(dataset: str, model: str) -> dict[str, Any]:
    """What tuning found for a model on a dataset: ``settings``, ``trials``, ``val``, or nothing."""
    path = CONFIGS / dataset / f"{model}.yaml"
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def run_cell(
    data: HeteroData,
    model: str,
    settings: dict[str, Any],
    seed: int,
    *,
    test: bool = True,
    mask_validation: bool = False,
    progress: bool = True,
    **training: Any,
) -> dict[str, Any]:
    """Trains one model with one seed and measures it.

    With ``test=False`` the test pairs are not looked at.
    """
    recommender = get_model(model).from_data(data, **settings)
    fitted = fit(recommender, data, seed=seed, progress=progress, **training)
    cell: dict[str, Any] = {
        "seed": seed,
        "val": fitted.val,
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "train_seconds": fitted.train_seconds,
        "seconds_per_epoch": fitted.seconds_per_epoch,
        "parameters": recommender.num_parameters(),
        "history": [
            {key: row[key] for key in ("epoch", "loss", "recall@20", "ndcg@20")}
            for row in fitted.history
        ],
    }
    if test:
        cell["test"] = evaluate(recommender, data, "test", mask_validation=mask_validation)
        cell["inference_seconds"] = inference_seconds(recommender, data)
    return cell


def inference_seconds(model: graphdiff.models.Recommender, data: HeteroData) -> float:
    """Median seconds of three rankings of the whole catalogue for all test users, k = 20."""
    users = data[INTERACTS].test_edge_label_index[0].unique()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        for batch in users.split(1024):
            model.recommend(batch, k=20)[1].sum().item()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def summarise(cells: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """``mean`` and ``std`` (n - 1) over seeds, in the form of a cell."""
    out: dict[str, dict[str, Any]] = {"mean": {}, "std": {}}
    for key, value in cells[0].items():
        if key in ("seed", "history"):
            continue
        if isinstance(value, dict):
            columns = {name: [cell[key][name] for cell in cells] for name in value}
            out["mean"][key] = {name: mean(column) for name, column in columns.items()}
            out["std"][key] = {name: _std(column) for name, column in columns.items()}
        else:
            column = [cell[key] for cell in cells]
            out["mean"][key], out["std"][key] = mean(column), _std(column)
    return out


def _std(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "graphdiff": graphdiff.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
