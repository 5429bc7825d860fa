import pytest
import torch
import yaml

from graphdiff import LightGCN, datasets
from graphdiff.errors import ConfigError, RunError
from graphdiff.experiments import tune as tuning
from graphdiff.experiments.budgets import budget
from graphdiff.experiments.protocol import Protocol
from graphdiff.experiments.terms import fingerprints, terms
from graphdiff.experiments.tune import Budget, tune
from graphdiff.experiments.tuned import tuning_record
from graphdiff.models import find_model
from graphdiff.models.ld4mrec.presets import PAPER
from graphdiff.schema import INTERACTS, fingerprint
from tests.conftest import random_data

optuna = pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def data():
    return datasets.load("synthetic", num_users=80, num_items=60)[0]


@pytest.fixture
def here(monkeypatch):
    """Measure in this process."""
    monkeypatch.setattr(
        tuning, "in_own_process", lambda function, *args, **kwargs: function(*args, **kwargs)
    )


@pytest.fixture
def search(data, tmp_path):
    """A function that runs a search: it returns the result, and keeps the lines reported."""

    def run(folder="tuned", epochs=1, fixed=None, try_first=None, on=data, more=None, **limits):
        run.lines.clear()
        found = tune(
            "synthetic", on, LightGCN, tmp_path / folder,
            budget=Budget(**limits), protocol=Protocol(epochs=epochs, **(more or {})),
            fixed=fixed, try_first=try_first, report=run.lines.append,
        )  # fmt: skip
        path = tmp_path / folder / "synthetic" / "lightgcn.yaml"
        assert yaml.safe_load(path.read_text()) == found
        return found

    run.lines = []
    return run


def study_in(folder):
    path = folder / "synthetic" / ".lightgcn.log"
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))


def test_a_search_can_be_resumed_and_writes_a_configuration(search, here):
    search(trials=1)
    found = search(trials=2, seed=3)
    assert sum(line.startswith("trial ") for line in search.lines) == 1
    assert found["trials"] == 2
    assert found["hours"] >= 0
    assert set(found["val"]) == {"recall@20", "ndcg@20"}
    assert "num_layers" in found["settings"]
    assert found["search"]["seed"] == 3
    assert found["search"]["limits"] == {"trials": 2, "hours": None}
    assert set(found["machines"][0]) >= {"processor", "threads", "device"}
    kept = budget(found, searchable=True)
    assert (kept["trials"], kept["whole_grid"], kept["search_seed"]) == (2, False, 3)


def test_a_search_on_other_terms_is_refused_before_any_training(search, data, here, tmp_path):
    first = search(trials=1, fixed={"num_layers": 1})
    other = datasets.load("synthetic", num_users=80, num_items=50)[0]
    own = fingerprint(data)
    for change, words in {
        "epochs": ({"epochs": 2}, "epochs: found 1, expected 2"),
        "data": ({"on": other}, f"data: found {own}, expected {fingerprint(other)}"),
        "value": ({"fixed": {"num_layers": 2}}, "setting num_layers: found 1, expected 2"),
        "less": ({"fixed": {}}, "setting num_layers: found 1, expected searched"),
        "more": ({"fixed": {"num_layers": 1, "lr": 0.1}}, "lr: found searched, expected 0.1"),
        "minutes": ({"more": {"max_minutes": 5}}, "max_minutes: found none, expected 5"),
        "monitor": ({"more": {"monitor": "ndcg@20"}}, "found recall@20, expected ndcg@20"),
    }.values():
        with pytest.raises(ConfigError) as error:
            search(**{"trials": 2, "fixed": {"num_layers": 1}, **change})
        text = str(error.value)
        assert words in text
        assert text.count("found") == 1
        folder = tmp_path / "tuned" / "synthetic"
        files = f"remove {folder / '.lightgcn.log'} and {folder / 'lightgcn.yaml'} to begin again"
        assert f"give another --out folder, or {files}" in text
        assert search.lines == []
    again = search(trials=2, fixed={"num_layers": 1}, hours=9)
    assert again["trials"] == 2
    assert first["search"]["fingerprint"] == again["search"]["fingerprint"] == own


def test_a_search_without_trials_takes_on_other_terms(search, here, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "in_own_process", stop)
        with pytest.raises(KeyboardInterrupt):
            search(trials=1)
    assert search(trials=1, epochs=2)["epochs"] == 2
    with pytest.raises(ConfigError, match="epochs: found 2, expected 1"):
        search(trials=2)


