"""The documentation site: every page is listed, and every public name is documented once.

``make docs`` builds the site itself.
"""

import importlib.util
import re
from pathlib import Path

import pytest

import graphdiff

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source(build, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "source"
    build.assemble(folder)
    return folder


def entries(page):
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(":")]


def test_every_page_is_listed_once(source):
    listed = []
    for page in sorted(source.rglob("*.md")):
        listed += [str((page.parent / entry).relative_to(source)) for entry in entries(page)]
    pages = {str(page.relative_to(source).with_suffix("")) for page in source.rglob("*.md")}
    assert len(listed) == len(set(listed))
    assert set(listed) == pages - {"index"}


def test_links_between_pages_lead_somewhere(source):
    for page in source.rglob("*.md"):
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_public_name_is_documented_once(source, build):
    documented = {}
    for page in (source / "api").glob("*.md"):
        for name in re.findall(
            r"^\.\. (?:autoclass|autofunction|py:data):: (\S+)$", page.read_text(), re.M
        ):
            last = name.rpartition(".")[2]
            assert last not in documented, f"{name} and {documented[last]}"
            documented[last] = name
    for package in build.PACKAGES:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            if not hasattr(value, "__path__"):
                assert name in documented, f"{package}.{name}"
    assert documented["LD4MRec"] == "graphdiff.models.LD4MRec"
    assert {"fit", "evaluate", "compare"} <= set(documented)
    assert graphdiff.__version__


def test_a_page_elsewhere_is_linked_where_it_is_in_the_site(build, tmp_path):
    results = ROOT / "benchmarks" / "results" / "tiktok.md"
    pages = {results: "results/tiktok.md"}
    text = "[a](../benchmarks/results/tiktok.md#cost) [b](../pyproject.toml) `[c](d.md)`\n"
    found = build.relink(text, ROOT / "docs" / "results.md", "results.md", pages, tmp_path)
    assert found.startswith("[a](results/tiktok.md#cost) b ")
