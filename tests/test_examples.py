"""The examples run, each in an empty folder and a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
#: Libraries that an example needs beyond the required ones.
EXTRAS = {"export_and_serve": ("onnxscript", "onnxruntime", "fastapi", "httpx")}
#: What an example must print.
PRINTS = {
    "own_dataframe": "mug",
    "compare_models": "LD4MRec",
    "unseen_user": "bob",
    "cold_item": "it is recommended to",
    "own_model": "Factors",
    "own_parts": "LinearCNet",
    "diffusion_alone": "tensor",
    "export_and_serve": "[",
}


def test_every_example_is_listed_and_checked():
    text = (ROOT / "examples" / "README.md").read_text()
    assert {path.stem for path in PROGRAMS} == set(PRINTS)
    for path in [*PROGRAMS, *NOTEBOOKS]:
        assert f"[{path.name}]({path.name})" in text


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_programs_run(path, tmp_path):
    for name in EXTRAS.get(path.stem, ()):
        pytest.importorskip(name)
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert PRINTS[path.stem] in done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs"
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
