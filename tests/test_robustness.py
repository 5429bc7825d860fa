"""The benchmarks of noise and of LD4MRec's parts, run small."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import ablation
import denoising
import robustness

from graphdiff.experiments import cells
from graphdiff.models.config import flat_settings

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
TINY = ["--dataset", "synthetic", "--dataset-options", "num_users=60", "num_items=50", "--quiet"]


@pytest.fixture
def measured(monkeypatch):
    """Train in this process; return the models and seeds that were trained."""
    found = []

    def here(function, graph, model, settings, seed, **options):
        found.append((model, seed))
        return function(graph, model, settings, seed, **options)

    monkeypatch.setattr(cells, "in_own_process", here)
    return found


def test_robustness_measures_each_level_once(tmp_path, measured):
    out, page = tmp_path / "r.json", tmp_path / "r.md"
    given = [*TINY, "--out", str(out), "--markdown", str(page), "--models", "ease", "popularity"]
    robustness.main([*given, "--noise", "0", "0.5"])
    result = json.loads(out.read_text())
    assert len(measured) == len(result["cells"]) == 4
    ease = [one for one in result["levels"] if one["model"] == "ease"]
    assert [one["noise"] for one in ease] == [0, 0.5]
    assert ease[0]["relative_loss"]["recall@20"] == 0
    clean, noisy = (one["test"]["recall@20"] for one in ease)
    assert ease[1]["relative_loss"]["recall@20"] == pytest.approx(1 - noisy / clean)
    assert 0 <= ease[1]["noise_auc"] <= 1
    assert out.with_suffix(".svg").read_text().lstrip().startswith("<?xml")
    assert "| ease | 0.5 |" in page.read_text()
    robustness.main([*given, "--noise", "0", "0.5", "0.8", "--resume"])
    assert len(measured) == 6
    with pytest.raises(SystemExit, match="fingerprint of the data"):
        robustness.main([*given, "--resume", "--dataset-options", "num_users=61"])


def test_denoising_ranks_models_by_unseen_interactions(tmp_path, measured):
    out, page = tmp_path / "d.json", tmp_path / "d.md"
    given = [*TINY, "--out", str(out), "--markdown", str(page), "--models", "ease", "popularity"]
    denoising.main([*given, "--noise", "0.3", "--folds", "3"])
    best, worst = json.loads(out.read_text())["models"]
    assert len(measured) == 2
    assert best["cross_fitted"]["auc"] >= worst["cross_fitted"]["auc"]
    assert best["cross_fitted"]["auc"] != best["noise"]["auc"]
    for one in (best, worst):
        row = (
            f"| {one['model']} | {one['noise']['auc']:.3f} | {one['noise']['auc_within_users']:.3f}"
        )
        assert f"{row} | {one['cross_fitted']['auc']:.3f} |" in page.read_text()
    denoising.main([*given, "--noise", "0.3", "--folds", "3", "--resume"])
    assert len(measured) == 2


def test_ablation_measures_each_variant(tmp_path, measured):
    out, page = tmp_path / "a.json", tmp_path / "a.md"
    chosen = ["whole", "no diffusion", "multi-step chain", "image alone"]
    given = [*TINY, "--out", str(out), "--markdown", str(page), "--epochs", "3"]
    # So many users that noise changes their recall.
    given += ["--dataset-options", "num_users=200", "num_items=80"]
    ablation.main([*given, "--variants", *chosen])
    figures = {
        cell["key"]["variant"]: cell["figures"] for cell in json.loads(out.read_text())["cells"]
    }
    assert list(figures) == chosen
    # The same training, another inference.
    assert figures["whole"]["history"] == figures["multi-step chain"]["history"]
    assert figures["whole"]["parameters"] > figures["image alone"]["parameters"]
    assert all(f"| {name} |" in page.read_text() for name in chosen)
    ablation.main([*given, "--variants", "whole", "--resume"])
    assert len(measured) == len(chosen)
    ablation.main([*given, "--variants", "whole", "--resume", "--noise", "0.5"])
    clean, *_, noisy = json.loads(out.read_text())["cells"]
    assert len(measured) == len(chosen) + 1
    assert noisy["key"] == {**clean["key"], "noise": 0.5}
    assert clean["figures"]["history"] != noisy["figures"]["history"]
    before, after = (cell["figures"]["val"]["recall@20"] for cell in (clean, noisy))
    assert before != after
    assert f"| {after:.4f} ({after / before - 1:+.1%}) |" in page.read_text()


def test_every_variant_is_a_setting_of_the_model():
    known = ablation.variants(["image", "text"], 20)
    assert {"image alone", "text alone"} <= set(known)
    optional = {
        "objective.soft_probability": 0.1,
        "diffusion.importance_sampling": True,
        "gated": True,
    }
    least = flat_settings(ablation.LD4MRec.configure())
    whole = flat_settings(ablation.LD4MRec.configure(**optional))
    for name, variant in known.items():
        settings = {**whole, **variant.settings}
        assert settings == flat_settings(ablation.LD4MRec.configure(**settings))
        changes = variant.changes(least) or variant.changes(whole)
        assert changes == (name != "whole")
    # A part that is off by default is no variant of the default.
    for name in ("no softening", "uniform steps", "no gate"):
        assert not known[name].changes(least)


PAGES = {
    "ablation": ablation.page, "denoising": denoising.page, "robustness": robustness.page
}  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [one for name in PAGES for one in sorted(RESULTS.glob(f"{name}-*.json"))],
    ids=lambda path: path.stem,
)
def test_committed_pages_are_those_of_their_json(path):
    page = PAGES[path.stem.split("-")[0]](json.loads(path.read_text()))
    assert page == path.with_suffix(".md").read_text()
