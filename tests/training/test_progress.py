"""Progress of a training on standard error."""

import io
import re
import sys

import pytest

from graphdiff import LightGCN, fit
from graphdiff.training.progress import clock
from tests.conftest import random_data

SETTINGS = {"accelerator": "cpu", "epochs": 4, "eval_every": 2, "patience": 5}


def trained(**settings):
    data = random_data(num_users=30, num_items=25)
    model = LightGCN.from_data(data, hidden_channels=8)
    return fit(model, data, **(SETTINGS | settings))


def test_without_a_terminal_each_validation_is_a_line(capsys):
    result = trained()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(result.history) == 2
    pattern = (
        r"epoch (\d)/4: loss [\d.e-]+, recall@20 ([\d.]+) \(best ([\d.]+)\), patience (\d), "
        r"at most \d+:\d\d left"
    )
    found = [re.fullmatch(pattern, line) for line in lines]
    assert all(found), lines
    assert [int(one[1]) for one in found] == [2, 4] == [row["epoch"] for row in result.history]
    assert float(found[-1][2]) == pytest.approx(result.history[-1]["recall@20"], abs=1e-4)
    assert float(found[-1][3]) == pytest.approx(result.val["recall@20"], abs=1e-4)
    assert found[0][4] == "5"
    assert int(found[-1][4]) == 5 - (result.best_epoch == 2)
    assert lines[-1].endswith("at most 0:00 left")
    assert result.epochs == 4


def test_nothing_is_printed_without_progress(capsys):
    trained(progress=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_notebook_shows_the_outcome_as_a_table():
    result = trained(progress=False)
    shown = result._repr_html_()
    assert f"<tr><th>best epoch</th><td>{result.best_epoch} of 4</td></tr>" in shown
    assert f"<td>{result.val['recall@20']:.4f}</td>" in shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [60, 120])
def test_a_terminal_shows_a_bar_and_removes_it(monkeypatch, columns):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    trained()
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", terminal.getvalue())
    assert "epoch 1/4" in shown
    assert "epoch 4/4" in shown
    assert "epoch 5/4" not in shown
    assert "recall@20 0." in shown
    if columns == 120:
        assert re.search(r"patience [45], at most 0:0\d left", shown)
    assert terminal.getvalue().endswith("\x1b[2K")


def test_the_bar_is_removed_after_an_error(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    data = random_data(num_users=30, num_items=25)
    model = LightGCN.from_data(data, hidden_channels=8)
    monkeypatch.setattr(model, "loss", broken)
    with pytest.raises(RuntimeError, match="broken"):
        fit(model, data, **SETTINGS)
    assert terminal.getvalue().endswith("\x1b[2K")


def broken(*arguments):
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (65, "1:05"), (3600, "1:00:00")]
)
def test_durations_are_written_as_on_a_clock(seconds, text):
    assert clock(seconds) == text
