"""``graphdiff models``, ``settings``, ``doctor``, ``--version`` and ``python -m graphdiff``."""

import json
import subprocess
import sys

import pytest

import graphdiff
from graphdiff.doctor import DISTRIBUTION, Finding
from graphdiff.models import EASE, MODELS
from graphdiff.models.overview import describe_models, describe_settings
from graphdiff.models.registry import model_names
from tests.command import run


@pytest.mark.parametrize("command", [["graphdiff"], ["python -m graphdiff"]])
def test_the_version_is_printed(command):
    if command == ["graphdiff"]:
        assert run("--version").stdout == f"graphdiff {graphdiff.__version__}\n"
    else:
        done = subprocess.run(
            [sys.executable, "-m", "graphdiff", "--version"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"graphdiff {graphdiff.__version__}\n"


def test_models_are_listed_with_their_kind_and_paper():
    rows = {row["name"]: row for row in json.loads(run("models", "--json").stdout)}
    assert set(rows) >= {"ld4mrec", "lightgcn", "ease"}
    assert rows["ld4mrec"] == {
        "name": "ld4mrec",
        "kind": "diffusion",
        "features": True,
        "unseen_users": True,
        "paper": "LD4MRec: Simplifying and Powering Diffusion Model for Multimedia Recommendation",
        "link": "https://arxiv.org/abs/2309.15363",
    }
    assert rows["lightgcn"]["kind"] == "collaborative"
    assert rows["freedom"]["kind"] == "multimodal"
    assert rows["ease"]["kind"] == "closed form"
    kinds = {name for name, row in rows.items() if row["kind"] == "diffusion"}
    assert kinds == {
        "ld4mrec",
        "ld4mrec-paper",
        "diffrec",
        "ldiffrec",
        "diffmm",
        "giffcf",
        "genrec",
    }
    assert "unseen users" in run("models").stdout


def test_every_built_in_model_but_two_names_a_paper():
    built_in = {n for n, cls in MODELS.items() if cls.__module__.startswith("graphdiff.")}
    without = {row["name"] for row in describe_models() if not row["link"]}
    assert without & built_in == {"popularity", "contentknn"}


def test_settings_are_listed_with_their_limits():
    rows = {row["name"]: row for row in json.loads(run("settings", "ld4mrec", "--json").stdout)}
    assert rows["diffusion.num_steps"] == {
        "name": "diffusion.num_steps",
        "type": "int ≥ 1",
        "default": 20,
        "description": "Diffusion steps T.",
    }
    assert rows["propagation.every"]["type"] == "int | None ≥ 0"
    assert "Learning rate" in run("settings", "ld4mrec").stdout
    assert "no model 'nothing'" in run("settings", "nothing", expect=2).stderr


def test_models_with_a_preset_are_listed_with_its_settings():
    names = [row["name"] for row in describe_models()]
    assert names == model_names()
    rows = {row["name"]: row for row in json.loads(run("settings", "ease-recent", "--json").stdout)}
    plain = {row["name"]: row for row in describe_settings("ease")}
    given = EASE.presets["recent"]
    assert given
    assert {name: row["default"] for name, row in rows.items()} == {
        name: row["default"] for name, row in plain.items()
    } | dict(given)


@pytest.mark.parametrize("model", MODELS)
def test_every_setting_has_a_description(model):
    for row in describe_settings(model):
        assert row["description"], row["name"]
        assert row["type"]


def test_types_of_settings_are_readable():
    types = {row["name"]: row["type"] for row in describe_settings("slmrec")}
    assert types["task"] == "'FAC' | 'FD' | 'FM' | 'FD+FM'"
    weights = {row["name"]: row["type"] for row in describe_settings("contentknn")}
    assert weights["modality_weights"] == "dict[str, float] | None"


def test_the_doctor_checks_every_extra_that_users_install(monkeypatch):
    lines = [
        "torch>=1",
        "faiss-cpu>=1; extra == 'index'",
        'no-such-package>=2; extra == "serve"',
        "pytest>=1; extra == 'test'",
        f"{DISTRIBUTION}[index]; extra == 'test'",
    ]
    monkeypatch.setattr("graphdiff.doctor.requires", {DISTRIBUTION: lines}.get)
    monkeypatch.setattr("graphdiff.doctor._tiny_model", lambda: Finding("model", "", True, True))
    found = run("doctor").stdout
    assert "no-such-package" in found
    assert "index" in found
    assert "pytest" not in found
    assert "pip install 'graphdiff-rec[serve]'" in found
    lines.append("no-such-requirement>=2")
    assert "fails" in run("doctor", expect=1).stdout
