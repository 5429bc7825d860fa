"""The protocol of every experiment: train one model with one seed and measure it.

Splits are fixed. Validation selects the epoch (and, in tuning, the settings); the test pairs are
read once, with the weights of that epoch. The whole catalogue is ranked, without the user's
training items, by the same code for every model.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.datasets.io.storage import load_graph
from graphdiff.errors import RunError
from graphdiff.evaluation.beyond_accuracy import beyond_accuracy
from graphdiff.evaluation.groups import item_groups, user_groups
from graphdiff.evaluation.noise import cross_fitted_scores, noise_auc, score_auc
from graphdiff.evaluation.ranking import Ranking, rank
from graphdiff.experiments.machine import device_name
from graphdiff.experiments.memory import PeakMemory
from graphdiff.models.base import Recommender
from graphdiff.schema import INTERACTS
from graphdiff.training.checkpoints import checkpoint_of
from graphdiff.training.fit import fit

KS = (10, 20)
#: Entries of a cell that have no mean.
OWN = ("seed", "device", "max_minutes", "out_of_time", "history")
#: Metrics that are kept per user, tested for significance and reported per group.
EVIDENCE = ("recall@20", "ndcg@20")


def measure(
    graph: Path | HeteroData,
    model: type[Recommender],
    settings: dict[str, Any],
    seed: int,
    *,
    threads: int | None = None,
    **options: Any,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Call :func:`run_cell`, also on the file of a graph, as in a process of its own.

    Args:
        graph: The graph, or its file.
        model: See :func:`run_cell`.
        settings: See :func:`run_cell`.
        seed: See :func:`run_cell`.
        threads: Number of threads of this process (default: unchanged).
        **options: Further arguments of :func:`run_cell`.

    Raises:
        RunError: If memory runs out.
        GraphDiffError: As :func:`run_cell` does.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        data = load_graph(graph) if isinstance(graph, Path) else graph
        return run_cell(data, model, settings, seed, **options)
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        # The CPU's allocator raises no type of its own.
        on_cpu = "can't allocate memory" in text
        if not (on_cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)):
            raise
        first, _, _ = text.partition("\n")
        raise RunError(f"out of memory: {first}") from None


def run_cell(
    data: HeteroData,
    model: type[Recommender],
    settings: dict[str, Any],
    seed: int,
    *,
    test: bool = True,
    noise: bool = False,
    folds: int = 0,
    recommend: dict[str, Any] | None = None,
    views: dict[str, dict[str, Any]] | None = None,
    mask_validation: bool = False,
    progress: bool = True,
    checkpoints: Path | None = None,
    **training: Any,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train one model with one seed and measure it.

    Args:
        data: The graph.
        model: Class of the model.
        settings: Its settings.
        seed: Seed of the training.
        test: Rank for the test pairs; with False they are not read.
        noise: Measure how well the model separates noise from true interactions among those that it
            was trained on (:func:`graphdiff.evaluation.noise.noise_auc`), where both are known.
        folds: With ``noise``, the number of further models that are trained to score interactions
            outside their training set (:func:`graphdiff.evaluation.noise.cross_fitted_scores`).
        recommend: Options of the model's ``recommend`` for all measurements after training; the
            epoch is selected without them.
        views: Options of the model's ``recommend`` by name: the validation figures with each of
            them become ``views`` of the cell.
        mask_validation: Mask validation items in the test ranking.
        progress: Show progress bars.
        checkpoints: Folder for the state of the training after each epoch. A training that was
            interrupted there is resumed.
        **training: Arguments of :func:`graphdiff.fit`.

    Returns:
        The figures, as JSON values; and per test user (``"user"``) the values of
        :data:`EVIDENCE`, arrays ``[n]``. Without the test these are ``"user"`` and
        ``VIEW/METRIC`` per validation user, or nothing without ``views``.

    Raises:
        GraphDiffError: If the model cannot be made from the data or cannot be trained.
    """
    with PeakMemory() as memory:
        recommender = model.from_data(data, **settings)
        resume = checkpoints is not None and checkpoint_of(checkpoints).is_file()
        fitted = fit(
            recommender,
            data,
            seed=seed,
            out=checkpoints,
            resume=resume,
            progress=progress,
            **training,
        )
    cell: dict[str, Any] = {
        "seed": seed,
        "device": device_name(recommender.device),
        "val": fitted.val,
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        # The minutes of the limit, and of the limit where that ended the training.
        "max_minutes": training.get("max_minutes"),
        "out_of_time": training.get("max_minutes") if fitted.out_of_time else None,
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

            def trained(rest: HeteroData) -> Recommender:
                other = model.from_data(rest, **settings)
                fit(other, rest, seed=seed, progress=progress, **training)
                return other

            scores = cross_fitted_scores(trained, data, folds, seed)
            cell["cross_fitted"] = score_auc(scores, data)
    if recommend:
        cell["val"] = rank(recommender, data, "val", KS, recommend=recommend).mean()
    of_views = _views(cell, recommender, data, views) if views else {}
    if not test:
        return cell, of_views
    users = _test(cell, recommender, data, mask_validation, recommend)
    cell["inference_seconds"] = inference_seconds(recommender, data, recommend)
    return cell, users


def _test(
    cell: dict[str, Any],
    model: Recommender,
    data: HeteroData,
    mask_validation: bool,
    recommend: dict[str, Any] | None,
) -> dict[str, np.ndarray]:
    """Add the test figures to a cell; return the values per user."""
    ranking = rank(model, data, "test", KS, mask_validation, recommend=recommend)
    users = ranking.users()
    cell["test"] = ranking.mean() | beyond_accuracy(ranking.pairs, KS, data)
    cell["groups"] = {
        "users": {
            name: _means(users, members[users["user"]])
            for name, members in user_groups(data, ranking.user).items()
        },
        "items": {
            name: _means(of_group.users()) for name, of_group in _by_items(ranking, data).items()
        },
    }
    return {name: users[name].numpy() for name in ("user", *EVIDENCE)}


def _by_items(ranking: Ranking, data: HeteroData) -> dict[str, Ranking]:
    """Return the ranking of each group of items with held-out pairs."""
    rankings = {name: ranking.of_items(items) for name, items in item_groups(data).items()}
    return {name: found for name, found in rankings.items() if found.user.numel()}


def _views(
    cell: dict[str, Any], model: Recommender, data: HeteroData, views: dict[str, dict[str, Any]]
) -> dict[str, np.ndarray]:
    """Add the validation figures of views to a cell; return the values per user."""
    cell["views"], values = {}, {}
    for name, options in views.items():
        ranking = rank(model, data, "val", KS, recommend=options)
        users = ranking.users()
        cell["views"][name] = ranking.mean() | beyond_accuracy(ranking.pairs, KS, data)
        values["user"] = users["user"].numpy()
        values |= {f"{name}/{metric}": users[metric].numpy() for metric in EVIDENCE}
    return values


def _means(users: dict[str, Tensor], chosen: Tensor | slice = slice(None)) -> dict[str, float]:
    return {name: users[name][chosen].double().mean().item() for name in EVIDENCE}


def describe_groups(data: HeteroData) -> dict[str, list[dict[str, Any]]]:
    """Return the sizes of the groups of test users and items that a cell has figures of.

    ``users``: name and size of each group. ``items``: name, size, and the smallest and largest
    number of training interactions of an item; groups without held-out pairs are included.
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


def inference_seconds(
    model: Recommender, data: HeteroData, recommend: dict[str, Any] | None = None
) -> float:
    """Return the median seconds of three rankings of the catalogue for all test users, k = 20, with
    the given options of the model's ``recommend``."""
    users = data[INTERACTS].test_edge_label_index[0].unique()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        for batch in users.split(1024):
            model.recommend(batch, k=20, **(recommend or {}))[1].sum().item()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def summarise(cells: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return ``mean`` and ``std`` (n - 1) over seeds, in the form of a cell.

    Figures that some cells lack are left out.
    """
    plain = [{k: v for k, v in cell.items() if k not in OWN} for cell in cells]
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
