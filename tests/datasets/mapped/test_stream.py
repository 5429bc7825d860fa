"""A log streamed to a mapped folder is the same as a log read as a whole."""

import itertools
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from graphdiff.datasets import load
from graphdiff.datasets.convert import convert
from graphdiff.datasets.mapped.folder import read_manifest
from graphdiff.datasets.mapped.order import ordered_at
from graphdiff.datasets.mapped.write import to_mapped
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import fingerprint

pytest.importorskip("polars")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch, tmp_path):
    """Many parts and pieces, and a cache of its own."""
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("graphdiff.datasets.mapped.parts.PART_ROWS", 37)
    for module in ("columns", "scan", "parts"):
        monkeypatch.setattr(f"graphdiff.datasets.mapped.{module}.ROWS", 23)
    monkeypatch.setattr("graphdiff.datasets.mapped.features.NUMBERS", 8)


def random_log(seed, num=300):
    """A log of about ``num`` rows, with repeats, users and items of few rows, and equal times."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(5, 60), rng.integers(5, 40)
    user = (users * rng.random(num) ** 2).astype(int) * 7 - 20
    item = (items * rng.random(num) ** 3).astype(int) + 1
    frame = pd.DataFrame({"user": user, "item": item})
    if seed % 2:
        frame["item"] = "i" + frame["item"].astype(str)
    times = rng.integers(0, 50, num)
    frame["timestamp"] = [times, times / 7, pd.to_datetime(times, unit="D")][seed % 3]
    frame["rating"] = rng.integers(1, 6, num) / 2
    return frame


def write(folder, frame, suffix):
    folder.mkdir()
    path = folder / f"interactions.{suffix}"
    frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False)


def compare(folder, out, layout="csv", **settings):
    """Convert a log in both ways, and compare the results or the errors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            expected, reason = load(layout, folder, **settings)[0], ""
        except DataError as error:
            expected, reason = None, str(error)
        seen = {str(one.message) for one in caught if "left out" in str(one.message)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if expected is None:
            with pytest.raises(DataError) as raised:
                convert(folder, out, layout, "mapped", **settings)
            assert str(raised.value) == reason
            assert not out.exists()
            return None
        convert(folder, out, layout, "mapped", **settings)
        assert {str(one.message) for one in caught if "left out" in str(one.message)} == seen
    found = load("mapped", out, check=True)[0]
    assert fingerprint(found) == fingerprint(expected)
    assert sorted(path.name for path in out.parent.iterdir() if path.name.startswith(".")) == []
    return found


SETTINGS = [
    {},
    {"split": "leave_one_out"},
    {"split": "leave_one_out", "by": "time", "duplicates": "last"},
    {"split": "global_time", "ratios": (0.7, 0.1, 0.2)},
    {"by": "time", "k_core": 3},
    {"k_core": 4, "min_rating": 1.5, "seed": 3},
    {"k_core": 2, "min_rating": 2.0, "split": "global_time", "duplicates": "last"},
    {"ratios": (1.0, 0.0, 0.0)},
    {"k_core": 50},
    {"min_rating": 9},
    {"duplicates": "error"},
    {"split": "column"},
]


@pytest.mark.parametrize("seed", range(4))
def test_random_logs_and_settings(tmp_path, seed):
    for n, settings in enumerate(SETTINGS):
        source = tmp_path / f"source{n}"
        frame = random_log(10 * seed + n)
        write(source, frame, "csv" if (seed + n) % 2 else "parquet")
        compare(source, tmp_path / f"out{n}", **settings)


def test_the_column_of_splits_without_times(tmp_path):
    frame = random_log(5)[["user", "item"]]
    frame["split"] = np.random.default_rng(0).choice(["train", "Test", "valid"], len(frame))
    write(tmp_path / "source", frame, "csv")
    compare(tmp_path / "source", tmp_path / "out")
    compare(tmp_path / "source", tmp_path / "other", split="ratio")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("missing", ["held out", "training"])
def test_times_with_a_column_of_splits(tmp_path, suffix, missing):
    frame = random_log(4).drop(columns="rating").drop_duplicates(["user", "item"])
    frame["timestamp"] = np.arange(len(frame)) / 2.0
    # A piece of held-out rows alone.
    frame["split"] = np.where(np.arange(len(frame)) < 60, "test", "train")
    frame.loc[frame["split"] == ("test" if missing == "held out" else "train"), "timestamp"] = (
        np.nan
    )
    write(tmp_path / "source", frame, suffix)
    found = compare(tmp_path / "source", tmp_path / "out")
    assert ("time" in found["user", "interacts", "item"]) == (missing == "held out")


def test_times_are_there_with_any_split(tmp_path):
    write(tmp_path / "source", random_log(1), "parquet")
    for split in ("ratio", "leave_one_out", "global_time"):
        found = compare(tmp_path / "source", tmp_path / split, split=split)
        assert "time" in found["user", "interacts", "item"]


@pytest.mark.parametrize(
    ("groups", "counts"),
    [
        ([70, 25, 5], [70, 25, 5]),
        ([10, 85, 5], [10, 85, 5]),
        ([60, 15, 25], [60, 15, 25]),
        ([40, 30, 8, 1, 21], [78, 1, 21]),
        ([95, 5], None),
        ([100], None),
    ],
)
@pytest.mark.parametrize("scale", [1, -0.5])
def test_large_groups_of_equal_times(tmp_path, groups, counts, scale):
    # Descending for a negative scale, so that the order of the rows is not that of time.
    time = np.repeat(np.arange(len(groups))[:: 1 if scale > 0 else -1], groups) * scale
    number = np.random.default_rng(0).permutation(100)
    frame = pd.DataFrame({"user": number % 10, "item": number // 10, "timestamp": time})
    write(tmp_path / "source", frame, "parquet")
    found = compare(tmp_path / "source", tmp_path / "out", split="global_time")
    if counts is not None:
        edges = found["user", "interacts", "item"]
        sizes = [
            edges.edge_index.size(1),
            *(edges[f"{name}_edge_label_index"].size(1) for name in ("val", "test")),
        ]
        assert sizes == counts
    else:
        assert found is None


def test_times_are_as_narrow_as_they_can_be(tmp_path):
    frame = random_log(2)[["user", "item"]]
    frame["timestamp"] = 1_700_000_000 + np.arange(len(frame)) * 3600
    write(tmp_path / "seconds", frame, "parquet")
    frame["timestamp"] *= 1000
    write(tmp_path / "milliseconds", frame, "parquet")
    for name, kind in (("seconds", torch.int32), ("milliseconds", torch.long)):
        found = compare(tmp_path / name, tmp_path / f"{name}-out")
        assert found["user", "interacts", "item"].time.dtype == kind
        again = to_mapped(found, tmp_path / f"{name}-again")
        first = read_manifest(tmp_path / f"{name}-out")["files"]["train_time.npy"]
        assert again["files"]["train_time.npy"] == first


def test_large_unsigned_times(tmp_path):
    frame = random_log(2)[["user", "item"]]
    frame["timestamp"] = np.arange(len(frame), dtype=np.uint64) * 2**54
    write(tmp_path / "small", frame, "parquet")
    frame["timestamp"] += np.uint64(2**63)
    write(tmp_path / "large", frame, "parquet")
    for name, kind in (("small", torch.long), ("large", torch.double)):
        found = compare(tmp_path / name, tmp_path / f"{name}-out")
        assert found["user", "interacts", "item"].time.dtype == kind


def test_other_names_and_separators(tmp_path):
    frame = random_log(2)[["user", "item", "timestamp"]]
    source = tmp_path / "source"
    source.mkdir()
    frame.to_csv(source / "log.txt", sep=";", index=False, header=False)
    names = {"names": ["a", "b", "when"], "user": "a", "item": "b", "timestamp": "when"}
    compare(source, tmp_path / "out", delimiter=";", split="global_time", **names)
    with pytest.raises(ConfigError, match="several bytes"):
        convert(source, tmp_path / "other", "csv", "mapped", delimiter="::", **names)


def test_parts_of_a_folder(tmp_path):
    folder = tmp_path / "source" / "interactions.parquet"
    folder.mkdir(parents=True)
    frame = random_log(4)
    for n in range(3):
        frame[n * 100 : (n + 1) * 100].to_parquet(folder / f"part-{n}.parquet")
    compare(tmp_path / "source", tmp_path / "out", layout="parquet")


@pytest.mark.parametrize(("suffix", "k_core"), itertools.product(["npy", "parquet"], [0, 3]))
def test_listed_items_features_and_titles(tmp_path, suffix, k_core):
    frame, source = random_log(1), tmp_path / "source"
    write(source, frame, "parquet")
    ids = [*frame["item"].unique()[::-1], "cold"]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(ids), 3)).astype(np.float32)
    x[[0, 4]] = np.nan
    titles = pd.DataFrame({"item": ids, "title": [f"title {one}" for one in ids]})
    titles.to_parquet(source / "items.parquet")
    if suffix == "npy":
        np.save(source / "features_image.npy", x)
    else:
        order = rng.permutation(len(ids))[1:]
        table = pd.DataFrame({"item": np.array(ids)[order], "x": [*x[order]]})
        table.to_parquet(source / "features_image.parquet")
    found = compare(source, tmp_path / "out", k_core=k_core)
    assert found["item"].has_image.any()
    assert not found["item"].has_image.all()
    named = dict(zip(found["item"].raw_id, found["item"].title, strict=True))
    assert all(title == f"title {one}" for one, title in named.items())
    assert ("cold" in named) == (k_core == 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="item"), "but not item"),
        (lambda f: f.assign(user=[None, *f["user"][1:]]), "1 row has no user"),
        (lambda f: f.assign(item=[None, *f["item"][1:]]), "1 row has no item"),
        (lambda f: f[:0], "holds no interactions"),
    ],
)
def test_logs_that_cannot_be_read(tmp_path, change, words):
    write(tmp_path / "source", change(random_log(1)), "csv")
    with pytest.raises(DataError, match=words):
        convert(tmp_path / "source", tmp_path / "out", "csv", "mapped")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_table(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "interactions.parquet").write_bytes(b"PAR1" + b"\0" * 50)
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        convert(tmp_path / "source", tmp_path / "out", "csv", "mapped")