def test_a_study_of_an_earlier_version_goes_on_and_claims_no_data(search, here, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "set_user_attr", lambda *_: None)
        search(trials=1)
    found = search(trials=2, epochs=2)
    assert found["trials"] == 2
    assert "fingerprint" not in found["search"]


def test_models_that_read_no_times_are_tuned_with_them_or_without(search, data, here):
    timed = data.clone()
    pairs = timed[INTERACTS].edge_index.size(1)
    timed[INTERACTS].time = torch.arange(pairs).flip(0)
    search(trials=1)
    found = search(trials=2, on=timed)["search"]
    assert found["fingerprint"] == fingerprint(timed) != fingerprint(data)
    assert found["fingerprint_without_times"] == fingerprint(data)
    of = fingerprints(timed)
    used = [
        terms(name, of, Protocol(), {}, {})["fingerprint"] for name in ("lightgcn", "ld4mrec-paper")
    ]
    assert used == [fingerprint(data), fingerprint(timed)]


def test_what_was_found_is_found_again_by_any_case_of_the_name(tmp_path):
    data, budget = random_data(40, 30), Budget(trials=1)
    found = tune(
        "Mine", data, find_model("lightgcn"), tmp_path, budget=budget, protocol=Protocol(epochs=1),
        fixed={"num_layers": 1, "hidden_channels": 8},
    )  # fmt: skip
    assert tuning_record("mine", "lightgcn", tmp_path) == found


def test_trials_run_side_by_side_as_many_as_requested(search):
    found = search(trials=3, jobs=2)
    assert sum(line.startswith("trial ") for line in search.lines) == 3
    assert (found["trials"], found["search"]["failed"]) == (3, 0)
    assert [one["jobs"] for one in found["machines"]] == [2]


def test_the_defaults_are_the_first_trial(search, here):
    found = search(trials=1)
    defaults = LightGCN.configure()
    assert found["settings"] == {name: getattr(defaults, name) for name in found["settings"]}
    assert set(found["settings"]) == set(LightGCN.search_space())


def test_settings_found_by_hand_are_tried_and_their_runs_stated(search, here):
    found = search(trials=2, earlier_runs=7, try_first={"num_layers": 2, "lr": 0.005})
    assert any("'lr': 0.005, 'num_layers': 2" in line for line in search.lines)
    assert found["trials"] == 2
    assert budget(found, searchable=True)["earlier_runs"] == 7
    with pytest.raises(ConfigError, match="num_layers=77 is not in the search space"):
        search("other", trials=2, try_first={"num_layers": 77})


def test_fixed_settings_are_trained_with_and_not_searched(search, here, tmp_path):
    found = search(trials=3, fixed={"num_layers": 1, "hidden_channels": 8})
    assert found["settings"].items() >= {"num_layers": 1, "hidden_channels": 8}.items()
    assert found["search"]["fixed"] == ["num_layers", "hidden_channels"]
    trials = study_in(tmp_path / "tuned").trials
    assert len(trials) == 3
    assert all(set(one.params) == {"lr", "regularization"} for one in trials)


def test_hours_limit_a_search_after_its_first_trial(search, here):
    found = search(trials=5, hours=0)
    assert found["trials"] == 1
    assert found["search"]["limits"] == {"trials": 5, "hours": 0}


def test_a_search_ends_with_its_grid_and_failures_count(search, here, monkeypatch):
    # The default, 1e-3, joins the grid.
    space = {"lr": [1e30], "num_layers": [3]}
    monkeypatch.setattr(LightGCN, "search_space", classmethod(lambda cls: space))
    found = search(trials=10, epochs=3)
    assert found["trials"] == 2
    assert found["search"]["whole_grid"]
    assert found["search"]["failed"] == 1
    assert found["settings"]["lr"] == 1e-3
    assert any("failed: scores are NaN" in line for line in search.lines)


def test_a_search_without_success_is_an_error(search, here):
    words = "no trial of lightgcn succeeded; the last one failed: scores are NaN"
    # The second run has no trial of its own: the study says why the first one failed.
    for _ in range(2):
        with pytest.raises(RunError, match=words):
            search(trials=1, epochs=3, fixed={"lr": 1e30})


