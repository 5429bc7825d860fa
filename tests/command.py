"""The command line, run inside the test's process: starting one costs seconds."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

from graphdiff.cli.main import main


class Done(NamedTuple):
    """Output and exit code of a command."""

    stdout: str
    stderr: str
    code: int


def run(*arguments, expect=0):
    """Run ``graphdiff`` with arguments and check its exit code."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        patch.object(sys, "argv", ["graphdiff", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    done = Done(out.getvalue(), err.getvalue(), code)
    assert code == expect, done.stderr + done.stdout
    return done
