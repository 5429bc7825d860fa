"""The comparison of models on one dataset under one protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError, GraphDiffError, RunError
from graphdiff.experiments.budgets import budget
from graphdiff.experiments.cells import Cell, Experiment, Outcome
from graphdiff.experiments.evidence import statistics
from graphdiff.experiments.execution import Execution
from graphdiff.experiments.graphs import given
from graphdiff.experiments.measure import describe_groups, summarise
from graphdiff.experiments.protocol import Protocol
from graphdiff.experiments.tuned import tuning_record
from graphdiff.models.closed_form import ClosedForm
from graphdiff.models.presets import NamedModel
from graphdiff.schema import fingerprint, modalities
from graphdiff.transforms import DropFeatures

#: A graph with the figures of the models on it: ``models``, and ``skipped`` with reasons.
Section = dict[str, Any]


@dataclass(frozen=True)
class Contestant:
    """A model that takes part in a comparison.

    Attributes:
        model: Its class and preset.
        settings: Its settings that differ from the preset's, or from the defaults.
        tuning: What tuning wrote about them; empty without tuning.
        earlier_runs: Trainings on the same validation pairs that led to the model's defaults.
        unused: A line for each file of tuning that is of other data.
    """

    model: NamedModel
    settings: Mapping[str, Any] = field(default_factory=dict)
    tuning: Mapping[str, Any] = field(default_factory=dict)
    earlier_runs: int = 0
    unused: Sequence[str] = ()

    @classmethod
    def tuned(
        cls,
        model: NamedModel,
        dataset: str,
        folder: Path | None = None,
        data: Callable[[], tuple[str, str]] | None = None,
    ) -> Contestant:
        """Return a model with the settings that tuning found, or the defaults without any.

        Args:
            model: The model.
            dataset: Name of the dataset.
            folder: See :func:`graphdiff.experiments.tuned.tuning_record`, as for ``data``.
            data: Function that returns the fingerprints of the data with times and without.
        """
        unused: list[str] = []
        found = tuning_record(dataset, model.name, folder, data=data, report=unused.append)
        return cls(model, found.get("settings", {}), found, unused=unused)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.name

    def entry(self) -> dict[str, Any]:
        """Return what a comparison states about the model before it is measured.

        Raises:
            ConfigError: If a setting does not exist or fit.
        """
        searchable = bool(self.model.model.search_space())
        tuning = budget(dict(self.tuning), searchable, self.earlier_runs)
        return {
            "name": self.model.title,
            "settings": self.model.settings(self.settings),
            "tuning": tuning | ({"unused": list(self.unused)} if self.unused else {}),
            "seeds": [],
        }


class ModelComparison(Experiment):
    """Models on one dataset, under one protocol.

    The result is the section of the whole data; ``result["dropped_features"]`` holds, per share,
    the sections of the same data without some of its features.

    Args:
        dataset: Name of the dataset.
        data: Its graph.
        contestants: The models.
        protocol: How they are trained and ranked.
        execution: How cells are run.
        report: Called with each line on the progress.
        seeds: Seeds of the trainings.
        drop_features: Transforms that remove features, one for each further section.

    Raises:
        GraphDiffError: If the data or an earlier result does not fit.
    """

    kept_as = "models"

    def __init__(
        self,
        dataset: str,
        data: HeteroData,
        contestants: Sequence[Contestant],
        protocol: Protocol,
        execution: Execution,
        report: Callable[[str], None],
        *,
        seeds: Sequence[int] = (0,),
        drop_features: Sequence[DropFeatures] = (),
    ) -> None:
        super().__init__(dataset, data, protocol, execution, report)
        self.contestants = {one.name: one for one in contestants}
        self.seeds = seeds
        for line in (line for one in contestants for line in one.unused):
            report(line)
        self.result |= {"groups": describe_groups(data), "models": {}, "skipped": []}
        self.sections: list[tuple[Section, Callable[[], HeteroData]]] = [(self.result, given(data))]
        self._add_dropped(drop_features)
        if earlier := self.read_earlier():
            self._restore_all(earlier)

    def _add_dropped(self, transforms: Sequence[DropFeatures]) -> None:
        if not transforms:
            return
        if not modalities(self.data):
            raise ConfigError(
                f"the dataset {self.result['dataset']!r} has no features to drop; leave out "
                "--drop-features"
            )
        self.result["dropped_features"] = {}
        for transform in {one.share: one for one in transforms}.values():
            dropped = transform(self.data)
            section = {
                "transform": repr(transform),
                "fingerprint": fingerprint(dropped),
                "models": {},
                "skipped": [],
            }
            self.result["dropped_features"][f"{transform.share:g}"] = section
            self.sections.append((section, given(dropped)))

    def _restore_all(self, earlier: Section) -> None:
        """Take over the finished cells of an earlier run.

        Models that are not requested again are kept too: a comparison that is interrupted a second
        time loses nothing.
        """
        for section, _ in self.sections:
            self._restore(section, earlier)
        for share, section in earlier.get("dropped_features", {}).items():
            self.result.setdefault("dropped_features", {}).setdefault(share, section)

    def _restore(self, section: Section, earlier: Section) -> None:
        """Take over the cells of the same graph, except those with other settings."""
        for one in (earlier, *earlier.get("dropped_features", {}).values()):
            mine = self.fingerprints if section is self.result else (section["fingerprint"],)
            if one.get("fingerprint") in mine:
                break
        else:
            return
        for name, entry in one["models"].items():
            kept = entry["seeds"]
            if name in self.contestants:
                new = self.contestants[name].entry()
                # As JSON returns them: tuples become lists.
                if entry["settings"] != json.loads(json.dumps(new["settings"])):
                    continue
                entry = {**entry, "name": new["name"], "tuning": new["tuning"]}
                kept = [seed for seed in kept if self.protocol.allows(seed)]
            if kept and not self.lacked_times(one, name):
                section["models"][name] = {**entry, "seeds": kept, **summarise(kept)}

    def compare(self) -> dict[str, Any]:
        """Measure what is not finished, test for significance, and return the results.

        Raises:
            RunError: If no model could be measured.
        """
        for section, graph in self.sections:
            self.run(self._cells(section, graph))
        if not self.result["models"]:
            raise RunError(
                "no model could be measured: "
                + "; ".join(f"{one['model']}: {one['reason']}" for one in self.result["skipped"])
            )
        self.result["statistics"] = statistics(self.result["models"], self.users)
        self.save()
        return self.result

    def _cells(self, section: Section, graph: Callable[[], HeteroData]) -> Iterator[Cell]:
        """Yield the cells of a section, as long as their model fits the data."""
        is_whole = section is self.result
        labels = {} if is_whole else {"transform": section["transform"]}
        for name, contestant in self.contestants.items():
            model = contestant.model.model
            if not is_whole and not model.uses_content:
                continue  # Features that it does not read cannot be missed.
            if not is_whole and name not in self.result["models"]:
                continue  # It was skipped on the whole data, with a reason.
            try:
                entry = section["models"].get(name) or contestant.entry()
            except GraphDiffError as error:
                self._add_skipped(section, name, None, error)
                self.save()
                continue
            if entry["seeds"]:
                self.report(f"{name}: {len(entry['seeds'])} finished earlier")
            # A solution in closed form is the same for all seeds.
            seeds = self.seeds[:1] if issubclass(model, ClosedForm) else self.seeds
            for seed in seeds:
                if not self._given_up(section, name):
                    yield Cell(
                        model,
                        entry["settings"],
                        seed,
                        graph,
                        labels,
                        preset=contestant.model.preset,
                    )

    def is_finished(self, cell: Cell) -> bool:
        """Return whether the cell's section holds it."""
        seeds = self._entry(cell)["seeds"]
        return any(one["seed"] == cell.seed for one in seeds)

    def keep(self, cell: Cell, outcome: Outcome) -> None:
        """Add a finished cell to its section."""
        figures, users = outcome
        section, entry = self._section(cell), self._entry(cell)
        entry["seeds"] = sorted([*entry["seeds"], figures], key=lambda one: one["seed"])
        entry.update(summarise(entry["seeds"]))
        section["models"][cell.name] = entry
        if section is self.result:
            self.users.add(cell.name, cell.seed, users)

    def skip(self, cell: Cell, error: GraphDiffError) -> None:
        """Add to the section that the cell failed, or that the model does not fit the data."""
        section = self._section(cell)
        if not isinstance(error, ConfigError):
            self._add_skipped(section, cell.name, cell.seed, error)
        elif not self._given_up(section, cell.name):
            # The model does not fit the data, whatever the seed: stated once.
            self._add_skipped(section, cell.name, None, error)

    def _section(self, cell: Cell) -> Section:
        transform = cell.labels.get("transform")
        return next(one for one, _ in self.sections if one.get("transform") == transform)

    def _entry(self, cell: Cell) -> dict[str, Any]:
        found = self._section(cell)["models"].get(cell.name)
        return found or self.contestants[cell.name].entry()

    def _given_up(self, section: Section, name: str) -> bool:
        return any(one["model"] == name and one["seed"] is None for one in section["skipped"])

    def _add_skipped(
        self, section: Section, name: str, seed: int | None, error: GraphDiffError
    ) -> None:
        section["skipped"].append({"model": name, "seed": seed, "reason": str(error)})
