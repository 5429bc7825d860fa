"""The benchmarks of diffusion processes, run small."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import giffcf_anatomy
import processes

from graphdiff.datasets import SyntheticMultimedia
from graphdiff.evaluation.ranking import rank
from graphdiff.experiments import cells
from graphdiff.experiments.evidence import UserValues
from graphdiff.models import GiffCF
from graphdiff.training.fit import fit

TINY = ["--dataset", "synthetic", "--dataset-options", "num_users=80", "num_items=60"]
SMALL = [
    "--epochs",
    "2",
    "--eval-every",
    "1",
    "--seeds",
    "2",
    "--settings",
    "hidden_channels=8",
    "--quiet",
]
PLAIN, MASKING = "no process, 50% hidden", "masking, mean 50%"


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    """Train in this process."""
    monkeypatch.setattr(
        cells, "in_own_process", lambda function, *args, **kwargs: function(*args, **kwargs)
    )


def run(out, *more):
    processes.main([*TINY, *SMALL, "--variants", "masking, mean 50%", "--out", str(out), *more])
    return json.loads(out.read_text())


def test_a_process_is_measured_beside_its_control_and_resumed(tmp_path, capsys, monkeypatch):
    out, markdown = tmp_path / "a.json", tmp_path / "a.md"
    found = run(out, "--markdown", str(markdown))
    assert [cell["key"]["variant"] for cell in found["cells"]] == 2 * [PLAIN, MASKING]
    assert all("test" not in cell["figures"] for cell in found["cells"])
    gains = {(one["variant"], one["view"]): one for one in found["gains"]}
    assert set(gains) == {(name, view) for name in (PLAIN, MASKING) for view in VIEWS}
    recall = gains[MASKING, "one pass"]["recall@20"]
    means = {
        name: sum(
            cell["figures"]["views"]["one pass"]["recall@20"]
            for cell in found["cells"]
            if cell["key"]["variant"] == name
        )
        / 2
        for name in (PLAIN, MASKING)
    }
    assert recall["mean"] == pytest.approx(means[MASKING])
    assert recall["gain"] == pytest.approx(means[MASKING] / means[PLAIN] - 1)
    low, high = recall["interval"]
    assert low <= recall["gain"] <= high
    # Nothing is trained again, and nothing changes.
    monkeypatch.setattr(cells, "measure", None)
    assert run(out, "--resume")["gains"] == found["gains"]
    again = tmp_path / "b.md"
    processes.main(["--render", str(out), str(out), "--markdown", str(again)])
    table = [line for line in again.read_text().splitlines() if line.startswith("| masking")]
    assert len(table) == 2
    assert table[0].count(f"{recall['gain']:+.1%}") >= 2
    assert "A verdict takes 3 datasets" in again.read_text()
    assert f"figures: {out}" in capsys.readouterr().out


def test_what_is_not_resumed_is_kept_with_the_values_per_user(tmp_path):
    run(tmp_path / "a.json")
    kept = [tmp_path / name for name in ("a.json", "a.users.safetensors")]
    before = [path.read_bytes() for path in kept]
    run(tmp_path / "a.json")
    assert [path.with_name(f"{path.name}.earlier").read_bytes() for path in kept] == before


VIEWS = ("one pass", "5 passes")


def test_seeds_of_another_machine_count_in_means_but_not_in_intervals(tmp_path):
    out = tmp_path / "a.json"
    run(out)
    UserValues.path_beside(out).unlink()
    with pytest.raises(SystemExit, match="does not hold the users"):
        run(out, "--resume")
    found = run(out, "--resume", "--seeds", "3", "--markdown", str(tmp_path / "a.md"))
    gain = next(one for one in found["gains"] if one["variant"] == MASKING)
    assert (gain["seeds"], gain["interval_seeds"]) == (3, 1)
    recalls = [
        {
            cell["key"]["seed"]: cell["figures"]["views"]["one pass"]["recall@20"]
            for cell in found["cells"]
            if cell["key"]["variant"] == name
        }
        for name in (PLAIN, MASKING)
    ]
    assert gain["recall@20"]["mean"] == pytest.approx(sum(recalls[1].values()) / 3)
    base, own = (sum(one.values()) for one in recalls)
    assert gain["recall@20"]["gain"] == pytest.approx(own / base - 1)
    low, high = gain["recall@20"]["interval"]
    assert low <= gain["recall@20"]["gain"] <= high
    assert "3 (1 in intervals)" in (tmp_path / "a.md").read_text()


def test_every_variant_changes_settings_and_has_a_known_control():
    known = processes.variants(0.5, content=True)
    settings = [json.dumps(variant.settings, sort_keys=True) for variant in known.values()]
    assert len(set(settings)) == len(known)
    seen = set()
    for name, variant in known.items():
        assert variant.control is None or variant.control in seen
        seen.add(name)
    assert not any("content" in name for name in processes.variants(0.5, content=False))


def test_an_unknown_variant_is_named_in_one_line(tmp_path):
    with pytest.raises(SystemExit) as stop:
        processes.main([*TINY, "--variants", "nope", "--out", str(tmp_path / "a.json")])
    assert stop.value.code.startswith("processes.py: no variant nope; there are no process")


@pytest.fixture(scope="module")
def giffcf(tmp_path_factory):
    data = SyntheticMultimedia(num_users=80, num_items=60)[0]
    model = GiffCF.from_data(data, hidden_channels=8)
    fit(model, data, epochs=2, seed=0, progress=False, accelerator="cpu")
    folder = tmp_path_factory.mktemp("giffcf")
    model.save_pretrained(folder)
    return model, data, folder


def test_the_anatomy_of_giffcf_agrees_with_the_model(giffcf, tmp_path, capsys):
    model, data, folder = giffcf
    out, page = tmp_path / "a.json", tmp_path / "a.md"
    giffcf_anatomy.main(
        [*TINY, "--run", str(folder), "--test", "--out", str(out), "--markdown", str(page)]
    )
    found = json.loads(out.read_text())["variants"]
    assert set(found) == set(giffcf_anatomy.VARIANTS)
    for split in ("val", "test"):
        expected = rank(model, data, split, (10, 20)).mean()
        assert found["its chain"][split] == pytest.approx(expected)
    assert page.read_text().count("|\n") == len(found) + 2
    assert "test" in page.read_text().splitlines()[2]
    assert f"figures: {out}" in capsys.readouterr().out


def test_each_variant_removes_what_it_names(giffcf):
    model, _, _ = giffcf
    rows = model.graph.rows(torch.arange(5))
    x = rows.dense(model.num_items)
    t, smoothed = torch.full((5,), 3), model.smooth(x)
    query = giffcf_anatomy.Query(rows)
    zero = torch.zeros_like(x)
    expected = {
        "one step, z smoothed": (x + 1.5 * (smoothed - x), smoothed),
        "one step, z = x (forward-free)": (x, smoothed),
        "one step, z = 0 (diffused state removed)": (zero, smoothed),
        "graph score Ac removed": (x + 1.5 * (smoothed - x), zero),
    }
    with torch.no_grad():
        for name, (z, score) in expected.items():
            found = giffcf_anatomy.VARIANTS[name](model, query)
            torch.testing.assert_close(found, model.denoise(z, x, score, t))
        alone = giffcf_anatomy.VARIANTS["graph score Ac alone"](model, query)
        torch.testing.assert_close(alone, smoothed)


def test_weights_of_other_data_are_refused(giffcf, tmp_path):
    with pytest.raises(SystemExit) as stop:
        giffcf_anatomy.main(
            ["--dataset", "synthetic", "--run", str(giffcf[2]), "--out", str(tmp_path / "a.json")]
        )
    assert "trained on other interactions" in stop.value.code
