"""Errors that can be known beforehand are raised before the first training step."""

import math

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphdiff import EASE, LightGCN, evaluate, fit
from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError
from graphdiff.evaluation.ranking import rank
from graphdiff.models import MODELS
from graphdiff.models.ld4mrec.sizes import LONG_ROWS
from graphdiff.runs import read_run, resume_run, train_run
from graphdiff.schema import INTERACTS
from graphdiff.training.config import RunConfig, TrainingConfig, run_config
from tests.conftest import make_model, random_data

SIZES = {"num_users": 40, "num_items": 30, "features": {"image": 6, "text": 5}}
BAD_SETTINGS = {
    "epochs": [0, -1, 1.5, "3", True, None],
    "patience": [0, 2.0, "many"],
    "min_steps": [-1, 1.5],
    "max_minutes": [0, -1, math.inf, math.nan, "3"],
    "eval_every": [0, 501],
    "monitor": ["recall@7", "loss", "", 3],
    "seed": [-1, 1.0, "3", True],
    "accelerator": ["", None],
    "precision": ["bf16-true", "16-true", "16-mixed", "7", 32],
    "speed": [3],
}
BAD = [(name, value) for name, values in BAD_SETTINGS.items() for value in values]


@pytest.fixture
def no_step(monkeypatch):
    """Fail at the first step of a training or at solving a model."""

    def step(self, *arguments):
        raise AssertionError("a training step was made")

    monkeypatch.setattr(LightGCN, "loss", step)
    monkeypatch.setattr(LightGCN, "reset_parameters", step)
    monkeypatch.setattr(EASE, "solve", step)


@pytest.mark.parametrize(("name", "value"), BAD)
@pytest.mark.parametrize("model_class", [LightGCN, EASE])
def test_kind_h_settings_that_do_not_fit(model_class, name, value, monkeypatch, request):
    data = random_data(**SIZES)
    model = model_class.from_data(data)
    request.getfixturevalue("no_step")
    with pytest.raises(ConfigError, match=name) as error:
        fit(model, data, progress=False, **{name: value})
    assert "\n" not in str(error.value)


def test_kind_h_numbers_of_numpy_are_numbers():
    data = random_data(**SIZES)
    model = LightGCN.from_data(data, hidden_channels=8)
    found = fit(model, data, epochs=np.int64(2), patience=np.int32(3), progress=False)
    assert found.epochs == 2


def run_of(ratios_of=None, **training):
    data = {"num_users": 60, "num_items": 40}
    return run_config(
        {
            "model": {"name": "lightgcn", "settings": {"hidden_channels": 8}},
            "dataset": {"name": "synthetic", "options": data},
            "training": {"epochs": 2, "accelerator": "cpu", **training},
        }
    )


@pytest.mark.parametrize(
    ("split", "error", "message"),
    [
        ("validation", ConfigError, "fit needs validation pairs"),
        ("test", DataError, "no test pairs to evaluate on"),
    ],
)
def test_kind_h_splits_without_pairs(split, error, message, tmp_path, no_step, monkeypatch):
    lines = [f"{user},{(user * 7 + n * 3) % 30},{n}" for user in range(30) for n in range(8)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,timestamp", *lines]))
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    ratios = [0.9, 0.1, 0] if split == "test" else [0.9, 0, 0.1]
    config = run_config(
        {
            "model": {"name": "lightgcn"},
            "dataset": {
                "name": "csv",
                "root": str(tmp_path),
                "options": {"split": "ratio", "ratios": ratios},
            },
        }
    )
    with pytest.raises(error, match=message):
        train_run(tmp_path / "run", config, progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"monitor": "recall@7"}}, "no metric 'recall@7'"),
        ({"model": {"name": "lightgcn", "settings": {"depth": 3}}}, "no setting 'depth'"),
        ({"model": {"name": "lightgcn", "settings": {"lr": -1}}}, "lr=-1"),
        ({"model": {"name": "nope"}}, "no model 'nope'"),
    ],
)
def test_kind_h_settings_are_checked_before_the_dataset_is_read(
    sections, message, tmp_path, monkeypatch
):
    def load(*arguments, **options):
        raise AssertionError("the dataset was read")

    monkeypatch.setattr("graphdiff.runs.datasets.load", load)
    with pytest.raises(ConfigError, match=message):
        train_run(tmp_path / "run", run_config(sections), progress=False)