def test_a_column_that_is_not_used_may_be_unreadable(tmp_path):
    frame = random_log(0).drop_duplicates(["user", "item"]).assign(timestamp="soon")
    write(tmp_path / "source", frame, "csv")
    with pytest.warns(UserWarning, match="column of timestamps is ignored"):
        convert(tmp_path / "source", tmp_path / "out", "csv", "mapped")


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint64, np.float64, np.float32])
def test_order_statistics(kind):
    rng = np.random.default_rng(0)
    values = (rng.normal(size=200) * 1e6).astype(np.int64)
    values = np.abs(values).astype(kind) if kind is np.uint64 else values.astype(kind)
    places = [0, 7, 150, 199]
    found = ordered_at(lambda: np.array_split(values, 6), places)
    assert found.dtype == kind
    assert found.tolist() == np.sort(values)[places].tolist()


#: Faults of a log: how each changes it, and what is said.
FAULTS = {
    "one missing user": (
        {"who": {4: None}},
        "1 row has no user: row 5 of the column who, counted from 1 without a header; leave it out",
    ),
    "missing users": (
        {"who": dict.fromkeys((60, 2, 30, 199))},
        "4 rows have no user: rows 3, 31, 61, … of the column who, counted from 1 without a header",
    ),
    "missing items": ({"item": {7: None, 70: None}}, "2 rows have no item: rows 8, 71 of the col"),
    "missing times": ({"when": {50: None, 3: None}}, "2 rows have no timestamp: rows 4, 51 of the"),
    "a bad date": (
        {"when": {57: "31/12/2020", 90: "soon"}},
        "the timestamp in row 58 of the column when, counted from 1 without a header, is "
        "'31/12/2020'; give numbers, or dates as in ISO 8601: 2020-12-31",
    ),
    "a date at the top": ({"when": {0: "soon"}}, "the timestamp in row 1 of the column when"),
    "a number among dates": ({"when": {40: "7"}}, "is '7', unlike those above it; give numbers"),
    "a bad and a missing date": ({"when": {5: "soon", 80: None}}, "1 row has no timestamp: row 81"),
    "a bad rating": (
        {"stars": {33: "good"}},
        "the rating in row 34 of the column stars, counted from 1 without a header, is 'good'; "
        "give numbers",
    ),
}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_located_in_the_same_words(tmp_path, suffix, fault):
    changes, message = FAULTS[fault]
    days = pd.date_range("2026-02-24", periods=200, freq="h").strftime("%Y-%m-%d %H:%M:%S")
    frame = pd.DataFrame({"who": np.arange(200) % 20, "item": np.arange(200) % 30, "when": days})
    frame = frame.assign(stars=4).astype(object)
    for column, values in changes.items():
        for row, value in values.items():
            frame.loc[row, column] = value
    frame = frame.astype({"when": "string", "stars": "string"})
    write(tmp_path / "source", frame, suffix)
    names = {"user": "who", "timestamp": "when", "rating": "stars"}
    settings = {**names, "split": "global_time", "min_rating": 1}
    with pytest.raises(DataError, match=re.escape(message)):
        load("csv", tmp_path / "source", **settings)
    assert compare(tmp_path / "source", tmp_path / "out", **settings) is None


