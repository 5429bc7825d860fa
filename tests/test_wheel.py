"""The wheel holds all that users of an installed graphdiff need."""

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import graphdiff
from graphdiff.doctor import DISTRIBUTION

build = pytest.importorskip("hatchling.build")

ROOT = Path(__file__).parents[1]
SUFFIXES = {".py", ".pyi", ".yaml", ".jinja", ".html", ".js", ".css", ".svg", ".typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("dist"), Path.cwd()
    os.chdir(ROOT)
    try:
        return zipfile.ZipFile(folder / build.build_wheel(str(folder)))
    finally:
        os.chdir(before)


def test_it_holds_the_package_the_cards_and_the_settings(wheel):
    names = set(wheel.namelist())
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "graphdiff").rglob("*")
        if path.suffix
        in {".py", ".pyi", ".yaml", ".jinja", ".html", ".js", ".css", ".svg", ".typed"}
    }
    assert {"graphdiff/py.typed", "graphdiff/serving/page/index.html"} <= expected
    assert expected - names == set()
    assert "graphdiff/experiments/report.html.jinja" in names
    assert "graphdiff/experiments/published.yaml" in names
    assert "graphdiff/experiments/tuned/tiktok/mgcn.yaml" in names
    cards = {f"graphdiff/cards/{path.parent.name}/card.yaml"
             for path in (ROOT / "datasets").glob("*/card.yaml")}  # fmt: skip
    assert {name for name in names if name.startswith("graphdiff/cards/")} == cards


def test_it_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert len(tops) == 2
    assert "graphdiff" in tops
    assert not [name for name in wheel.namelist() if name.endswith((".log", ".pyc", ".ipynb"))]


def test_the_metadata_names_the_distribution(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(wheel.read(name))
    assert metadata["Name"] == DISTRIBUTION
    assert metadata["Version"] == graphdiff.__version__
    assert set(metadata.get_all("Provides-Extra")) >= {"serve", "index", "export", "tune"}


def test_the_source_distribution_can_be_tested(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "README.md",
        "LICENSE",
        "CITATION.cff",
        "Makefile",
        "constraints.txt",
        "docs/conf.py",
        "examples/own_dataframe.py",
        "tests/test_wheel.py",
        "datasets/tiktok/card.yaml",
    } <= names


INSTALLED = """
import sys
import graphdiff
assert graphdiff.__file__.startswith(sys.argv[1]), graphdiff.__file__
from graphdiff import compare
from graphdiff.datasets.cards import cards
from graphdiff.experiments.tuned import tuned_settings
assert "tiktok" in {card.name for card in cards()}
assert tuned_settings("tiktok", "lightgcn")
result = compare("synthetic", ["ease", "popularity"], options={"num_users": 60, "num_items": 50})
result.write("c.html")
print(result)
"""


def test_it_compares_models_from_an_empty_folder(wheel, tmp_path):
    site, folder = tmp_path / "site", tmp_path / "empty"
    wheel.extractall(site)
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-c", INSTALLED, str(site)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "EASE" in done.stdout
    assert "</html>" in (folder / "c.html").read_text()