def test_kind_h_a_resumed_run_is_checked_too(tmp_path, no_step):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(run_of().model_dump(mode="json")))
    with pytest.raises(ConfigError, match="epochs is 0; give at least 1"):
        resume_run(tmp_path, epochs=0)
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump(run_of(monitor="recall@7").model_dump(mode="json"))
    )
    with pytest.raises(GraphDiffError, match="no metric 'recall@7'"):
        resume_run(tmp_path)


def test_kind_h_eval_every_beyond_the_last_epoch():
    message = "eval_every=3 is more than epochs=2; give a smaller eval_every or more epochs"
    with pytest.raises(ConfigError, match=message):
        run_of(eval_every=3)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_kind_h_every_offered_precision_works_for_every_model(name, precision, tmp_path):
    # Rows are long enough for LD4MRec's linear path.
    data = random_data(**{**SIZES, "num_items": 80})
    num = data[INTERACTS].edge_index.size(1)
    assert num >= LONG_ROWS * SIZES["num_users"]
    data[INTERACTS].time = torch.arange(num)
    model_class = MODELS[name]
    small = "hidden_channels" in model_class.Config.model_fields
    model = model_class.from_data(data, **({"hidden_channels": 8} if small else {}))
    arguments = {"progress": False, "accelerator": "cpu", "out": tmp_path}
    found = fit(model, data, epochs=2, precision=precision, **arguments)
    assert all(math.isfinite(row["loss"]) for row in found.history)
    assert rank(model, data, "val").mean() == pytest.approx(found.val)
    item, score = model.recommend([0, 7], k=5)
    assert item.min() >= 0
    assert score.isfinite().all()
    # It reloads, and a resumed training continues, in the same precision.
    again = model_class.from_pretrained(tmp_path)
    assert [p.dtype for p in again.parameters()] == [p.dtype for p in model.parameters()]
    torch.testing.assert_close(again.recommend([0, 7], k=5)[1], score)
    again = fit(
        model_class.from_data(data, **({"hidden_channels": 8} if small else {})),
        data, epochs=3, precision=precision, resume=True, **arguments,
    )  # fmt: skip
    assert again.epochs == (1 if model_class.batch_over == "nothing" else 3)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_kind_h_requests_under_autocast(name):
    data = random_data(**SIZES)
    model = make_model(MODELS[name], data).eval()
    answers = [model.recommend([0, 7], k=5), model.interaction_scores()]
    metrics = evaluate(model, data, "val")
    model.invalidate_tables()
    model.graph.clear_cache()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = [model.recommend([0, 7], k=5), model.interaction_scores()]
        assert evaluate(model, data, "val") == metrics
    for (_, score), (_, expected) in zip(again, answers, strict=True):
        assert torch.equal(score, expected)


SECTIONS = {name: list(f.annotation.model_fields) for name, f in RunConfig.model_fields.items()}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    section=st.sampled_from(sorted(SECTIONS)),
    name=st.text("abcdefg_", min_size=1, max_size=8),
    value=st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
)
def test_kind_h_unknown_keys_of_a_run_are_named(section, name, value, tmp_path):
    config = run_of().model_dump(mode="json")
    if name in config[section]:
        return
    config[section][name] = value
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(RunError) as error:
        read_run(tmp_path)
    assert f"no setting '{section}.{name}'; there are" in str(error.value)
    assert all(known in str(error.value) for known in SECTIONS[section])


@pytest.mark.parametrize(("name", "value"), BAD)
def test_kind_h_unfit_values_of_a_run_are_refused(name, value, tmp_path):
    config = run_of().model_dump(mode="json")
    config["training"][name] = value
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(GraphDiffError, match=name if name != "monitor" else "monitor"):
        resume_run(tmp_path, progress=False)


def test_a_run_configuration_is_its_yaml():
    config = run_of(seed=2**64, epochs=7)
    text = yaml.safe_dump(config.model_dump(mode="json"))
    assert run_config(yaml.safe_load(text)) == config
    for section in RunConfig.model_fields.values():
        for field in section.annotation.model_fields.values():
            assert field.description.endswith(".")
    assert set(TrainingConfig.model_fields) == set(SECTIONS["training"])
