"""Models that register themselves, and models of other distributions."""

import json
import sys
import textwrap

import pytest
import torch
import yaml
from typer.testing import CliRunner

from graphdiff import fit
from graphdiff.cli.main import app
from graphdiff.errors import ConfigError, RunError
from graphdiff.evaluation.ranking import evaluate
from graphdiff.models import (
    MODELS,
    LD4MRec,
    LightGCN,
    NamedModel,
    Recommender,
    find_model,
    get_model,
    model_names,
    registry,
)
from graphdiff.runs import resume_run, train_run
from graphdiff.training.config import run_config
from tests.conftest import random_data

SOURCE = '''
"""A model of somebody else: matrix factorisation with a pairwise loss."""

import torch
import torch.nn.functional as F

from graphdiff.graph import sample_negatives
from graphdiff.models import ModelConfig, Recommender, Tables


class Factors(Recommender):
    """Inner products of embeddings."""

    Config = ModelConfig

    def __init__(self, config, graph):
        super().__init__(config, graph)
        self.user = torch.nn.Embedding(graph.num_users, config.hidden_channels)
        self.item = torch.nn.Embedding(graph.num_items, config.hidden_channels)
        self.reset_parameters()

    def reset_parameters(self):
        torch.nn.init.normal_(self.user.weight, std=0.1)
        torch.nn.init.normal_(self.item.weight, std=0.1)

    def loss(self, batch, generator):
        user, item = self.graph.user_of(batch), self.graph.col[batch]
        negative = sample_negatives(self.graph, user, generator)
        gap = (self.user(user) * (self.item(item) - self.item(negative))).sum(dim=1)
        return -F.logsigmoid(gap).mean()

    def tables(self):
        return Tables(item=self.item.weight, user=self.user.weight)
'''


