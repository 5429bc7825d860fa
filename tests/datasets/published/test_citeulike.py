"""CiteULike-a as published: counted lists of articles and tags."""

import numpy as np
import pytest
import torch

from graphdiff.datasets import CiteULike, load
from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS
from tests.datasets.samples import as_pairs

TAGS = ["graph", "deep_learning", "r", "biology"]
ITEM_TAGS = [[0, 1], [], [2], [1, 3], [3]]
USERS = [[0, 1, 2, 4], [3, 2], [4, 0, 1], [2]]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "citeulike-a"
    root.mkdir()
    for name, lists in (("users.dat", USERS), ("item-tag.dat", ITEM_TAGS)):
        lines = [" ".join(map(str, [len(found), *found])) for found in lists]
        (root / name).write_text("\n".join(lines))
    (root / "tags.dat").write_text("\n".join(TAGS) + "\n")
    return root


def test_libraries_are_split_and_tags_are_text(folder):
    data = load("citeulike-a", folder)[0]
    assert (data["user"].num_nodes, data["item"].num_nodes) == (4, 5)
    parts = [
        as_pairs(data, name)
        for name in ("edge_index", "val_edge_label_index", "test_edge_label_index")
    ]
    assert sorted(pair for part in parts for pair in part) == sorted(
        (u, i) for u, row in enumerate(USERS) for i in row
    )
    # At least one of each where a user has three or more, at least one for training everywhere.
    assert [len(part) for part in parts] == [6, 2, 2]
    assert [{u for u, _ in part} for part in parts] == [{0, 1, 2, 3}, {0, 2}, {0, 2}]
    item = data["item"]
    assert item.has_text.tolist() == [True, False, True, True, True]
    unit = item.x_text / item.x_text.norm(dim=1, keepdim=True)
    cosine = unit @ unit.T
    assert cosine[0, 2] == pytest.approx(0, abs=1e-5)
    assert cosine[0, 3] > 0.3
    assert cosine[3, 4] > 0.3


def test_the_split_follows_from_the_seed(folder):
    first, again, other = (load("citeulike-a", folder, seed=seed)[0] for seed in (0, 0, 1))
    edges = [data[INTERACTS].edge_index for data in (first, again, other)]
    assert torch.equal(edges[0], edges[1])
    assert not torch.equal(edges[0], edges[2])


def test_another_encoder_sees_the_articles_with_tags(folder):
    seen = []

    def lengths(texts):
        seen.extend(texts)
        return np.array([[len(text)] for text in texts])

    item = CiteULike(folder, encode=lengths)[0]["item"]
    assert seen == ["graph deep_learning", "r", "deep_learning biology", "biology"]
    assert item.x_text.flatten().tolist() == [19, 0, 1, 21, 7]
    with pytest.raises(DataError, match=r"made \[4\] of 4 texts; expected \[4, F\]"):
        CiteULike(folder, encode=lambda texts: [1] * len(texts), force_reload=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("users.dat", "3 0 1\n", r"users\.dat line 1 says 3 and has 2 numbers"),
        ("users.dat", "1 0\n1 x\n", r"users\.dat line 2: .*expected a count"),
        ("users.dat", "1 0\n\n", r"users\.dat line 2: .*expected a count"),
        ("users.dat", "1 -1\n", "expected as many as it says, from 0 on"),
        ("users.dat", "1 99999999999999999999\n", r"line 1: .*expected a count"),
        ("users.dat", "1 5\n", "has article 5, but its list of articles ends at 4"),
        ("users.dat", "2 1 1\n", "given more than once"),
        ("users.dat", "", r"users\.dat line 1: .*expected a count"),
        ("tags.dat", "graph\n", "has tag 3, but its list of tags ends at 0"),
    ],
)
def test_damaged_files_are_refused(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        load("citeulike-a", folder)


def test_missing_and_binary_files_are_refused(folder):
    (folder / "tags.dat").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match=r"tags\.dat cannot be read"):
        load("citeulike-a", folder)
    (folder / "tags.dat").unlink()
    with pytest.raises(DataError, match=r"lacks tags\.dat"):
        load("citeulike-a", folder)
