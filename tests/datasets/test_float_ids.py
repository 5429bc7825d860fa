"""Integers that a text file writes as a column of floats, ``100.0``, are integers."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from graphdiff.datasets import load
from graphdiff.datasets.convert import convert
from graphdiff.datasets.ids import as_ids, encode_ids
from graphdiff.errors import DataError

PAIRS = pd.DataFrame({"user": [7, 7, 100, 100, 8], "item": [3, 20, 3, 100, 20]})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["100.0", "-3.0", "0.0"], [100, -3, 0]),
        (["9007199254740992.0"], [2**53]),
        (["100.0", "100"], None),
        (["100.0", "1.5"], None),
        (["007.0", "8.0"], None),
        (["-0.0", "8.0"], None),
        (["1.00", "8.0"], None),
        (["1e3", "8.0"], None),
        (["100.0", "a"], None),
    ],
)
def test_only_a_whole_column_of_them_becomes_integers(written, expected):
    found = as_ids(pa.array(written), "user", text=True)
    assert found.to_pylist() == (written if expected is None else expected)
    codes, ids = encode_ids(pa.array(written), "user", text=True)
    assert ids.take(pa.array(codes)).to_pylist() == found.to_pylist()
    assert as_ids(pa.array(written), "user").to_pylist() == written


def test_those_that_a_float_cannot_hold_are_refused():
    with pytest.raises(DataError, match=r"up to 9007199254740994.0, .* write them as integers"):
        as_ids(pa.array(["9007199254740994.0"]), "item", text=True)


@pytest.mark.parametrize("door", ["csv", "recbole", "mapped"])
def test_a_log_of_them_is_that_of_integers(tmp_path, door):
    folder = tmp_path / "shop"
    folder.mkdir()
    floats, split = PAIRS.astype(float), {"split": "ratio"}
    if door == "recbole":
        floats.columns = ["user_id:token", "item_id:token"]
        floats.to_csv(folder / "a.inter", sep="\t", index=False)
        data = load("recbole", folder, **split)[0]
    else:
        floats.to_csv(folder / "interactions.csv", index=False)
        data = load("csv", folder, **split)[0] if door == "csv" else None
    if door == "mapped":
        pytest.importorskip("polars")
        convert(folder, tmp_path / "out", "csv", "mapped", **split)
        data = load("mapped", tmp_path / "out")[0]
    assert data["user"].raw_id.tolist() == [7, 8, 100]
    assert data["item"].raw_id.tolist() == [3, 20, 100]


@pytest.mark.parametrize("log", [PAIRS, PAIRS.astype(float)])
@pytest.mark.parametrize("tables", [int, float])
def test_features_and_details_of_them_are_those_of_the_items(tmp_path, log, tables):
    log.to_csv(tmp_path / "interactions.csv", index=False)
    items = np.array([100, 3, 20], dtype=tables)
    shown = pd.DataFrame({"item": items, "title": ["hundred", "three", "twenty"]})
    shown.to_csv(tmp_path / "items.csv", index=False)
    features = pd.DataFrame({"item": items, "x_0": [100.0, 3.0, 20.0]})
    features.to_csv(tmp_path / "features_text.csv", index=False)
    data = load("csv", tmp_path, split="ratio")[0]
    assert data["item"].raw_id.tolist() == [100, 3, 20]
    assert data["item"].title == ["hundred", "three", "twenty"]
    assert data["item"].x_text.flatten().tolist() == [100, 3, 20]
