from pathlib import Path

import pytest

from graphdiff import LightGCN
from graphdiff.errors import RunError
from graphdiff.experiments import measure
from graphdiff.experiments.measure import summarise


def test_running_out_of_memory_is_an_error_of_its_own(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nmore")

    monkeypatch.setattr(measure, "load_graph", fail)
    with pytest.raises(RunError, match=r"out of memory: DefaultCPUAllocator.*you tried$"):
        measure.measure(Path("graph"), LightGCN, {}, 0)


def test_other_errors_of_a_run_are_passed_on(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(measure, "load_graph", fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        measure.measure(Path("graph"), LightGCN, {}, 0)


def test_cells_are_summarised_by_mean_and_deviation():
    cells = [
        {"seed": 0, "history": [1], "test": {"a": 1.0, "b": 2.0}, "seconds": 1.0},
        {"seed": 1, "history": [2], "test": {"a": 2.0}, "seconds": 1.0},
    ]
    found = summarise(cells)
    assert found["mean"] == {"test": {"a": 1.5}, "seconds": 1.0}
    assert found["std"] == {"test": {"a": pytest.approx(0.5**0.5)}, "seconds": 0.0}
    assert summarise(cells[:1])["std"]["test"] == {"a": 0.0, "b": 0.0}
