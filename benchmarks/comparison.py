"""Runs the cells of a comparison, each a model with a seed, and keeps what is finished."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from budgets import budget
from evidence import UserValues, statistics
from options import training_options
from protocol import (
    MASKS_VALIDATION,
    describe_groups,
    load_data,
    machine,
    measure,
    model_names,
    sharing,
    summarise,
    tuned,
)
from rich.console import Console
from torch_geometric.data import HeteroData
from workers import in_own_process, side_by_side

from graphdiff.datasets.io.storage import save_graph
from graphdiff.errors import ConfigError, GraphDiffError
from graphdiff.files import write_text
from graphdiff.models.registry import get_model
from graphdiff.schema import fingerprint, modalities
from graphdiff.transforms import ColdItems, DropFeatures

Section = dict[str, Any]


class Cell(NamedTuple):
    """A model with a seed."""

    model: str
    seed: int


class Comparison:
    """Models on one dataset, under one protocol.

    A section is a graph with the models' figures on it: ``models``, and ``skipped`` with reasons.
    The result is itself the section of the whole data; under ``dropped_features`` are those of the
    same data with features taken away.

    Args:
        arguments: The command line.
        console: To tell progress on.

    Raises:
        GraphDiffError: If the data, a model's name, or an earlier result does not fit.
    """

    def __init__(self, arguments: argparse.Namespace, console: Console) -> None:
        self.arguments, self.console = arguments, console
        self.models = model_names(arguments.models)
        self.training = training_options(arguments)
        self.mask_validation = arguments.mask_validation or arguments.dataset in MASKS_VALIDATION
        data = load_data(
            arguments.dataset, arguments.root, arguments.features, arguments.dataset_options
        )
        split = {}
        if arguments.split == "cold-item":
            transform = ColdItems(arguments.cold_share, arguments.split_seed)
            data, split = transform(data), {"split": repr(transform)}
        self.result: Section = {
            "dataset": arguments.dataset,
            "fingerprint": fingerprint(data),
            "protocol": {
                "ranking": "full catalogue, training items left out",
                "mask_validation": self.mask_validation,
                "epoch_chosen_by": f"validation {arguments.monitor}",
                **self.training,
                **split,
            },
            "machine": machine(arguments.jobs),
            "groups": describe_groups(data),
            "models": {},
            "skipped": [],
        }
        self.sections = [(self.result, data)]
        self._add_dropped(data)
        self.users = UserValues(UserValues.path_beside(arguments.out), self.result["fingerprint"])
        self.earlier: Section = {}
        if arguments.resume:
            self._read_earlier()

    def _add_dropped(self, data: HeteroData) -> None:
        if not self.arguments.drop_features:
            return
        if not modalities(data):
            raise ConfigError(
                f"the dataset {self.arguments.dataset!r} has no features to drop; leave out "
                "--drop-features"
            )
        self.result["dropped_features"] = {}
        for share in self.arguments.drop_features:
            transform = DropFeatures(share, self.arguments.split_seed)
            dropped = transform(data)
            section = {
                "transform": repr(transform),
                "fingerprint": fingerprint(dropped),
                "models": {},
                "skipped": [],
            }
            self.result["dropped_features"][f"{share:g}"] = section
            self.sections.append((section, dropped))

    def _read_earlier(self) -> None:
        """What an earlier run with the same data and protocol finished."""
        out = self.arguments.out
        if not out.exists():
            return
        earlier = json.loads(out.read_text())
        for key in ("fingerprint", "protocol"):
            if earlier.get(key) != self.result[key]:
                raise GraphDiffError(
                    f"{out} was written with another {key}; give another --out, or leave out "
                    "--resume"
                )
        self.earlier = earlier
        self.users.load()
        others = [earlier["machine"], *earlier.get("earlier_machines", [])]
        if others := [one for one in others if one != self.result["machine"]]:
            self.result["earlier_machines"] = others
        # What is finished stays from the start, whether asked for again or not: a comparison that
        # is stopped a second time loses nothing.
        for section, _ in self.sections:
            self._restore(section)
        for share, section in earlier.get("dropped_features", {}).items():
            self.result.setdefault("dropped_features", {}).setdefault(share, section)

    def _restore(self, section: Section) -> None:
        """Takes the earlier cells of the same graph, but those of other settings."""
        for one in (self.earlier, *self.earlier.get("dropped_features", {}).values()):
            if one.get("fingerprint") == section["fingerprint"]:
                break
        else:
            return
        for name, entry in one["models"].items():
            if name in self.models:
                new = self._new_entry(name)
                # As JSON gives them back: tuples have become lists.
                if entry["settings"] != json.loads(json.dumps(new["settings"])):
                    continue
                entry = {**entry, "name": new["name"], "tuning": new["tuning"]}
            section["models"][name] = entry

    def run(self) -> Section:
        """Measures what is not finished yet, and compares.

        Raises:
            GraphDiffError: If no model could be measured.
        """
        self.arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            for section, data in self.sections:
                graph = Path(folder) / "graph.safetensors"
                save_graph(data, graph)
                self._run_section(section, graph)
        if not self.result["models"]:
            raise GraphDiffError(
                "no model could be measured: "
                + "; ".join(f"{one['model']}: {one['reason']}" for one in self.result["skipped"])
            )
        self.result["statistics"] = statistics(self.result["models"], self.users)
        self._save()
        return self.result

    def _run_section(self, section: Section, graph: Path) -> None:
        work = partial(self._measure, section, graph)
        with closing(side_by_side(work, self._cells(section), self.arguments.jobs)) as finished:
            for cell, outcome in finished:
                try:
                    self._keep(section, cell, *outcome.result())
                except ConfigError as error:
                    # The model does not fit the data, whatever the seed: told once.
                    if not self._given_up(section, cell.model):
                        self._skip(section, cell.model, None, error)
                except GraphDiffError as error:
                    self._skip(section, *cell, error)

    def _cells(self, section: Section) -> Iterator[Cell]:
        """What is not finished yet, as long as its model may still be measured."""
        is_whole = section is self.result
        for name in self.models:
            if not is_whole and not get_model(name).uses_content:
                continue  # What it does not read cannot be missed.
            if not is_whole and name not in self.result["models"]:
                continue  # It has been skipped, for a reason that is told already.
            try:
                entry = self._entry(section, name)
            except GraphDiffError as error:
                self._skip(section, name, None, error)
                continue
            finished = {cell["seed"] for cell in entry["seeds"]}
            if finished:
                self.console.print(f"[bold]{name}[/]: {len(finished)} finished earlier")
            for seed in sorted(set(range(self.arguments.seeds)) - finished):
                if not self._given_up(section, name):
                    yield Cell(name, seed)

    def _given_up(self, section: Section, name: str) -> bool:
        return any(one["model"] == name and one["seed"] is None for one in section["skipped"])

    def _entry(self, section: Section, name: str) -> dict[str, Any]:
        return section["models"].get(name) or self._new_entry(name)

    def _new_entry(self, name: str) -> dict[str, Any]:
        cls, found = get_model(name), tuned(self.arguments.dataset, name)
        return {
            "name": cls.__name__,
            "settings": cls.configure(**found.get("settings", {})).model_dump(),
            "tuning": budget(found, searchable=bool(cls.search_space())),
            "seeds": [],
        }

    def _measure(
        self, section: Section, graph: Path, cell: Cell
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """A cell's figures and each user's values; beside others, in a thread of its own."""
        told = f", {section['transform']}" if "transform" in section else ""
        self.console.print(f"[bold]{cell.model}[/], seed {cell.seed}{told}")
        return in_own_process(
            measure,
            graph,
            cell.model,
            self._entry(section, cell.model)["settings"],
            cell.seed,
            mask_validation=self.mask_validation,
            kept=self._kept(section, cell),
            **sharing(self.arguments),
            **self.training,
        )

    def _keep(
        self, section: Section, cell: Cell, figures: dict[str, Any], users: dict[str, np.ndarray]
    ) -> None:
        """A finished cell, on disk."""
        entry, kept = self._entry(section, cell.model), self._kept(section, cell)
        entry["seeds"] = sorted([*entry["seeds"], figures], key=lambda one: one["seed"])
        entry.update(summarise(entry["seeds"]))
        section["models"][cell.model] = entry
        if section is self.result:
            self.users.add(cell.model, cell.seed, users)
        whose = f"{cell.model}, seed {cell.seed}: " if self.arguments.jobs > 1 else ""
        self.console.print(
            f"  {whose}epoch {figures['best_epoch']} of {figures['epochs']}, "
            f"{figures['train_seconds']:.1f} s, "
            f"val recall@20 {figures['val']['recall@20']:.4f}, "
            f"test recall@20 {figures['test']['recall@20']:.4f}"
        )
        self._save()
        if kept is not None:
            shutil.rmtree(kept)

    def _kept(self, section: Section, cell: Cell) -> Path | None:
        """Where a cell's training keeps its epochs: no other cell's folder, nor this one's with
        other settings."""
        if self.arguments.checkpoints is None:
            return None
        settings = self._entry(section, cell.model)["settings"]
        what = json.dumps([section["fingerprint"], self.result["protocol"], settings])
        told = hashlib.sha256(what.encode()).hexdigest()[:16]
        return self.arguments.checkpoints / f"{cell.model}-{cell.seed}-{told}"

    def _skip(self, section: Section, name: str, seed: int | None, error: Exception) -> None:
        section["skipped"].append({"model": name, "seed": seed, "reason": str(error)})
        self.console.print(f"  [yellow]skipped[/] {name}: {error}", highlight=False, soft_wrap=True)
        self._save()

    def _save(self) -> None:
        """After each cell, so that a killed comparison keeps what it has."""
        # First the values: a cell in the JSON then has its values.
        if self.users.arrays:
            self.users.save()
        write_text(self.arguments.out, json.dumps(self.result, indent=1) + "\n")