def test_a_failure_of_an_earlier_version_has_no_reason(search, here, monkeypatch):
    def forget(self, searched, state, value=None, user_attrs=None, make=tuning.Search._trial):
        return make(self, searched, state, value, {"seconds": 0.0})

    with monkeypatch.context() as patch:
        patch.setattr(tuning.Search, "_trial", forget)
        with pytest.raises(RunError):
            search(trials=1, epochs=3, fixed={"lr": 1e30})
    with pytest.raises(RunError, match="the last one failed: for a reason that was not kept"):
        search(trials=1, epochs=3, fixed={"lr": 1e30})


@pytest.fixture
def space(monkeypatch):
    """A function that sets the values to try of a model."""

    def change(**values):
        monkeypatch.setattr(LightGCN, "search_space", classmethod(lambda cls: values))

    return change


def without_values(monkeypatch):
    """Leave the values to try out of a study's terms, as an earlier version did."""

    def old(*given):
        return {name: value for name, value in terms(*given).items() if name != "searched"}

    monkeypatch.setattr(tuning, "terms", old)


def test_a_search_of_other_values_is_refused(search, here, space):
    space(num_layers=[2, 3])
    search(trials=1)
    space(num_layers=[1, 2, 3])
    with pytest.raises(ConfigError) as error:
        search(trials=2)
    words = "values of num_layers: found [2, 3], expected [1, 2, 3]; give another --out folder"
    assert words in str(error.value)
    space(num_layers=[2, 3], lr=[1e-3])
    with pytest.raises(ConfigError, match=r"values of lr: found none, expected \[0\.001\]"):
        search(trials=2)


def test_a_study_that_states_no_values_goes_on_in_a_larger_space(search, here, space, monkeypatch):
    space(num_layers=[2, 3])
    with monkeypatch.context() as patch:
        without_values(patch)
        search(trials=2)
    space(num_layers=[1, 2, 3], lr=[1e-3, 1e-2])
    assert not search(trials=4)["search"]["whole_grid"]
    space(num_layers=[1, 2, 3])
    found = search(trials=9)
    # Two trials had another setting, too.
    assert (found["trials"], found["search"]["whole_grid"]) == (5, True)


def test_trials_outside_a_smaller_space_do_not_count_as_its_grid(search, here, space, monkeypatch):
    space(num_layers=[1, 2, 3])
    with monkeypatch.context() as patch:
        without_values(patch)
        search(trials=2)
    # The default, three layers, was the first trial.
    space(num_layers=[3], lr=[1e-3, 1e-2])
    found = search(trials=3)
    assert found["settings"].keys() == {"num_layers", "lr"}
    assert (found["trials"], found["search"]["whole_grid"]) == (3, False)
    assert search(trials=9)["search"]["whole_grid"]


def test_a_study_with_no_trial_in_the_space_has_no_best_one(search, here, space, monkeypatch):
    space(num_layers=[3])
    with monkeypatch.context() as patch:
        without_values(patch)
        search(trials=1)
    space(lr=[1e-3])
    with pytest.raises(RunError, match="not in the search space; allow more trials"):
        search(trials=1)
    assert search(trials=2)["settings"] == {"lr": 1e-3}


def test_a_budget_allows_a_trial():
    with pytest.raises(ConfigError, match="each must be at least 1"):
        Budget(trials=0)


def test_an_interrupted_search_suggests_what_an_uninterrupted_one_does(search, here):
    search(trials=7)
    at_once = [line.split(" -> ")[0] for line in search.lines[:-1]]
    search("again", trials=6)
    in_parts = [line.split(" -> ")[0] for line in search.lines[:-1]]
    search("again", trials=7)
    in_parts += [line.split(" -> ")[0] for line in search.lines[:-1]]
    assert in_parts == at_once
    assert len(set(at_once)) == 7


def test_the_settings_of_a_preset_are_not_searched(data, tmp_path, here):
    found = tune(
        "synthetic", data, find_model("ld4mrec-paper"), tmp_path, budget=Budget(trials=1),
        protocol=Protocol(epochs=1), fixed={"hidden_channels": 8, "batch_size": 64},
    )  # fmt: skip
    assert found["settings"].items() >= PAPER.items()
    assert found["settings"]["hidden_channels"] == 8
    assert set(found["search"]["fixed"]) == {*PAPER, "hidden_channels", "batch_size"}
    assert (tmp_path / "synthetic" / "ld4mrec-paper.yaml").is_file()
