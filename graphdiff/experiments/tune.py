"""A search for a model's settings on validation, with the same budget for every model.

The budget is a number of trials, the same for all models. Where a trial takes more than 20 minutes
on two cores it is a number of hours instead, the same for all such models. The search ends at
whichever limit comes first, or when the whole grid has been tried. A trial that fails counts.

The search is Optuna's TPE sampler with a seed. The study is kept beside the result and can be
resumed; both limits are totals. With several jobs trials run side by side, and the next one is
suggested as soon as one ends: the sampler knows of the running trials, but not yet their outcome.
The test pairs are never read.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from torch_geometric.data import HeteroData

from graphdiff.datasets.io.storage import save_graph
from graphdiff.errors import ConfigError, GraphDiffError, RunError
from graphdiff.experiments.cells import check_importable
from graphdiff.experiments.machine import machine, threads_each
from graphdiff.experiments.measure import measure
from graphdiff.experiments.protocol import Protocol
from graphdiff.experiments.workers import in_own_process, side_by_side
from graphdiff.files import make_folder, write_text
from graphdiff.models.base import Recommender

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Budget:
    """Limits of a search; both count the trials of earlier runs of the same search.

    Attributes:
        trials: Maximum number of trials.
        hours: No trial starts after so many hours; None for no limit.
        seed: Seed of the search.
        jobs: Number of trials side by side.
        earlier_runs: Trainings on the same validation pairs that led to the defaults. They are
            stated beside the trials.
    """

    trials: int = 10
    hours: float | None = None
    seed: int = 0
    jobs: int = 1
    earlier_runs: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1 or self.jobs < 1:
            raise ConfigError(
                f"trials is {self.trials} and jobs is {self.jobs}; each must be at least 1"
            )


class Space(NamedTuple):
    """Settings of a model.

    Attributes:
        searched: The values to try for each.
        fixed: Settings that are not searched.
    """

    searched: dict[str, list[Any]]
    fixed: dict[str, Any]

    @property
    def size(self) -> int:
        """Number of combinations; 1 for a model without settings to search."""
        return math.prod(len(values) for values in self.searched.values())


class Trial(NamedTuple):
    """An Optuna trial with all settings of the model."""

    optuna: optuna.Trial
    settings: dict[str, Any]


def tune(
    dataset: str,
    data: HeteroData,
    model: type[Recommender],
    folder: Path,
    *,
    budget: Budget | None = None,
    protocol: Protocol | None = None,
    fixed: Mapping[str, Any] | None = None,
    try_first: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Search the settings of a model, and write the best ones to a file.

    The defaults take part as the first trial.

    Args:
        dataset: Name of the dataset.
        data: Its graph.
        model: The class of the model.
        folder: The result is written to ``folder/DATASET/MODEL.yaml``, with the study beside it.
        budget: Limits of the search.
        protocol: How trials are trained.
        fixed: Settings that are not searched.
        try_first: Settings to try after the defaults.
        report: Called with a line of text for each trial.

    Returns:
        The content of the file: ``settings``, ``trials``, ``val`` and what the search was.

    Raises:
        ConfigError: If a setting does not exist or fit.
        RunError: If no trial succeeded.
    """
    budget, protocol = budget or Budget(), protocol or Protocol()
    check_importable(model)
    name = model.__name__.lower()
    space = search_space(model, fixed or {})
    first = _first(model, space, try_first or {})
    make_folder(folder / dataset)
    study = _study(name, folder / dataset / f".{name}.log")
    if not study.trials:
        study.enqueue_trial(defaults(model, list(space.searched)))
        if first:
            study.enqueue_trial(first)
    search = Search(study, model, space, budget, protocol, report)
    with tempfile.TemporaryDirectory() as temporary:
        graph = Path(temporary) / "graph.safetensors"
        save_graph(data, graph)
        search.run(graph)
    if not search.complete():
        raise RunError(f"no trial of {name} succeeded; the last one: {search.failure}")
    found = search.summary()
    path = folder / dataset / f"{name}.yaml"
    write_text(path, yaml.safe_dump(found, sort_keys=False))
    report(
        f"best of {found['trials']} trials: {found['settings']} {study.best_value:.4f}, "
        f"written to {path}"
    )
    return found


