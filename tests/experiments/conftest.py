"""A small comparison that many tests read."""

import copy
import json

import pytest

from graphdiff import LD4MRec, LightGCN
from graphdiff.experiments.compare import compare

#: Arguments of a comparison that takes a second.
TINY = {"options": {"num_users": 80, "num_items": 60}}


def compare_tiny(out=None, models=("lightgcn", "ld4mrec"), **more):
    """Compare models on a tiny dataset, in this process unless ``jobs`` is given."""
    return compare("synthetic", models, out=out, **{**TINY, "epochs": 2, "seeds": 2, **more})


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """The folder of a comparison and its pages."""
    folder = tmp_path_factory.mktemp("comparison")
    result = compare_tiny(folder / "a.json", [LightGCN, LD4MRec], drop_features=[0.5])
    for suffix in ("html", "md", "tex"):
        result.write(folder / f"a.{suffix}")
    return folder


@pytest.fixture(scope="session")
def content_of_pages(pages):
    return json.loads((pages / "a.json").read_text())


@pytest.fixture
def content(content_of_pages):
    """The content of the JSON file of the comparison, to change at will."""
    return copy.deepcopy(content_of_pages)


@pytest.fixture
def resumed(pages, tmp_path):
    """A function that resumes a changed comparison: it returns the new content."""

    def resume(content, models=("lightgcn", "ld4mrec"), users=True, **more):
        out = tmp_path / "a.json"
        out.write_text(json.dumps(content))
        if users:
            values = (pages / "a.users.safetensors").read_bytes()
            out.with_suffix(".users.safetensors").write_bytes(values)
        return compare_tiny(out, models, resume=True, **more).content

    return resume
