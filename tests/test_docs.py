"""The documentation: its Python runs, its names exist and its links resolve."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "datasets/README.md",
    "examples/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
#: Pages on which every block stands on its own; on other pages blocks continue each other.
SEPARATE = {"README.md", "datasets/README.md"}
#: Pages whose code defines models or datasets, which stay registered for the whole process.
DEFINES = {"docs/extending.md"}
#: Libraries that a page needs beyond the required ones.
EXTRAS = {"docs/serving.md": ("faiss", "onnxscript", "onnxruntime")}


def _blocks(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.M)


def _programs():
    for page in PAGES:
        blocks = _blocks(page)
        if page in SEPARATE:
            for number, block in enumerate(blocks):
                yield pytest.param(page, block, id=f"{page}-{number}")
        elif blocks:
            yield pytest.param(page, "\n".join(blocks), id=page)


@pytest.mark.parametrize(("page", "code"), _programs())
def test_code_runs(page, code, tmp_path, monkeypatch):
    for name in EXTRAS.get(page, ()):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    if page in DEFINES:
        (tmp_path / "page.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        done = subprocess.run([sys.executable, "page.py"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    else:
        exec(compile(code, page, "exec"), {"__name__": "__main__"})


def _resolve(name):
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", PAGES)
def test_names_exist(page):
    text = (ROOT / page).read_text()
    for name in re.findall(r"`(graphdiff(?:\.[A-Za-z_]\w*)+)(?:\(.*?\))?`", text):
        _resolve(name)


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    text = (ROOT / page).read_text()
    for path in re.findall(r"`((?:graphdiff|benchmarks|datasets|tests|docs)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), f"{page} names {path}, which does not exist"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in link and not link.startswith("mailto:"):
            assert (ROOT / page).parent.joinpath(link).exists(), f"{page} links to {link}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) < 900
