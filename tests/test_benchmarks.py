"""The benchmark programs, run small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(program, *arguments, expect=0, **environment):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == expect, done.stderr + done.stdout
    return done


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accuracy")
    out, report, markdown = (folder / f"a.{ending}" for ending in ("json", "html", "md"))
    run(
        "accuracy.py", "--dataset", "synthetic", "--models", "lightgcn", "ld4mrec",
        "--seeds", 2, "--epochs", 2, "--out", out, "--report", report,
        "--markdown", markdown, "--quiet",
    )  # fmt: skip
    return out, report, markdown


def test_accuracy_json_holds_what_readers_rely_on(comparison):
    result = json.loads(comparison[0].read_text())
    assert set(result["models"]) == {"lightgcn", "ld4mrec"}
    for entry in result["models"].values():
        assert [cell["seed"] for cell in entry["seeds"]] == [0, 1]
        for cell in entry["seeds"]:
            assert 0 <= cell["test"]["recall@20"] <= 1
            assert cell["epochs"] == 2
            for name in ("train_seconds", "seconds_per_epoch", "inference_seconds"):
                assert cell[name] > 0
        tests = [cell["test"]["recall@20"] for cell in entry["seeds"]]
        assert entry["mean"]["test"]["recall@20"] == pytest.approx(sum(tests) / 2)
        assert entry["std"]["test"]["recall@20"] == pytest.approx(abs(tests[0] - tests[1]) / 2**0.5)


def test_report_is_one_self_contained_page(comparison):
    page = comparison[1].read_text()
    assert "LD4MRec" in page
    assert "LightGCN" in page
    assert page.count("data:image/svg+xml;base64,") == 3
    assert "http" not in page
    assert "<script" not in page


def test_markdown_holds_the_figures(comparison):
    entry = json.loads(comparison[0].read_text())["models"]["ld4mrec"]
    page = comparison[2].read_text()
    assert (
        f"{entry['mean']['test']['recall@20']:.4f} ± {entry['std']['test']['recall@20']:.4f}"
        in page
    )


def test_resume_keeps_finished_cells(comparison, tmp_path):
    earlier = json.loads(comparison[0].read_text())
    del earlier["models"]["ld4mrec"]["seeds"][1]
    earlier["models"]["lightgcn"]["seeds"][0]["train_seconds"] = 12345.0
    out = tmp_path / "a.json"
    out.write_text(json.dumps(earlier))
    arguments = ["--dataset", "synthetic", "--models", "lightgcn", "ld4mrec", "--seeds", 2]
    run("accuracy.py", *arguments, "--epochs", 2, "--out", out, "--quiet", "--resume")
    again = json.loads(out.read_text())
    assert again["models"]["lightgcn"]["seeds"][0]["train_seconds"] == 12345.0
    assert len(again["models"]["ld4mrec"]["seeds"]) == 2
    done = run(
        "accuracy.py", *arguments, "--epochs", 3, "--out", out, "--quiet", "--resume", expect=1
    )
    assert "was written with another protocol" in done.stderr


def test_tune_is_resumable_and_writes_a_configuration(tmp_path):
    folder = tmp_path / "configs"
    arguments = ["--dataset", "synthetic", "--model", "lightgcn", "--epochs", 1]
    run("tune.py", *arguments, "--trials", 1, "--configs", folder)
    done = run("tune.py", *arguments, "--trials", 2, "--configs", folder)
    assert done.stdout.count("trial ") == 1
    import yaml

    found = yaml.safe_load((folder / "synthetic" / "lightgcn.yaml").read_text())
    assert found["trials"] == 2
    assert set(found["val"]) == {"recall@20", "ndcg@20"}
    assert "num_layers" in found["settings"]


def test_tune_stops_where_there_is_nothing_more_to_try(tmp_path):
    arguments = ["--dataset", "synthetic", "--trials", 30, "--configs", tmp_path]
    done = run("tune.py", *arguments, "--model", "popularity")
    assert "best of 1 trials: {}" in done.stdout
    import yaml

    found = yaml.safe_load((tmp_path / "synthetic" / "popularity.yaml").read_text())
    assert (found["settings"], found["trials"], found["epochs"]) == ({}, 1, 1)


def test_a_mistake_is_told_in_one_line():
    done = run("accuracy.py", "--models", "nope", "--out", os.devnull, expect=1)
    assert "no model 'nope'" in done.stderr
    assert "Traceback" not in done.stderr
