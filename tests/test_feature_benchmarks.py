"""The benchmarks of features and of the split at a point in time, run small."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import global_time
import missing_features
import modalities

from graphdiff.experiments import cells

SMALL = ["--dataset", "synthetic", "--dataset-options", "num_users=60", "num_items=50"]
TINY = [*SMALL, "--quiet", "--epochs", "1", "--defaults"]


@pytest.fixture
def measured(monkeypatch):
    """Train in this process; return the models and seeds that were trained."""
    found = []

    def here(function, graph, model, settings, seed, **options):
        found.append((model.__name__, seed))
        return function(graph, model, settings, seed, **options)

    monkeypatch.setattr(cells, "in_own_process", here)
    return found


def table(page, title):
    """Return the rows of a table of a Markdown page by their first entries."""
    lines = page.split(f"## {title}\n")[1].split("## ")[0].strip().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows if not row[0].startswith("---")}


def test_modalities_are_kept_shuffled_and_replaced(tmp_path, measured):
    out, page = tmp_path / "m.json", tmp_path / "m.md"
    given = [*TINY, "--out", str(out), "--markdown", str(page)]
    modalities.main([*given, "--models", "easefeatures", "ease", "vbpr"])
    result = json.loads(out.read_text())
    alone = [f"{name} alone" for name in ("audio", "image", "text")]
    forms = ["all", *alone, "none", "shuffled", "noise"]
    assert [*dict.fromkeys(cell["key"]["features"] for cell in result["cells"])] == forms
    # Two of the models need a modality.
    assert len(measured) == 21
    assert len(result["cells"]) == 19
    assert {one["key"]["model"] for one in result["skipped"]} == {"easefeatures", "vbpr"}
    rows = table(page.read_text(), "test recall@20")
    assert rows["model"] == forms
    assert len(set(rows["ease"])) == 1
    assert rows["easefeatures"][4] == "–"
    assert len(set(rows["easefeatures"])) > 3
    assert "Skipped: vbpr, none: VBPR needs at least one modality" in page.read_text()
    before = page.read_text()
    modalities.main([*given, "--models", "easefeatures", "ease", "vbpr", "--resume"])
    assert len(measured) == 23
    assert page.read_text() == before


def test_a_page_does_not_depend_on_the_order_in_which_trainings_ended(tmp_path, measured):
    out, page = tmp_path / "m.json", tmp_path / "m.md"
    given = [*TINY, "--out", str(out), "--markdown", str(page)]
    modalities.main([*given, "--models", "ease"])
    before, result = page.read_text(), json.loads(out.read_text())
    machine = result["machine"]
    assert f"Measured on {machine['processor']}" in before
    result["cells"].reverse()
    out.write_text(json.dumps(result))
    render = ["--render", str(out), "--markdown", str(page)]
    modalities.main(render)
    assert page.read_text() == before
    [noise, *_] = result["cells"]
    noise["figures"]["out_of_time"] = 5.0
    out.write_text(json.dumps(result))
    modalities.main(render)
    name = noise["key"]["model"]
    assert f"Ended by the limit of time, 5 minutes: {name}, noise, seed 0." in page.read_text()


def test_test_pairs_are_not_read_where_validation_is_shown(tmp_path, measured):
    out, page = tmp_path / "m.json", tmp_path / "m.md"
    given = [*TINY, "--out", str(out), "--markdown", str(page), "--read", "val"]
    modalities.main([*given, "--models", "easefeatures"])
    assert all("test" not in cell["figures"] for cell in json.loads(out.read_text())["cells"])
    assert "easefeatures" in table(page.read_text(), "val ndcg@20")
    assert "over one seed" in page.read_text()


def test_missing_features_are_removed_and_drawn(tmp_path, measured):
    out, page = tmp_path / "f.json", tmp_path / "f.md"
    given = [*TINY, "--out", str(out), "--markdown", str(page)]
    missing_features.main([*given, "--models", "easefeatures", "--seeds", "2"])
    assert len(measured) == 10
    rows = table(page.read_text(), "test recall@20")
    assert rows["model"] == ["0 %", "30 %", "60 %", "75 %", "90 %"]
    assert all(" ± " in entry for entry in rows["easefeatures"])
    assert "over 2 seeds" in page.read_text()
    plot = out.with_suffix(".svg")
    assert "easefeatures" in plot.read_text() or plot.read_text().count("<path") > 5
    before = plot.read_bytes()
    missing_features.main(["--render", str(out), "--markdown", str(page)])
    assert plot.read_bytes() == before


def test_results_of_the_other_benchmark_are_not_resumed(tmp_path, measured):
    out = tmp_path / "m.json"
    given = [*TINY, "--out", str(out), "--models", "easefeatures"]
    modalities.main(given)
    before = out.read_text()
    with pytest.raises(SystemExit, match="holds results of another benchmark"):
        missing_features.main([*given, "--resume"])
    assert out.read_text() == before


def test_all_multimodal_models_are_measured_by_default():
    names = missing_features.altered.multimodal()
    assert {"ld4mrec", "mgcn", "pgl", "gume", "mmhcl", "genrec", "easefeatures"} <= set(names)
    assert "lightgcn" not in names
    assert missing_features.parse(["--out", "x.json"]).shares == [0.3, 0.6, 0.75, 0.9]


def test_data_without_features_is_refused(tmp_path, capsys):
    log(tmp_path)
    given = ["--dataset", "csv", "--root", str(tmp_path), "--out", str(tmp_path / "x.json")]
    for script in (modalities, missing_features):
        with pytest.raises(SystemExit, match="the data has no"):
            script.main([*given, "--quiet"])


def log(folder):
    """Write a log in which users come and go in time."""
    rng = np.random.default_rng(0)
    user, time = rng.integers(40, size=900), rng.random(900)
    item = (rng.integers(30, size=900) + 60 * time).astype(int)
    table = pd.DataFrame({"user": user, "item": item, "timestamp": time})
    table.drop_duplicates(["user", "item"]).to_csv(folder / "interactions.csv", index=False)


def test_models_are_ranked_under_both_splits(tmp_path, measured, capsys):
    log(tmp_path)
    out, page = tmp_path / "t.json", tmp_path / "t.md"
    given = ["--dataset", "csv", "--root", str(tmp_path), "--out", str(out), "--quiet"]
    names = ["popularity", "ease", "itemknn"]
    global_time.main([*given, "--markdown", str(page), "--models", *names])
    result = json.loads(out.read_text())
    assert len(measured) == len(result["cells"]) == 6
    usual, later = result["splits"]["usual"], result["splits"]["global_time"]
    assert later["of new items"] > usual["of new items"]
    assert (
        usual["training"] + usual["validation"] + usual["test"]
        == later["training"] + later["validation"] + later["test"]
    )
    rows = table(page.read_text(), "test recall@20 (rank)")
    for column, split in enumerate(("usual", "global_time")):
        values = {
            cell["key"]["model"]: cell["figures"]["test"]["recall@20"]
            for cell in result["cells"]
            if cell["key"]["split"] == split
        }
        for name, value in values.items():
            rank = 1 + sum(other > value for other in values.values())
            assert rows[name][column] == f"{value:.4f} ({rank})"
    assert "Kendall's tau" in capsys.readouterr().out
    global_time.main([*given, "--models", *names, "--resume"])
    assert len(measured) == 6


def test_equal_splits_are_refused(tmp_path, measured):
    given = ["--dataset", "synthetic-drift", "--out", str(tmp_path / "t.json"), "--quiet"]
    small = ["--dataset-options", "num_users=60", "num_items=40", "num_days=6"]
    models = ["--models", "popularity", "ease"]
    with pytest.raises(SystemExit, match="name the other split"):
        global_time.main([*given, *small, *models])
    assert not measured
    global_time.main([*given, *small, "split=ratio", *models])
    assert len(measured) == 4


def test_rank_correlation():
    def cell(model, split, value):
        test = {"recall@20": value, "ndcg@20": -value}
        return {"key": {"model": model, "split": split}, "figures": {"test": test}}

    usual = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    later = {"a": 0.5, "b": 0.7, "c": 0.6, "e": 0.1}
    measured = [cell(*one) for one in
                [(name, "usual", value) for name, value in usual.items()]
                + [(name, "global_time", value) for name, value in later.items()]]  # fmt: skip
    found = global_time.correlation(measured)["recall@20"]
    # Of a, b, c, one of three pairs changes its order.
    assert found == {"models": 3, "kendall": pytest.approx(1 / 3), "spearman": pytest.approx(0.5)}
    assert global_time.correlation(measured[:1]) == {}
    # Nothing can be said of models that are all alike.
    alike = [cell(name, split, 0.5) for name in "ab" for split in ("usual", "global_time")]
    assert global_time.correlation(alike) == {}
