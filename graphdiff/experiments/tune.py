"""A search for a model's settings on validation, with the same budget for every model.

The budget is a number of trials, the same for all models. Where a trial takes more than 20 minutes
on two cores it is a number of hours instead, the same for all such models. The search ends at
whichever limit comes first, or when the whole grid has been tried. A trial that fails counts.

The search is Optuna's TPE sampler with a seed. The study is kept beside the result and can be
resumed, on the same terms (:mod:`graphdiff.experiments.terms`); both limits are totals. With
several jobs trials run side by side, and the next one is suggested as soon as one ends: the sampler
knows of the running trials, but not yet their outcome. The test pairs are never read.
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
from graphdiff.experiments.terms import agree, fingerprints, stated_fingerprints, terms
from graphdiff.experiments.workers import in_own_process, side_by_side
from graphdiff.files import make_folder, write_text
from graphdiff.models.base import Recommender
from graphdiff.models.config import flat_settings
from graphdiff.models.presets import NamedModel, named

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


def tune(
    dataset: str,
    data: HeteroData,
    model: type[Recommender] | NamedModel,
    folder: Path,
    *,
    budget: Budget | None = None,
    protocol: Protocol | None = None,
    fixed: Mapping[str, Any] | None = None,
    try_first: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = print,
    call: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Search the settings of a model, and write the best ones to a file.

    The defaults take part as the first trial. The settings of a preset are not searched.

    Args:
        dataset: Name of the dataset.
        data: Its graph.
        model: The class of the model, or a model with its preset.
        folder: The result is written to ``folder/DATASET/MODEL.yaml``, with the study beside it.
        budget: Limits of the search.
        protocol: How trials are trained.
        fixed: Settings that are not searched.
        try_first: Settings to try after the defaults.
        report: Called with a line of text for each trial.
        call: Calls a function with its arguments elsewhere and returns its result (default:
            :func:`~graphdiff.experiments.workers.in_own_process`).

    Returns:
        The content of the file: ``settings``, ``trials``, ``val`` and what the search was, with the
        fingerprint of the data. A study that an earlier version began does not say which data it is
        of: it is continued unchecked, and its file has no fingerprint.

    Raises:
        ConfigError: If a setting does not exist or fit, or the folder has a study of this model on
            other data, with another protocol, with other fixed settings or with other values to
            try.
        RunError: If no trial succeeded.
    """
    budget, protocol = budget or Budget(), protocol or Protocol()
    chosen = named(model)
    cls, name = chosen.model, chosen.name
    check_importable(cls)
    preset = {} if chosen.preset is None else cls.preset_settings(chosen.preset)
    space = search_space(cls, {**preset, **(fixed or {})})
    first = [defaults(cls, list(space.searched))]
    if try_first:
        _check_searched(name, space, try_first)
        first.append({**first[0], **try_first})
    place = folder / dataset.lower()  # where it is looked up
    make_folder(place)
    path, log = place / f"{name}.yaml", place / f".{name}.log"
    study, of = _study(name, log), fingerprints(data)
    agreed = agree(study, terms(name, of, protocol, space.fixed, space.searched), [log, path])
    search = Search(study, cls, space, budget, protocol, report, first, call or in_own_process)
    with tempfile.TemporaryDirectory() as temporary:
        graph = Path(temporary) / "graph.safetensors"
        save_graph(data, graph)
        search.run(graph)
    if not search.complete():
        raise RunError(f"no trial of {name} succeeded; {search.failure()}")
    found = search.summary()
    if agreed:
        found["search"] |= stated_fingerprints(of)
    write_text(path, yaml.safe_dump(found, sort_keys=False))
    report(
        f"best of {found['trials']} trials: {found['settings']} {search.best().value:.4f}, "
        f"written to {path}"
    )
    return found


