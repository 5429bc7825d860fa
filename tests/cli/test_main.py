"""The command line, run as a person runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from graphdiff.cli.main import main
from graphdiff.errors import GraphDiffError

TRAIN = ["train", "--dataset", "synthetic", "--epochs", "2", "--no-progress", "--accelerator=cpu"]


def run(*arguments, expect=0):
    done = subprocess.run(
        [sys.executable, "-m", "graphdiff.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stderr + done.stdout
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    done = run(*TRAIN, "--model", "ld4mrec", "--set", "hidden_channels=16", "--out", out)
    assert "recall@20" in done.stdout
    return out


def test_a_run_folder_is_complete(trained):
    for name in ("config.yaml", "model.safetensors", "metrics.csv", "results.json"):
        assert (trained / name).is_file()
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["settings"]["hidden_channels"] == 16
    assert config["dataset"]["name"] == "synthetic"
    results = json.loads((trained / "results.json").read_text())
    assert results["epochs"] == 2
    assert 0 < results["test"]["recall@20"] < 1


def test_evaluate_gives_the_figures_of_training(trained):
    found = json.loads(run("evaluate", trained, "--json").stdout)
    expected = json.loads((trained / "results.json").read_text())["test"]
    assert found["split"] == "test"
    assert found["recall@20"] == pytest.approx(expected["recall@20"], abs=1e-9)


def test_recommend_prints_raw_items_and_scores(trained):
    found = json.loads(run("recommend", trained, "--user", "12", "-k", "5", "--json").stdout)
    assert found["user"] == 12
    assert len(found["items"]) == 5
    scores = [row["score"] for row in found["items"]]
    assert scores == sorted(scores, reverse=True)
    assert all(isinstance(row["item"], int) for row in found["items"])
    assert "rank" in run("recommend", trained, "--user", "12", "-k", "5").stdout


def test_export_writes_a_program(trained, tmp_path):
    program = tmp_path / "model.pt2"
    arguments = ["--format", "torch", "--tables", "bf16", "-k", "5", "--out", program]
    assert "written to" in run("export", trained, *arguments).stdout
    item, _ = torch.export.load(program).module()(torch.tensor([3, 4]), torch.tensor([0]))
    assert item.shape == (1, 5)


def test_resume_goes_on(trained, tmp_path):
    out = tmp_path / "run"
    arguments = ["--model", "lightgcn", "--set", "hidden_channels=8", "--out", out]
    run(*TRAIN, *arguments)
    assert "holds a training already" in run(*TRAIN, *arguments, expect=2).stderr
    assert "'seed' cannot be given" in run("train", "--resume", out, "--seed=1", expect=2).stderr
    run("train", "--resume", out, "--epochs", "3", "--no-progress")
    results = json.loads((out / "results.json").read_text())
    assert results["epochs"] == 3
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["model"]["settings"]["hidden_channels"] == 8


def test_a_model_without_gradient_resumes_by_being_solved_anew(tmp_path):
    out = tmp_path / "run"
    run(*TRAIN, "--model", "puresvd", "--set", "hidden_channels=4", "--out", out)
    first = json.loads((out / "results.json").read_text())
    (out / "results.json").unlink()
    run("train", "--resume", out, "--no-progress")
    again = json.loads((out / "results.json").read_text())
    assert (again["model"], again["epochs"]) == ("PureSVD", 1)
    assert again["test"] == first["test"]


def test_settings_from_a_file(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("hidden_channels: 12\nlr: 0.01\n")
    out = tmp_path / "run"
    run(*TRAIN, "--model", "lightgcn", "--config", config, "--set", "lr=0.02", "--out", out)
    settings = yaml.safe_load((out / "config.yaml").read_text())["model"]["settings"]
    assert (settings["hidden_channels"], settings["lr"]) == (12, 0.02)


def test_a_folder_in_the_layout_of_mmrec(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    root, out = tmp_path / "toys", tmp_path / "run"
    root.mkdir()
    rows = [(u, (u * 7 + n) % 30, min(2, max(0, n - 5))) for u in range(30) for n in range(8)]
    lines = "".join(f"{user}\t{item}\t{label}\n" for user, item, label in rows)
    (root / "toys.inter").write_text("userID\titemID\tx_label\n" + lines)
    np.save(root / "clip.npy", np.random.default_rng(0).normal(size=(30, 4)))
    arguments = ["--dataset", "mmrec", "--root", root, "--features", "image=clip.npy"]
    run("train", *arguments, "--epochs", "1", "--no-progress", "--out", out)
    assert yaml.safe_load((out / "config.yaml").read_text())["dataset"]["options"] == {
        "features": {"image": "clip.npy"}
    }
    run("evaluate", out)


def test_doctor_says_that_all_is_well():
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
def test_a_mistake_prints_one_line_and_exits_with_2(
    arguments, message, tmp_path, capsys, monkeypatch
):
    arguments = [str(tmp_path / "x") if a == "x" else a for a in arguments]
    monkeypatch.setattr(sys, "argv", ["graphdiff", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    monkeypatch.setattr(sys, "argv", ["graphdiff", "--debug", *arguments])
    with pytest.raises(GraphDiffError):
        main()


def test_a_mistake_in_a_process_of_its_own():
    done = run("evaluate", "no-such-run", expect=2)
    assert "Traceback" not in done.stderr
    assert "Traceback" in run("evaluate", "no-such-run", "--debug", expect=1).stderr


def test_requests_that_a_run_cannot_answer(trained):
    assert "no user '99999'" in run("recommend", trained, "--user", 99999, expect=2).stderr
    assert "catalogue" in run("recommend", trained, "--user", 1, "-k", 10**6, expect=2).stderr


def test_a_run_of_other_data_is_refused(trained, tmp_path):
    path = trained / "config.yaml"
    before = path.read_text()
    config = yaml.safe_load(before)
    config["dataset"]["fingerprint"] = "0" * 16
    path.write_text(yaml.safe_dump(config))
    try:
        assert "was trained on other data" in run("evaluate", trained, expect=2).stderr
    finally:
        path.write_text(before)
