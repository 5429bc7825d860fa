"""The scripts in benchmarks/, run small."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import accuracy

from graphdiff.experiments import cells

TINY = ["--dataset", "synthetic", "--dataset-options", "num_users=80", "num_items=60", "--quiet"]


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    """Train in this process."""
    monkeypatch.setattr(
        cells, "in_own_process", lambda function, *args, **kwargs: function(*args, **kwargs)
    )


def test_accuracy_is_the_comparison_of_the_package(tmp_path, capsys):
    out, page = tmp_path / "a.json", tmp_path / "a.md"
    given = [*TINY, "--models", "ease", "ld4mrec", "--epochs", "2", "--out", str(out)]
    accuracy.main([*given, "--drop-features", "0.5", "--markdown", str(page)])
    content = json.loads(out.read_text())
    assert set(content) == {
        "dataset", "fingerprint", "protocol", "machine", "groups", "models", "skipped",
        "dropped_features", "statistics",
    }  # fmt: skip
    assert set(content["protocol"]) == {
        "ranking", "mask_validation", "epoch_chosen_by", "epochs", "patience", "min_steps",
        "eval_every", "monitor",
    }  # fmt: skip
    assert set(content["models"]["ease"]) == {"name", "settings", "tuning", "seeds", "mean", "std"}
    assert set(content["dropped_features"]["0.5"]["models"]) == {"ld4mrec"}
    assert f"figures: {out}" in capsys.readouterr().out
    again = tmp_path / "b.md"
    accuracy.main(["--render", str(out), "--markdown", str(again)])
    assert again.read_text() == page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "nope", "--out", "x.json"], "no model 'nope'"),
        (["--dataset-options", "num_users", "--out", "x.json"], "not name=value"),
        (["--render", "no-such.json"], "cannot be read as the JSON of an experiment"),
    ],
)
def test_a_mistake_is_reported_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        accuracy.main([*TINY, *arguments] if "--dataset-options" not in arguments else arguments)
    assert message in stop.value.code
    assert stop.value.code.startswith("accuracy.py: ")
    assert "\n" not in stop.value.code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "give --out FILE.json"), (["--jobs", "0"], "at least one training has to run")],
)
def test_options_that_do_not_fit_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        accuracy.parse(arguments)
    assert message in capsys.readouterr().err
