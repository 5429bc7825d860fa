"""Training by several processes that share each batch."""

import json
import subprocess
import sys

import pytest
import torch

from graphdiff import BM3, BPRMF, VBPR, LD4MRec, LightGCN, MultVAE, evaluate
from graphdiff.distributed.processes import own_part, rank
from graphdiff.errors import ConfigError
from graphdiff.training.config import TrainingConfig
from graphdiff.training.sharing import check_processes, report_sharing, shared_ranking
from tests.conftest import make_model, random_data
from tests.distributed.group import run_group
from tests.distributed.training import fit_exactly, history, learned

# Steps drawn by importance are those of a distribution that all processes must learn alike.
MODELS = {
    LD4MRec: {"diffusion.importance_sampling": True, "gated": True},
    BPRMF: {},
    VBPR: {},
    LightGCN: {},
    MultVAE: {},
    BM3: {},  # computes each batch as a whole
}


def data():
    return random_data(41, 30, {"image": 6})


def train(model_class, devices, out=None, epochs=2, **arguments):
    torch.manual_seed(5)
    # The last batch of users has one: fewer than there are processes.
    settings = {"hidden_channels": 8, "batch_size": 20, **MODELS[model_class]}
    graph = data()
    model = model_class.from_data(graph, **settings)
    result = fit_exactly(model, graph, epochs=epochs, out=out, devices=devices, **arguments)
    return model, result


def in_group(folder):
    for model_class in MODELS:
        model, result = train(model_class, devices=2)
        if rank() == 0:
            torch.save((learned(model), history(result)), folder / f"{model_class.__name__}.pt")
    train(LD4MRec, devices=2, out=folder / "two-then-one")
    _, result = train(LD4MRec, devices=2, out=folder / "one-then-two", epochs=4, resume=True)
    if rank() == 0:
        torch.save(history(result), folder / "resumed.pt")
    graph = data()
    model = make_model(LightGCN, graph)
    alone, shared = (evaluate(one, graph, "test") for one in (model, shared_ranking(model)))
    assert alone == shared
    if rank() == 0:  # without the other
        assert evaluate(model, graph, "test") == alone
    _, stopped = train(LightGCN, devices=2, epochs=50, patience=2, min_steps=0)
    assert stopped.epochs < 50


def test_two_processes_train_what_one_does(tmp_path):
    train(LD4MRec, devices=1, out=tmp_path / "one-then-two")
    run_group(in_group, tmp_path)
    for model_class in MODELS:
        model, result = train(model_class, devices=1)
        found, rows = torch.load(tmp_path / f"{model_class.__name__}.pt")
        expected = learned(model)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            where = f"{model_class.__name__} {name}"
            torch.testing.assert_close(
                found[name], value, rtol=1e-6, atol=1e-9, msg=lambda m, where=where: f"{where}: {m}"
            )
        assert rows == [pytest.approx(row) for row in history(result)]

    # A training goes on with another number of processes.
    _, whole = train(LD4MRec, devices=1, epochs=4)
    expected = [pytest.approx(row) for row in history(whole)]
    assert torch.load(tmp_path / "resumed.pt") == expected
    _, resumed = train(LD4MRec, devices=1, out=tmp_path / "two-then-one", epochs=4, resume=True)
    assert history(resumed) == expected


def test_the_command_starts_its_processes(tmp_path):
    command = [sys.executable, "-m", "graphdiff.cli.main", "train", "--accelerator", "cpu"]
    command += ["--devices", "2", "--strategy", "ddp", "--epochs", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written to") == 1
    assert json.loads((tmp_path / "results.json").read_text())["epochs"] == 1


def test_without_a_group_there_is_one_part():
    assert own_part(5) == slice(0, 5)


def test_torchrun_must_start_as_many_processes_as_the_settings_say(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_processes(TrainingConfig(devices=2, num_nodes=2))
    with pytest.raises(ConfigError, match="torchrun started 4 processes, and devices=1"):
        check_processes(TrainingConfig())


def test_models_that_gain_nothing_say_so(capsys):
    graph = data()
    for model_class, reported in ((BM3, True), (LD4MRec, False)):
        report_sharing(make_model(model_class, graph), TrainingConfig(devices=2))
        assert ("no faster steps" in capsys.readouterr().err) == reported
