"""The package works without its extras and names a missing one."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
REQUIREMENTS = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
    if not line.startswith("graphdiff-rec[")
]


@pytest.mark.parametrize("page", ["docs/getting-started.md", "CONTRIBUTING.md"])
def test_every_extra_for_users_is_explained(page):
    text = (ROOT / page).read_text()
    for extra in set(PROJECT["optional-dependencies"]) - {"test", "docs", "dev"}:
        assert f"`{extra}`" in text, f"{page} does not explain the extra {extra}"


WITHOUT = """
import importlib, pkgutil, sys
from pathlib import Path
for name in ("faiss", "onnx", "onnxscript", "onnxruntime", "fastapi", "fastapi_swagger", "uvicorn",
             "httpx", "optuna", "polars", "ray", "torch_sparse", "torch_scatter",
             "sentence_transformers", "torchvision", "prometheus_client"):
    sys.modules[name] = None
import graphdiff
for module in pkgutil.walk_packages(graphdiff.__path__, "graphdiff."):
    if module.name.rpartition(".")[2] not in ("service", "routes", "pages", "middleware"):
        importlib.import_module(module.name)
from graphdiff.errors import ConfigError
from graphdiff.serving import RetrievalIndex
from graphdiff.serving.export import export
from graphdiff.experiments.tune import tune
from graphdiff.cluster.score import score
from graphdiff.datasets.convert import convert
from tests.conftest import random_data

data = random_data(30, 25, {"image": 6})
model = graphdiff.LD4MRec.from_data(data, hidden_channels=8)
graphdiff.fit(model, data, epochs=1, progress=False, accelerator="cpu")
model.save_pretrained("run")
Path("log").mkdir()
Path("log", "log.csv").write_text("user,item\\n1,2\\n")
assert model.recommend(history_index=[[1, 2]], k=3)[0].shape == (1, 3)
for wanting in (
    lambda: RetrievalIndex(model),
    lambda: export(model, "model.onnx", k=3),
    lambda: tune("data", data, graphdiff.LightGCN, Path("tuned")),
    lambda: score(Path("run"), Path("scores"), k=3, engine="ray"),
    lambda: convert("log", "mapped", "csv", "mapped"),
):
    try:
        wanting()
    except ConfigError as error:
        print(error)
from graphdiff.cli.main import main
sys.argv = ["graphdiff", "serve", "run"]
main()
"""


def test_everything_else_works_without_extras(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert re.findall(r"'graphdiff-rec\[(\w+)\]'", done.stdout + done.stderr) == [
        "index", "export", "tune", "cluster", "large", "serve"
    ]  # fmt: skip


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_requirements_have_a_lower_bound_below_the_pin(requirement):
    assert any(one.operator == ">=" for one in requirement.specifier)
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    pin = pins.get(canonicalize_name(requirement.name))
    # Packages that are built from source or have large downloads are not required by tests.
    if pin is None:
        assert requirement.name in {"torch-scatter", "torch-sparse", "sentence-transformers",
                                    "torchvision"}  # fmt: skip
    else:
        assert requirement.specifier.contains(pin)
