import doctest
import importlib
import json
import math
import subprocess
import sys

import pytest

from graphdiff import BPRMF, EASE, LightGCN, Popularity, compare, datasets
from graphdiff.errors import ConfigError
from graphdiff.experiments.compare import named_models
from graphdiff.experiments.tuned import tuned_settings
from graphdiff.models import NamedModel, find_model, model_names, registry
from graphdiff.schema import fingerprint
from tests.conftest import random_data
from tests.experiments.conftest import TINY, compare_tiny

DATA = random_data(60, 40)


def test_a_graph_is_compared_in_this_process():
    lines = []
    result = compare(DATA, [EASE, "popularity"], seeds=2, epochs=1, report=lines.append)
    assert sorted(result.models) == ["ease", "popularity"]
    assert result.content["machine"]["in_process"]
    assert lines[0] == "ease, seed 0"
    for name in result.models:
        assert 0 < result.mean(name)["recall@20"] <= 1
        assert result.std(name)["recall@20"] == 0  # solved at once, whatever the seed
    ranked = [result.mean(name)["recall@20"] for name in result.models]
    assert ranked == sorted(ranked, reverse=True)


def test_a_result_prints_as_a_table_and_holds_significance():
    result = compare(DATA, [EASE, Popularity], seeds=[3], epochs=1)
    text = str(result)
    for words in ("EASE", "Popularity", "recall@20", "training items masked"):
        assert words in text
    assert "all trainings in one process" in text
    assert "\x1b" not in text
    assert repr(result) == f"ComparisonResult(data, models={result.models})"
    found = result.significance("ndcg@20")
    assert found["ease"].rival == "popularity"
    assert math.isclose(found["ease"].difference, -found["popularity"].difference)
    frame = result.to_frame()
    assert list(frame.index) == result.models
    assert frame.loc["ease", "ndcg@20"] == result.mean("EASE")["ndcg@20"]
    assert result.content["models"]["ease"]["seeds"][0]["seed"] == 3
    with pytest.raises(ConfigError, match="no significance for 'map@20'; there is recall@20"):
        result.significance("map@20")
    with pytest.raises(ConfigError, match="no model 'bm3' in this comparison"):
        result.mean("bm3")


def test_tuned_settings_are_used_unless_others_are_given():
    def settings_of(**more):
        return compare_tiny(models="lightgcn", seeds=1, epochs=1, **more).settings("lightgcn")

    tuned = tuned_settings("synthetic", "lightgcn")
    assert settings_of().items() >= tuned.items()
    assert settings_of(tuned=False) == LightGCN.configure().model_dump()
    given = settings_of(settings={"lightgcn": {"num_layers": 1}})
    assert given == LightGCN.configure(num_layers=1).model_dump()


def test_settings_found_on_other_data_of_the_name_are_not_used(tmp_path):
    path, lines = tmp_path / "synthetic" / "bprmf.yaml", []
    path.parent.mkdir()
    own = fingerprint(datasets.load("synthetic", **TINY["options"])[0])

    def compared(of, **more):
        lines.clear()
        path.write_text(
            f"settings: {{hidden_channels: 8}}\ntrials: 3\nsearch: {{fingerprint: '{of}'}}\n"
        )
        result = compare_tiny(
            models="bprmf", seeds=1, epochs=1, tuned=tmp_path, report=lines.append, **more
        )
        trials = result.content["models"]["bprmf"]["tuning"]["trials"]
        return result.settings("bprmf")["hidden_channels"], trials, str(result)

    assert compared(own)[:2] == (8, 3)
    # Items are withheld of the data that settings are of.
    assert compared(own, split="cold-item", cold_share=0.3)[:2] == (8, 3)
    assert "is not used" not in "".join(lines)
    channels, trials, text = compared("0123456789abcdef")
    assert (channels, trials) == (BPRMF.configure().hidden_channels, 0)
    [line] = [line for line in lines if "is not used" in line]
    assert line.startswith(f"{path} is not used: it was found on other data")
    assert f"of fingerprint 0123456789abcdef instead of {own}" in line
    assert line in text