@dataclass
class Search:
    """The trials of one model.

    Attributes:
        study: The Optuna study.
        model: The class of the model.
        space: What is searched.
        budget: The limits.
        protocol: How trials are trained.
        report: Called with a line of text for each trial.
        failure: The reason why the last trial failed, if one did.
    """

    study: optuna.Study
    model: type[Recommender]
    space: Space
    budget: Budget
    protocol: Protocol
    report: Callable[[str], None]
    failure: str = ""
    running: list[Trial] = field(default_factory=list)

    def run(self, graph: Path) -> None:
        """Run trials on a graph file while the budget lasts."""
        work = partial(self._measure, graph)
        with closing(side_by_side(work, self._suggestions(), self.budget.jobs)) as finished:
            for trial, outcome in finished:
                self.running.remove(trial)
                self._tell(trial, *outcome.result())

    def _tell(self, trial: Trial, result: dict[str, Any] | GraphDiffError, seconds: float) -> None:
        """Report the outcome of a trial to Optuna."""
        from optuna.trial import TrialState

        trial.optuna.set_user_attr("seconds", seconds)
        trial.optuna.set_user_attr("machine", machine(self.budget.jobs))
        if isinstance(result, GraphDiffError):
            self.failure = outcome = f"failed: {result}"
            self.study.tell(trial.optuna, state=TrialState.FAIL)
        else:
            for key in ("val", "best_epoch", "epochs", "train_seconds"):
                trial.optuna.set_user_attr(key, result[key])
            self.study.tell(trial.optuna, result["val"][self.protocol.monitor])
            outcome = (
                f"recall@20 {result['val']['recall@20']:.4f} at epoch {result['best_epoch']}, "
                f"{result['train_seconds']:.0f} s"
            )
        self.report(f"trial {trial.optuna.number}: {trial.settings} -> {outcome}")

    def _measure(self, graph: Path, trial: Trial) -> tuple[dict[str, Any] | GraphDiffError, float]:
        """Return the figures of a trial, or why there are none, and its seconds."""
        start = time.perf_counter()
        result: dict[str, Any] | GraphDiffError
        try:
            result, _ = in_own_process(
                measure,
                graph,
                self.model,
                trial.settings,
                seed=0,
                test=False,
                progress=False,
                threads=threads_each(self.budget.jobs),
                **self.protocol.training(),
            )
        except GraphDiffError as error:
            result = error
        return result, time.perf_counter() - start

    def _suggestions(self) -> Iterator[Trial]:
        """Yield trials while the budget lasts; each is made when it is requested."""
        from optuna.trial import TrialState

        while self._within_budget():
            self.study.sampler = self._sampler()
            trial = self.study.ask()
            settings = {
                name: trial.suggest_categorical(name, values)
                for name, values in self.space.searched.items()
            }
            settings = {**self.space.fixed, **settings}
            known = [{**self.space.fixed, **one.params} for one in self.tried()]
            known += [one.settings for one in self.running]
            if settings in known:
                self.study.tell(trial, state=TrialState.PRUNED)
                continue
            self.running.append(Trial(trial, settings))
            yield self.running[-1]

    def _sampler(self) -> optuna.samplers.BaseSampler:
        from optuna.samplers import RandomSampler, TPESampler

        # A seed for each trial: a resumed search goes on as an uninterrupted one would.
        seed = 1000 * self.budget.seed + len(self.study.trials)
        if self.space.size <= self.budget.trials:
            return RandomSampler(seed)  # All are tried: nothing is to be learned.
        return TPESampler(seed=seed, n_startup_trials=5, constant_liar=self.budget.jobs > 1)

    def _within_budget(self) -> bool:
        begun = len(self.tried()) + len(self.running)
        in_time = self.budget.hours is None or self.hours() < self.budget.hours
        return (begun < min(self.budget.trials, self.space.size) and in_time) or not begun

    def hours(self) -> float:
        """Return the hours that the trials took, evaluation on validation included."""
        return sum(one.user_attrs.get("seconds", 0.0) for one in self.tried()) / 3600

    def complete(self) -> list[optuna.trial.FrozenTrial]:
        """Return the trials that succeeded."""
        from optuna.trial import TrialState

        return self.study.get_trials(states=[TrialState.COMPLETE])

    def tried(self) -> list[optuna.trial.FrozenTrial]:
        """Return the trials that succeeded or failed, without those that were interrupted."""
        from optuna.trial import TrialState

        states = [TrialState.COMPLETE, TrialState.FAIL]
        return [one for one in self.study.get_trials(states=states) if one.user_attrs]

    def summary(self) -> dict[str, Any]:
        """Return the content of the file of the best settings."""
        best, done = self.study.best_trial, self.tried()
        return {
            "settings": {**self.space.fixed, **best.params},
            "trials": len(done),
            "hours": round(self.hours(), 3),
            "val": {name: best.user_attrs["val"][name] for name in ("recall@20", "ndcg@20")},
            "epochs": best.user_attrs["epochs"],
            "search": {
                "sampler": "TPE",
                "seed": self.budget.seed,
                "limits": {"trials": self.budget.trials, "hours": self.budget.hours},
                "whole_grid": len(done) >= self.space.size,
                "failed": len(done) - len(self.complete()),
                "fixed": list(self.space.fixed),
                "earlier_runs": self.budget.earlier_runs,
            },
            "machines": self._machines(),
        }

    def _machines(self) -> list[dict[str, Any]]:
        """Return each machine that trials ran on, once; a search may be resumed elsewhere."""
        found = [one.user_attrs["machine"] for one in self.tried() if "machine" in one.user_attrs]
        return [one for index, one in enumerate(found) if one not in found[:index]]


def search_space(model: type[Recommender], fixed: Mapping[str, Any]) -> Space:
    """Return the values to try for each setting that is not fixed, the default among them.

    Raises:
        ConfigError: If the model has no such setting, or not with this value.
    """
    model.configure(**fixed)
    space = model.search_space()
    searched = {
        name: space[name] if default in space[name] else [default, *space[name]]
        for name, default in defaults(model, [one for one in space if one not in fixed]).items()
    }
    return Space(searched, dict(fixed))


def defaults(model: type[Recommender], names: list[str]) -> dict[str, Any]:
    """Return the defaults of settings; a name with dots is a setting of a group."""
    found = {}
    for name in names:
        value: Any = model.configure()
        for part in name.split("."):
            value = getattr(value, part)
        found[name] = value
    return found


def _first(
    model: type[Recommender], space: Space, given: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the settings to try after the defaults, with defaults where none is given."""
    for name, value in given.items():
        if value not in space.searched.get(name, []):
            raise ConfigError(
                f"--try-first {name}={value} is not in the search space of "
                f"{model.__name__.lower()}; give one of "
                f"{space.searched.get(name, sorted(space.searched))}"
            )
    return {**defaults(model, list(space.searched)), **given} if given else None


def _study(name: str, path: Path) -> optuna.Study:
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tuning needs {error.name}; install it with: pip install 'graphdiff[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=name,
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))),
        direction="maximize",
        load_if_exists=True,
    )
