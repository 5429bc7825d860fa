import copy
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.numpy import load_file

from graphdiff import LD4MRec, LightGCN, compare
from graphdiff.errors import ConfigError, GraphDiffError
from graphdiff.experiments import cells
from graphdiff.experiments.notes import notes
from graphdiff.schema import fingerprint
from tests.conftest import random_data
from tests.experiments.conftest import compare_tiny

# The JSON


def test_json_holds_what_readers_rely_on(content):
    assert set(content["models"]) == {"lightgcn", "ld4mrec"}
    for entry in content["models"].values():
        assert [cell["seed"] for cell in entry["seeds"]] == [0, 1]
        for cell in entry["seeds"]:
            assert 0 <= cell["test"]["recall@20"] <= 1
            assert cell["epochs"] == 2
            for name in ("train_seconds", "seconds_per_epoch", "inference_seconds"):
                assert cell[name] > 0
            # Equal where this process has freed enough for the training; see test_cells.py.
            assert cell["peak_memory_bytes"] >= cell["memory_before_bytes"] > 0
        tests = [cell["test"]["recall@20"] for cell in entry["seeds"]]
        assert entry["mean"]["test"]["recall@20"] == pytest.approx(sum(tests) / 2)
        assert entry["std"]["test"]["recall@20"] == pytest.approx(abs(tests[0] - tests[1]) / 2**0.5)


def test_groups_make_up_the_whole(content):
    sizes = {one["name"]: one["users"] for one in content["groups"]["users"]}
    for entry in content["models"].values():
        for cell in entry["seeds"]:
            groups = cell["groups"]["users"]
            assert set(groups) == set(sizes)
            total = sum(sizes[name] * one["recall@20"] for name, one in groups.items())
            assert total / sum(sizes.values()) == pytest.approx(cell["test"]["recall@20"])
    assert {one["name"] for one in content["groups"]["items"]} == {"cold", "tail", "mid", "head"}
    items = [one["items"] for one in content["groups"]["items"]]
    assert min(items) > 0
    assert sum(items) == 60


def test_a_share_that_is_given_twice_is_one_section(tmp_path):
    found = compare_tiny(models="easefeatures", seeds=1, drop_features=[0.5, 0.5]).content
    assert list(found["dropped_features"]["0.5"]["models"]) == ["easefeatures"]


def test_dropped_features_are_a_section_of_the_models_that_read_any(content):
    section = content["dropped_features"]["0.5"]
    assert set(section["models"]) == {"ld4mrec"}
    assert section["fingerprint"] != content["fingerprint"]
    assert section["transform"] == "DropFeatures(share=0.5, seed=0)"
    before, after = (one["models"]["ld4mrec"]["mean"]["test"] for one in (content, section))
    assert before["recall@20"] != after["recall@20"]


def test_the_cold_item_split_measures_items_without_training_interactions():
    content = compare_tiny(
        models="ld4mrec", seeds=1, epochs=1, split="cold-item", cold_share=0.3, split_seed=4
    ).content
    assert content["protocol"]["split"] == "ColdItems(share=0.3, seed=4)"
    [cell] = content["models"]["ld4mrec"]["seeds"]
    assert list(cell["groups"]["items"]) == ["cold"]
    assert cell["groups"]["items"]["cold"]["recall@20"] == cell["test"]["recall@20"]
    assert "Split: ColdItems(share=0.3, seed=4); see graphdiff.transforms." in notes(content)


# Resuming


def test_resume_keeps_finished_cells_and_their_values(content, resumed):
    earlier = copy.deepcopy(content)
    del earlier["models"]["ld4mrec"]["seeds"][1]
    del earlier["statistics"]
    earlier["models"]["lightgcn"]["seeds"][0]["train_seconds"] = 12345.0
    # LightGCN is not requested, and stays.
    again = resumed(earlier, "ld4mrec")
    assert again["models"]["lightgcn"]["seeds"][0]["train_seconds"] == 12345.0
    found, expected = (one["models"]["ld4mrec"]["seeds"] for one in (again, content))
    assert found[0] == expected[0]
    assert found[1]["test"] == expected[1]["test"]
    assert json.loads(json.dumps(again["statistics"])) == content["statistics"]
    assert again["dropped_features"] == content["dropped_features"]


def test_a_comparison_that_is_not_resumed_is_kept_with_its_values(tmp_path):
    out = tmp_path / "c.json"
    for seeds in (2, 1):
        compare_tiny(out, "lightgcn", seeds=seeds, epochs=1)
    before = json.loads((tmp_path / "c.json.earlier").read_text())
    assert len(before["models"]["lightgcn"]["seeds"]) == 2
    assert len(json.loads(out.read_text())["models"]["lightgcn"]["seeds"]) == 1
    (tmp_path / "c.users.safetensors.earlier").rename(tmp_path / "e.safetensors")
    assert "lightgcn/1/recall@20" in load_file(tmp_path / "e.safetensors")
    assert "lightgcn/1/recall@20" not in load_file(tmp_path / "c.users.safetensors")


