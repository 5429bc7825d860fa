"""Fuzz every target for a given time: ``python -m tests.fuzz --seconds 300`` (``make fuzz``).

Each input is a genuine or hostile folder with one file damaged. A reader must return data or raise
a GraphDiffError, must not hang, and must not run or change anything, as an audit hook and a
sentinel file check. Exits with 1 if a reader fails; its inputs are copied to ``--keep``.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from graphdiff.errors import GraphDiffError
from tests.fuzz.every import EVERY
from tests.fuzz.mutate import mutate
from tests.fuzz.targets import Sample, Target
from tests.fuzz.watch import ExecutionWatch

PATIENCE = 20  # seconds that a reader may take over a file of some kilobytes
MEMORY = 4 * 2**30  # bytes that readers may take beside what is in use


class Hang(Exception):
    """A reader took too long."""


@dataclass
class Report:
    """Counts and failures of one target."""

    inputs: int = 0
    read: int = 0
    refused: int = 0
    uncaught: list[str] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)


class Fuzzer:
    """Runs readers on damaged inputs, in a folder of its own.

    Args:
        folder: Folder to write inputs to.
        keep: Folder for inputs of failures; None to discard them.
    """

    def __init__(self, folder: Path, keep: Path | None = None) -> None:
        self.folder, self.keep = folder, keep
        self.sentinel = folder / "executed"
        self.watch = ExecutionWatch(folder / "input")
        os.environ["GRAPHDIFF_CACHE"] = os.devnull  # Nothing that is read is to be stored.

    def samples(self, target: Target) -> tuple[list[Sample], list[Sample]]:
        """Return genuine and hostile samples; the former are read once, to import modules."""
        genuine = target.samples()
        for sample in genuine:
            self._write(sample)
            target.read(self.folder / "input")
        return genuine, target.hostile(f"touch {self.sentinel}")

    def try_one(
        self, target: Target, samples: tuple[list[Sample], list[Sample]], seed: object, out: Report
    ) -> None:
        """Try one input, a function of the seed, and record the outcome."""
        rng = random.Random(str(seed))
        every = samples[0] + samples[1]
        sample, other = dict(rng.choice(every)), rng.choice(every)
        name = rng.choice(list(sample))
        if rng.random() < 0.95:
            sample[name] = mutate(rng, sample[name], other.get(name, b""))
        self._write(sample)
        out.inputs += 1
        self.watch.seen.clear()
        fault = ""
        try:
            with self.watch:
                signal.alarm(PATIENCE)
                try:
                    target.read(self.folder / "input")
                    out.read += 1
                finally:
                    signal.alarm(0)
        except GraphDiffError:
            out.refused += 1
        except Exception:
            fault = f"{target.name}, seed {seed}\n{traceback.format_exc(limit=-6)}"
            out.uncaught.append(fault)
        if self.watch.seen or self.sentinel.exists():
            fault = f"{target.name}, seed {seed}: {self.watch.seen or 'the sentinel was made'}"
            out.executed.append(fault)
            self.sentinel.unlink(missing_ok=True)
        if fault and self.keep is not None:
            shutil.copytree(self.folder / "input", self.keep / f"{target.name} {seed}")

    def _write(self, sample: Sample) -> None:
        folder = self.folder / "input"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in sample.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def limit_memory() -> None:
    """Limit memory, so that a file that asks for too much of it causes an error."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.RLIM_INFINITY))


def _too_long(*_: object) -> None:
    raise Hang(f"took more than {PATIENCE} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="for all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="readers whose name contains this")
    parser.add_argument("--keep", type=Path, help="folder for inputs at fault")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_long)
    limit_memory()
    targets = [t for t in EVERY if (arguments.only or "") in t.name]
    bad = False
    print(f"{'reader':<20}{'inputs':>9}{'read':>9}{'refused':>9}{'uncaught':>10}{'executed':>10}")
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder), arguments.keep)
        for target in targets:
            report, samples = Report(), fuzzer.samples(target)
            end = time.monotonic() + arguments.seconds / len(targets)
            while time.monotonic() < end:
                fuzzer.try_one(target, samples, f"{arguments.seed}.{report.inputs}", report)
            faults = report.uncaught + report.executed
            print(
                f"{target.name:<20}{report.inputs:>9}{report.read:>9}{report.refused:>9}"
                f"{len(report.uncaught):>10}{len(report.executed):>10}",
                *faults[:3],
                sep="\n" if faults else "",
                flush=True,
            )
            bad = bad or bool(faults)
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
