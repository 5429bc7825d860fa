"""The latency benchmark, run small."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import latency  # noqa: E402
from dense_reference import chain_on_rows, dense_rows  # noqa: E402

from graphdiff.models import MODELS  # noqa: E402
from graphdiff.models.base import Query  # noqa: E402
from tests.conftest import make_model, random_data  # noqa: E402

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


def test_figures_of_all_paths(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(latency, "BATCH", 16)
    threads = torch.get_num_threads()
    out = tmp_path / "latency.json"
    arguments = ["--epochs", "0", "--items", "400", "--requests", "2", "--seconds", "0.5"]
    try:
        latency.main([*arguments, "--threads", "1", "--out", str(out)])
    finally:
        torch.set_num_threads(threads)
    result = json.loads(out.read_text())
    assert [one["name"] for one in result["catalogues"]] == ["synthetic", "power-law"]
    assert result["catalogues"][1]["items"] == 400
    for catalogue in result["catalogues"]:
        asked = {(one["model"], one["path"]) for one in catalogue["paths"]}
        assert {model for model, _ in asked} == {
            "LD4MRec", "LightGCN", "DiffMM", "DiffRec", "none"
        }  # fmt: skip
        assert {path for model, path in asked if model == "LD4MRec"} >= {
            "forward-free", "forward-free, index", "forward-free, ONNX", latency.ON_ROWS
        }  # fmt: skip
        assert len(catalogue["ratios"]) == len(asked) - 1
        assert catalogue["skipped"] == []
        for one in catalogue["paths"]:
            assert 0 < one["p50_ms"] <= one["p95_ms"] <= one["p99_ms"]
            assert one["users_per_second"] > 0
    tables = result["catalogues"][0]["tables"]
    assert tables["float32"]["kept"] == 1
    assert tables["int8"]["kept"] > 0.8
    assert "forward-free over" in capsys.readouterr().out


def test_what_does_not_fit_is_skipped_with_its_reason(monkeypatch):
    monkeypatch.setattr(latency, "memory", lambda device: 2**20)
    with pytest.raises(latency.DoesNotFitError) as error:
        latency.require("DiffRec", 2**31)
    assert error.value.args[0] == {
        "model": "DiffRec",
        "reason": "it needs about 2.0 GiB and 0.0 are free",
    }
