"""A column that an argument names must be there; those with the usual names are optional."""

import re

import pandas as pd
import pytest

from graphdiff.datasets import from_frame, load
from graphdiff.datasets.convert import convert
from graphdiff.errors import DataError
from tests.datasets.layouts.test_log import FRAME, NAMES

pytestmark = pytest.mark.filterwarnings("ignore:.*repeat a pair")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"timestamp": "dat"}, "not dat, which timestamp=dat names; did you mean timestamp=da"),
        ({"rating": "star"}, "not star, which rating=star names; did you mean rating=stars"),
        ({"split_column": "fold"}, "not fold, which split_column=fold names; name one that"),
    ],
)
@pytest.mark.parametrize("door", ["frame", "csv", "parquet", "recbole", "mapped"])
def test_a_column_that_was_given_a_name_must_be_there(folder, door, setting, message):
    refuses(folder, door, {**NAMES, **setting}, re.escape(message))


@pytest.mark.parametrize("door", ["frame", "csv", "parquet", "recbole", "mapped"])
def test_a_least_rating_needs_ratings(folder, door):
    columns = ", ".join(FRAME)
    message = (
        f"has the columns {columns}, but no column of ratings called rating, which min_rating=3 "
        "needs; say what it is called, such as rating=NAME"
    )
    names = {name: column for name, column in NAMES.items() if name != "rating"}
    refuses(folder, door, {**names, "min_rating": 3}, re.escape(message))


def refuses(folder, door, names, label):
    """Check that each way into a dataset refuses a log, with a message."""
    if door == "frame":
        with pytest.raises(DataError, match=label):
            from_frame(FRAME, **names)
        return
    if door == "parquet":
        FRAME.to_parquet(folder / "log.parquet")
    elif door == "recbole":
        typed = {name: f"{name}:token" for name in FRAME}
        FRAME.rename(columns=typed).to_csv(folder / "a.inter", sep="\t", index=False)
    else:
        FRAME.to_csv(folder / "log.csv", index=False)
    if door == "mapped":
        pytest.importorskip("polars")
        with pytest.raises(DataError, match=label):
            convert(folder, folder.parent / "out", "csv", "mapped", **names)
        return
    with pytest.raises(DataError, match=label):
        load(door, folder, **names)


def test_the_usual_names_stay_optional(folder):
    FRAME[["customer", "article"]].to_csv(folder / "log.csv", index=False)
    usual = {"timestamp": "timestamp", "rating": "rating", "split_column": "split"}
    data = load("csv", folder, user="customer", item="article", **usual)[0]
    assert data["user"].num_nodes == 2


def test_details_that_were_given_a_name_must_be_there():
    shown = pd.DataFrame({"article": ["x"], "name": ["Ex"], "category": ["c"]})
    assert from_frame(FRAME, details=shown, title="name", **NAMES)["item"].title[1] == "Ex"
    with pytest.raises(DataError, match="not nme, which title=nme names; did you mean title=n"):
        from_frame(FRAME, details=shown, title="nme", **NAMES)
    with pytest.raises(DataError, match="title=name names a column of details, and there are"):
        from_frame(FRAME, title="name", **NAMES)
