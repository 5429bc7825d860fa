"""The scripts in benchmarks/, run small."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import accuracy
import preference
import torch

from graphdiff.errors import ConfigError
from graphdiff.experiments import cells
from graphdiff.graph.rows import Rows
from tests.conftest import random_data

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
        "dataset", "fingerprint", "times", "protocol", "machine", "groups", "models", "skipped",
        "dropped_features", "statistics",
    }  # fmt: skip
    assert set(content["protocol"]) == {
        "ranking", "mask_validation", "epoch_chosen_by", "epochs", "patience", "min_steps",
        "max_minutes", "eval_every", "monitor",
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


def test_agreement_is_the_mean_cosine_of_pairs():
    generator = torch.Generator().manual_seed(0)
    table = torch.nn.functional.normalize(torch.randn(7, 3, generator=generator), dim=1)
    table[6] = 0  # without features
    rows = Rows(torch.tensor([0, 0, 0, 0, 2]), torch.tensor([1, 2, 5, 6, 3]), num=3)
    found, count = preference.agreements(table, rows)
    cosine = table @ table.t()
    assert count.tolist() == [3, 0, 1]
    expected = (cosine[1, 2] + cosine[1, 5] + cosine[2, 5]) / 3
    torch.testing.assert_close(found[0], expected)
    assert found[1:].isnan().all()


def test_halves_share_no_item_and_differ_in_size_by_one():
    row = torch.arange(5).repeat_interleave(torch.tensor([4, 0, 1, 7, 2]))
    rows = Rows(row, torch.arange(14), num=5)
    one, other = preference.halved(rows, seed=3)
    assert sorted([*one.item.tolist(), *other.item.tolist()]) == list(range(14))
    assert torch.equal(row[one.item], one.row)
    difference = one.degree() - other.degree()
    assert set(difference.tolist()) <= {0, 1}


def test_users_of_the_synthetic_data_prefer_modalities(tmp_path):
    out, text = tmp_path / "p.json", tmp_path / "p.md"
    arguments = ["--dataset", "synthetic", "--dataset-options", "num_users=300", "num_items=200"]
    preference.main([*arguments, "--seeds", "2", "--out", str(out), "--markdown", str(text)])
    found = json.loads(out.read_text())
    halves = found["halves"]
    assert len(halves["modalities"]) == len(found["pooled"]) >= 2
    for one in halves["modalities"].values():
        assert -1 <= one["correlation"] <= 1
        assert one["kappa"] > 0
    # By construction: see graphdiff.datasets.published.synthetic_truth.
    assert min(halves["differences"].values()) > 0.1
    names = [one["weights"] for one in found["rankings"]]
    assert {"equal", "agreement of all users", "own agreement, shrunk"} <= set(names)
    assert all(0 < one["recall@20"] < 1 for one in found["rankings"])
    assert text.read_text().count("## ") == 3


def test_preference_needs_two_modalities():
    with pytest.raises(ConfigError, match="the data has 1 modalities"):
        preference.measure(random_data(features={"image": 4}), seeds=1)
