"""Processed files are reused for equal contents of files and arguments only."""

import datetime
import functools
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.datasets import CiteULike, InteractionLog, RecDataset, load
from graphdiff.datasets.layouts.log import InteractionLog as Log
from graphdiff.datasets.provenance import file_records, files_identity, identity
from graphdiff.schema import INTERACTS, build_data
from graphdiff.transforms import ModalityGraph
from tests.datasets import samples


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Scale:
    """A transform whose repr does not depend on its argument."""

    def __init__(self, factor):
        self.factor = factor

    def __repr__(self):
        return "Scale()"

    def __call__(self, data):
        data["item"].x_image = data["item"].x_image * float(np.sum(self.factor))
        return data

    def method(self, data):
        return self(data)


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def with_attribute(value):
    return type("Made", (), {"constant": value, "__call__": lambda self, data: data})()


def with_method(value):
    return type("Made", (), {"__call__": lambda self, data, add=value: data})()


def scaled_by(factor):
    return lambda data: Scale(factor)(data)


def nested(value):
    made = [value]
    made.append(made)
    return made


MAKERS = [
    lambda v: v,
    lambda v: [v],
    lambda v: {"a": v},
    lambda v: {v},
    lambda v: (v, "b"),
    lambda v: np.array([v, 1]),
    lambda v: np.array([v, None], dtype=object),
    lambda v: torch.tensor([v]),
    lambda v: torch.tensor([v], dtype=torch.bfloat16),
    lambda v: torch.tensor([[v, 0], [0, 1]]).to_sparse(),
    lambda v: sp.csr_matrix([[v, 0]]),
    lambda v: np.random.default_rng(v),
    lambda v: torch.Generator().manual_seed(v),
    lambda v: re.compile(f"x{v}"),
    lambda v: datetime.datetime(2020, 1, 1) + datetime.timedelta(v),
    lambda v: Path(f"a{v}"),
    lambda v: range(v),
    lambda v: slice(v),
    Scale,
    lambda v: Scale(np.arange(v)),
    lambda v: Scale(Scale(v)),
    lambda v: Scale(v).method,
    lambda v: functools.partial(Scale, v),
    lambda v: functools.partial(max, key=Scale(v)),
    scaled_by,
    with_attribute,
    with_method,
    Slotted,
    nested,
    lambda v: ModalityGraph(k=v + 1),
    lambda v: torch.nn.Embedding.from_pretrained(torch.full((1, 2), float(v))),
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(MAKERS), st.integers(0, 5), st.integers(0, 5))
def test_kind_e_equal_contents_have_one_identity_and_others_another(make, one, other):
    assert identity(make(one)) == identity(make(one))
    assert (identity(make(one)) == identity(make(other))) == (one == other)


def test_kind_e_code_and_what_it_uses_count():
    codes = [
        "def f(x): return x",
        "def f(x): return x + 1",
        "def f(x, y=1): return x",
        "def f(x, *, y=1): return x",
        "def f(x): return g(x)\ndef g(x): return x",
        "def f(x): return g(x)\ndef g(x): return -x",
        "def f(x): return x * K\nK = 2",
        "def f(x): return x * K\nK = 3",
        "class f:\n    def __call__(self, x): return x",
        "class f:\n    def __call__(self, x): return -x",
    ]
    found = []
    for code in codes:
        for _ in range(2):
            names = {"__name__": "notebook"}
            exec(code, names)
            found.append(identity(names["f"]))
    assert found[::2] == found[1::2]
    assert len(set(found)) == len(codes)


def test_kind_e_objects_without_visible_state_are_never_the_same():
    lock = threading.Lock()
    assert identity(lock) != identity(lock)


def test_kind_e_neighbouring_values_do_not_run_into_one_another():
    values = [["ab", "c"], ["a", "bc"], ["abc"], [["ab"], "c"], [1, "1"], ["1", 1], [b"a"], ["a"]]
    values += [[True], [1], [1.0], [], [[]], [None], ["None"], {}, {"a": 1}, {1: "a"}]
    assert len({identity(value) for value in values}) == len(values)


