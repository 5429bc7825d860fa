"""Every error is documented, and comes out of the command line as one clear line."""

import inspect
import sys
from pathlib import Path

import pytest

from graphdiff import errors
from graphdiff.cli.main import main

PAGE = (Path(__file__).parents[1] / "docs" / "errors.md").read_text()
CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and value.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_each_error_is_in_the_table_and_in_the_hierarchy(error):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{error.__name__}`")]
    when, cure = row.strip("|").split("|")[1:]
    assert len(when) > 20
    assert len(cure) > 20
    for base in error.__bases__:
        if base is not errors.GraphDiffError and base is not Exception:
            assert f"`{base.__name__}`" in row
    assert issubclass(error, errors.GraphDiffError) or error is errors.Interrupted


def test_the_table_has_no_error_that_is_not_there():
    named = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")}
    assert named == {error.__name__ for error in CLASSES}


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["graphdiff", *map(str, arguments)])
    with pytest.raises(SystemExit) as e:
        main()
    return e.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "give --out, the folder to write, or --resume"),
        (["train", "--out", "x", "--epochs", "0"], "Invalid value for '--epochs'"),
        (["train", "--out", "x", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["train", "--out", "x", "--patience", "-1"], "Invalid value for '--patience'"),
        (["train", "--out", "x", "--bogus"], "No such option: --bogus"),
        (["trian"], "No such command 'trian'"),
        (["evaluate"], "Missing argument 'RUN'"),
        (["recommend", "x", "--user", "1", "-k", "0"], "Invalid value for '-k'"),
        (["evaluate", "x", "--split", "all"], "Invalid value for '--split'"),
        (["train", "--out", "x", "--accelerator", "abacus"], "accelerator='abacus'"),
        (["train", "--out", "x", "--precision", "7"], "training.precision is '7'"),
        (["train", "--out", "x", "--monitor", "recall"], "no metric 'recall' to monitor"),
        (["train", "--out", "x", "--set", "lr=[1"], "--set lr is not readable YAML"),
        (["train", "--out", "x", "--set", "lr=-1"], "lr=-1"),
        (["train", "--out", "x", "--config", "none.yaml"], "no file none.yaml"),
        (["train", "--out", "x", "--config", "broken.yaml"], "broken.yaml is not readable YAML"),
        (["train", "--out", "x", "--config", "bytes.yaml"], "bytes.yaml is not readable YAML"),
        (["train", "--out", "x", "--config", "list.yaml"], "list.yaml holds list; expected"),
        (["train", "--out", "x", "--config", "numbers.yaml"], "expected name: value lines"),
        (["train", "--out", "list.yaml"], "list.yaml cannot be written: File exists"),
        (["train", "--resume", "x"], "x is not a RUN folder"),
        (["train", "--resume", "x", "--seed", "1"], "'seed' cannot be given"),
        (["train", "--out", "x", "--dataset", "mmrec", "--root", "none"], "none does not exist"),
    ],
)
def test_a_mistake_is_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text("a: [1")
    Path("bytes.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    Path("list.yaml").write_text("- 1")
    Path("numbers.yaml").write_text("1: 2")
    Path("toys").mkdir()
    rows = (f"{u}\t{(u * 7 + n) % 30}\t{max(0, n - 5)}\n" for u in range(30) for n in range(8))
    Path("toys", "toys.inter").write_text("userID\titemID\tx_label\n" + "".join(rows))
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    small = []
    if "--out" in arguments:
        small = ["--model=lightgcn", "--no-progress"]
        small += [] if "--dataset" in arguments else ["--dataset=mmrec", "--root=toys"]
    code, error = command(monkeypatch, capsys, *arguments, *small)
    assert code == 2, error
    assert message in error
    assert error.startswith("graphdiff: ")
    assert error.count("\n") == 1
    assert not Path("x", "results.json").exists()


@pytest.mark.parametrize(
    ("raised", "line", "code"),
    [
        (FileNotFoundError(2, "No such file or directory", "f.csv"), "f.csv: No such file or d", 2),
        (PermissionError(13, "Permission denied", "f"), "f: Permission denied", 2),
        (MemoryError("of\nlines"), "out of memory (of lines); try a smaller batch_size", 2),
        (KeyboardInterrupt(), "interrupted", 130),
        (errors.Interrupted("stopped", 15), "stopped", 143),
        (errors.DataError("one\n  line"), "one line", 2),
        (IndexError("list"), "an error in graphdiff (IndexError: list); --debug shows where", 1),
    ],
)
def test_whatever_is_raised_is_one_line(monkeypatch, capsys, raised, line, code):
    def examine():
        raise raised

    monkeypatch.setattr("graphdiff.doctor.examine", examine)
    found, error = command(monkeypatch, capsys, "doctor")
    assert found == code
    assert error.startswith(f"graphdiff: {line}")
    assert error.count("\n") == 1
    monkeypatch.setattr(sys, "argv", ["graphdiff", "doctor", "--debug"])
    with pytest.raises(type(raised)):
        main()


def test_help_and_no_arguments_are_no_mistake(monkeypatch, capsys):
    assert command(monkeypatch, capsys, "--help") == (0, "")
    assert command(monkeypatch, capsys) == (0, "")
    assert command(monkeypatch, capsys, "train", "--help") == (0, "")


def test_a_reader_that_goes_away_is_no_error(monkeypatch):
    closed = []
    monkeypatch.setattr("graphdiff.cli.main.os.dup2", lambda *a: closed.append(a))
    monkeypatch.setattr(sys, "argv", ["graphdiff", "doctor"])

    def examine():
        raise BrokenPipeError

    monkeypatch.setattr("graphdiff.doctor.examine", examine)
    with pytest.raises(SystemExit):
        main()
    assert closed
