import json

import pytest

from graphdiff import EASE, Popularity, compare
from graphdiff.errors import ConfigError
from graphdiff.experiments.cells import (
    Cell,
    CellList,
    Graphs,
    check_importable,
    read_results,
    summary,
)
from graphdiff.experiments.execution import Execution
from graphdiff.experiments.protocol import Protocol
from graphdiff.models.base import Recommender
from graphdiff.transforms import InjectNoise
from tests.conftest import random_data

DATA, DEFAULT = random_data(40, 30), Protocol()


def clean():
    return DATA


def noisy():
    return InjectNoise(0.5, "add", 0)(DATA)


def cell(model=EASE, seed=0, graph=clean, **labels):
    return Cell(model, model.configure().model_dump(), seed, graph, labels)


def with_options(model=EASE, seed=0, settings=None, **options):
    settings = {**model.configure().model_dump(), **(settings or {})}
    return Cell(model, settings, seed, clean, {}, options)


def cell_list(out=None, resume=False, protocol=DEFAULT, data=DATA, **execution):
    execution = {"in_process": True, **execution}
    lines = []
    experiment = CellList("data", data, protocol, Execution(out, resume, **execution), lines.append)
    return experiment, lines


def test_each_cell_is_measured_once(tmp_path):
    out = tmp_path / "folder" / "cells.json"
    experiment, lines = cell_list(out)
    experiment.run([cell(), cell(Popularity), cell(graph=noisy, noise=0.5)])
    assert [line for line in lines if not line.startswith(" ")] == [
        "ease, seed 0", "popularity, seed 0", "ease, seed 0, noise 0.5"
    ]  # fmt: skip
    stored = json.loads(out.read_text())
    assert stored["protocol"]["mask_validation"] is False
    assert stored["cells"] == experiment.result["cells"]
    again, lines = cell_list(out, resume=True)
    again.run([cell(), cell(graph=noisy, noise=0.5), cell(seed=1)])
    assert [line for line in lines if not line.startswith(" ")] == ["ease, seed 1"]
    keys = [(one["key"]["model"], one["key"]["seed"]) for one in again.result["cells"]]
    assert keys == [("ease", 0), ("popularity", 0), ("ease", 0), ("ease", 1)]
    assert [one["key"]["seed"] for one in again.requested()] == [0, 0, 1]
    assert summary(again.requested(), model="ease", noise=None)["count"] == 2
    assert summary(again.requested(), model="popularity") is None


def test_a_cell_that_fails_is_kept_with_its_reason(tmp_path):
    experiment, lines = cell_list(tmp_path / "cells.json")
    wrong = Cell(EASE, {"regularization": -1}, 0, clean)
    experiment.run([wrong, cell(Popularity)])
    [skipped] = json.loads((tmp_path / "cells.json").read_text())["skipped"]
    assert skipped["key"] == wrong.key
    assert "regularization=-1" in skipped["reason"]
    assert len(experiment.result["cells"]) == 1
    assert lines[1].startswith("  skipped: ease, seed 0: EASE")


def test_processes_give_the_figures_of_this_process():
    here, _ = cell_list()
    here.run([cell(), cell(graph=noisy, noise=0.5)])
    apart, _ = cell_list(in_process=False, jobs=2, progress=False)
    apart.run([cell(), cell(graph=noisy, noise=0.5)])
    ordered = sorted(apart.result["cells"], key=lambda one: "noise" in one["key"])
    for one, other in zip(here.result["cells"], ordered, strict=True):
        assert one["key"] == other["key"]
        assert one["figures"]["test"] == pytest.approx(other["figures"]["test"])
    for one in apart.result["cells"]:
        # A process of its own starts small, so a training raises its peak.
        assert one["figures"]["peak_memory_bytes"] > one["figures"]["memory_before_bytes"] > 0


def test_results_of_other_data_or_another_protocol_are_not_resumed(tmp_path):
    out = tmp_path / "cells.json"
    cell_list(out)[0].run([cell()])
    with pytest.raises(
        ConfigError,
        match=r"another run: fingerprint of the data .* instead of .*; give another --out",
    ):
        cell_list(out, resume=True, data=noisy())
    with pytest.raises(ConfigError, match=r"another run: epochs \d+ instead of \d+;"):
        cell_list(out, resume=True, protocol=Protocol(epochs=3))
    # The words for what was masked may change; what was done may not.
    stored = json.loads(out.read_text())
    stored["protocol"]["ranking"] = "other words"
    out.write_text(json.dumps(stored))
    assert len(cell_list(out, resume=True)[0].result["cells"]) == 1