@pytest.mark.parametrize("column", ["user", "timestamp"])
def test_infinite_numbers_are_located_in_the_same_words(tmp_path, column):
    frame = random_log(1).astype({column: float})
    frame.loc[[30, 90], column] = np.inf
    write(tmp_path / "source", frame, "parquet")
    message = f"2 rows have an infinite {column}: rows 31, 91 of the column {column}, counted from"
    with pytest.raises(DataError, match=message):
        load("csv", tmp_path / "source", by="time")
    assert compare(tmp_path / "source", tmp_path / "out", by="time") is None


@pytest.mark.parametrize("value", [None, "soon"])
def test_faults_of_training_times_are_located_in_the_log(tmp_path, value):
    frame = random_log(0)[["user", "item"]].drop_duplicates()
    frame["split"] = np.where(np.arange(len(frame)) % 2, "train", "test")
    frame["timestamp"] = pd.Series("2026-01-01", frame.index, dtype="string")
    frame.iloc[[41, 44], 3] = value  # The latter is held out.
    write(tmp_path / "source", frame, "csv")
    found = []
    for read in (load, lambda name, folder: convert(folder, tmp_path / "out", name, "mapped")):
        with pytest.warns(UserWarning, match="row 42 of the column timestamp") as caught:
            read("csv", tmp_path / "source")
        found.append([str(one.message) for one in caught if "row 42" in str(one.message)])
    assert found[0] == found[1]
