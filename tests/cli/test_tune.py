import sys

import pytest
import yaml

from graphdiff.cli.main import main
from graphdiff.experiments import tune

pytest.importorskip("optuna")


def test_a_search_writes_settings_to_train_with(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        tune, "in_own_process", lambda function, *args, **kwargs: function(*args, **kwargs)
    )
    arguments = ["--model", "lightgcn", "--option", "num_users=80", "num_items=60", "--epochs", "1"]
    arguments += ["--trials", "2", "--fix", "num_layers=1", "hidden_channels=8", "--out"]
    monkeypatch.setattr(sys, "argv", ["graphdiff", "tune", *arguments, str(tmp_path)])
    main()
    path = tmp_path / "synthetic" / "lightgcn.yaml"
    assert capsys.readouterr().out.count("trial ") == 2
    found = yaml.safe_load(path.read_text())
    assert found["settings"].items() >= {"num_layers": 1, "hidden_channels": 8}.items()
    assert found["search"]["limits"] == {"trials": 2, "hours": None}
