"""The scaling benchmark at a small size."""

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest
import scaling
import scaling_report
import scaling_step
import torch
from power_law import power_law_graph
from roofline import Rates, Work, step_work
from scaling_step import Size
from torch.utils._python_dispatch import TorchDispatchMode

from graphdiff import LD4MRec

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
SMALL = Size(items=400, batch=32, dim=8)


def test_both_steps_are_measured_and_equal():
    sparse = scaling_step.measure("sparse", SMALL, repeats=1)
    assert sparse["step_seconds"] > 0
    assert sparse["step_seconds_with_propagation"] > sparse["step_seconds"]
    assert sparse["over_floor"] > 0
    dense = scaling_step.measure("dense", SMALL, repeats=1, compare=True)
    assert dense["peak_rss_bytes"] > 2**20


def test_a_different_dense_step_is_detected(monkeypatch):
    def other(*given):
        return 1.01 * scaling_losses(*given)

    scaling_losses = scaling_step.dense_losses
    monkeypatch.setattr(scaling_step, "dense_losses", other)
    with pytest.raises(AssertionError):
        scaling_step.measure("dense", SMALL, repeats=1, compare=True)


def test_what_would_not_fit_is_skipped_with_a_reason():
    reason = scaling.does_not_fit("dense", Size(10**9, 1024, 64), "cpu")
    assert re.search(r"about \d+ GiB, more than four fifths of the \d+ that are free", reason)
    assert scaling.does_not_fit("sparse", Size(10**9, 1024, 64), "cpu") is None
    assert scaling.does_not_fit("dense", Size(1000, 32, 64), "cpu") is None


def test_the_slope_is_that_of_the_logarithms():
    sizes = [{"items": n, "sparse_step_seconds": 3 * n**0.7} for n in (10, 100, 1000)]
    assert math.isclose(scaling_report.slope(sizes), 0.7)
    assert scaling_report.slope(sizes[:1]) is None


#: Matrix products: positions of the factors among the arguments.
FACTORS = {"mm": 0, "bmm": 0, "mv": 0, "addmm": 1, "baddbmm": 1, "addmv": 1}


class CountProducts(TorchDispatchMode):
    """Counts the floating-point operations of matrix products."""

    def __init__(self):
        super().__init__()
        self.flops = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1].rstrip("_")
        if (first := FACTORS.get(name)) is not None:
            a, b = args[first : first + 2]
            self.flops[name] += 2 * a.numel() * (b.size(-1) if b.dim() > 1 else 1)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("size", [Size(400, 64, 16), Size(3000, 32, 32)])
def test_the_floor_counts_the_products_that_the_step_does(size):
    model = scaling_step.make_model("sparse", size)
    generator = torch.Generator().manual_seed(0)
    step, batch = scaling_step.make_step("sparse", model, generator), torch.arange(size.batch)
    step(batch)  # Propagates, which the next steps do not.
    with CountProducts() as products:
        step(batch)
    counted = step_work(model, size.batch).flops
    # The rest are products of weights of modalities, for single users.
    assert counted == pytest.approx(products.flops.total(), rel=0.01)
    assert counted <= products.flops.total()


def test_the_floor_follows_the_settings():
    def work(**settings):
        model = LD4MRec(LD4MRec.configure(hidden_channels=16, num_heads=2, **settings), graph)
        return step_work(model, 64)

    graph = power_law_graph(100, modalities=True)
    plain = work(ema_decay=0.9)
    assert work(ema_decay=0).traffic_bytes == plain.traffic_bytes * 12 // 15
    fewer = work(ema_decay=0.9, **{"objective.num_negatives": 1024})
    assert plain.flops - fewer.flops == 2 * 64 * 1024 * (3 * 16 + 2)
    assert Rates(10.0, 5.0).seconds(Work(20, 30)) == 8


@pytest.mark.parametrize("name", ["scaling-cpu", "scaling-cpu-256", "scaling-cuda"])
def test_committed_pages_are_those_of_their_json(name):
    result = json.loads((RESULTS / f"{name}.json").read_text())
    committed = {"scaling-cpu": "scaling"}.get(name, name)
    page = (RESULTS / f"{committed}.md").read_text()
    assert page.startswith(scaling_report.page(result, None).rstrip("\n"))
    assert ("The formula of the floor has changed" in page) == (name == "scaling-cuda")
    assert ("asserted to be equal" in page) == (name != "scaling-cpu-256")
