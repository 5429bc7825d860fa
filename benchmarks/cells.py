"""Cells of a benchmark in one JSON file: each is measured once, and kept when it is finished."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from options import add_training, training_options
from protocol import MASKS_VALIDATION, load_data, machine, measure, sharing, summarise
from rich.console import Console
from torch_geometric.data import HeteroData
from workers import add_jobs, in_own_process, side_by_side, warm_up

from graphdiff.datasets.io.storage import save_graph
from graphdiff.errors import ConfigError, GraphDiffError
from graphdiff.files import write_text
from graphdiff.schema import fingerprint

Key = dict[str, Any]
T = TypeVar("T")


class Work(NamedTuple):
    """A cell to measure.

    Attributes:
        key: What JSON can hold, with ``model``, ``settings`` and ``seed`` among it.
        graph: Makes the graph to train on, if it comes to that.
        options: Of :func:`protocol.run_cell`.
    """

    key: Key
    graph: Callable[[], HeteroData]
    options: dict[str, Any]


class Task(NamedTuple):
    """Work whose graph is in a file."""

    key: Key
    graph: Path
    options: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every benchmark made of cells is told on the command line."""
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--root", type=Path, help="folder of the dataset's files")
    parser.add_argument("--dataset-options", nargs="+", metavar="NAME=VALUE")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0 on")
    add_jobs(parser)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--markdown", type=Path, help="Markdown page to write")
    add_training(parser)
    parser.add_argument("--resume", action="store_true", help="keep finished cells of --out")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run_or_exit(
    script: str, run: Callable[[argparse.Namespace, Console], T], options: argparse.Namespace
) -> T:
    """What ``run`` returns; what its user can mend ends the program, told in one line."""
    warm_up()
    try:
        return run(options, Console())
    except GraphDiffError as error:
        sys.exit(f"{script}: {error}")


class Cells:
    """Measures cells and keeps each as soon as it is finished.

    A cell is told by its key: what was measured, with its settings and seed. ``result["cells"]`` is
    a list of ``{"key": …, "figures": …}``; ``result["skipped"]`` tells keys that failed, with the
    reason.

    Args:
        arguments: As :func:`add_arguments` has it.
        console: To tell progress on.

    Raises:
        GraphDiffError: If the data cannot be had, or an earlier result is of other data or another
            protocol.
    """

    def __init__(self, arguments: argparse.Namespace, console: Console) -> None:
        self.arguments, self.console = arguments, console
        self.asked: list[Key] = []
        self.data: HeteroData = load_data(
            arguments.dataset, arguments.root, options=arguments.dataset_options
        )
        self.training = {
            **training_options(arguments),
            "mask_validation": arguments.dataset in MASKS_VALIDATION,
        }
        self.result: dict[str, Any] = {
            "dataset": arguments.dataset,
            "fingerprint": fingerprint(self.data),
            "protocol": self.training,
            "machine": machine(arguments.jobs),
            "cells": [],
            "skipped": [],
        }
        if arguments.resume and arguments.out.exists():
            self._read_earlier(arguments.out)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)

    def _read_earlier(self, path: Path) -> None:
        try:
            earlier = json.loads(path.read_text())
            same = {key: earlier[key] == self.result[key] for key in ("fingerprint", "protocol")}
            self.result["cells"] = earlier["cells"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} cannot be gone on with: {error!r}; give another --out, or leave out "
                "--resume"
            ) from None
        for key, fits in same.items():
            if not fits:
                raise ConfigError(
                    f"{path} was written with another {key}; give another --out, or leave out "
                    "--resume"
                )

    def run(self, work: Iterable[Work]) -> None:
        """Measures what is not there yet, each cell in a process of its own."""
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(
                side_by_side(self._measure, self._tasks(work, Path(folder)), self.arguments.jobs)
            ) as finished,
        ):
            for task, outcome in finished:
                task.graph.unlink()
                try:
                    figures, _ = outcome.result()
                except GraphDiffError as error:
                    self.console.print(
                        f"  [yellow]skipped[/]: {error}", highlight=False, soft_wrap=True
                    )
                    self.result["skipped"].append({"key": task.key, "reason": str(error)})
                else:
                    self.result["cells"].append({"key": task.key, "figures": figures})
                self.save()

    def _tasks(self, work: Iterable[Work], folder: Path) -> Iterator[Task]:
        for n, one in enumerate(work):
            key = json.loads(json.dumps(one.key))  # as a file gives it back
            self.asked.append(key)
            if any(cell["key"] == key for cell in self.result["cells"]):
                continue
            told = ", ".join(f"{name} {value}" for name, value in key.items() if name != "settings")
            self.console.print(told, highlight=False)
            graph = folder / f"{n}.safetensors"
            save_graph(one.graph(), graph)
            yield Task(key, graph, one.options)

    def _measure(self, task: Task) -> Any:
        return in_own_process(
            measure,
            task.graph,
            task.key["model"],
            task.key["settings"],
            task.key["seed"],
            **sharing(self.arguments),
            **self.training,
            **task.options,
        )

    def save(self) -> None:
        """Writes the JSON, whole or not at all."""
        write_text(self.arguments.out, json.dumps(self.result, indent=1) + "\n")

    def summary(self, **wanted: Any) -> dict[str, Any] | None:
        """Over the seeds of the cells that were asked for and whose keys hold ``wanted``, mean,
        deviation and number (``count``); None without any."""
        found = [
            cell["figures"]
            for cell in self.result["cells"]
            if cell["key"] in self.asked
            and all(cell["key"].get(name) == value for name, value in wanted.items())
        ]
        return summarise(found) | {"count": len(found)} if found else None


def over_seeds(mean: float, std: float, count: int) -> str:
    """A metric as it is told in tables; one seed has no spread."""
    return f"{mean:.4f} ± {std:.4f}" if count > 1 else f"{mean:.4f}"


def markdown(title: str, head: list[str], rows: list[list[str]], note: str) -> str:
    """A page with one table."""
    lines = [f"# {title}", "", f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", note]) + "\n"
