"""Updates a RUN, kills with SIGKILL, repeats: ``python -m tests.updates.killing FOLDER``.

As :mod:`tests.killing` does for trainings. Prints one JSON object: how many updates were killed,
after how many kills the RUN had the old version and the new one, and which files differed.
"""

import json
import os
import random
import shutil
import sys
import time
from pathlib import Path

import torch

from graphdiff.runs import read_run
from graphdiff.updates.run import update_run
from tests.killing import ended, finish, fork, work_of
from tests.updates.runs import copied, files_of, train, write_batch

KILLS = 20


def update(folder: Path, batch: str) -> None:
    update_run(folder, Path(batch), keep=2, passes=3)


def kill_once(before: Path, folder: Path, batch: str, moment: float, seconds: float, steps: int):
    """Updates until the kill; ``moment`` is as in :func:`tests.killing.kill_once`."""
    while True:
        copied(before, folder)
        if moment >= 1:
            pid = fork(update, folder, batch, kill_at=1 + int((moment - 1) * steps))
        else:
            pid = fork(update, folder, batch)
            while work_of(pid) < moment * seconds and not ended(pid):
                time.sleep(0.001)
            os.kill(pid, 9)
        if finish(pid):
            return
        moment /= 2
        shutil.rmtree(folder)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    before = train(folder / "before")
    update(before, str(write_batch(folder, users=(80,), name="first.csv")))
    batch = str(write_batch(folder))
    start = os.times()
    finish(fork(update, copied(before, folder / "whole"), batch))
    end = os.times()
    seconds = end.children_user + end.children_system
    seconds -= start.children_user + start.children_system
    steps = int((folder / "whole.steps").read_text())
    whole = files_of(folder / "whole")
    rng, differing, found = random.Random(0), [], {2: 0, 3: 0}
    for number in range(KILLS):
        path = folder / f"killed-{number}"
        kill_once(before, path, batch, rng.random() + number % 2, seconds, steps)
        found[read_run(path).version.number] += 1
        finish(fork(update, path, batch))
        after = files_of(path)
        differing += [
            f"{number} {name}"
            for name in whole.keys() | after.keys()
            if whole.get(name) != after.get(name)
        ]
    print(json.dumps({"kills": KILLS, "old": found[2], "new": found[3], "differing": differing}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
