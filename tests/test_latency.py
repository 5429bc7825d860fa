"""The latency benchmark, run small."""

import json

import latency
import pytest
import torch
from dense_reference import chain_on_rows, dense_rows

from graphdiff.models import MODELS
from graphdiff.models.base import Query
from tests.conftest import make_model, random_data

pytest.importorskip("faiss")
pytest.importorskip("onnxruntime")


def test_the_chain_on_rows_is_the_models_own(monkeypatch):
    model = make_model(MODELS["ld4mrec"], random_data(features={"image": 6})).double().eval()
    torch.nn.init.normal_(model.cnet.blocks[0].outer.weight, std=0.1)
    torch.nn.init.normal_(model.reconstruction_bias)
    rows = model.graph.rows(torch.tensor([3, 0, 11]))
    x_t = dense_rows(rows, model.num_items, torch.float64) + torch.randn(3, 9).double()
    tables = model._valid_tables()
    monkeypatch.setattr(model, "_diffuse", lambda *_: x_t @ tables.encoder)
    with torch.no_grad():
        expected = model.vectors(Query(rows), tables, num_steps=model.config.num_steps)
        found = chain_on_rows(model, rows, x_t)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def run(out, *arguments):
    """The figures that the command writes."""
    threads = torch.get_num_threads()
    few = ["--epochs", "0", "--requests", "2", "--seconds", "0.5", "--threads", "1"]
    try:
        latency.main([*few, *arguments, "--out", str(out)])
    finally:
        torch.set_num_threads(threads)
    return json.loads(out.read_text())


def test_figures_of_all_paths(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(latency, "BATCH", 16)
    result = run(tmp_path / "latency.json", "--items", "0")
    (catalogue,) = result["catalogues"]
    assert catalogue["name"] == "synthetic"
    asked = {(one["model"], one["path"]) for one in catalogue["paths"]}
    assert {model for model, _ in asked} == {"LD4MRec", "LightGCN", "DiffMM", "DiffRec", "none"}
    assert {path for model, path in asked if model == "LD4MRec"} >= {
        "forward-free", "forward-free, index", "forward-free, ONNX", latency.ON_ROWS
    }  # fmt: skip
    # With ranking and without, the forward-free pass is what others are compared with.
    assert len(catalogue["ratios"]) == len(asked) - 2
    assert catalogue["skipped"] == []
    for one in catalogue["paths"]:
        assert 0 < one["p50_ms"] <= one["p95_ms"] <= one["p99_ms"]
        assert one["users_per_second"] > 0
    tables = catalogue["tables"]
    assert tables["float32"]["kept"] == 1
    assert tables["int8"]["kept"] > 0.8
    assert "forward-free over" in capsys.readouterr().out


def test_what_does_not_fit_is_skipped_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "BATCH", 16)
    monkeypatch.setattr(latency, "memory", lambda device: 2**18)
    result = run(tmp_path / "latency.json", "--items", "400")
    large = result["catalogues"][1]
    assert (large["name"], large["items"]) == ("power-law", 400)
    assert {one["model"] for one in large["paths"]} == {"LD4MRec"}
    assert [one["model"] for one in large["skipped"]] == [
        "LD4MRec, ONNX", "LightGCN", "DiffMM", "DiffRec"
    ]  # fmt: skip
    assert large["skipped"][0]["reason"] == "it needs about 0.0 GiB and 0.0 are free"