@dataclass
class Search:
    """The trials of one model.

    Attributes:
        study: The Optuna study; it holds the finished trials and, as pruned ones, suggestions
            that came twice.
        model: The class of the model.
        space: What is searched.
        budget: The limits.
        protocol: How trials are trained.
        report: Called with a line of text for each trial.
        first: Searched settings to try before the sampler's.
        call: Calls a function elsewhere, with a result of its own or a GraphDiffError.
    """

    study: optuna.Study
    model: type[Recommender]
    space: Space
    budget: Budget
    protocol: Protocol
    report: Callable[[str], None]
    first: list[dict[str, Any]]
    call: Callable[..., Any]
    _running: list[dict[str, Any]] = field(default_factory=list)

    def run(self, graph: Path) -> None:
        """Run trials on a graph file while the budget lasts."""
        work = partial(self._measure, graph)
        with closing(side_by_side(work, self._suggestions(), self.budget.jobs)) as finished:
            for searched, outcome in finished:
                self._running.remove(searched)
                self._add(searched, *outcome.result())

    def _add(
        self, searched: dict[str, Any], result: dict[str, Any] | GraphDiffError, seconds: float
    ) -> None:
        """Add a finished trial to the study."""
        kept: dict[str, Any] = {"seconds": seconds, "machine": machine(self.budget.jobs)}
        value = None
        if isinstance(result, GraphDiffError):
            kept["failure"] = str(result)
            outcome = f"failed: {result}"
        else:
            value = result["val"][self.protocol.monitor]
            kept |= {key: result[key] for key in ("val", "best_epoch", "epochs", "train_seconds")}
            outcome = (
                f"recall@20 {result['val']['recall@20']:.4f} at epoch {result['best_epoch']}, "
                f"{result['train_seconds']:.0f} s"
            )
        state = "FAIL" if value is None else "COMPLETE"
        self.study.add_trial(self._trial(searched, state, value, kept))
        number = len(self.tried()) - 1
        self.report(f"trial {number}: {self._settings(searched)} -> {outcome}")

    def _measure(
        self, graph: Path, searched: dict[str, Any]
    ) -> tuple[dict[str, Any] | GraphDiffError, float]:
        """Return the figures of a trial, or why there are none, and its seconds."""
        start = time.perf_counter()
        result: dict[str, Any] | GraphDiffError
        try:
            result, _ = self.call(
                measure,
                graph,
                self.model,
                self._settings(searched),
                seed=0,
                test=False,
                progress=False,
                threads=threads_each(self.budget.jobs),
                **self.protocol.training(),
            )
        except GraphDiffError as error:
            result = error
        return result, time.perf_counter() - start

    def _params(self) -> list[dict[str, Any]]:
        return [one.params for one in self.tried()]

    def _settings(self, searched: dict[str, Any]) -> dict[str, Any]:
        return {**self.space.fixed, **searched}

    def _suggestions(self) -> Iterator[dict[str, Any]]:
        """Yield searched settings while the budget lasts; each is chosen when it is requested."""
        queue = [one for one in self.first if one not in self._params()]
        while self._within_budget():
            searched = queue.pop(0) if queue else self._suggest()
            if searched in [*self._params(), *self._running]:
                # The sampler has to know what it need not suggest again.
                self.study.add_trial(self._trial(searched, "PRUNED"))
                continue
            self._running.append(searched)
            yield searched

    def _suggest(self) -> dict[str, Any]:
        """Return the settings that the sampler suggests after the trials so far."""
        import optuna

        earlier = self.study.get_trials(deepcopy=False)
        # Optuna takes trials of one space only; an earlier version may have had another.
        own = self._distributions()
        fitting = [
            one if one.distributions == own else self._trial(one.params, one.state.name, one.value)
            for one in earlier
            if self._is_inside(one.params)
        ]
        # A seed for each trial: a resumed search goes on as an uninterrupted one would.
        seed = 1000 * self.budget.seed + len(earlier) + len(self._running)
        sampler: optuna.samplers.BaseSampler
        if self.space.size <= self.budget.trials:
            sampler = optuna.samplers.RandomSampler(seed)  # All are tried: nothing is learned.
        else:
            sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=5, constant_liar=self.budget.jobs > 1
            )
        known = optuna.create_study(direction="maximize", sampler=sampler)
        known.add_trials(fitting)
        known.add_trials([self._trial(one, "RUNNING") for one in self._running])
        return known.ask(own).params

    def _trial(
        self,
        searched: dict[str, Any],
        state: str,
        value: float | None = None,
        user_attrs: dict[str, Any] | None = None,
    ) -> optuna.trial.FrozenTrial:
        from optuna.trial import TrialState, create_trial

        return create_trial(
            state=TrialState[state],
            value=value,
            params=searched,
            distributions=self._distributions(),
            user_attrs=user_attrs,
        )

    def _distributions(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution

        return {
            name: CategoricalDistribution(values) for name, values in self.space.searched.items()
        }

    def _within_budget(self) -> bool:
        begun = len(self.tried()) + len(self._running)
        in_time = self.budget.hours is None or self.hours() < self.budget.hours
        is_left = begun < self.budget.trials and self._num_inside() < self.space.size
        return (is_left and in_time) or not begun

    def _num_inside(self) -> int:
        """Return how many combinations of the search space were tried or are being tried."""
        return sum(map(self._is_inside, [*self._params(), *self._running]))

    def _is_inside(self, params: Mapping[str, Any]) -> bool:
        """Return whether settings are in the search space; those of an earlier version may not
        be."""
        searched = self.space.searched
        return params.keys() == searched.keys() and all(
            value in searched[name] for name, value in params.items()
        )

    def hours(self) -> float:
        """Return the hours that the trials took, evaluation on validation included."""
        return sum(one.user_attrs.get("seconds", 0.0) for one in self.tried()) / 3600

    def complete(self) -> list[optuna.trial.FrozenTrial]:
        """Return the trials in the search space that succeeded."""
        done = [one for one in self.tried() if one.state.name == "COMPLETE"]
        return [one for one in done if self._is_inside(one.params)]

    def failed(self) -> list[optuna.trial.FrozenTrial]:
        """Return the trials that failed."""
        return [one for one in self.tried() if one.state.name == "FAIL"]

    def failure(self) -> str:
        """Return why there is no best trial."""
        if not self.failed():
            return "those in the folder are not in the search space; allow more trials"
        reason = self.failed()[-1].user_attrs.get("failure", "for a reason that was not kept")
        return f"the last one failed: {reason}"

    def best(self) -> optuna.trial.FrozenTrial:
        """Return the best trial, of several the first."""
        return max(self.complete(), key=lambda one: one.value or 0.0)

    def tried(self) -> list[optuna.trial.FrozenTrial]:
        """Return the trials that succeeded or failed, without suggestions that came twice."""
        return [one for one in self.study.get_trials(deepcopy=False) if one.state.name != "PRUNED"]

    def summary(self) -> dict[str, Any]:
        """Return the content of the file of the best settings."""
        best, done = self.best(), self.tried()
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
                "whole_grid": self._num_inside() >= self.space.size,
                "failed": len(self.failed()),
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
    """Return the defaults of settings; those of groups have dotted names."""
    found = flat_settings(model.configure())
    return {name: found[name] for name in names}


def _check_searched(name: str, space: Space, given: Mapping[str, Any]) -> None:
    """Check that settings to try are in the search space.

    Raises:
        ConfigError: If one is not.
    """
    for setting, value in given.items():
        if value not in space.searched.get(setting, []):
            raise ConfigError(
                f"--try-first {setting}={value} is not in the search space of {name}; give one of "
                f"{space.searched.get(setting, sorted(space.searched))}"
            )


def _study(name: str, path: Path) -> optuna.Study:
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"tuning needs {error.name}; install it with: pip install 'graphdiff-rec[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=name,
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))),
        direction="maximize",
        load_if_exists=True,
    )
