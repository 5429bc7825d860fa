"""Trains, kills with SIGKILL, resumes from disk and compares: ``python -m tests.killing FOLDER``.

Run in a process of its own, which imports everything once and forks a child for each training, so
that a child costs no start-up. It makes ``KILLS`` trainings; each is killed once, and resumed to
its end by another child. Half are killed by the clock, half between two steps of writing a file.
Prints one JSON object: how many were killed, what differed from uninterrupted trainings, and which
half-written files the kills had left.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from graphdiff.files import PART
from graphdiff.models.storage import STAGED
from graphdiff.runs import resume_run, train_run
from graphdiff.training.checkpoints import checkpoint_of
from graphdiff.training.config import run_config

KILLS = 20
MODELS = {"lightgcn": {}, "ld4mrec": {"objective.num_negatives": 16}, "freedom": {}}
WALL_CLOCK = ("train_seconds", "seconds_per_epoch", "seconds")


def train(folder: Path, model: str) -> None:
    settings = {"hidden_channels": 8, "batch_size": 64, "lr": 0.01, **MODELS[model]}
    training = {
        "epochs": 5,
        "patience": 3,
        "eval_every": 2 if model == "freedom" else 1,
        "accelerator": "cpu",
    }
    config = run_config(
        {
            "model": {"name": model, "settings": settings},
            "dataset": {
                "name": "synthetic",
                "options": {"seed": 3, "num_users": 60, "num_items": 40},
            },
            "training": training,
        }
    )
    train_run(folder, config, progress=False)


def resume(folder: Path, model: str) -> None:
    if (folder / "config.yaml").exists():
        resume_run(folder, progress=False)
    else:
        train(folder, model)  # Killed before there was anything to resume.


class WritingSteps:
    """Counts the steps at which files are written, and kills this process at one of them.

    A file takes two steps: a temporary one is opened, and it is renamed when it is whole.
    """

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at, self.count = kill_at, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename") and str(arguments[0]).endswith((PART, STAGED)):
            self.count += 1
            if self.count == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def fork(
    work: Callable[[Path, str], None], folder: Path, model: str, kill_at: int | None = None
) -> int:
    """Starts a child that does the work and leaves its count of writing steps in a file."""
    pid = os.fork()
    if pid:
        return pid
    try:
        steps = WritingSteps(kill_at)
        sys.addaudithook(steps)
        work(folder, model)
        folder.with_suffix(".steps").write_text(str(steps.count))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def finish(pid: int) -> bool:
    """Waits for a child; whether it was killed. One that failed ends the whole program."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code not in (0, -signal.SIGKILL):
        sys.exit(f"a training failed with {code}")
    return code == -signal.SIGKILL


def work_of(pid: int) -> float:
    """Seconds that a child has computed so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def kill_once(folder: Path, model: str, moment: float, seconds: float, steps: int) -> None:
    """Trains until the kill: after a share of the work if ``moment`` is below 1, else after that
    share (less 1) of the writing steps."""
    while True:
        if moment >= 1:
            pid = fork(train, folder, model, kill_at=1 + int((moment - 1) * steps))
        else:
            pid = fork(train, folder, model)
            while work_of(pid) < moment * seconds and not ended(pid):
                time.sleep(0.001)
            os.kill(pid, signal.SIGKILL)
        if finish(pid):
            return
        # The clock was late: the training was over. Again, and earlier.
        moment /= 2
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def ended(pid: int) -> bool:
    """Whether a child has ended; it is still to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def contents(folder: Path) -> dict[str, Any]:
    """All that a finished RUN holds, without wall-clock times."""
    with open(folder / "metrics.csv") as file:
        metrics = list(csv.DictReader(file))
    results = json.loads((folder / "results.json").read_text())
    checkpoint = torch.load(checkpoint_of(folder), weights_only=True)
    return {
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
        "config.yaml": (folder / "config.yaml").read_text(),
        "model.safetensors": as_plain(load_file(folder / "model.safetensors")),
        "metrics.csv": [{k: v for k, v in row.items() if k not in WALL_CLOCK} for row in metrics],
        "results.json": {k: v for k, v in results.items() if k not in WALL_CLOCK},
        "last.ckpt": as_plain([checkpoint["state_dict"], checkpoint["optimizer_states"]]),
    }


def as_plain(value: Any) -> Any:
    """Tensors as their bytes, so that ``==`` is bitwise."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: as_plain(one) for key, one in value.items()}
    return [as_plain(one) for one in value] if isinstance(value, list) else value


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    whole: dict[str, tuple[dict[str, Any], float, int]] = {}
    for model in MODELS:
        path, before = folder / f"whole-{model}", os.times()
        finish(fork(train, path, model))
        after = os.times()
        seconds = after.children_user + after.children_system
        seconds -= before.children_user + before.children_system
        steps = int(path.with_suffix(".steps").read_text())
        whole[model] = contents(path), seconds, steps
    rng = random.Random(0)
    kills, differing, parts = 0, [], []
    for number in range(KILLS):
        model = list(MODELS)[number % len(MODELS)]
        expected, seconds, steps = whole[model]
        path = folder / f"killed-{number}"
        kill_once(path, model, rng.random() + number % 2, seconds, steps)
        kills += 1
        parts += [one.name for one in path.rglob(f".*{PART}")]
        finish(fork(resume, path, model))
        found = contents(path)
        differing += [f"{number} {model} {name}" for name in found if found[name] != expected[name]]
    print(json.dumps({"kills": kills, "differing": differing, "parts": parts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
