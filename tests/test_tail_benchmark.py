"""The benchmark of recall against recall of the tail, run small."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import tail

from graphdiff.experiments import cells


def test_each_model_has_a_curve_of_discounts(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "in_own_process", lambda function, *a, **k: function(*a, **k))
    out, page = tmp_path / "t.json", tmp_path / "t.md"
    given = ["--dataset-options", "num_users=60", "num_items=50", "--epochs", "2", "--seeds", "2"]
    options = ["--models", "ease", "bprmf", "--discounts", "0.1", "100", "--quiet"]
    tail.main([*given, *options, "--out", str(out), "--markdown", str(page)])
    result = json.loads(out.read_text())
    assert len(result["cells"]) == 4
    for cell in result["cells"]:
        views = cell["figures"]["views"]
        assert list(views) == ["0", "0.1", "100"]
        assert "test" not in cell["figures"]
        assert views["100"]["average_popularity@20"] < views["0"]["average_popularity@20"]
        assert views["0"]["recall@20"] == cell["figures"]["val"]["recall@20"]
    text = page.read_text()
    assert "## ease" in text
    assert "## bprmf" in text
    assert out.with_suffix(".svg").read_text().startswith("<?xml")


def test_recall_at_a_given_tail_recall():
    curve = [(0.0, 0.40, 0.10), (1.0, 0.42, 0.15), (2.0, 0.30, 0.30), (3.0, 0.2, 0.25)]
    assert tail.best_recall(curve, 0.05) == 0.42
    assert tail.best_recall(curve, 0.15) == 0.42
    assert tail.best_recall(curve, 0.225) == pytest.approx(0.36)
    assert tail.best_recall(curve, 0.3) == 0.3
    assert tail.best_recall(curve, 0.31) is None
