"""``graphdiff train``."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from graphdiff.experiments.tuned import tuned_settings
from tests.cli.conftest import TRAIN
from tests.command import run


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def config_of(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


def test_a_run_folder_is_complete(trained):
    for name in ("config.yaml", "model.safetensors", "metrics.csv", "results.json"):
        assert (trained / name).is_file()
    config = config_of(trained)
    assert config["model"]["settings"]["hidden_channels"] == 16
    assert config["dataset"]["name"] == "synthetic"
    assert config["training"]["epochs"] == 2
    results = results_of(trained)
    assert results["epochs"] == 2
    assert 0 < results["test"]["recall@20"] < 1
    assert results["masked"] == "training items"


@pytest.mark.parametrize("timed", [True, False])
def test_training_states_what_it_is_trained_on(tmp_path, timed):
    columns = {"user": np.arange(120) // 6, "item": np.arange(120) * 7 % 30}
    log = pd.DataFrame(columns | {"timestamp": np.arange(120)})
    log = log if timed else log[["user", "item"]]
    (tmp_path / "log").mkdir()
    log.to_csv(tmp_path / "log" / "interactions.csv", index=False)
    data = ["--dataset", "csv", "--root", tmp_path / "log"]
    done = run("train", *data, "--model", "popularity", "--out", tmp_path / "run")
    found = "with times" if timed else "without times"
    assert f"20 users, 30 items, 80 training interactions {found}; features: none" in done.stderr


def test_resume_continues(tmp_path):
    out = tmp_path / "run"
    arguments = ["--model", "lightgcn", "--set", "hidden_channels=8", "--out", out]
    run(*TRAIN, *arguments)
    assert "already holds a training" in run(*TRAIN, *arguments, expect=2).stderr
    assert "'seed' cannot be given" in run("train", "--resume", out, "--seed=1", expect=2).stderr
    run("train", "--resume", out, "--epochs", "3", "--no-progress")
    assert results_of(out)["epochs"] == 3
    config = config_of(out)
    assert config["training"]["epochs"] == 3
    assert config["model"]["settings"]["hidden_channels"] == 8


def test_a_model_without_gradient_resumes_by_being_solved_again(tmp_path):
    out = tmp_path / "run"
    run(*TRAIN, "--model", "puresvd", "--set", "hidden_channels=4", "--out", out)
    first = results_of(out)
    (out / "results.json").unlink()
    run("train", "--resume", out, "--no-progress")
    again = results_of(out)
    assert (again["model"], again["epochs"]) == ("PureSVD", 1)
    assert again["test"] == first["test"]


def test_settings_from_a_file(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("hidden_channels: 12\nlr: 0.01\n")
    out = tmp_path / "run"
    run(*TRAIN, "--model", "lightgcn", "--config", config, "--set", "lr=2e-2", "--out", out)
    settings = config_of(out)["model"]["settings"]
    assert (settings["hidden_channels"], settings["lr"]) == (12, 0.02)


def test_what_the_test_ranking_masks_is_stated_by_the_run(tmp_path):
    out = tmp_path / "run"
    done = run(*TRAIN, "--model", "popularity", "--mask-validation", "--out", out)
    assert "training and validation items masked" in done.stdout
    first = results_of(out)
    assert first["masked"] == "training and validation items"
    # Evaluating the run masks what its training did, unless asked otherwise.
    same = json.loads(run("evaluate", out, "--json").stdout)
    assert same["masked"] == "training and validation items"
    assert same["recall@20"] == first["test"]["recall@20"]
    other = json.loads(run("evaluate", out, "--no-mask-validation", "--json").stdout)
    assert other["masked"] == "training items"
    assert other["recall@20"] != first["test"]["recall@20"]
    assert "masked" not in run("evaluate", out, "--split", "val").stdout


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
    assert config_of(out)["dataset"]["options"] == {"features": {"image": "clip.npy"}}
    run("evaluate", out)


def test_tuned_settings_come_with_the_package(tmp_path):
    out = tmp_path / "run"
    run(*TRAIN, "--model", "lightgcn", "--tuned", "--set", "hidden_channels=8", "--out", out)
    expected = tuned_settings("synthetic", "lightgcn") | {"hidden_channels": 8}
    found = config_of(out)["model"]["settings"]
    assert {name: found[name] for name in expected} == expected
    assert expected["num_layers"] >= 1
    error = run(*TRAIN, "--model", "bprmf", "--tuned", "--out", out, expect=2).stderr
    assert "no tuned settings of 'bprmf' on 'synthetic'" in error


def test_a_preset_is_recorded_as_plain_settings(tmp_path):
    small = ["--set", "hidden_channels=8"]
    run(*TRAIN, *small, "--preset", "paper", "--out", tmp_path / "one")
    run(*TRAIN, *small, "--model", "ld4mrec-paper", "--out", tmp_path / "other")
    one, other = (config_of(tmp_path / name)["model"] for name in ("one", "other"))
    assert one["settings"] == other["settings"]
    assert one["name"] == "LD4MRec"
    assert one["settings"]["objective"]["ranking"] == 0
    assert one["settings"]["hidden_channels"] == 8
    run("train", "--resume", tmp_path / "one", "--epochs", "3", "--no-progress")
    assert results_of(tmp_path / "one")["epochs"] == 3
    wrong = run(*TRAIN, "--preset", "papr", "--out", tmp_path / "wrong", expect=2)
    assert "LD4MRec has no preset 'papr'; it has paper" in wrong.stderr
