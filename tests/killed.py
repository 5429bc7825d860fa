"""Programs of the tests that kill processes again and again, run to their end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

needs_schedstat = pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="needs Linux's /proc"
)


def run_killing(module, folder):
    """Run a module of the tests on a folder with one thread, and return the JSON of its last
    line."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
        env=os.environ | threads,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
