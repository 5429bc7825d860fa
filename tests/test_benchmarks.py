"""The benchmark programs, run small."""

import copy
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import accuracy  # noqa: E402
import budgets  # noqa: E402
import comparison as running  # noqa: E402
import memory  # noqa: E402
import protocol  # noqa: E402
import report  # noqa: E402
import tables  # noqa: E402
import tune  # noqa: E402
import workers  # noqa: E402

from graphdiff import LightGCN  # noqa: E402
from graphdiff.errors import ConfigError, RunError  # noqa: E402
from graphdiff.evaluation.significance import compare_models  # noqa: E402

TINY = ["--dataset", "synthetic", "--dataset-options", "num_users=80", "num_items=60"]


def run(program, *arguments, expect=0):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stderr + done.stdout
    return done


def compare(out, *arguments, dataset=TINY):
    """Runs a comparison in this process (and its cells in theirs); its JSON."""
    accuracy.main([*dataset, "--quiet", "--out", str(out), *map(str, arguments)])
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder of a comparison and its pages."""
    folder = tmp_path_factory.mktemp("accuracy")
    compare(
        folder / "a.json", "--models", "lightgcn", "ld4mrec", "--seeds", 2, "--epochs", 2,
        "--drop-features", 0.5, "--report", folder / "a.html", "--markdown", folder / "a.md",
        "--latex", folder / "a.tex",
    )  # fmt: skip
    return folder


@pytest.fixture
def result(pages):
    return json.loads((pages / "a.json").read_text())


# The JSON


def test_accuracy_json_holds_what_readers_rely_on(result):
    assert set(result["models"]) == {"lightgcn", "ld4mrec"}
    for entry in result["models"].values():
        assert [cell["seed"] for cell in entry["seeds"]] == [0, 1]
        for cell in entry["seeds"]:
            assert 0 <= cell["test"]["recall@20"] <= 1
            assert cell["epochs"] == 2
            for name in ("train_seconds", "seconds_per_epoch", "inference_seconds"):
                assert cell[name] > 0
            assert cell["peak_memory_bytes"] > cell["memory_before_bytes"] > 0
        tests = [cell["test"]["recall@20"] for cell in entry["seeds"]]
        assert entry["mean"]["test"]["recall@20"] == pytest.approx(sum(tests) / 2)
        assert entry["std"]["test"]["recall@20"] == pytest.approx(abs(tests[0] - tests[1]) / 2**0.5)


def test_values_per_user_are_kept_beside_the_json(pages, result):
    values = load_file(pages / "a.users.safetensors")
    assert values["user"].size == sum(one["users"] for one in result["groups"]["users"])
    for name, entry in result["models"].items():
        for cell in entry["seeds"]:
            for metric in ("recall@20", "ndcg@20"):
                column = values[f"{name}/{cell['seed']}/{metric}"]
                assert column.shape == values["user"].shape
                assert column.mean(dtype=np.float64) == pytest.approx(cell["test"][metric])


def test_statistics_are_those_of_the_means_over_seeds(pages, result):
    values = load_file(pages / "a.users.safetensors")
    found = result["statistics"]["metrics"]["ndcg@20"]
    averaged = {
        name: (values[f"{name}/0/ndcg@20"].astype(float) + values[f"{name}/1/ndcg@20"]) / 2
        for name in result["models"]
    }
    for name, expected in compare_models(averaged).items():
        assert found[name]["rival"] == expected.rival
        assert found[name]["p_wilcoxon_holm"] == pytest.approx(expected.p_wilcoxon_holm)
        assert found[name]["difference_interval"] == pytest.approx(expected.difference_interval)
        assert found[name]["mean"] == pytest.approx(
            result["models"][name]["mean"]["test"]["ndcg@20"]
        )


def test_groups_make_up_the_whole(result):
    sizes = {one["name"]: one["users"] for one in result["groups"]["users"]}
    for entry in result["models"].values():
        for cell in entry["seeds"]:
            groups = cell["groups"]["users"]
            assert set(groups) == set(sizes)
            total = sum(sizes[name] * one["recall@20"] for name, one in groups.items())
            assert total / sum(sizes.values()) == pytest.approx(cell["test"]["recall@20"])
    assert {one["name"] for one in result["groups"]["items"]} == {"cold", "tail", "mid", "head"}
    items = [one["items"] for one in result["groups"]["items"]]
    assert min(items) > 0
    assert sum(items) == 60


def test_dropped_features_are_a_section_of_the_models_that_read_any(result):
    section = result["dropped_features"]["0.5"]
    assert set(section["models"]) == {"ld4mrec"}
    assert section["fingerprint"] != result["fingerprint"]
    assert section["transform"] == "DropFeatures(share=0.5, seed=0)"
    before, after = (one["models"]["ld4mrec"]["mean"]["test"] for one in (result, section))
    assert before["recall@20"] != after["recall@20"]


# The pages


class Balance(HTMLParser):
    """Fails at a tag that is closed out of turn."""

    VOID = frozenset({"meta", "img", "br", "link", "hr"})

    def __init__(self):
        super().__init__()
        self.open = []
        self.images = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_is_one_self_contained_page(pages):
    page = (pages / "a.html").read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert all(one["src"].startswith("data:image/svg+xml;base64,") for one in parser.images)
    titles = re.findall(r"<h2>([^<]+)</h2><img", page)
    assert titles == [
        "Accuracy", "Learning curves", "Accuracy against training time",
        "Accuracy by user activity", "Accuracy by item popularity",
        "Accuracy with features taken away",
    ]  # fmt: skip
    for words in ("LD4MRec", "LightGCN", "Significance, recall@20", "By popularity of the item"):
        assert words in page
    assert "http" not in page
    assert "<script" not in page


def test_markdown_holds_the_figures(pages, result):
    page = (pages / "a.md").read_text()
    entry = result["models"]["ld4mrec"]
    mean, std = (entry[one]["test"]["recall@20"] for one in ("mean", "std"))
    assert f"± {std:.4f}" in page
    assert re.search(rf"\| (\*\*)?{mean:.4f}(\*\*)? ± {std:.4f}(\\\*)? \|", page)
    for title in ("Significance, ndcg@20", "By activity", "With features taken away", "Cost"):
        assert f"\n## {title}" in page
    widths = [line.count(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert widths.count(widths[0]) >= 4


def test_latex_is_a_booktabs_table_with_the_best_in_bold(pages, result):
    page = (pages / "a.tex").read_text()
    best = max(one["mean"]["test"]["ndcg@20"] for one in result["models"].values())
    assert rf"\textbf{{{best:.4f}}}" in page
    for part in page.split(r"\begin{table*}")[1:]:
        columns = len(re.search(r"\\begin{tabular}{(\w+)}", part)[1])
        rows = [line for line in part.splitlines() if line.endswith(r"\\")]
        assert len(rows) == 3
        assert all(line.count(" & ") == columns - 1 for line in rows)
        assert part.index(r"\toprule") < part.index(r"\midrule") < part.index(r"\bottomrule")
    assert not re.search(r"(?<!\\)[%#_&](?!.*\\\\)", page.split("\n", 1)[1])


def test_significance_marks_and_skipped_cells_are_told(result):
    for one, p in (("lightgcn", 0.001), ("ld4mrec", 0.2)):
        result["statistics"]["metrics"]["recall@20"][one]["p_t_holm"] = p
        result["statistics"]["metrics"]["recall@20"][one]["p_wilcoxon_holm"] = 0.001
    marks = {row[0].text: row[2].mark for row in tables.accuracy(result).rows}
    assert marks == {"LightGCN": "*", "LD4MRec": ""}
    result["skipped"] = [{"model": "freedom", "seed": 1, "reason": "no room"}]
    assert "Skipped: FREEDOM, seed 1: no room." in tables.notes(result)


def test_settings_that_another_device_found_are_told(result):
    assert not any("hours are that machine's" in note for note in tables.notes(result))
    here = dict(result["machine"])
    there = {**here, "device": "NVIDIA X"}
    for name, machines in (("lightgcn", [here, there]), ("ld4mrec", [here])):
        tuning = {**result["models"][name]["tuning"], "machines": machines}
        result["models"][name]["tuning"] = tuning
    told = "Trials of LightGCN ran on NVIDIA X: their hours are that machine's."
    assert told in tables.notes(result)


def test_render_shows_a_comparison_of_an_earlier_version_and_runs_nothing(tmp_path):
    source = ROOT / "benchmarks" / "results" / "tiktok.json"
    before = source.read_bytes()
    page, tex = tmp_path / "t.md", tmp_path / "t.tex"
    accuracy.main(["--render", str(source), "--markdown", str(page), "--latex", str(tex)])
    assert "| 0.0653 / 0.0282 [1] |" in page.read_text()
    assert "| GenRec-V1 | – | – | – | – | 0.1165 / 0.0492 [2] |" in page.read_text()
    assert "arXiv 2406.11781" in page.read_text()
    assert r"0.0653 / 0.0282 {\scriptsize [1]} &" in tex.read_text()
    assert source.read_bytes() == before
    without_groups = json.loads(before)
    without_groups.pop("groups", None)
    for entry in without_groups["models"].values():
        for part in (entry["mean"], *entry["seeds"]):
            part.pop("groups", None)
    report.write_report(without_groups, tmp_path / "t.html")
    assert "Accuracy by user activity" not in (tmp_path / "t.html").read_text()


def test_rendering_again_gives_the_same_pages(pages, tmp_path):
    accuracy.main(
        ["--render", str(pages / "a.json"), "--report", str(tmp_path / "b.html"),
         "--markdown", str(tmp_path / "b.md")]
    )  # fmt: skip
    assert (tmp_path / "b.html").read_text() == (pages / "a.html").read_text()
    assert (tmp_path / "b.md").read_text() == (pages / "a.md").read_text()


def test_published_figures_name_their_sources(result):
    listed = yaml.safe_load(tables.PUBLISHED.read_text())
    sources = listed.pop("sources")
    for dataset in listed.values():
        for one in dataset["figures"]:
            assert one["source"] in sources
            assert 0 < one["ndcg@20"] < one["recall@20"] < 1
    assert not tables.published(result).figures
    result["dataset"] = "ml-1m-clean"
    assert tables.published(result).figures["diffrec"]["recall@20"] == 0.1787
    result["protocol"]["split"] = "ColdItems(share=0.1, seed=0)"
    assert not tables.published(result).figures


# Going on


def test_resume_keeps_finished_cells_and_their_values(pages, result, tmp_path):
    out = tmp_path / "a.json"
    earlier = copy.deepcopy(result)
    del earlier["models"]["ld4mrec"]["seeds"][1]
    del earlier["statistics"]
    earlier["models"]["lightgcn"]["seeds"][0]["train_seconds"] = 12345.0
    out.write_text(json.dumps(earlier))
    values = (pages / "a.users.safetensors").read_bytes()
    out.with_suffix(".users.safetensors").write_bytes(values)
    # LightGCN is not asked for, and stays.
    again = compare(out, "--models", "ld4mrec", "--seeds", 2, "--epochs", 2, "--resume")
    assert again["models"]["lightgcn"]["seeds"][0]["train_seconds"] == 12345.0
    assert again["models"]["ld4mrec"]["seeds"][0] == result["models"]["ld4mrec"]["seeds"][0]
    assert (
        again["models"]["ld4mrec"]["seeds"][1]["test"]
        == (result["models"]["ld4mrec"]["seeds"][1]["test"])
    )
    assert again["statistics"] == result["statistics"]
    assert again["dropped_features"] == result["dropped_features"]


def test_cells_without_their_values_stay_and_are_not_tested(pages, result, tmp_path):
    out = tmp_path / "a.json"
    out.write_text(json.dumps(result))
    arguments = ["--models", "lightgcn", "ld4mrec", "--epochs", 2, "--resume"]
    again = compare(out, *arguments)
    assert again["statistics"] == {}
    assert again["models"]["lightgcn"]["seeds"] == result["models"]["lightgcn"]["seeds"]
    # Values that are not those of the cell are no better than none.
    other = copy.deepcopy(result)
    other["models"]["lightgcn"]["seeds"][0]["test"]["recall@20"] += 0.01
    out.write_text(json.dumps(other))
    values = (pages / "a.users.safetensors").read_bytes()
    out.with_suffix(".users.safetensors").write_bytes(values)
    again = compare(out, *arguments)
    assert again["statistics"]["left_out"] == ["lightgcn"]
    assert any("per-user values" in note for note in tables.notes(again))


def test_a_killed_comparison_goes_on_where_it_stopped(tmp_path):
    out = tmp_path / "a.json"
    arguments = ["--models", "lightgcn", "--epochs", "1"]
    command = [sys.executable, ROOT / "benchmarks" / "accuracy.py", *TINY, *arguments]
    process = subprocess.Popen(
        [*command, "--seeds", "500", "--out", out, "--quiet"], stdout=subprocess.DEVNULL
    )
    try:
        while not out.exists():
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    finished = json.loads(out.read_text())["models"]["lightgcn"]["seeds"]
    again = compare(out, *arguments, "--seeds", len(finished) + 1, "--resume")
    seeds = again["models"]["lightgcn"]["seeds"]
    assert seeds[: len(finished)] == finished
    assert len(seeds) == len(finished) + 1
    assert again["statistics"]["left_out"] == []


def test_a_comparison_that_is_stopped_twice_loses_nothing(pages, result, tmp_path, monkeypatch):
    out = tmp_path / "a.json"
    del result["models"]["ld4mrec"]["seeds"][0]
    out.write_text(json.dumps(result))
    values = (pages / "a.users.safetensors").read_bytes()
    out.with_suffix(".users.safetensors").write_bytes(values)

    def stop_at_the_second(*_, **__):
        stopped.append(1)
        if len(stopped) == 2:
            raise KeyboardInterrupt
        return cell, users

    stopped = []
    cell = {**result["models"]["ld4mrec"]["seeds"][0], "seed": 0}
    users = {name: np.zeros(3, np.float32) for name in ("user", "recall@20", "ndcg@20")}
    monkeypatch.setattr(running, "in_own_process", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        compare(
            out, "--models", "ld4mrec", "lightgcn", "--seeds", 3, "--epochs", 2, "--resume",
            "--drop-features", 0.5,
        )  # fmt: skip
    again = json.loads(out.read_text())
    assert [one["seed"] for one in again["models"]["ld4mrec"]["seeds"]] == [0, 1]
    assert again["models"]["lightgcn"]["seeds"] == result["models"]["lightgcn"]["seeds"]
    assert again["dropped_features"] == result["dropped_features"]


def test_a_killed_training_goes_on_at_its_epoch(tmp_path):
    out, kept = tmp_path / "a.json", tmp_path / "kept"
    arguments = ["--models", "lightgcn", "--epochs", "25", "--checkpoints", str(kept)]
    command = [sys.executable, ROOT / "benchmarks" / "accuracy.py", *TINY, *arguments]
    process = subprocess.Popen(
        [*command, "--out", out, "--quiet"], stdout=subprocess.DEVNULL, start_new_session=True
    )
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
    # It is what is gone on with: damaged, it is told, and not passed over.
    checkpoint.write_bytes(whole[:100])
    with pytest.raises(SystemExit, match="not a whole checkpoint"):
        compare(out, *arguments)
    checkpoint.write_bytes(whole)
    (again,) = compare(out, *arguments)["models"]["lightgcn"]["seeds"]
    assert not list(kept.iterdir())
    (once,) = compare(tmp_path / "b.json", *arguments[:4])["models"]["lightgcn"]["seeds"]
    # Two threads add up in any order: a loss may differ in its last digit.
    for found, expected in zip(again["history"], once["history"], strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
    assert again["test"] == pytest.approx(once["test"], rel=1e-5)


def test_another_protocol_is_not_resumed(pages):
    with pytest.raises(SystemExit) as stop:
        compare(pages / "a.json", "--models", "lightgcn", "--epochs", 3, "--resume")
    assert "was written with another protocol" in str(stop.value)


# Trouble


@pytest.fixture
def without_features(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "toys"
    root.mkdir()
    rows = [(u, (u * 7 + n) % 30, min(2, max(0, n - 5))) for u in range(30) for n in range(8)]
    lines = "".join(f"{user}\t{item}\t{label}\n" for user, item, label in rows)
    (root / "toys.inter").write_text("userID\titemID\tx_label\n" + lines)
    return ["--dataset", "mmrec", "--root", str(root)]


def test_a_model_that_does_not_fit_is_skipped_and_the_others_go_on(tmp_path, without_features):
    result = compare(
        tmp_path / "a.json", "--models", "freedom", "lightgcn", "--seeds", 2, "--epochs", 1,
        "--markdown", tmp_path / "a.md", dataset=without_features,
    )  # fmt: skip
    assert list(result["models"]) == ["lightgcn"]
    [skipped] = result["skipped"]
    assert (skipped["model"], skipped["seed"]) == ("freedom", None)
    assert "needs at least one modality" in skipped["reason"]
    assert "Skipped: FREEDOM: FREEDOM needs" in (tmp_path / "a.md").read_text()
    # A model on its own has an interval and no test.
    assert result["statistics"]["metrics"]["recall@20"]["lightgcn"]["rival"] is None
    with pytest.raises(SystemExit, match="no features to drop"):
        compare(tmp_path / "b.json", "--drop-features", 0.5, dataset=without_features)


def test_a_cell_that_fails_is_told_with_its_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        running, "tuned", lambda _, name: {"settings": {"lr": 1e30}} if name == "lightgcn" else {}
    )
    with pytest.raises(SystemExit, match="no model could be measured"):
        compare(tmp_path / "a.json", "--models", "lightgcn", "--epochs", 3)
    [skipped] = json.loads((tmp_path / "a.json").read_text())["skipped"]
    assert skipped["seed"] == 0
    assert "NaN" in skipped["reason"]


def test_a_process_tells_what_came_of_it():
    assert workers.in_own_process(divmod, 7, 2) == (3, 1)
    assert workers.in_own_process(os.getpid) != os.getpid()
    with pytest.raises(RunError, match="killed by SIGKILL, most likely for want of memory"):
        workers.in_own_process(signal.raise_signal, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="ended with exit code 1"):
        workers.in_own_process(int, "seven")
    with pytest.raises(ConfigError, match="no model 'nope'"):
        workers.in_own_process(protocol.model_names, ["nope"])


def work(seconds):
    if seconds < 0:
        raise ConfigError("no time runs backwards")
    return workers.in_own_process(time.sleep, seconds)


def test_work_side_by_side_is_taken_up_as_there_is_room():
    taken = []

    def items():
        for seconds in (0.01, -1, 0.01):
            taken.append(seconds)
            yield seconds

    found = []
    for seconds, outcome in workers.side_by_side(work, items(), jobs=1):
        found.append((seconds, type(outcome.exception())))
        assert len(taken) == len(found)
    assert found == [(0.01, type(None)), (-1, ConfigError), (0.01, type(None))]
    assert sorted(item for item, _ in workers.side_by_side(work, [0.3, 0.01], 2)) == [0.01, 0.3]


def test_who_stops_asking_ends_what_is_at_work():
    asked = workers.side_by_side(work, [0.01, 600, 600], jobs=2)
    assert next(asked)[0] == 0.01
    asked.close()  # does not wait for ten minutes
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("program", ["accuracy.py", "robustness.py", "ablation.py"])
def test_at_least_one_training_has_to_run(program):
    told = run(program, "--out", "never.json", "--jobs", 0, expect=2).stderr
    assert "at least one training has to run" in told


def test_trainings_side_by_side_give_the_same_comparison(result, tmp_path):
    beside = compare(
        tmp_path / "a.json", "--models", "lightgcn", "ld4mrec", "--seeds", 2, "--epochs", 2,
        "--jobs", 2,
    )  # fmt: skip
    assert beside["machine"]["jobs"] == 2
    assert any("2 trainings side by side" in note for note in tables.notes(beside))
    assert beside["statistics"]["left_out"] == []
    assert beside["models"].keys() == result["models"].keys()
    for name, entry in beside["models"].items():
        assert [cell["seed"] for cell in entry["seeds"]] == [0, 1]
        for cell, alone in zip(entry["seeds"], result["models"][name]["seeds"], strict=True):
            losses = [[row["loss"] for row in one["history"]] for one in (cell, alone)]
            assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.skipif(not memory.STATUS.exists(), reason="needs /proc")
def test_peak_memory_is_that_of_the_block():
    with memory.PeakMemory() as large:
        np.ones(30_000_000)
    with memory.PeakMemory() as small:
        np.ones(3)
    peaks = [
        one["peak_memory_bytes"] - one["memory_before_bytes"]
        for one in (large.figures(), small.figures())
    ]
    assert peaks[0] >= 200e6
    assert peaks[1] < 100e6


def test_running_out_of_memory_is_told(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nmore")

    monkeypatch.setattr(protocol, "load_graph", fail)
    with pytest.raises(RunError, match=r"out of memory: DefaultCPUAllocator.*you tried$"):
        protocol.measure(Path("graph"), "lightgcn", {}, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "nope", "--out", "x.json"], "no model 'nope'"),
        (["--dataset-options", "num_users", "--out", "x.json"], "not name=value"),
        (["--render", "no-such.json"], "cannot be read as the JSON of a comparison"),
        (["--split", "cold-item", "--cold-share", "2", "--out", "x.json"], "share is 2"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        accuracy.main([*TINY, *arguments] if "--dataset-options" not in arguments else arguments)
    assert message in stop.value.code
    assert stop.value.code.startswith("accuracy.py: ")
    assert "\n" not in stop.value.code


def test_it_must_be_told_what_to_write():
    assert "give --out FILE.json" in run("accuracy.py", expect=2).stderr


# Splits


def test_the_cold_item_split_measures_items_without_training_interactions(tmp_path):
    result = compare(
        tmp_path / "a.json", "--models", "ld4mrec", "--epochs", 1, "--split", "cold-item",
        "--cold-share", 0.3, "--split-seed", 4,
    )  # fmt: skip
    assert result["protocol"]["split"] == "ColdItems(share=0.3, seed=4)"
    [cell] = result["models"]["ld4mrec"]["seeds"]
    assert list(cell["groups"]["items"]) == ["cold"]
    assert cell["groups"]["items"]["cold"]["recall@20"] == cell["test"]["recall@20"]
    assert "Split: ColdItems(share=0.3, seed=4); see graphdiff.transforms." in tables.notes(result)


# Budgets


def test_budgets_are_fair_where_trials_or_for_slow_models_hours_are_equal():
    ours, same = {"trials": 8, "hours": 1.0}, {"trials": 8, "hours": 0.1}
    assert budgets.budget_warnings({"ld4mrec": ours, "lightgcn": same}) == []
    slow = {"trials": 2, "hours": 1.0}  # half an hour each
    assert budgets.budget_warnings({"ld4mrec": ours, "diffmm": slow}) == []
    whole = budgets.budget({"trials": 4, "search": {"whole_grid": True}}, searchable=True)
    nothing = budgets.budget({}, searchable=False)
    assert budgets.budget_warnings({"ld4mrec": ours, "ease": whole, "popularity": nothing}) == []


def test_unfair_budgets_are_told():
    ours, less = {"trials": 8, "hours": 1.0}, {"trials": 7, "hours": 0.4}
    [line] = budgets.budget_warnings({"ld4mrec": ours, "lightgcn": less})
    assert line == (
        "Warning: ld4mrec got a larger tuning budget (8 trials, 1.00 h) than lightgcn "
        "(7 trials, 0.40 h)."
    )
    assert budgets.budget_warnings({"ld4mrec": less, "lightgcn": ours}) == []
    [line] = budgets.budget_warnings({"a": ours, "b": budgets.budget({}, searchable=True)})
    assert line == "Warning: tuning budgets of the baselines differ, in trials: 0 for b; 8 for a."
    slow = {"trials": 2, "hours": 0.9}
    assert len(budgets.budget_warnings({"ld4mrec": ours, "diffmm": slow})) == 1


# Tuning


def search(folder, *arguments):
    tune.main(
        [*TINY, "--model", "lightgcn", "--epochs", "1", "--configs", str(folder)]
        + [str(one) for one in arguments]
    )
    return yaml.safe_load((folder / "synthetic" / "lightgcn.yaml").read_text())


def test_tune_is_resumable_and_writes_a_configuration(tmp_path, capsys):
    search(tmp_path, "--trials", 1)
    found = search(tmp_path, "--trials", 2, "--seed", 3)
    assert capsys.readouterr().out.count("\ntrial ") == 1
    assert found["trials"] == 2
    assert found["hours"] >= 0
    assert set(found["val"]) == {"recall@20", "ndcg@20"}
    assert "num_layers" in found["settings"]
    assert found["search"]["seed"] == 3
    assert found["search"]["limits"] == {"trials": 2, "hours": None}
    assert set(found["machines"][0]) >= {"processor", "threads", "device"}
    kept = budgets.budget(found, searchable=True)
    assert (kept["trials"], kept["whole_grid"], kept["search_seed"]) == (2, False, 3)


def test_trials_run_side_by_side_as_many_as_were_asked_for(tmp_path, capsys):
    found = search(tmp_path, "--trials", 3, "--jobs", 2)
    assert capsys.readouterr().out.count("trial ") == 3
    assert (found["trials"], found["search"]["failed"]) == (3, 0)
    assert [one["jobs"] for one in found["machines"]] == [2]
    alone = search(tmp_path / "alone", "--trials", 1)
    # The defaults go first, however many go beside them, and train as they would alone.
    kept = [json.loads(line) for line in (tmp_path / "synthetic" / ".lightgcn.log").open()]
    first = next(
        one["user_attr"]["val"]
        for one in kept
        if one.get("trial_id") == 0 and "val" in one.get("user_attr", {})
    )
    assert first["recall@20"] == pytest.approx(alone["val"]["recall@20"], abs=1e-3)


def test_settings_found_by_hand_are_tried_and_their_runs_told(tmp_path, capsys):
    found = search(
        tmp_path, "--trials", 2, "--earlier-runs", 7, "--try-first", "num_layers=2", "lr=0.005"
    )
    assert "'lr': 0.005, 'num_layers': 2" in capsys.readouterr().out
    assert found["trials"] == 2
    [line] = budgets.budget_warnings({"lightgcn": budgets.budget(found, searchable=True)})
    assert line == (
        "Warning: the settings that lightgcn's search begins with came from 7 trainings on this "
        "dataset's validation pairs, which are not among its trials."
    )
    with pytest.raises(ConfigError, match="num_layers=77 is not in the search space"):
        search(tmp_path / "other", "--trials", 2, "--try-first", "num_layers=77")


def test_fixed_settings_are_trained_with_and_not_searched(tmp_path):
    found = search(tmp_path, "--trials", 4, "--fix", "num_layers=1", "hidden_channels=8")
    assert found["settings"].items() >= {"num_layers": 1, "hidden_channels": 8}.items()
    assert found["search"]["fixed"] == ["num_layers", "hidden_channels"]
    kept = [json.loads(line) for line in (tmp_path / "synthetic" / ".lightgcn.log").open()]
    searched = {one["param_name"] for one in kept if "param_name" in one}
    assert searched == {"lr", "regularization"}


def test_hours_limit_a_search_after_its_first_trial(tmp_path):
    found = search(tmp_path, "--trials", 5, "--hours", 0)
    assert found["trials"] == 1
    assert found["search"]["limits"] == {"trials": 5, "hours": 0}


def test_a_search_ends_with_its_grid_and_failures_count(tmp_path, monkeypatch, capsys):
    # The default, 1e-3, joins the grid.
    space = {"lr": [1e30], "num_layers": [3]}
    monkeypatch.setattr(LightGCN, "search_space", classmethod(lambda cls: space))
    found = search(tmp_path, "--trials", 10, "--epochs", 3)
    assert found["trials"] == 2
    assert found["search"]["whole_grid"]
    assert found["search"]["failed"] == 1
    assert found["settings"]["lr"] == 1e-3
    assert "failed: scores are NaN" in capsys.readouterr().out
