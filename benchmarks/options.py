"""Command-line options that the benchmarks share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphdiff import datasets
from graphdiff.cli.compare import print_line
from graphdiff.errors import GraphDiffError
from graphdiff.experiments.cells import CellList, read_results
from graphdiff.experiments.execution import Execution
from graphdiff.experiments.notes import masking
from graphdiff.experiments.protocol import MASKS_VALIDATION, Protocol
from graphdiff.experiments.report import markdown_table
from graphdiff.experiments.tables import span
from graphdiff.experiments.workers import warm_up
from graphdiff.options import dataset_options as parse_dataset_options


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the options of the dataset."""
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--root", type=Path, help="folder of the dataset's files")
    parser.add_argument(
        "--dataset-options",
        nargs="+",
        metavar="NAME=VALUE",
        help="further arguments of the dataset's class, such as num_users=500 for synthetic",
    )


def dataset_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the dataset's class."""
    features = getattr(arguments, "features", None)
    return parse_dataset_options(arguments.dataset, features, arguments.dataset_options)


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options of training; see :func:`graphdiff.fit`."""
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--patience", type=int, default=30, help="in validations")
    parser.add_argument(
        "--min-steps",
        type=int,
        default=1500,
        help="training steps before patience can stop a model that has not begun to learn",
    )
    parser.add_argument(
        "--max-minutes", type=float, help="minutes of a training (default: no limit)"
    )
    parser.add_argument(
        "--eval-every", type=int, help="epochs between validations (default: by their cost)"
    )
    parser.add_argument("--monitor", default="recall@20")


def training_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of :func:`add_training` as arguments of :func:`graphdiff.fit`."""
    names = ("epochs", "patience", "min_steps", "max_minutes", "eval_every", "monitor")
    return {name: getattr(arguments, name) for name in names}


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add the number of trainings side by side."""
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=1,
        help="trainings side by side, which share the processor's cores: as small ones do not keep "
        "several busy, all are finished sooner, while each takes longer",
    )


def _jobs(text: str) -> int:
    if (jobs := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{jobs}: at least one training has to run")
    return jobs


def add_cells(parser: argparse.ArgumentParser) -> None:
    """Add the options of a benchmark whose results are a list of cells."""
    add_data(parser)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, counted from 0")
    add_jobs(parser)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--render", type=Path, metavar="JSON", help="train nothing, write its page")
    parser.add_argument("--markdown", type=Path, help="Markdown page to write")
    add_training(parser)
    parser.add_argument("--resume", action="store_true", help="keep finished cells of --out")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def parse_cells(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line of a benchmark that :func:`add_cells` added options to."""
    options = parser.parse_args(arguments)
    if (options.out is None) == (options.render is None):
        parser.error("give --out FILE.json to run the benchmark, or --render FILE.json to show one")
    return options


def cell_list(arguments: argparse.Namespace, kind: type[CellList] = CellList) -> CellList:
    """Return the experiment that the options of :func:`add_cells` describe, nothing measured."""
    data = datasets.load(arguments.dataset, arguments.root, **dataset_options(arguments))[0]
    masks = arguments.dataset.lower() in MASKS_VALIDATION
    protocol = Protocol(**training_options(arguments), mask_validation=masks)
    execution = Execution(
        arguments.out, arguments.resume, arguments.jobs, progress=not arguments.quiet
    )
    return kind(arguments.dataset, data, protocol, execution, print_line)


def run_or_exit(
    script: str, run: Callable[[argparse.Namespace], CellList], options: argparse.Namespace
) -> dict[str, Any]:
    """Return the results of a benchmark: those of ``run``, or of the file to render.

    An error that the user can fix ends the program with one line.
    """
    try:
        if options.render is not None:
            return read_results(options.render)
        warm_up()
        return run(options).result
    except GraphDiffError as error:
        sys.exit(f"{script}: {error}")


def page(title: str, head: list[str], rows: list[list[str]], note: str) -> str:
    """Return a Markdown page with one table."""
    return "\n".join([f"# {title}", "", *markdown_table(head, rows), "", note]) + "\n"


def number_of_seeds(result: dict[str, Any]) -> str:
    """Return how many seeds the figures of a model are from, such as "3 seeds"."""
    seeds: dict[str, set[int]] = {}
    for cell in result["cells"]:
        seeds.setdefault(cell["key"]["model"], set()).add(cell["key"]["seed"])
    counts = {len(one) for one in seeds.values()}
    return f"{span(counts)} seeds" if max(counts, default=1) > 1 else "one seed"


def masking_note(result: dict[str, Any]) -> str:
    """Return a sentence on which items were masked, from what the run states."""
    text = masking(result)
    return text[0].upper() + text[1:] + "."


def over_seeds(mean: float, std: float, count: int) -> str:
    """Return a metric as tables show it; one seed has no deviation."""
    return f"{mean:.4f} ± {std:.4f}" if count > 1 else f"{mean:.4f}"