def test_models_in_closed_form_are_measured_once():
    found = compare_tiny(models=["ease", "lightgcn"], seeds=2, epochs=1).content["models"]
    assert [len(found[name]["seeds"]) for name in ("ease", "lightgcn")] == [1, 2]


def test_cells_without_their_values_stay_and_are_not_tested(content, resumed):
    again = resumed(content, users=False, seeds=1)
    assert again["statistics"] == {}
    assert again["models"]["lightgcn"]["seeds"] == content["models"]["lightgcn"]["seeds"]


def test_values_of_another_training_are_not_tested(content, resumed):
    content["models"]["lightgcn"]["seeds"][0]["test"]["recall@20"] += 0.01
    again = resumed(content, seeds=1)
    assert again["statistics"]["left_out"] == ["lightgcn"]
    assert any("per-user values" in note for note in notes(again))


def test_cells_with_other_settings_are_measured_again(content, resumed):
    again = resumed(content, "lightgcn", seeds=1, settings={"lightgcn": {"num_layers": 1}})
    [cell] = again["models"]["lightgcn"]["seeds"]
    assert cell["test"] != content["models"]["lightgcn"]["seeds"][0]["test"]
    assert again["models"]["ld4mrec"] == content["models"]["ld4mrec"]


def test_cells_that_another_limit_of_time_would_end_elsewhere_are_measured_again(content, resumed):
    first, second = content["models"]["lightgcn"]["seeds"]
    first["train_seconds"], first["test"]["recall@20"] = 61.0, 2.0
    second["train_seconds"], second["test"]["recall@20"] = 59.0, 3.0
    again = resumed(content, "lightgcn", max_minutes=1)
    seeds = again["models"]["lightgcn"]["seeds"]
    assert [seed["test"]["recall@20"] <= 1 for seed in seeds] == [True, False]
    assert [seed["out_of_time"] for seed in seeds] == [None, None]
    # What a limit has ended is kept under the same limit, and goes on to its end without one.
    for seed in seeds:
        seed["out_of_time"], seed["test"]["recall@20"] = 1, 4.0
    for limit, kept in ((1, True), (None, False)):
        again = resumed(again, "lightgcn", max_minutes=limit)
        values = [seed["test"]["recall@20"] for seed in again["models"]["lightgcn"]["seeds"]]
        assert [value == 4.0 for value in values] == [kept, kept]


def test_results_without_times_are_kept_for_models_that_do_not_read_them(tmp_path):
    data, out = random_data(40, 30), tmp_path / "a.json"
    given = {"out": out, "epochs": 1, "progress": False}
    first = compare(data, ["ease", "lightgcn"], **given).content
    for entry in first["models"].values():
        entry["seeds"][0]["train_seconds"] = 12345.0
    out.write_text(json.dumps(first))
    num = data["user", "interacts", "item"].edge_index.size(1)
    data["user", "interacts", "item"].time = torch.arange(num).flip(0)
    again = compare(data, ["ease", "lightgcn"], **given, resume=True).content
    assert again["fingerprint"] == fingerprint(data) != first["fingerprint"]
    seconds = {name: one["seeds"][0]["train_seconds"] for name, one in again["models"].items()}
    assert seconds["lightgcn"] == 12345.0 != seconds["ease"]
    assert set(again["statistics"]["metrics"]["recall@20"]) == {"ease", "lightgcn"}
    # Other times are other data.
    data["user", "interacts", "item"].time = torch.arange(num)
    with pytest.raises(ConfigError, match="another run: fingerprint of the data"):
        compare(data, ["lightgcn"], **given, resume=True)


def test_a_comparison_that_is_stopped_twice_loses_nothing(content, resumed, monkeypatch):
    del content["models"]["ld4mrec"]["seeds"][0]
    measured = []

    def stop_at_the_second(*arguments, **options):
        measured.append(1)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return measure(*arguments, **options)

    measure = cells.measure
    monkeypatch.setattr(cells, "measure", stop_at_the_second)
    saved = {}
    save = cells.Experiment.save
    monkeypatch.setattr(
        cells.Experiment, "save", lambda self: (save(self), saved.update(self.result))
    )
    with pytest.raises(KeyboardInterrupt):
        resumed(content, ("ld4mrec", "lightgcn"), seeds=3, drop_features=[0.5])
    assert [one["seed"] for one in saved["models"]["ld4mrec"]["seeds"]] == [0, 1]
    assert saved["models"]["lightgcn"]["seeds"] == content["models"]["lightgcn"]["seeds"]
    assert saved["dropped_features"] == content["dropped_features"]


def test_another_protocol_or_other_data_are_not_resumed(content, resumed):
    with pytest.raises(ConfigError, match=r"another run: [a-z_]+ .* instead of"):
        resumed(content, "lightgcn", epochs=3)
    with pytest.raises(ConfigError, match=r"another run: [a-z_]+ .* instead of"):
        resumed(content, "lightgcn", mask_validation=True)
    with pytest.raises(ConfigError, match="another run: fingerprint of the data"):
        resumed(content, "lightgcn", options={"num_users": 81, "num_items": 60})


