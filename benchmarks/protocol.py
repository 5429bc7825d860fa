"""The protocol that every benchmark shares: one model, one seed, one dataset, one set of figures.

Splits are fixed. Validation chooses the epoch (and, in tune.py, the settings); the test pairs are
read once, with the weights of that epoch. Ranking is over the whole catalogue with training items
left out, by the same code for every model.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch
import yaml
from memory import PeakMemory
from torch import Tensor
from torch_geometric.data import HeteroData

import graphdiff
from graphdiff import datasets
from graphdiff.datasets.io.storage import load_graph
from graphdiff.errors import ConfigError, RunError
from graphdiff.evaluation.groups import item_groups, user_groups
from graphdiff.evaluation.noise import cross_fitted_scores, noise_auc, score_auc
from graphdiff.evaluation.ranking import Ranking, RecommendsItems, rank
from graphdiff.models.registry import MODELS, get_model
from graphdiff.schema import INTERACTS
from graphdiff.training.checkpoints import checkpoint_of
from graphdiff.training.fit import fit

CONFIGS = Path(__file__).parent / "configs"

#: Which published protocol leaves validation items out of the test ranking.
MASKS_VALIDATION = {"ml-1m-clean", "ml-1m-noisy"}

KS = (10, 20)
#: What is kept for each user, tested, and told for groups.
EVIDENCE = ("recall@20", "ndcg@20")


def load_data(
    dataset: str,
    root: Path | None,
    features: list[str] | None = None,
    options: list[str] | None = None,
) -> HeteroData:
    """A dataset's graph.

    Args:
        dataset: Its name.
        root: Folder of its files.
        features: ``name=file``, for layouts that take them.
        options: ``name=value``, further arguments of the dataset's class.

    Raises:
        ConfigError: If an option is not ``name=value``.
    """
    given = parse_options(options or [])
    if features:
        given["features"] = dict(map(_split, features))
    return datasets.load(dataset, root, **given)[0]


def parse_options(texts: list[str]) -> dict[str, Any]:
    """``name=value`` each, with values as in YAML.

    Raises:
        ConfigError: If one is not ``name=value``.
    """
    return {name: yaml.safe_load(value) for name, value in map(_split, texts)}


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} is not name=value")
    return name, value


def model_names(wanted: list[str]) -> list[str]:
    """Registry names of the models asked for; ``["all"]`` asks for every one.

    Raises:
        ConfigError: If there is no such model.
    """
    names = list(MODELS) if wanted == ["all"] else [name.lower() for name in wanted]
    for name in names:
        get_model(name)
    return list(dict.fromkeys(names))


def tuned(dataset: str, model: str) -> dict[str, Any]:
    """What tuning found for a model on a dataset: ``settings``, ``trials``, ``val``, or nothing."""
    path = CONFIGS / dataset / f"{model}.yaml"
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def measure(
    graph: Path,
    model: str,
    settings: dict[str, Any],
    seed: int,
    *,
    threads: int | None = None,
    **options: Any,
) -> Any:
    """:func:`run_cell` on a graph file, for a process of its own, with so many ``threads``.

    Raises:
        RunError: If memory does not suffice.
        GraphDiffError: As :func:`run_cell` does.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return run_cell(load_graph(graph), model, settings, seed, **options)
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        # What the CPU's allocator raises has no type of its own.
        on_cpu = "can't allocate memory" in text
        if not (on_cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)):
            raise
        first, _, _ = text.partition("\n")
        raise RunError(f"out of memory: {first}") from None


