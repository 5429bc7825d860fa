"""Searches a model's settings on validation, with the same budget for every model.

    python benchmarks/tune.py --dataset tiktok --root DIR --model lightgcn --trials 8

The budget is a number of trials, the same for all models. Where a trial takes more than 20 minutes
on two cores it is a number of hours instead, the same for all such models: ``--hours``. The search
ends at whichever limit comes first, or when the whole grid has been tried. A trial that fails
counts.

The search is optuna's TPE sampler with a seed. The study is kept beside the result and goes on
where it was stopped; both limits are totals. With ``--jobs`` some trials run side by side, and the
next is suggested as soon as one ends: it knows of those at work, but not yet what comes of them.
The best settings, and what finding them took, go to ``benchmarks/configs/<dataset>/<model>.yaml``.
The test pairs are never looked at.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import yaml
from options import add_training, training_options
from protocol import CONFIGS, load_data, machine, measure, parse_options, threads_each
from workers import add_jobs, in_own_process, side_by_side

from graphdiff.datasets.io.storage import save_graph
from graphdiff.errors import ConfigError, GraphDiffError
from graphdiff.files import write_text
from graphdiff.models.registry import get_model


def main(given: list[str] | None = None) -> None:
    arguments = parse(given)
    data = load_data(
        arguments.dataset, arguments.root, arguments.features, arguments.dataset_options
    )
    space = search_space(arguments.model, parse_options(arguments.fix or []))
    folder = arguments.configs / arguments.dataset
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = optuna.storages.journal.JournalFileBackend(str(folder / f".{arguments.model}.log"))
    study = optuna.create_study(
        study_name=arguments.model,
        storage=optuna.storages.JournalStorage(journal),
        direction="maximize",
        load_if_exists=True,
    )
    if not study.trials:
        # The defaults take part, and count as a trial.
        study.enqueue_trial(defaults(arguments.model, list(space.searched)))
        if arguments.try_first:
            study.enqueue_trial(first(arguments, space))
    with tempfile.TemporaryDirectory() as name:
        graph = Path(name) / "graph.safetensors"
        save_graph(data, graph)
        reason = search(study, space, graph, arguments)
    if not complete(study):
        raise GraphDiffError(f"no trial of {arguments.model} succeeded; the last one: {reason}")
    found = summary(study, space, arguments)
    write_text(folder / f"{arguments.model}.yaml", yaml.safe_dump(found, sort_keys=False))
    print(f"best of {found['trials']} trials: {found['settings']} {study.best_value:.4f}")


class Space(NamedTuple):
    """Settings of a model.

    Attributes:
        searched: The values to try for each.
        fixed: Those that are not searched.
    """

    searched: dict[str, list[Any]]
    fixed: dict[str, Any]

    @property
    def size(self) -> int:
        """Number of settings that there are to try; 1 for a model without any."""
        return math.prod(len(values) for values in self.searched.values())


class Work(NamedTuple):
    """A trial to measure, with all settings."""

    trial: optuna.Trial
    settings: dict[str, Any]


def search(study: optuna.Study, space: Space, graph: Path, arguments: argparse.Namespace) -> str:
    """Runs trials while there is budget; returns why the last one that failed did, if any did."""
    at_work: list[Work] = []
    asked = suggestions(study, space, arguments, at_work)
    run = partial(measured, graph=graph, arguments=arguments)
    reason = ""
    with closing(side_by_side(run, asked, arguments.jobs)) as finished:
        for work, outcome in finished:
            at_work.remove(work)
            result, seconds = outcome.result()
            work.trial.set_user_attr("seconds", seconds)
            work.trial.set_user_attr("machine", machine(arguments.jobs))
            if isinstance(result, GraphDiffError):
                reason = str(result)
                tell(work, f"failed: {reason}")
                study.tell(work.trial, state=optuna.trial.TrialState.FAIL)
                continue
            for key in ("val", "best_epoch", "epochs", "train_seconds"):
                work.trial.set_user_attr(key, result[key])
            tell(
                work,
                f"recall@20 {result['val']['recall@20']:.4f} at epoch {result['best_epoch']}, "
                f"{result['train_seconds']:.0f} s",
            )
            study.tell(work.trial, result["val"][arguments.monitor])
    return reason


def measured(
    work: Work, graph: Path, arguments: argparse.Namespace
) -> tuple[dict[str, Any] | GraphDiffError, float]:
    """The figures of a trial, or why there are none, and its seconds."""
    start = time.perf_counter()
    try:
        result, _ = in_own_process(
            measure,
            graph,
            arguments.model,
            work.settings,
            seed=0,
            test=False,
            progress=False,
            threads=threads_each(arguments.jobs),
            **training_options(arguments),
        )
    except GraphDiffError as error:
        result = error
    return result, time.perf_counter() - start


def tell(work: Work, what: str) -> None:
    print(f"trial {work.trial.number}: {work.settings} -> {what}", flush=True)


def suggestions(
    study: optuna.Study,
    space: Space,
    arguments: argparse.Namespace,
    at_work: list[Work],
) -> Iterator[Work]:
    """Trials, while there is budget: the next is made when it is asked for.

    Args:
        study: What is searched with.
        space: What is searched.
        arguments: The limits.
        at_work: Trials that were asked for and not told of; the caller takes them out.
    """
    while within_budget(study, space, arguments, len(at_work)):
        study.sampler = sampler(arguments, len(study.trials), space.size)
        trial = study.ask()
        settings = {
            name: trial.suggest_categorical(name, values) for name, values in space.searched.items()
        }
        settings = {**space.fixed, **settings}
        known = [{**space.fixed, **one.params} for one in tried(study)]
        known += [work.settings for work in at_work]
        if settings in known:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        at_work.append(Work(trial, settings))
        yield at_work[-1]


def sampler(
    arguments: argparse.Namespace, num_trials: int, num_settings: int
) -> optuna.samplers.BaseSampler:
    # A seed for each trial: a search that was stopped goes on as if it had not been.
    seed = 1000 * arguments.seed + num_trials
    if num_settings <= arguments.trials:
        return optuna.samplers.RandomSampler(seed)  # all are tried: there is nothing to learn
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=5, constant_liar=arguments.jobs > 1
    )


def within_budget(
    study: optuna.Study, space: Space, arguments: argparse.Namespace, at_work: int
) -> bool:
    """Whether another trial may start beside so many that are at work."""
    begun = len(tried(study)) + at_work
    in_time = arguments.hours is None or hours_of(study) < arguments.hours
    return (begun < min(arguments.trials, space.size) and in_time) or not begun


def hours_of(study: optuna.Study) -> float:
    """Hours that the trials took, evaluation on validation included."""
    seconds = (
        # Earlier versions kept the seconds of training alone.
        one.user_attrs.get("seconds", one.user_attrs.get("train_seconds", 0.0))
        for one in tried(study)
    )
    return sum(seconds) / 3600


def search_space(model: str, fixed: dict[str, Any]) -> Space:
    """The values to try for each setting that is not fixed, the default among them.

    Raises:
        ConfigError: If the model has no such setting, or not with this value.
    """
    get_model(model).configure(**fixed)
    space = get_model(model).search_space()
    searched = {
        name: space[name] if default in space[name] else [default, *space[name]]
        for name, default in defaults(model, [one for one in space if one not in fixed]).items()
    }
    return Space(searched, fixed)


def defaults(model: str, names: list[str]) -> dict[str, Any]:
    config = get_model(model).configure()
    return {name: getattr(config, name) for name in names}


def first(arguments: argparse.Namespace, space: Space) -> dict[str, Any]:
    """The settings of ``--try-first``, defaults where it names none."""
    given = parse_options(arguments.try_first)
    for name, value in given.items():
        if value not in space.searched.get(name, []):
            raise ConfigError(
                f"--try-first {name}={value} is not in the search space of {arguments.model}; "
                f"give one of {space.searched.get(name, sorted(space.searched))}"
            )
    return {**defaults(arguments.model, list(space.searched)), **given}


def complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(states=[optuna.trial.TrialState.COMPLETE])


def tried(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that were measured or failed; not those that a stop cut off."""
    states = [optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL]
    return [one for one in study.get_trials(states=states) if one.user_attrs]


