import json
import sys

import pytest

from graphdiff.cli.main import main
from graphdiff.experiments import cells

TINY = ["--dataset", "synthetic", "--option", "num_users=80", "num_items=60", "--no-progress"]


@pytest.fixture
def call(monkeypatch, capsys):
    """A function that runs a command: it returns the exit code and what was printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["graphdiff", "compare", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture
def here(monkeypatch):
    """Train in this process."""
    monkeypatch.setattr(
        cells, "in_own_process", lambda function, *args, **kwargs: function(*args, **kwargs)
    )


def test_a_comparison_writes_its_figures_and_pages(tmp_path, call, here):
    out, page = tmp_path / "c.json", tmp_path / "pages" / "c.md"
    arguments = [*TINY, "--models", "ease", "popularity", "--out", out]
    code, printed = call(*arguments, "--markdown", page, "--report", tmp_path / "c.html")
    assert code == 0, printed
    assert "recall@20" in printed
    assert f"figures: {out}" in printed
    content = json.loads(out.read_text())
    assert set(content["models"]) == {"ease", "popularity"}
    assert page.read_text().startswith("# synthetic\n")
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")
    # Resumed, nothing is left to train.
    code, printed = call(*arguments, "--resume")
    assert (code, "ease: 1 finished earlier" in printed) == (0, True)
    assert "seed 0" not in printed
    # Rendered, nothing is written but the page.
    before, tex = out.read_bytes(), tmp_path / "c.tex"
    assert call("--render", out, "--latex", tex)[0] == 0
    assert r"\toprule" in tex.read_text()
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "nope", "--out", "x.json"], "no model 'nope'"),
        (["--option", "num_users", "--out", "x.json"], "--option 'num_users' is not name=value"),
        (["--render", "none.json"], "none.json cannot be read as the JSON of an experiment"),
        (["--split", "cold-item", "--cold-share", "2", "--out", "x.json"], "share is 2"),
        ([], "give --out FILE.json"),
        (["--jobs", "0", "--out", "x.json"], "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_reported_in_one_line(arguments, message, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = call(*arguments)
    assert code == 2
    assert message in printed
    assert printed.startswith("graphdiff: ")
    assert printed.count("\n") == 1


def test_a_file_without_models_is_not_rendered(call, tmp_path):
    (tmp_path / "x.json").write_text('{"dataset": "x", "models": {}}')
    code, printed = call("--render", tmp_path / "x.json")
    assert (code, "holds no models" in printed) == (2, True)


def test_an_interrupt_names_the_way_to_resume(call, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cells, "in_own_process", interrupt)
    code, printed = call(*TINY, "--models", "ease", "--out", tmp_path / "c.json")
    assert code == 130
    assert printed.endswith("resume with the same command and --resume\n")