def run_cell(
    data: HeteroData,
    model: str,
    settings: dict[str, Any],
    seed: int,
    *,
    test: bool = True,
    noise: bool = False,
    folds: int = 0,
    recommend: dict[str, Any] | None = None,
    mask_validation: bool = False,
    progress: bool = True,
    kept: Path | None = None,
    **training: Any,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Trains one model with one seed and measures it.

    With ``test=False`` the test pairs are not looked at. With ``noise`` the figures hold how well
    the model tells noise among its training interactions
    (:func:`graphdiff.evaluation.noise.noise_auc`), where some are known to be noise and some
    not, and with ``folds`` also how well so many further models tell, each by interactions that it
    was not trained on (:func:`graphdiff.evaluation.noise.cross_fitted_scores`). ``recommend`` are
    options of the model's ``recommend`` that everything is measured with once it is trained; the
    epoch was chosen without. ``kept`` is a folder for the state of the training after each epoch;
    one that was stopped there is gone on with.

    Returns:
        The figures, which JSON can hold, and per test user (``"user"``) the values of
        :data:`EVIDENCE`, arrays ``[n]``; no arrays without the test.

    Raises:
        GraphDiffError: If the model cannot be made from the data, or not be trained.
    """
    with PeakMemory() as memory:
        recommender = get_model(model).from_data(data, **settings)
        resume = kept is not None and checkpoint_of(kept).is_file()
        fitted = fit(
            recommender, data, seed=seed, out=kept, resume=resume, progress=progress, **training
        )
    cell: dict[str, Any] = {
        "seed": seed,
        "val": fitted.val,
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "train_seconds": fitted.train_seconds,
        "seconds_per_epoch": fitted.seconds_per_epoch,
        "parameters": recommender.num_parameters(),
        **memory.figures(),
        "history": [
            {key: row[key] for key in ("epoch", "loss", "recall@20", "ndcg@20")}
            for row in fitted.history
        ],
    }
    is_noise = data[INTERACTS].get("is_noise")
    if noise and is_noise is not None and is_noise.any() and not is_noise.all():
        cell["noise"] = noise_auc(recommender, data)
        if folds:

            def trained(rest: HeteroData) -> graphdiff.models.Recommender:
                other = get_model(model).from_data(rest, **settings)
                fit(other, rest, seed=seed, progress=progress, **training)
                return other

            belief = cross_fitted_scores(trained, data, folds, seed)
            cell["cross_fitted"] = score_auc(belief, data)
    asked: RecommendsItems = recommender
    if recommend:
        asked = AskedWith(recommender, recommend)
        cell["val"] = rank(asked, data, "val", KS).mean()
    if not test:
        return cell, {}
    ranking = rank(asked, data, "test", KS, mask_validation)
    users = ranking.users()
    cell["test"] = ranking.mean()
    cell["groups"] = {
        "users": {
            name: _means(users, members[users["user"]])
            for name, members in user_groups(data, ranking.user).items()
        },
        "items": {
            name: _means(of_group.users()) for name, of_group in _by_items(ranking, data).items()
        },
    }
    cell["inference_seconds"] = inference_seconds(asked, data)
    return cell, {name: users[name].numpy() for name in ("user", *EVIDENCE)}


def _by_items(ranking: Ranking, data: HeteroData) -> dict[str, Ranking]:
    """The ranking of each group of items that somebody held out."""
    rankings = {name: ranking.of_items(items) for name, items in item_groups(data).items()}
    return {name: found for name, found in rankings.items() if found.user.numel()}


def _means(users: dict[str, Tensor], chosen: Tensor | slice = slice(None)) -> dict[str, float]:
    return {name: users[name][chosen].double().mean().item() for name in EVIDENCE}


def describe_groups(data: HeteroData) -> dict[str, list[dict[str, Any]]]:
    """How many test users and items the groups of a cell's figures have.

    ``users``: name and size of each group. ``items``: name, size, and the least and most training
    interactions of an item; groups that nothing is held out of are told too.
    """
    pairs = data[INTERACTS]
    popularity = torch.bincount(pairs.edge_index[1], minlength=data["item"].num_nodes)
    return {
        "users": [
            {"name": name, "users": int(members.sum())}
            for name, members in user_groups(data, pairs.test_edge_label_index[0]).items()
        ],
        "items": [
            {
                "name": name,
                "items": int(members.sum()),
                "interactions": [int(popularity[members].min()), int(popularity[members].max())],
                "test_pairs": int(members[pairs.test_edge_label_index[1]].sum()),
            }
            for name, members in item_groups(data).items()
        ],
    }


@dataclass(frozen=True)
class AskedWith:
    """A model whose ``recommend`` is given options."""

    model: graphdiff.models.Recommender
    options: dict[str, Any]

    def recommend(self, user_index: Tensor, **kwargs: Any) -> Any:
        """As the model's own."""
        return self.model.recommend(user_index, **kwargs, **self.options)


def inference_seconds(model: RecommendsItems, data: HeteroData) -> float:
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
    """``mean`` and ``std`` (n - 1) over seeds, in the form of a cell.

    What some cells lack, because an earlier version measured them, is left out.
    """
    plain = [{k: v for k, v in cell.items() if k not in ("seed", "history")} for cell in cells]
    return {"mean": _over(mean, plain), "std": _over(_std, plain)}


def _over(statistic: Any, values: list[Any]) -> Any:
    if not isinstance(values[0], dict):
        return statistic(values)
    return {
        key: _over(statistic, [value[key] for value in values])
        for key in values[0]
        if all(key in value for value in values)
    }


def _std(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def sharing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Options of :func:`measure` for each of ``--jobs`` trainings side by side."""
    if arguments.jobs == 1:
        return {"progress": not arguments.quiet}
    # Several bars at once would write over each other.
    return {"progress": False, "threads": threads_each(arguments.jobs)}


def threads_each(jobs: int) -> int:
    """Threads for each of so many trainings side by side."""
    return max(1, torch.get_num_threads() // jobs)


def machine(jobs: int = 1) -> dict[str, Any]:
    """What the figures are measured on: its threads for each of ``jobs`` side by side."""
    return {
        "processor": _processor(),
        "threads": threads_each(jobs),
        **({"jobs": jobs} if jobs > 1 else {}),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "graphdiff": graphdiff.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
