"""What every benchmark is told on the command line about training."""

from __future__ import annotations

import argparse
from typing import Any


def add_training(parser: argparse.ArgumentParser) -> None:
    """How every benchmark is told to train; see :func:`graphdiff.fit`."""
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--patience", type=int, default=30, help="in validations")
    parser.add_argument(
        "--min-steps", type=int, default=1500, help="training steps that patience waits for"
    )
    parser.add_argument("--eval-every", type=int, default=1, help="epochs between validations")
    parser.add_argument("--monitor", default="recall@20")


def training_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What :func:`add_training` was told, as arguments of :func:`graphdiff.fit`."""
    names = ("epochs", "patience", "min_steps", "eval_every", "monitor")
    return {name: getattr(arguments, name) for name in names}
