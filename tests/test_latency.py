"""The latency benchmark, run small."""

import json
from pathlib import Path

import latency
import latency_paths
import latency_report
import pytest
import torch
from dense_reference import chain_on_rows, dense_rows
from power_law import power_law_graph
from rich.console import Console

from graphdiff.models import MODELS
from graphdiff.models.base import Query
from graphdiff.models.ld4mrec import reverse_chain
from tests.conftest import make_model, random_data

pytest.importorskip("faiss")
pytest.importorskip("onnxruntime")


def test_the_chain_on_rows_is_the_models_own(monkeypatch):
    model = make_model(MODELS["ld4mrec"], random_data(features={"image": 6})).double().eval()
    torch.nn.init.normal_(model.cnet.blocks[0].outer.weight, std=0.1)
    torch.nn.init.normal_(model.reconstruction.bias)
    rows = model.graph.rows(torch.tensor([3, 0, 11]))
    x_t = dense_rows(rows, model.num_items, torch.float64) + torch.randn(3, 9).double()
    tables = model.cached_tables()
    monkeypatch.setattr(reverse_chain, "corrupted_rows", lambda *_: x_t @ tables.encoder)
    with torch.no_grad():
        expected = model.user_vectors(Query(rows), tables, num_steps=model.process.num_steps)
        found = chain_on_rows(model, rows, x_t)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


FEW = ["--epochs", "0", "--items", "0", "--requests", "2", "--seconds", "0.5", "--threads", "1"]


def test_figures_of_all_paths(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(latency_paths, "BATCH", 16)
    monkeypatch.setattr(latency, "PRECISIONS", ("float32", "int8"))
    threads, out = torch.get_num_threads(), tmp_path / "latency.json"
    try:
        latency.main([*FEW, "--out", str(out)])
    finally:
        torch.set_num_threads(threads)
    (catalogue,) = json.loads(out.read_text())["catalogues"]
    assert catalogue["name"] == "synthetic"
    timed = {(one["model"], one["path"]) for one in catalogue["paths"]}
    assert {model for model, _ in timed} == {"LD4MRec", "LightGCN", "DiffMM", "DiffRec", "none"}
    assert {path for model, path in timed if model == "LD4MRec"} >= {
        "forward-free", "forward-free, index", "forward-free, ONNX", latency_paths.ON_ROWS
    }  # fmt: skip
    # Others are compared with the forward-free pass, with ranking and without.
    assert len(catalogue["ratios"]) == len(timed) - 2
    assert catalogue["skipped"] == []
    for one in catalogue["paths"]:
        assert 0 < one["p50_ms"] <= one["p95_ms"] <= one["p99_ms"]
        assert one["users_per_second"] > 0
    tables = catalogue["tables"]
    assert tables["float32"]["kept"] == 1
    assert tables["int8"]["kept"] > 0.8
    assert tables["int8"]["mib"] < tables["float32"]["mib"]
    assert all(0 <= cost["recall@20"] <= 1 for cost in tables.values())
    assert "forward-free over" in capsys.readouterr().out
    page = (tmp_path / "latency.md").read_text()
    assert "| LightGCN | inner products |" in page
    assert all(target["what"] in page for target in catalogue["targets"])


def test_targets_are_met_or_missed():
    def figures(model, path, p50, rate):
        return {"model": model, "path": path, "p50_ms": p50, "p99_ms": 9 * p50,
                "users_per_second": rate}  # fmt: skip

    paths = [
        figures("LD4MRec", "forward-free", 1.0, 1000),
        figures("LD4MRec", "forward-free, index", 2.0, 2000),
        figures("LD4MRec", latency_paths.ON_ROWS, 6.0, 300),
        figures("DiffRec", latency_paths.ON_ROWS, 60.0, None),
        figures("LightGCN", latency_paths.INNER, 0.5, 1200),
        figures("none", latency_paths.BARE, 0.25, 1300),
    ]
    catalogue = {"items": 500, "index": {"recall": 0.94}, "paths": paths}
    found = [(target.found, target.met) for target in latency_report.targets(catalogue)]
    assert found == [
        (pytest.approx(1000 / 300), False),
        (6, True),
        (60, True),
        (pytest.approx(1000 / 1200), True),
        (0.5, False),
        (9, True),
        (4, True),
        (0.94, False),
    ]
    # On a large catalogue the index answers requests.
    large = latency_report.targets(catalogue | {"items": 10**6})
    assert [target.found for target in large[-3:]] == [18, 8, 0.94]


def test_what_does_not_fit_is_skipped_with_its_reason(monkeypatch):
    monkeypatch.setattr(latency_paths, "BATCH", 16)
    monkeypatch.setattr(latency_paths, "free_memory", lambda device: 2**18)
    model = latency_paths.make("ld4mrec", power_law_graph(400, modalities=True))
    arguments = latency.parse([*FEW, "--out", "none.json"])
    large = latency.measure("power-law", model, arguments, Console())
    assert (large["name"], large["items"]) == ("power-law", 400)
    assert {one["model"] for one in large["paths"]} == {"LD4MRec"}
    assert [one["model"] for one in large["skipped"]] == [
        "LD4MRec, ONNX", "LightGCN", "DiffMM", "DiffRec"
    ]  # fmt: skip
    assert large["skipped"][0]["reason"] == "it needs about 0.0 GiB and 0.0 are free"


def test_rendering_computes_the_same_ratios_and_targets(tmp_path):
    results = Path(__file__).parents[1] / "benchmarks" / "results"
    out = tmp_path / "latency.json"
    out.write_text((results / "latency.json").read_text())
    latency.main(["--render", str(out)])
    assert out.read_text() == (results / "latency.json").read_text()
    assert out.with_suffix(".md").read_text() == (results / "latency.md").read_text()