def test_what_is_masked_is_what_the_dataset_publishes_or_what_is_requested():
    masked = compare(DATA, EASE, mask_validation=True).content["protocol"]
    plain = compare(DATA, EASE).content["protocol"]
    assert masked["ranking"].endswith("with the user's training and validation items masked")
    assert plain["ranking"].endswith("with the user's training items masked")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": "nope"}, "no model 'nope'"),
        ({"split": "warm"}, "split is 'warm'; expected 'standard' or 'cold-item'"),
        ({"settings": {"bm3": {}}}, "settings are given for bm3, which is not compared"),
        ({"split": "cold-item", "cold_share": 2}, "share is 2"),
        ({"drop_features": [0.5]}, "no features to drop"),
        ({"seeds": 0}, "there is no seed to train with; give seeds=1 or more"),
        ({"seeds": []}, "there is no seed to train with; give seeds=1 or more"),
        ({"models": []}, "there is no model to compare; give the name of at least one"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        compare(DATA, **{"models": "ease", **arguments})


def test_models_are_names_or_classes_without_repetitions():
    one, other = NamedModel(EASE), NamedModel(Popularity)
    assert named_models(["EASE", EASE, "popularity"]) == [one, other]
    assert named_models(EASE) == [one]
    assert named_models("all") == [find_model(name) for name in model_names()]


def test_the_example_runs():
    module = importlib.import_module("graphdiff.experiments.compare")
    assert doctest.testmod(module).failed == 0


MODULE = '''
"""A model of another package."""

import torch

from graphdiff.models.base import Tables
from graphdiff.models.closed_form import ClosedForm


class RarestFirst(ClosedForm):
    """Items with the fewest interactions first."""

    def __init__(self, config, graph):
        super().__init__(config, graph)
        self.register_buffer("score", torch.zeros(graph.num_items))

    def solution(self):
        return {"score": -self.graph.item_degree()}

    def tables(self):
        return Tables(item=self.score.unsqueeze(1))

    def user_vectors(self, query, tables):
        return self.score.new_ones(query.rows.num, 1)
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The name of a module outside graphdiff."""
    name = "rarest_first_models"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "other_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    yield name
    for one in (name, "other_models"):
        sys.modules.pop(one, None)


def test_a_class_of_another_module_takes_part(package):
    model = importlib.import_module(package).RarestFirst
    result = compare_tiny(models=[model, "popularity"], seeds=1, epochs=1)
    assert result.models == ["popularity", "rarestfirst"]
    assert "RarestFirst" in str(result)
    again = compare_tiny(models=f"{package}:RarestFirst", seeds=1, epochs=1)
    assert again.mean("rarestfirst") == result.mean("rarestfirst")


def test_the_command_compares_a_class_in_the_working_directory(package, tmp_path):
    # -P: as for an installed command, Python itself does not search the working directory.
    command = [sys.executable, "-P", "-m", "graphdiff.cli.main", "compare", "--no-progress"]
    command += ["--option", "num_users=80", "num_items=60", "--out", "c.json"]
    command += ["--models", f"{package}:RarestFirst", "popularity"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "RarestFirst" in done.stdout
    here = compare_tiny(models=f"{package}:RarestFirst", seeds=1, epochs=1)
    found = json.loads((tmp_path / "c.json").read_text())["models"]["rarestfirst"]
    assert found["mean"]["test"] == here.mean("rarestfirst")


def test_two_models_of_one_name_are_refused(package):
    with pytest.raises(ConfigError, match="two of the models are named rarestfirst"):
        compare(DATA, [f"{package}:RarestFirst", "other_models:RarestFirst"])


def test_a_class_of_a_function_is_compared_in_this_process():
    class _Local(Popularity):
        """A model of a notebook."""

    assert compare(DATA, _Local).models == ["_local"]
    with pytest.raises(ConfigError, match="define it at the top level of a module"):
        compare(DATA, _Local, jobs=1)