@pytest.fixture
def clean_registry():
    """Restore registry, modules and import path after a test that defines models."""
    classes, modules, path = dict(registry._registered), set(sys.modules), list(sys.path)
    yield
    registry._registered.clear()
    registry._registered.update(classes)
    for name in set(sys.modules) - modules:
        if not name.startswith(("torch", "graphdiff")):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def package(tmp_path, monkeypatch, clean_registry):
    """A module of the user's in the working directory, and a folder beside it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "their_models.py").write_text(SOURCE)
    monkeypatch.chdir(home)
    return home


def forget(name="their_models"):
    """As in another process: the module is not imported, its classes are unknown."""
    sys.modules.pop(name, None)
    for key in [key for key in registry._registered if key[0] == name]:
        del registry._registered[key]


def same_metrics(one, other, data):
    assert evaluate(one, data) == evaluate(other, data)


def test_a_model_of_a_temporary_module_trains_saves_and_reloads(package, tmp_path):
    data = random_data(30, 20)
    cls = get_model("their_models:Factors")
    assert MODELS["factors"] is get_model("Factors") is cls
    model = cls.from_data(data, hidden_channels=4, lr=0.05)
    result = fit(model, data, epochs=3, accelerator="cpu", progress=False, out=tmp_path / "run")
    assert result.epochs == 3
    for loader in (cls, Recommender):
        loaded = loader.from_pretrained(tmp_path / "run")
        assert type(loaded) is cls
        same_metrics(loaded, model, data)


def test_a_run_of_such_a_model_needs_its_class_and_imports_nothing(package, tmp_path):
    folder = tmp_path / "run"
    config = {
        "model": {"name": "their_models:Factors", "settings": {"hidden_channels": 4}},
        "dataset": {"options": {"num_users": 60, "num_items": 40, "seed": 3}},
        "training": {"epochs": 1, "accelerator": "cpu"},
    }
    train_run(folder, run_config(config), progress=False)
    saved = yaml.safe_load((folder / "config.yaml").read_text())["model"]
    assert (saved["name"], saved["module"]) == ("Factors", "their_models")
    forget()
    for load in (Recommender.from_pretrained, resume_run):
        with pytest.raises(RunError, match="defined in their_models, which is not imp"):
            load(folder)
    assert "their_models" not in sys.modules
    get_model("their_models:Factors")
    assert type(Recommender.from_pretrained(folder)).__name__ == "Factors"
    assert resume_run(folder, epochs=2, progress=False)["epochs"] == 2


def test_the_command_line_takes_a_class_of_the_users(package, tmp_path):
    folder, own = str(tmp_path / "run"), ["--model", "their_models:Factors"]

    def run(*arguments):
        forget()
        return CliRunner().invoke(app, [*arguments])

    options = ["--option", "num_users=60", "--option", "num_items=40", "--set", "hidden_channels=4"]
    quick = ["--epochs", "1", "--accelerator", "cpu", "--no-progress"]
    result = run("train", "--out", folder, *own, *options, *quick)
    assert result.exit_code == 0, result.output
    result = run("evaluate", folder)
    assert isinstance(result.exception, RunError)
    assert "--model their_models:Factors" in str(result.exception)
    result = run("evaluate", folder, *own, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["recall@20"] >= 0
    result = run("recommend", folder, *own, "--user", "3", "-k", "2", "--json")
    assert len(json.loads(result.output)["items"]) == 2
    result = run("train", "--resume", folder, *own, "--epochs", "2", "--no-progress")
    assert result.exit_code == 0, result.output


def test_a_name_of_a_file_imports_nothing(package):
    forget()
    with pytest.raises(ConfigError, match="import their_models first"):
        get_model("their_models:Factors", import_module=False)
    assert "their_models" not in sys.modules


def test_an_installed_entry_point_is_found(tmp_path, monkeypatch, clean_registry):
    site = tmp_path / "site"
    info = site / "their_package-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "their_package.py").write_text(SOURCE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[graphdiff.models]\nmatrix-factors = their_package:Factors\nbroken = no_such:Model\n"
    )
    monkeypatch.syspath_prepend(str(site))
    assert "matrix-factors" in list(MODELS)
    assert "their_package" not in sys.modules
    model = get_model("Matrix-Factors").from_data(random_data(), hidden_channels=4)
    model.save_pretrained(tmp_path / "model")
    forget("their_package")
    again = Recommender.from_pretrained(tmp_path / "model")
    assert type(again).__module__ == "their_package"
    assert torch.equal(again.recommend(0, k=3)[0], model.recommend(0, k=3)[0])
    with pytest.raises(ConfigError, match=r"'broken' is declared as no_such:Model, which"):
        get_model("broken")


def test_a_class_of_the_users_is_taken_wherever_it_has_moved(package, tmp_path):
    model = get_model("their_models:Factors").from_data(random_data(), hidden_channels=4)
    model.save_pretrained(tmp_path / "model")
    forget()
    (package / "moved_models.py").write_text(SOURCE)
    moved = get_model("moved_models:Factors")
    assert type(moved.from_pretrained(tmp_path / "model")) is moved
    with pytest.raises(RunError, match="defined in their_models"):
        Recommender.from_pretrained(tmp_path / "model")


def define(module, body="def tables(self): ...", name="Mine", base="Recommender"):
    names = {"__name__": module}
    source = f"""
        from graphdiff.models import Recommender
        class {name}({base}):
            {body}
    """
    exec(textwrap.dedent(source), names)
    return names[name]


def test_a_definition_in_a_notebook_replaces_the_one_before(clean_registry):
    first, second = define("__main__"), define("__main__")
    assert get_model("mine") is second is not first


def test_two_classes_of_one_name_are_told_apart_by_their_modules(clean_registry):
    one, other = define("first"), define("second")
    with pytest.raises(ConfigError, match="named 'mine': first:Mine and second:Mine"):
        get_model("mine")
    assert "mine" not in MODELS
    assert (MODELS["first:Mine"], MODELS["second:Mine"]) == (one, other)


def test_a_name_of_graphdiffs_cannot_be_taken(clean_registry):
    with pytest.raises(ConfigError, match="as 'lightgcn', which is a model of graphdiff"):
        define("mine", name="LightGCN")
    assert MODELS["lightgcn"] is LightGCN


def test_what_is_no_complete_model_is_explained(clean_registry):
    half = define("mine", "def loss(self, batch, generator): ...", name="Half")
    assert "half" not in MODELS
    message = r"Half is no complete model: it does not define tables\(\)"
    with pytest.raises(ConfigError, match=message):
        get_model("half")
    with pytest.raises(ConfigError, match=message):
        half.from_data(random_data())
    without = define("mine", name="Without")
    model = without.from_data(random_data())
    with pytest.raises(NotImplementedError, match=r"Without does not define loss\(\); define it"):
        model.loss(torch.arange(3), torch.Generator())


def test_a_private_base_class_is_not_registered(clean_registry):
    define("mine", name="_Base")
    assert "_base" not in MODELS


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "no model 'nothing'; there are bm3, .*package.module:Class"),
        ("no_such_module:Model", "cannot be imported"),
        ("graphdiff.models.lightgcn:Nothing", "cannot be imported"),
        ("graphdiff.models.lightgcn:ModelConfig", "expected a subclass of graphdiff's Recommender"),
        (":", "cannot be imported"),
        ("a..b:c", "cannot be imported"),
    ],
)
def test_names_that_lead_nowhere(name, message):
    with pytest.raises(ConfigError, match=message):
        get_model(name)


def test_the_view_of_the_registry():
    assert len(MODELS) == len(list(MODELS))
    assert "lightgcn" in repr(MODELS)
    with pytest.raises(KeyError):
        MODELS["nothing"]


def test_a_preset_is_named_after_its_model():
    assert find_model("LD4MRec-Paper") == NamedModel(LD4MRec, "paper")
    assert find_model("ld4mrec") == NamedModel(LD4MRec)
    names = model_names()
    assert names.index("ld4mrec-paper") == names.index("ld4mrec") + 1
    assert set(MODELS) <= set(names)
    assert (find_model("ld4mrec-paper").name, find_model("ld4mrec-paper").title) == (
        "ld4mrec-paper",
        "LD4MRec (paper)",
    )
    with pytest.raises(ConfigError, match="LD4MRec has no preset 'other'; it has paper"):
        find_model("ld4mrec-other")
    with pytest.raises(ConfigError, match="LightGCN has no preset 'paper'; it has none"):
        find_model("lightgcn-paper")
    with pytest.raises(ConfigError, match=r"no model 'nothing-paper'; there are .*ld4mrec-paper"):
        find_model("nothing-paper")
    with pytest.raises(ConfigError, match=r"build it with LD4MRec.from_data\(data, preset='paper'"):
        get_model("ld4mrec-paper")


def test_a_model_in_the_working_directory_has_presets_too(package):
    source = package / "their_models.py"
    source.write_text(SOURCE + '    presets = {"wide": {"hidden_channels": 32}}\n')
    found = find_model("their_models:Factors-wide")
    assert (found.name, found.configure({}).hidden_channels) == ("factors-wide", 32)
    assert found == find_model("factors-wide")
    assert found.settings({"hidden_channels": 5})["hidden_channels"] == 5
    with pytest.raises(ConfigError, match="Factors has no preset 'deep'; it has wide"):
        find_model("their_models:Factors-deep")
