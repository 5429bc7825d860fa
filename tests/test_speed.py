"""The benchmarks of speed and of operators, at a small size."""

import json
from pathlib import Path

import count_operators
import pytest
import speed
import torch

from graphdiff.errors import ConfigError

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
SMALL = ["--dataset", "synthetic", "--dataset-options", "num_users=80", "num_items=60"]


def test_models_are_measured_and_the_page_is_written(tmp_path):
    out, page = tmp_path / "speed.json", tmp_path / "speed.md"
    models = ["--models", "ld4mrec", "popularity", "--set", "ld4mrec.hidden_channels=8"]
    options = [*SMALL, *models, "--repeats", "2", "--epochs", "3", "--out", str(out)]
    speed.main(options)
    result = json.loads(out.read_text())
    ours = result["models"]["ld4mrec"]
    assert ours["settings"] == {"hidden_channels": 8}
    assert [run["seed"] for run in ours["runs"]] == [0, 1]
    for run in ours["runs"]:
        assert run["steps_per_epoch"] == 1
        seconds = [row["seconds"] for row in run["curve"]]
        assert seconds == sorted(seconds)
        assert 0 < seconds[0] < seconds[-1] <= run["seconds"]
        assert [row["epoch"] for row in run["curve"]] == [1, 2, 3]
    assert result["models"]["popularity"]["epochs"] == 1
    speed.main(["--render", str(out), "--markdown", str(page)])
    assert f"| ld4mrec | {ours['recall@20']:.4f} |" in page.read_text()


def curve(*values):
    return {
        "curve": [{"epoch": n, "recall@20": v, "seconds": 10.0 * n} for n, v in enumerate(values)]
    }


def test_the_seconds_until_another_model_is_passed():
    models = {
        "slow": {"runs": [curve(0.1, 0.2, 0.3), curve(0.1, 0.3, 0.2), curve(0.0, 0.0, 0.1)]},
        "fast": {"runs": [curve(0.2)]},
    }
    for model in models.values():
        model["recall@20"] = sorted(speed.best(run)["recall@20"] for run in model["runs"])[
            len(model["runs"]) // 2
        ]
    assert speed.passes(models) == {"slow": {"fast": 10.0}, "fast": {"slow": None}}


def test_settings_are_those_of_the_model():
    given = ["ld4mrec.num_heads=2", "lightgcn.lr=0.1"]
    assert speed.settings_of("ld4mrec", given) == {"num_heads": 2}
    with pytest.raises(ConfigError, match="give MODEL"):
        speed.settings_of("ld4mrec", ["num_heads"])


def test_the_models_of_implicit_are_ranked_like_others():
    pytest.importorskip("implicit")
    from graphdiff.datasets import SyntheticMultimedia

    data = SyntheticMultimedia(num_users=80, num_items=60)[0]
    for name in speed.IMPLICIT:
        run = speed.measure(data, name, {}, 0, 1, {})
        assert len(run["curve"]) == 1
        assert 0 < run["curve"][0]["recall@20"] < 1


def test_operators_are_counted():
    table, index = torch.randn(10, 4), torch.arange(3)

    def step(batch):
        return (table.t().reshape(4, 10) @ table).sum() + table[index].sum()

    counts = count_operators.count_step(step, [index, index])
    # The product, two sums, an index and an addition; views launch no kernel.
    assert counts["computing"] == 5
    assert counts["called"] == counts["computing"] + 2
    assert counts["dispatched"] > counts["called"]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("speed-*.json")), ids=lambda path: path.stem)
def test_committed_pages_of_speed_are_those_of_their_json(path):
    assert path.with_suffix(".md").read_text() == speed.render(json.loads(path.read_text()))