PROBE = """
import functools, re, sys
sys.path[:0] = {path!r}
from tests.datasets.test_provenance import MAKERS
from graphdiff.datasets.provenance import identity
print(" ".join(identity(make(2)) for make in MAKERS))
"""


def test_kind_e_identities_are_the_same_in_another_process():
    found = {
        subprocess.run(
            [sys.executable, "-c", PROBE.format(path=sys.path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert len(set(found.pop().split())) == len(MAKERS)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "toys"
    folder.mkdir()
    samples.csv(folder)
    return folder


def first(dataset):
    return dataset[0]["item"].x_image[0, 0].item()


def test_kind_e_transforms_that_print_alike_do_not_share_a_file(folder):
    plain = first(load("csv", folder))
    for factor in (2, 3, np.array([1, 3]), 2):
        found = first(load("csv", folder, pre_transform=Scale(factor)))
        assert found == pytest.approx(plain * np.sum(factor))
    for factor in (2, 3):
        found = first(load("csv", folder, pre_transform=scaled_by(factor)))
        assert found == pytest.approx(plain * factor)


def test_kind_e_encoders_of_one_name_do_not_share_a_file(folder):
    (folder / "names.csv").write_text("item,text\n" + "".join(f"{n},item\n" for n in range(20)))

    def make(value):
        return lambda texts: np.full((len(texts), 1), value)

    for value in (1, 2, 1):
        data = load(
            "csv", folder, file="interactions.csv", content={"text": "names.csv"},
            features={}, encode={"text": make(value)},
        )[0]  # fmt: skip
        assert data["item"].x_text[0].item() == value


def replace(path, content):
    """Replace a file by another of the same size and times."""
    status = path.stat()
    assert len(content) == status.st_size
    assert content != path.read_bytes()
    other = path.with_name(f"other-{path.name}")
    other.write_bytes(content)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def overwrite(path, content):
    """Overwrite a file with content of the same size, and restore its times."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [replace, overwrite])
@pytest.mark.parametrize("layout", sorted(set(samples.LAYOUTS) - {"converted"}))
def test_kind_e_a_file_of_the_same_size_and_time_is_noticed(layout, change, tmp_path):
    write, name = samples.LAYOUTS[layout]
    folder = tmp_path / "toys"
    folder.mkdir()
    write(folder)
    before = first(load(name, folder))
    (path,) = [p for p in folder.iterdir() if "image" in p.name] or folder.glob("*.item")
    if path.suffix == ".npy":
        table = np.load(path)
        old, new = table.tobytes(), (-table).tobytes()
    else:
        content = path.read_bytes()
        place = (
            content.rindex(b"0.")
            if path.suffix == ".item"
            else content.index(np.float32(before).tobytes())
        )
        old = content[place : place + 4]
        new = b"7.77" if path.suffix == ".item" else np.float32(-before).tobytes()
    change(path, path.read_bytes().replace(old, new, 1))
    data = load(name, folder)[0]
    again = load(name, folder, force_reload=True)[0]
    assert torch.equal(data["item"].x_image, again["item"].x_image)
    if path.suffix != ".item":
        assert first(load(name, folder)) == -before


def test_kind_e_an_image_of_the_same_size_and_time_is_noticed(folder):
    (folder / "photos").mkdir()
    for n in range(3):
        (folder / "photos" / f"{n}.png").write_bytes(b"abc" if n else b"xyz")

    def encode(paths):
        return [[path.read_bytes()[0]] for path in paths]

    arguments = {"content": {"photo": "photos"}, "encode": {"photo": encode}}
    assert load("csv", folder, **arguments)[0]["item"].x_photo[0].item() == ord("x")
    replace(folder / "photos" / "0.png", b"zyx")
    assert load("csv", folder, **arguments)[0]["item"].x_photo[0].item() == ord("z")


def test_kind_e_the_same_again_is_not_read_again(folder, monkeypatch):
    calls = []
    read = Log.read
    monkeypatch.setattr(Log, "read", lambda self: calls.append(1) or read(self))
    for _ in range(3):
        load("csv", folder, pre_transform=Scale(2))
        InteractionLog(str(folder), pre_transform=Scale(2))
    assert len(calls) == 1
    load("csv", folder, pre_transform=Scale(2), ratios=[0.6, 0.2, 0.2])
    load("csv", folder, pre_transform=Scale(2), ratios=[0.6, 0.2, 0.2])
    assert len(calls) == 2


def test_kind_e_arguments_of_a_class_outside_count_without_being_declared(tmp_path):
    class Sized(RecDataset):
        def __init__(self, root=None, size: int = 2, step: int = 1):
            self.size, self.step = size, step
            super().__init__(root)

        def read(self):
            return build_data(1, self.size, [[0], [self.size - self.step]])

    Sized.needs_root = False
    for size, step in ((3, 1), (4, 1), (4, 2), (3, 1)):
        data = Sized(tmp_path, size=size, step=step)[0]
        assert data["item"].num_nodes == size
        assert data[INTERACTS].edge_index[1].tolist() == [size - step]


def test_kind_e_a_reader_that_was_edited_reads_again(tmp_path):
    found = []
    for last in (2, 3):
        names = {"RecDataset": RecDataset, "build_data": build_data, "__name__": "notebook"}
        exec(
            "class Edited(RecDataset):\n    needs_root = False\n    def read(self):\n"
            f"        return build_data(1, 5, [[0], [{last}]])\n",
            names,
        )
        found.append(names["Edited"](tmp_path)[0][INTERACTS].edge_index[1].item())
    assert found == [2, 3]


def test_kind_e_classes_of_one_name_do_not_share_a_file(tmp_path):
    np.save(tmp_path / "x.npy", [[0], [1]])
    found = []
    for module, items in (("here", 2), ("there", 3)):
        cls = type(
            "Same",
            (RecDataset,),
            {
                "__module__": module,
                "raw_file_names": ["x.npy"],
                "items": items,
                "read": lambda self: build_data(1, self.items, np.load(self.raw_paths[0])),
            },
        )
        found.append(cls(tmp_path)[0]["item"].num_nodes)
    assert found == [2, 3]


def test_kind_e_the_encoder_of_citeulike_counts(tmp_path):
    (tmp_path / "users.dat").write_text("2 0 1\n")
    (tmp_path / "item-tag.dat").write_text("1 0\n1 0\n")
    (tmp_path / "tags.dat").write_text("graph\n")

    def make(value):
        return lambda texts: np.full((len(texts), 1), value)

    for value in (1, 2):
        assert CiteULike(tmp_path, encode=make(value))[0]["item"].x_text[0].item() == value


def test_kind_e_unchanged_files_are_not_hashed_again(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("two")
    fresh = file_records(tmp_path, ["a", "b", "none"], {})
    assert list(fresh) == ["a", "b/c"]
    # A file that has just changed may change again within the tick of the clock.
    opened = []
    real = open
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(str(a[0])) or real(*a, **k))
    again = file_records(tmp_path, ["a", "b", "none"], fresh)
    assert len(opened) == 2
    later = {
        name: (*record[:4], time.time_ns() + 10**12, record[5]) for name, record in again.items()
    }
    opened.clear()
    known = file_records(tmp_path, ["a", "b", "none"], later)
    assert opened == []
    assert files_identity(known) == files_identity(fresh)
    for damaged in ({"a": 5, "b/c": [1, 2]}, {"a": [None] * 6}, {"a": [*later["a"][:5], 7]}):
        found = file_records(tmp_path, ["a", "b"], damaged)
        assert files_identity(found) == files_identity(fresh)


def test_kind_e_a_copied_folder_is_another_folder(folder, tmp_path):
    load("csv", folder)
    shutil.copytree(folder, tmp_path / "copy")
    np.save(tmp_path / "copy" / "features_image.npy", np.ones((20, 5), np.float32))
    assert first(load("csv", tmp_path / "copy")) == 1
    assert first(load("csv", folder)) != 1
