"""How the cells of an experiment are run: where, how many side by side, what is kept."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphdiff.errors import ConfigError
from graphdiff.experiments.machine import machine, threads_each


@dataclass(frozen=True)
class Execution:
    """How the cells of an experiment are run.

    Attributes:
        out: JSON file of the results; None keeps them in memory only.
        resume: Keep the finished cells of ``out``.
        jobs: Number of trainings side by side, each in a process of its own.
        in_process: Train in this process, one cell after another.
        checkpoints: Folder for the state of each training after each epoch.
        progress: Show progress bars.

    Raises:
        ConfigError: If the values do not fit together.
    """

    out: Path | None = None
    resume: bool = False
    jobs: int = 1
    in_process: bool = False
    checkpoints: Path | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ConfigError(f"jobs is {self.jobs}; at least one training has to run")
        if self.in_process and self.jobs > 1:
            raise ConfigError(f"one process trains one model at a time; jobs is {self.jobs}")
        if self.resume and self.out is None:
            raise ConfigError("there is nothing to resume without the JSON file of an earlier run")

    def machine(self) -> dict[str, Any]:
        """Return the description of the machine, as results state it."""
        return machine(self.jobs) | ({"in_process": True} if self.in_process else {})

    def options(self) -> dict[str, Any]:
        """Return the arguments that a measurement needs to share the machine."""
        # A log file gets one line per training, not one per validation.
        progress = self.progress and sys.stderr.isatty()
        if self.in_process:
            return {"progress": progress}
        # Several progress bars at once would overwrite each other.
        alone = self.jobs == 1
        threads = {} if alone else {"threads": threads_each(self.jobs)}
        return {"progress": progress and alone, **threads}
