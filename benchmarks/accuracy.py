"""Compares models on one dataset under one protocol.

    python benchmarks/accuracy.py --dataset tiktok --root DIR --models ld4mrec lightgcn freedom \
        --seeds 3 --out tiktok.json --report tiktok.html

Each model runs with the settings that tuning found on validation
(``benchmarks/configs/<dataset>/<model>.yaml``), or with its defaults where there are none. Each
model and seed runs in a process of its own; what fails is told, and the others go on. Beside the
JSON, NAME.users.safetensors keeps what each test user got, which the significance tests are made
of. A comparison that was stopped goes on with --resume.

    python benchmarks/accuracy.py --render tiktok.json --markdown tiktok.md --latex tiktok.tex

writes pages of a comparison that is there, and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import workers
from options import add_training


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.render is None:
        # Imports take seconds: those of the processes to come go on beside the ones below.
        workers.warm_up()
    from rich.console import Console

    from graphdiff.errors import GraphDiffError

    # The tables are wide; a file they are sent to is as wide as it takes.
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        if options.render is None:
            from comparison import Comparison

            result = Comparison(options, console).run()
        else:
            result = read(options.render)
    except GraphDiffError as error:
        sys.exit(f"accuracy.py: {error}")
    import report

    report.print_table(result, console)
    console.print(f"figures: {options.render or options.out}")
    for path, write in (
        (options.report, report.write_report),
        (options.markdown, report.write_markdown),
        (options.latex, report.write_latex),
    ):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(result, path)
            console.print(f"report:  {path}")


def read(path: Path) -> dict:
    """The JSON of an earlier comparison."""
    from graphdiff.errors import DataError

    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as the JSON of a comparison: {error}") from None
    if not (isinstance(result, dict) and result.get("models")):
        raise DataError(f"{path} holds no models; give a file that accuracy.py --out wrote")
    return result


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--root", type=Path, help="folder of the dataset's files")
    parser.add_argument("--features", nargs="+", metavar="NAME=FILE", help="for mmrec")
    parser.add_argument(
        "--dataset-options",
        nargs="+",
        metavar="NAME=VALUE",
        help="further arguments of the dataset's class, such as num_users=500 for synthetic",
    )
    parser.add_argument("--models", nargs="+", default=["all"], help="names, or all")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0 on")
    workers.add_jobs(parser)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--render", type=Path, metavar="JSON", help="run nothing, write its pages")
    parser.add_argument("--report", type=Path, help="HTML report to write")
    parser.add_argument("--markdown", type=Path, help="Markdown page to write")
    parser.add_argument("--latex", type=Path, help="LaTeX tables to write, for booktabs")
    add_training(parser)
    parser.add_argument("--mask-validation", action="store_true")
    parser.add_argument(
        "--split",
        choices=("standard", "cold-item"),
        default="standard",
        help="cold-item withholds items from training and measures on those alone",
    )
    parser.add_argument("--cold-share", type=float, default=0.1, help="of the items, to withhold")
    parser.add_argument(
        "--drop-features",
        nargs="+",
        type=float,
        default=[],
        metavar="SHARE",
        help="measure too with these shares of the feature rows taken away, such as 0.3 0.7",
    )
    parser.add_argument("--split-seed", type=int, default=0, help="draws items and feature rows")
    parser.add_argument("--resume", action="store_true", help="keep finished cells of --out")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="DIR",
        help="keep each training's state there after each epoch, and go on from it: for trainings "
        "of hours; time and memory then include the writing",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(arguments)
    if (options.out is None) == (options.render is None):
        parser.error("give --out FILE.json to run a comparison, or --render FILE.json to show one")
    return options


if __name__ == "__main__":
    main()