def started(*arguments):
    command = [sys.executable, "-m", "graphdiff.cli.main", "compare", "--no-progress"]
    command += ["--option", "num_users=80", "num_items=60", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def test_a_killed_comparison_goes_on_where_it_stopped(tmp_path):
    out = tmp_path / "a.json"
    process = started("--models", "lightgcn", "--epochs", 2, "--seeds", 500, "--out", out)
    try:
        while not out.exists():
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    finished = json.loads(out.read_text())["models"]["lightgcn"]["seeds"]
    again = compare_tiny(out, "lightgcn", seeds=len(finished) + 1, resume=True).content
    seeds = again["models"]["lightgcn"]["seeds"]
    assert seeds[: len(finished)] == finished
    assert len(seeds) == len(finished) + 1
    assert again["statistics"]["left_out"] == []
    assert load_file(out.with_suffix(".users.safetensors"))["user"].size > 0


def test_a_killed_training_goes_on_at_its_epoch(tmp_path):
    out, kept = tmp_path / "a.json", tmp_path / "kept"
    process = started(
        "--models", "lightgcn", "--epochs", 25, "--checkpoints", kept, "--out", out
    )  # fmt: skip
    try:
        while not list(kept.glob("*/metrics.csv")):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        # All at once: the process that trains would go on writing for a moment.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (checkpoint,) = kept.glob("lightgcn-0-*/checkpoints/last.ckpt")
    whole = checkpoint.read_bytes()
    # A damaged checkpoint is an error, which shows that it is what is resumed from.
    checkpoint.write_bytes(whole[:100])
    more = {"seeds": 1, "epochs": 25}
    with pytest.raises(GraphDiffError, match="not a complete checkpoint"):
        compare_tiny(out, "lightgcn", checkpoints=kept, **more)
    checkpoint.write_bytes(whole)
    result = compare_tiny(out, "lightgcn", checkpoints=kept, **more)
    (again,) = result.content["models"]["lightgcn"]["seeds"]
    assert not list(kept.iterdir())
    (once,) = compare_tiny(models="lightgcn", **more).content["models"]["lightgcn"]["seeds"]
    # Threads add up in any order: a loss may differ in its last digit.
    for found, expected in zip(again["history"], once["history"], strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
    assert again["test"] == pytest.approx(once["test"], rel=1e-5)


def test_processes_side_by_side_give_the_same_comparison(content, tmp_path):
    beside = compare_tiny(tmp_path / "a.json", [LightGCN, LD4MRec], jobs=2).content
    assert beside["machine"]["jobs"] == 2
    assert any("2 trainings side by side" in note for note in notes(beside))
    assert beside["statistics"]["left_out"] == []
    assert beside["models"].keys() == content["models"].keys()
    for name, entry in beside["models"].items():
        assert [cell["seed"] for cell in entry["seeds"]] == [0, 1]
        for cell, alone in zip(entry["seeds"], content["models"][name]["seeds"], strict=True):
            losses = [[row["loss"] for row in one["history"]] for one in (cell, alone)]
            assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# Trouble


@pytest.fixture
def without_features(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "toys"
    root.mkdir()
    rows = [(u, (u * 7 + n) % 30, min(2, max(0, n - 5))) for u in range(30) for n in range(8)]
    lines = "".join(f"{user}\t{item}\t{label}\n" for user, item, label in rows)
    (root / "toys.inter").write_text("userID\titemID\tx_label\n" + lines)
    return root


def test_a_model_that_does_not_fit_is_skipped_and_the_others_go_on(without_features):
    result = compare(
        "mmrec", ["freedom", "lightgcn"], root=without_features, seeds=2, epochs=1
    )  # fmt: skip
    assert result.models == ["lightgcn"]
    [skipped] = result.content["skipped"]
    assert (skipped["model"], skipped["seed"]) == ("freedom", None)
    assert "needs at least one modality" in skipped["reason"]
    assert any("Skipped: FREEDOM: FREEDOM needs" in note for note in notes(result.content))
    # A model on its own has an interval and no test.
    assert result.significance()["lightgcn"].rival is None
    with pytest.raises(ConfigError, match="no features to drop"):
        compare("mmrec", "lightgcn", root=without_features, epochs=1, drop_features=[0.5])


def test_a_cell_that_fails_is_reported_with_its_seed(tmp_path):
    out = tmp_path / "a.json"
    with pytest.raises(GraphDiffError, match="no model could be measured"):
        compare_tiny(out, "lightgcn", seeds=1, epochs=3, settings={"lightgcn": {"lr": 1e30}})
    [skipped] = json.loads(out.read_text())["skipped"]
    assert skipped["seed"] == 0
    assert "NaN" in skipped["reason"]