def test_results_that_are_not_resumed_are_kept_beside_the_new_ones(tmp_path):
    out = tmp_path / "cells.json"
    cell_list(out)[0].run([cell(), cell(seed=1)])
    before = out.read_text()
    experiment, lines = cell_list(out)
    assert out.read_text() == before
    experiment.run([cell(Popularity)])
    experiment.run([cell()])
    assert (tmp_path / "cells.json.earlier").read_text() == before
    assert len(json.loads(out.read_text())["cells"]) == 2
    assert f"cells.json of an earlier run is kept as {tmp_path / 'cells.json.earlier'}" in lines


def test_no_earlier_results_are_lost(tmp_path):
    out = tmp_path / "cells.json"
    for seed in range(3):
        cell_list(out)[0].run([cell(seed=seed)])
    seeds = {
        path.name: json.loads(path.read_text())["cells"][0]["key"]["seed"]
        for path in tmp_path.iterdir()
    }
    assert seeds == {"cells.json": 2, "cells.json.earlier": 0, "cells.json.earlier-2": 1}


def test_results_of_another_kind_are_not_resumed(tmp_path):
    out = tmp_path / "results.json"
    compare(DATA, "ease", out=out, resume=True)
    with pytest.raises(ConfigError, match="another kind of experiment; give another --out"):
        cell_list(out, resume=True)
    cell_list(tmp_path / "cells.json")[0].run([cell()])
    with pytest.raises(ConfigError, match="another kind of experiment; give another --out"):
        compare(DATA, "ease", out=tmp_path / "cells.json", resume=True)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"test": False}, {}),
        ({}, {"test": False}),
        ({"views": {"a": {}}}, {"views": {"a": {}, "b": {}}}),
        ({"views": {"a": {}, "b": {}}}, {"views": {"a": {}}}),
    ],
)
def test_a_cell_with_other_figures_is_measured_again(tmp_path, first, second):
    out = tmp_path / "cells.json"
    cell_list(out)[0].run([with_options(**first, seed=seed) for seed in (0, 1)])
    experiment, _ = cell_list(out, resume=True)
    # The seed that is not asked for has figures that no mean can include.
    experiment.run([with_options(**second)])
    [one] = experiment.result["cells"]
    assert ("test" in one["figures"]) == second.get("test", True)
    assert set(one["figures"].get("views", ())) == set(second.get("views", ()))
    again, lines = cell_list(out, resume=True)
    again.run([with_options(**second)])
    assert lines == []


def test_cells_of_other_settings_are_removed_whatever_their_seed(tmp_path):
    out = tmp_path / "cells.json"
    before = [with_options(seed=seed, settings={"regularization": 5.0}) for seed in (0, 1)]
    cell_list(out)[0].run([*before, cell(noise=0.5), cell(Popularity)])
    experiment, _ = cell_list(out, resume=True)
    experiment.run([with_options()])
    keys = [one["key"] for one in experiment.result["cells"]]
    assert [(key["model"], "noise" in key, key["seed"]) for key in keys] == [
        ("ease", True, 0), ("popularity", False, 0), ("ease", False, 0)
    ]  # fmt: skip
    # Two settings that are asked for at once stay.
    experiment.run([*before, with_options()])
    assert len(experiment.result["cells"]) == 5


def test_results_of_another_machine_are_marked(tmp_path):
    out = tmp_path / "cells.json"
    cell_list(out)[0].run([cell()])
    stored = json.loads(out.read_text())
    stored["machine"]["processor"] = "another"
    out.write_text(json.dumps(stored))
    [other] = cell_list(out, resume=True)[0].result["earlier_machines"]
    assert other["processor"] == "another"


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"dataset": 3}'])
def test_a_file_that_holds_no_results_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ConfigError, match="JSON of an experiment"):
        read_results(tmp_path / "x.json")


def test_graphs_are_written_once_and_removed_when_read():
    made = []

    def graph():
        made.append(1)
        return DATA

    with Graphs() as graphs:
        first, second = graphs.file(cell(graph=graph)), graphs.file(cell(seed=1, graph=graph))
        assert (first, len(made)) == (second, 1)
        graphs.release(first)
        other = graphs.file(cell(graph=noisy))
        assert first.exists()
        graphs.release(second)
        assert not first.exists()
        graphs.release(other)
        assert other.exists()  # The next cell may read it.
    assert not other.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"jobs": 0}, "at least one training has to run"),
        ({"jobs": 2, "in_process": True}, "one process trains one model at a time"),
        ({"resume": True}, "nothing to resume"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Execution(**arguments)


def test_a_class_that_processes_cannot_import_is_refused():
    class _Local(EASE):
        """A model of this function."""

    check_importable(EASE)
    with pytest.raises(ConfigError, match="define it at the top level of a module"):
        check_importable(_Local)
    assert issubclass(_Local, Recommender)
