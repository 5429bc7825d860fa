"""The measurement of logs larger than memory, on a small log and in this process."""

import json

import pytest

out_of_core = pytest.importorskip("out_of_core")
pytest.importorskip("polars")


def test_all_phases(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(out_of_core, "ROWS", 3000)
    monkeypatch.setattr(out_of_core, "BATCH", 100)
    monkeypatch.setattr("graphdiff.graph.streamed_messages.STREAMED", 1)

    def in_process(arguments, phase):
        arguments.phase = phase
        return json.loads(json.dumps(out_of_core.run_phase(arguments)))

    monkeypatch.setattr(out_of_core, "in_process", in_process)
    out, work = tmp_path / "out.json", tmp_path / "work"
    out_of_core.main(
        [
            *("--interactions=8000", "--items=300", "--users=400", "--dim=8"),
            *("--held-out-users=20", f"--work={work}", f"--out={out}"),
        ]
    )
    result = json.loads(out.read_text())
    assert list(result["phases"]) == ["generate", "convert", "open", "train", "evaluate"]
    assert result["phases"]["convert"]["items"] == 300
    assert len(result["phases"]["train"]["losses"]) == 3
    assert 0 <= result["phases"]["evaluate"]["metrics"]["recall@20"] <= 1
    assert result["phases"]["evaluate"]["users"] <= 20
    assert "| convert |" in out.with_suffix(".md").read_text()
    assert not work.exists()