def summary(study: optuna.Study, space: Space, arguments: argparse.Namespace) -> dict[str, Any]:
    best, done = study.best_trial, tried(study)
    return {
        "settings": {**space.fixed, **best.params},
        "trials": len(done),
        "hours": round(hours_of(study), 3),
        "val": {name: best.user_attrs["val"][name] for name in ("recall@20", "ndcg@20")},
        "epochs": best.user_attrs["epochs"],
        "search": {
            "sampler": "TPE",
            "seed": arguments.seed,
            "limits": {"trials": arguments.trials, "hours": arguments.hours},
            "whole_grid": len(done) >= space.size,
            "failed": len(done) - len(complete(study)),
            "fixed": list(space.fixed),
            "earlier_runs": arguments.earlier_runs,
        },
        "machines": machines(done),
    }


def machines(trials: list[optuna.trial.FrozenTrial]) -> list[dict[str, Any]]:
    """What the trials ran on, each machine once; a search may go on elsewhere."""
    told = [one.user_attrs["machine"] for one in trials if "machine" in one.user_attrs]
    return [one for index, one in enumerate(told) if one not in told[:index]]


def parse(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", type=Path, help="folder of the dataset's files")
    parser.add_argument("--features", nargs="+", metavar="NAME=FILE", help="for mmrec")
    parser.add_argument("--dataset-options", nargs="+", metavar="NAME=VALUE")
    parser.add_argument("--model", required=True)
    parser.add_argument("--trials", type=int, default=10, help="total, an earlier run's included")
    parser.add_argument(
        "--hours", type=float, help="total, an earlier run's included; no trial starts after it"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the search")
    parser.add_argument(
        "--try-first",
        nargs="+",
        metavar="NAME=VALUE",
        help="settings to try after the defaults, such as those that runs by hand led to",
    )
    parser.add_argument(
        "--fix",
        nargs="+",
        metavar="NAME=VALUE",
        help="settings that are not searched, such as a size that bounds the time of a step",
    )
    parser.add_argument(
        "--earlier-runs",
        type=int,
        default=0,
        help="trainings on the same validation pairs that led to the defaults; a comparison tells "
        "of them beside the trials",
    )
    add_jobs(parser)
    add_training(parser)
    parser.add_argument("--configs", type=Path, default=CONFIGS, help="folder of the results")
    return parser.parse_args(given)


if __name__ == "__main__":
    try:
        main()
    except GraphDiffError as error:
        sys.exit(f"tune.py: {error}")
