"""The program: its help, its errors, and its exit codes."""

import resource
import subprocess
import sys

import pytest

from graphdiff.errors import GraphDiffError
from tests.command import run


def program(*arguments, expect=0):
    """Run the command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "graphdiff.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stderr + done.stdout
    return done


def test_doctor_reports_that_all_is_well():
    assert "train and recommend" in run("doctor").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--model", "nope", "--out", "x"], "no model 'nope'; there are"),
        (["train", "--dataset", "nope", "--out", "x"], "no dataset 'nope'; there are"),
        (["train", "--set", "depth=3", "--out", "x"], "has no setting 'depth'"),
        (["train", "--set", "depth", "--out", "x"], "is not name=value"),
        (["evaluate", "no-such-run"], "is not a RUN folder"),
        (["recommend", "no-such-run", "--user", "1"], "is not a RUN folder"),
    ],
)
def test_a_mistake_prints_one_line_and_exits_with_2(arguments, message, tmp_path):
    arguments = [str(tmp_path / "x") if a == "x" else a for a in arguments]
    error = run(*arguments, expect=2).stderr
    assert message in error
    assert error.count("\n") == 1
    with pytest.raises(GraphDiffError):
        run("--debug", *arguments)


def test_a_mistake_in_a_process_of_its_own():
    done = program("evaluate", "no-such-run", "--debug", expect=1)
    assert "Traceback" in done.stderr


def test_help_is_quick():
    # Computing time, since other processes may be in the way.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Multimodal" in program("--help").stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_help_imports_no_heavy_library():
    code = (
        "import sys; from graphdiff.cli.main import main\n"
        "sys.argv = ['graphdiff', 'train', '--help']\n"
        "try: main()\n"
        "except SystemExit: print({'torch', 'pandas', 'lightning'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_help_is_printed_as_it_is_written():
    assert "graphdiff-rec[serve]" in "".join(run("serve", "--help").stdout.split())
