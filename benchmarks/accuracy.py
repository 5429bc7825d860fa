"""Compares models on one dataset under one protocol: `graphdiff compare` as a script.

    python benchmarks/accuracy.py --dataset tiktok --root DIR --models ld4mrec lightgcn freedom \
        --seeds 3 --out tiktok.json --report tiktok.html

Each model runs with the settings that tuning found on validation, or with its defaults where there
are none. Each model and seed runs in a process of its own; one that fails is reported, and the
others go on. Beside the JSON file, NAME.users.safetensors keeps the metrics of each test user, for
the significance tests. An interrupted comparison is continued with --resume.

    python benchmarks/accuracy.py --render tiktok.json --markdown tiktok.md --latex tiktok.tex

writes pages of a finished comparison, and trains nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from options import add_data, add_jobs, add_training, dataset_options, training_options

from graphdiff.errors import GraphDiffError
from graphdiff.experiments.workers import warm_up


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.render is None:
        # Imports take seconds: those of the processes run beside the ones below.
        warm_up()
    from graphdiff.cli.compare import print_line, show
    from graphdiff.experiments.compare import compare
    from graphdiff.experiments.result import ComparisonResult

    try:
        if options.render is not None:
            result = ComparisonResult.read(options.render)
        else:
            result = compare(
                options.dataset,
                options.models,
                seeds=options.seeds,
                root=options.root,
                options=dataset_options(options),
                **training_options(options),
                mask_validation=options.mask_validation or None,
                split=options.split,
                cold_share=options.cold_share,
                drop_features=options.drop_features,
                split_seed=options.split_seed,
                out=options.out,
                resume=options.resume,
                jobs=options.jobs,
                checkpoints=options.checkpoints,
                progress=not options.quiet,
                report=print_line,
            )
    except GraphDiffError as error:
        sys.exit(f"accuracy.py: {error}")
    source = options.render or options.out
    show(result, source, options.report, options.markdown, options.latex)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data(parser)
    parser.add_argument("--features", nargs="+", metavar="NAME=FILE", help="for mmrec")
    parser.add_argument(
        "--models", nargs="+", default=["all"], help="names, package.module:Class, or all"
    )
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, counted from 0")
    add_jobs(parser)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument(
        "--render", type=Path, metavar="JSON", help="train nothing, write its pages"
    )
    parser.add_argument("--report", type=Path, help="HTML report to write")
    parser.add_argument("--markdown", type=Path, help="Markdown page to write")
    parser.add_argument("--latex", type=Path, help="LaTeX tables to write, for booktabs")
    add_training(parser)
    parser.add_argument("--mask-validation", action="store_true")
    parser.add_argument(
        "--split",
        choices=("standard", "cold-item"),
        default="standard",
        help="cold-item removes items from training and measures on those alone",
    )
    parser.add_argument("--cold-share", type=float, default=0.1, help="of the items, to remove")
    parser.add_argument(
        "--drop-features",
        nargs="+",
        type=float,
        default=[],
        metavar="SHARE",
        help="also measure with these shares of the feature rows removed, such as 0.3 0.7",
    )
    parser.add_argument("--split-seed", type=int, default=0, help="of items and feature rows")
    parser.add_argument("--resume", action="store_true", help="keep finished cells of --out")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="DIR",
        help="folder for the state of each training after each epoch, to resume trainings of "
        "hours; time and memory then include the writing",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(arguments)
    if (options.out is None) == (options.render is None):
        parser.error("give --out FILE.json to run a comparison, or --render FILE.json to show one")
    return options


if __name__ == "__main__":
    main()
