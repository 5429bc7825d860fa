"""The runner of all experiments: each cell is measured once and kept when it is finished.

A *cell* is one training: a model with its settings and a seed, on one graph. An experiment keeps
its finished cells in one JSON file and can be resumed from it.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError, GraphDiffError
from graphdiff.experiments.evidence import UserValues
from graphdiff.experiments.execution import Execution
from graphdiff.experiments.graphs import Graphs
from graphdiff.experiments.measure import measure, summarise
from graphdiff.experiments.protocol import Protocol
from graphdiff.experiments.terms import fingerprints, stated_fingerprints
from graphdiff.experiments.workers import in_own_process, one_by_one, side_by_side
from graphdiff.files import make_folder, write_text
from graphdiff.models.base import Recommender
from graphdiff.models.presets import NamedModel
from graphdiff.models.registry import reads_times
from graphdiff.schema import INTERACTS
from graphdiff.schema.names import TIME

#: The figures of a cell and, per test user, its metrics.
Outcome = tuple[dict[str, Any], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Cell:
    """A training to measure.

    Attributes:
        model: Class of the model. Other processes import it from its module.
        settings: All settings of the model.
        seed: Seed of the training.
        graph: Function that returns the graph. Cells that share a graph share the function.
        labels: What else distinguishes the cell from others, as JSON values.
        options: Further arguments of :func:`graphdiff.experiments.measure.run_cell`.
        preset: The preset in the model's name; the settings are complete with it.
    """

    model: type[Recommender]
    settings: dict[str, Any]
    seed: int
    graph: Callable[[], HeteroData]
    labels: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None

    @property
    def name(self) -> str:
        """Name of the model."""
        return NamedModel(self.model, self.preset).name

    @property
    def key(self) -> dict[str, Any]:
        """Return the identifying values of the cell, as JSON returns them."""
        own = {"model": self.name, "settings": self.settings, "seed": self.seed}
        return json.loads(json.dumps({**self.labels, **own}))

    def __str__(self) -> str:
        labels = "".join(f", {name} {value}" for name, value in self.labels.items())
        return f"{self.name}, seed {self.seed}{labels}"


class Task(NamedTuple):
    """A cell with its graph: in memory, or the file of it."""

    cell: Cell
    graph: Any


class Experiment(ABC):
    """Cells on one dataset under one protocol, the JSON file of their results, and that of values
    per user beside it.

    A subclass defines where in ``result`` a finished cell is kept.

    Attributes:
        kept_as: The entry of ``result`` for finished cells.
        users: Values per user, where a subclass adds any.

    Args:
        dataset: Name of the dataset.
        data: Its graph.
        protocol: How models are trained and ranked.
        execution: How cells are run.
        report: Called with each line on the progress.
    """

    kept_as: ClassVar[str]

    def __init__(
        self,
        dataset: str,
        data: HeteroData,
        protocol: Protocol,
        execution: Execution,
        report: Callable[[str], None],
    ) -> None:
        self.data, self.protocol = data, protocol
        self.execution, self.report = execution, report
        self._has_begun = False
        self.fingerprints = fingerprints(data)
        self.result: dict[str, Any] = {
            "dataset": dataset,
            **stated_fingerprints(self.fingerprints),
            "times": TIME in data[INTERACTS],
            "protocol": protocol.to_dict(),
            "machine": execution.machine(),
        }
        out = execution.out
        path = None if out is None else UserValues.path_beside(out)
        self.users = UserValues(path, *self.fingerprints)

    @abstractmethod
    def is_finished(self, cell: Cell) -> bool:
        """Return whether the results hold the cell."""

    @abstractmethod
    def keep(self, cell: Cell, outcome: Outcome) -> None:
        """Add a finished cell to the results."""

    @abstractmethod
    def skip(self, cell: Cell, error: GraphDiffError) -> None:
        """Add to the results that a cell failed."""

    def read_earlier(self) -> dict[str, Any]:
        """Return the results that are to be resumed, empty without any, and read their values per
        user.

        They may be of the same data without times; trainings of models that read times then do
        not count.

        Raises:
            ConfigError: If they cannot be read, or are of other data, another protocol or another
                kind of experiment.
        """
        path = self.execution.out
        if not self.execution.resume or path is None or not path.exists():
            return {}
        earlier = read_results(path)
        if self.kept_as != next((kind for kind in ("cells", "models") if kind in earlier), None):
            raise ConfigError(
                f"{path} holds results of another kind of experiment; give another --out, or "
                "replace them without --resume"
            )
        theirs, different = earlier.get("fingerprint"), []
        if theirs not in self.fingerprints:
            different = [f"fingerprint of the data {theirs} instead of {self.fingerprints[0]}"]
        different += self.protocol.differences(earlier.get("protocol", {}))
        if different:
            raise ConfigError(
                f"{path} holds results of another run: {', '.join(different)}; give another "
                "--out, or replace them without --resume"
            )
        others = [*earlier.get("earlier_machines", []), earlier.get("machine", {})]
        if others := [one for one in others if one and one != self.result["machine"]]:
            self.result["earlier_machines"] = others
        self.users.load()
        return earlier

    def lacked_times(self, earlier: Mapping[str, Any], model: str) -> bool:
        """Return whether a model reads times that the data of earlier results did not have."""
        own, without = self.fingerprints
        return earlier["fingerprint"] == without != own and reads_times(model)

    def run(self, cells: Iterable[Cell]) -> None:
        """Measure the cells that are not finished, and keep each as soon as it is.

        Args:
            cells: The cells; the next one is requested when there is room for it.
        """
        if self.execution.out is not None:
            make_folder(self.execution.out.parent)
            self._set_earlier_aside()
        wanted = (cell for cell in cells if not self.is_finished(cell))
        with Graphs() as graphs, closing(self._outcomes(wanted, graphs)) as finished:
            for cell, outcome in finished:
                try:
                    found = outcome.result()
                except GraphDiffError as error:
                    self.skip(cell, error)
                    self.report(f"  skipped: {cell}: {error}")
                    self.save()
                    continue
                self.keep(cell, found)
                self._report_figures(cell, found[0])
                self.save()
                if (folder := self._checkpoints(cell)) is not None:
                    shutil.rmtree(folder)

    def files(self) -> list[Path]:
        """Return the files of the results and of the values per user."""
        return [one for one in (self.execution.out, self.users.path) if one is not None]

    def _set_earlier_aside(self) -> None:
        """Rename the files of an earlier run that is not resumed: it may have taken hours."""
        begins, self._has_begun = not self._has_begun, True
        if self.execution.resume or not begins:
            return
        there = [one for one in self.files() if one.exists()]
        # The first ending that none of the files has: they stay together.
        ends = chain([".earlier"], (f".earlier-{n}" for n in count(2)))
        end = next(
            end for end in ends if not any(_with_end(path, end).exists() for path in self.files())
        )
        for path in there:
            path.replace(_with_end(path, end))
            self.report(f"{path.name} of an earlier run is kept as {_with_end(path, end)}")

    def save(self) -> None:
        """Write the values per user and then the results, each atomically."""
        # In this order: a cell in the JSON file has its values.
        self.users.save()
        if self.execution.out is not None:
            write_text(self.execution.out, json.dumps(self.result, indent=1) + "\n")

    def _outcomes(
        self, cells: Iterator[Cell], graphs: Graphs
    ) -> Generator[tuple[Cell, Future[Outcome]]]:
        finished: Generator[tuple[Task, Future[Outcome]]]
        if self.execution.in_process:
            finished = one_by_one(self._measure_here, self._tasks(cells, graphs.data))
        else:
            tasks = self._tasks(cells, graphs.file)
            finished = side_by_side(self._measure_apart, tasks, self.execution.jobs)
        with closing(finished):
            for task, outcome in finished:
                graphs.release(task.graph)
                yield task.cell, outcome

    def _tasks(
        self, cells: Iterator[Cell], graph_of: Callable[[Cell], Path | HeteroData]
    ) -> Iterator[Task]:
        for cell in cells:
            if not self.execution.in_process:
                check_importable(cell.model)
            self.report(str(cell))
            yield Task(cell, graph_of(cell))

    def _measure_here(self, task: Task) -> Outcome:
        cell = task.cell
        return measure(task.graph, cell.model, cell.settings, cell.seed, **self._options(cell))

    def _measure_apart(self, task: Task) -> Outcome:
        cell, options = task.cell, self._options(task.cell)
        return in_own_process(measure, task.graph, cell.model, cell.settings, cell.seed, **options)

    def _options(self, cell: Cell) -> dict[str, Any]:
        return {
            "mask_validation": self.protocol.mask_validation,
            "checkpoints": self._checkpoints(cell),
            **self.execution.options(),
            **self.protocol.training(),
            **cell.options,
        }

    def _checkpoints(self, cell: Cell) -> Path | None:
        """Return the folder of a cell's training; no other cell has the same, nor the same cell
        with other settings."""
        if self.execution.checkpoints is None:
            return None
        content = json.dumps([self.result["fingerprint"], self.result["protocol"], cell.key])
        name = hashlib.sha256(content.encode()).hexdigest()[:16]
        return self.execution.checkpoints / f"{cell.name}-{cell.seed}-{name}"

    def _report_figures(self, cell: Cell, figures: dict[str, Any]) -> None:
        prefix = f"{cell}: " if self.execution.jobs > 1 else ""
        # Some experiments choose on validation and leave the test pairs alone.
        test = f", test recall@20 {figures['test']['recall@20']:.4f}" if "test" in figures else ""
        self.report(
            f"  {prefix}epoch {figures['best_epoch']} of {figures['epochs']}, "
            f"{figures['train_seconds']:.1f} s, "
            f"val recall@20 {figures['val']['recall@20']:.4f}{test}"
        )


class CellList(Experiment):
    """An experiment whose results are a plain list of cells.

    ``result["cells"]`` lists ``{"key": …, "figures": …}`` and ``result["skipped"]`` the keys of
    cells that failed, with the reason. Cells of earlier settings are removed once their model has
    been measured with other ones.
    """

    kept_as = "cells"

    def __init__(
        self,
        dataset: str,
        data: HeteroData,
        protocol: Protocol,
        execution: Execution,
        report: Callable[[str], None],
    ) -> None:
        super().__init__(dataset, data, protocol, execution, report)
        self._requested: list[dict[str, Any]] = []
        earlier = self.read_earlier()
        kept = [
            one
            for one in earlier.get("cells", [])
            if protocol.allows(one["figures"])
            and not self.lacked_times(earlier, one["key"]["model"])
        ]
        self.result |= {"cells": kept, "skipped": []}

    def run(self, cells: Iterable[Cell]) -> None:
        """Measure the cells that are not finished; see :meth:`Experiment.run`."""

        def requested() -> Iterator[Cell]:
            for cell in cells:
                self._requested.append(cell.key)
                yield cell

        super().run(requested())
        self._forget_replaced()

    def _forget_replaced(self) -> None:
        """Remove what has been measured with other settings or other figures, whatever the seed: a
        mean over both would be of neither."""
        present = self.requested()
        alike = [(_without(one, "seed", "settings"), _kind(one)) for one in present]
        self.result["cells"] = [
            one
            for one in self.result["cells"]
            if one in present
            or all(
                _without(one, "seed", "settings") != key or _kind(one) == kind
                for key, kind in alike
            )
        ]

    def is_finished(self, cell: Cell) -> bool:
        """Return whether the results hold the cell, with the figures that it is to have."""
        wanted = (cell.options.get("test", True), set(cell.options.get("views") or ()))
        return any(
            one["key"] == cell.key and _measured(one) == wanted for one in self.result["cells"]
        )

    def keep(self, cell: Cell, outcome: Outcome) -> None:
        """Append a finished cell, in place of one with other figures."""
        self.result["cells"] = [one for one in self.result["cells"] if one["key"] != cell.key]
        self.result["cells"].append({"key": cell.key, "figures": outcome[0]})

    def skip(self, cell: Cell, error: GraphDiffError) -> None:
        """Append the key of a cell that failed."""
        self.result["skipped"].append({"key": cell.key, "reason": str(error)})

    def requested(self) -> list[dict[str, Any]]:
        """Return the finished cells among those that :meth:`run` was called with."""
        return [cell for cell in self.result["cells"] if cell["key"] in self._requested]


def _without(cell: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in cell["key"].items() if name not in names}


def _kind(cell: dict[str, Any]) -> tuple[Any, ...]:
    """Return what cells must share to be summarised."""
    return cell["key"]["settings"], _measured(cell)


def _measured(cell: dict[str, Any]) -> tuple[bool, set[str]]:
    """Return whether a cell has test figures, and its views."""
    figures = cell["figures"]
    return "test" in figures, set(figures.get("views", ()))


def _with_end(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def check_importable(model: type[Recommender]) -> None:
    """Check that other processes can import the class of a model.

    Raises:
        ConfigError: If they cannot.
    """
    try:
        pickle.dumps(model)
    except (pickle.PicklingError, AttributeError) as error:
        raise ConfigError(
            f"the processes that train {model.__name__} cannot import it ({error}); define it at "
            "the top level of a module"
        ) from None


def summary(cells: list[dict[str, Any]], **labels: Any) -> dict[str, Any] | None:
    """Summarise cells over seeds.

    Args:
        cells: Cells in the form of :attr:`CellList.result`.
        **labels: What a cell's key must hold to be included; None for what it must not hold.

    Returns:
        ``mean``, ``std`` (see :func:`graphdiff.experiments.measure.summarise`) and ``count``; None
        where no cell is included.
    """
    found = [
        cell["figures"]
        for cell in cells
        if all(cell["key"].get(name) == value for name, value in labels.items())
    ]
    return summarise(found) | {"count": len(found)} if found else None


def read_results(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file of results.

    Raises:
        ConfigError: If the file cannot be read or is not such a file.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as the JSON of an experiment: {error}") from None
    if not (isinstance(found, dict) and isinstance(found.get("dataset"), str)):
        raise ConfigError(f"{path} is not the JSON of an experiment; give a file that --out wrote")
    return found
