"""Missing values are never text, in any container and through any entry point."""

import datetime
import decimal
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphdiff.datasets import from_frame, load
from graphdiff.datasets.ids import as_ids, column_of
from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS, raw_ids

NAN = float("nan")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))


def as_floats(values):
    return [NAN if value is None else float(value) for value in values]


#: How a column of integers, None where one is missing, may come in.
INTEGERS = {
    "arrow int64": lambda v: pa.array(v, pa.int64()),
    "arrow float64, NaN": lambda v: pa.array(as_floats(v), pa.float64()),
    "arrow float64, null": lambda v: pa.array(v, pa.float64()),
    "arrow float32, NaN": lambda v: pa.array(np.array(as_floats(v), np.float32)),
    "arrow float16, NaN": lambda v: pa.array(np.array(as_floats(v), np.float16)),
    "arrow decimal": lambda v: pa.array(
        [None if i is None else decimal.Decimal(i) for i in v], pa.decimal128(20, 2)
    ),
    "arrow dictionary of floats": lambda v: pa.array(as_floats(v)).dictionary_encode(),
    "arrow chunks": lambda v: pa.chunked_array([v[:1], v[1:]], pa.int64()),
    "arrow run-end": lambda v: pa.RunEndEncodedArray.from_arrays(
        pa.array(range(1, len(v) + 1), pa.int32()), pa.array(v, pa.int64())
    ),
    "pandas float64": lambda v: pd.Series(as_floats(v), dtype=float),
    "pandas object": lambda v: pd.Series(v, dtype=object),
    "pandas object, NaN": lambda v: pd.Series(
        [NAN if i is None else i for i in v], dtype=object
    ),
    "pandas Int64": lambda v: pd.Series(v, dtype="Int64"),
    "pandas Float64": lambda v: pd.Series(v, dtype="Float64"),
    "pandas arrow": lambda v: pd.Series(v, dtype=pd.ArrowDtype(pa.int64())),
    "pandas category": lambda v: pd.Series(pd.Categorical(v)),
    "numpy floats": lambda v: np.array(as_floats(v)),
    "numpy masked": lambda v: np.ma.array(
        [i or 0 for i in v], mask=[i is None for i in v], dtype=np.int64
    ),
    "list": lambda v: list(v),
    "tensor": lambda v: torch.tensor(as_floats(v), dtype=torch.float64),
}  # fmt: skip

#: How a column of texts, None where one is missing, may come in.
TEXTS = {
    "arrow string": lambda v: pa.array(v, pa.string()),
    "arrow large_string": lambda v: pa.array(v, pa.large_string()),
    "arrow string_view": lambda v: pa.array(v, pa.string()).cast(pa.string_view()),
    "arrow binary": lambda v: pa.array([None if t is None else t.encode() for t in v], pa.binary()),
    "arrow dictionary": lambda v: pa.array(v, pa.string()).dictionary_encode(),
    "arrow dictionary that holds a null": lambda v: pa.DictionaryArray.from_arrays(
        pa.array(range(len(v)), pa.int8()), pa.array(v, pa.string())
    ),
    "pandas object": lambda v: pd.Series(v, dtype=object),
    "pandas object, NaN": lambda v: pd.Series([NAN if t is None else t for t in v], dtype=object),
    "pandas object, NaT": lambda v: pd.Series(
        [pd.NaT if t is None else t for t in v], dtype=object
    ),
    "pandas string": lambda v: pd.Series(v, dtype="string"),
    "pandas category": lambda v: pd.Series(pd.Categorical(v)),
    "mixed with integers": lambda v: pd.Series([*v[:-1], 7], dtype=object),
    "list": lambda v: list(v),
}  # fmt: skip


def missing(draw, values):
    """Values, some of which are None."""
    return [None if draw(st.booleans()) else value for value in values]


@st.composite
def columns(draw):
    count = draw(st.integers(2, 6))
    numbers = st.integers(-1000, 1000)
    integers = draw(st.lists(numbers, min_size=count, max_size=count))
    texts = [f"u{i}" for i in draw(st.lists(numbers, min_size=count, max_size=count))]
    kind = draw(
        st.sampled_from(sorted([*(("i", k) for k in INTEGERS), *(("t", k) for k in TEXTS)]))
    )
    values = missing(draw, integers if kind[0] == "i" else texts)
    if kind == ("t", "mixed with integers"):
        values[-1] = "7"
    return kind, values


@settings(max_examples=300, deadline=None)
@given(columns())
def test_kind_b_ids_are_themselves_or_refused_with_the_number_that_is_missing(case):
    (family, kind), values = case
    column = (INTEGERS if family == "i" else TEXTS)[kind](values)
    absent = values.count(None)
    frame = {"user": column, "item": list(range(len(values)))}
    if absent:
        with pytest.raises(DataError, match=rf"^{absent} rows? ha(s|ve) no user: row"):
            from_frame(frame, split="leave_one_out")
        with pytest.raises(DataError, match=rf"^{absent} rows? ha(s|ve) no item: row"):
            as_ids(column_of(column, "item"), "item")
    else:
        data = from_frame(frame, split="leave_one_out")
        assert raw_ids(data, "user", range(data["user"].num_nodes)) == sorted(set(values))


@pytest.mark.parametrize("kind", INTEGERS)
def test_kind_b_integers_stay_integers_in_every_container(kind):
    data = from_frame({"user": INTEGERS[kind]([30, 4, 30]), "item": [1, 2, 3]})
    assert data["user"].raw_id.tolist() == [4, 30]


#: Where ids come in, each given a column of ids, one of which is missing.
DOORS = {
    "users of a log": lambda ids, folder: from_frame({"user": ids, "item": [1, 2, 3]}),
    "items of a log": lambda ids, folder: from_frame({"user": [1, 2, 3], "item": ids}),
    "a DataFrame": lambda ids, folder: from_frame(pd.DataFrame({"user": ids, "item": [1, 2, 3]})),
    "an arrow table": lambda ids, folder: from_frame(
        pa.table({"user": pa.array(ids), "item": [1, 2, 3]})
    ),
    "all users": lambda ids, folder: from_frame({"user": [1], "item": [1]}, users=ids),
    "all items": lambda ids, folder: from_frame({"user": [1], "item": [1]}, items=ids),
    "ids of features": lambda ids, folder: from_frame(
        {"user": [1], "item": [1]}, features={"f": (ids, np.ones((3, 2)))}
    ),
    "Parquet": lambda ids, folder: written(
        folder, {"interactions": {"user": ids, "item": [1, 2, 3]}}
    ),
    "users.parquet": lambda ids, folder: written(
        folder, {"interactions": {"user": [1], "item": [1]}, "users": {"user": ids}}
    ),
    "items.parquet": lambda ids, folder: written(
        folder, {"interactions": {"user": [1], "item": [1]}, "items": {"item": ids}}
    ),
    "features_f.parquet": lambda ids, folder: written(
        folder,
        {"interactions": {"user": [1], "item": [1]}, "features_f": {"item": ids, "x_0": [1, 2, 3]}},
    ),
    "a CSV file": lambda ids, folder: text(folder, "interactions.csv", "user,item\n", ",1\n", ids),
    "a TSV file": lambda ids, folder: text(folder, "a.tsv", "user\titem\n", "\t1\n", ids),
    "users.csv": lambda ids, folder: text(folder, "users.csv", "user,n\n", ",1\n", ids),
    "RecBole": lambda ids, folder: text(
        folder, "a.inter", "user_id:token\titem_id:token\n", "\t1\n", ids, "recbole"
    ),
}  # fmt: skip


def written(folder, tables):
    for name, table in tables.items():
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return load("parquet", folder)[0]


def text(folder, name, header, rest, ids, layout="csv"):
    if name == "users.csv":
        (folder / "interactions.csv").write_text("user,item\n1,1\n")
    shown = ["" if i is None or i != i else f"{i:.0f}" for i in ids]
    (folder / name).write_text(header + "".join(i + rest for i in shown))
    return load(layout, folder)[0]


@pytest.mark.parametrize("door", DOORS)
def test_kind_b_no_door_lets_a_missing_id_in(door, tmp_path):
    with pytest.raises(DataError, match=r"^1 row has no (user|item): row 2( of|,)"):
        DOORS[door]([1.0, NAN, 3.0], tmp_path)


@pytest.mark.parametrize("door", DOORS)
def test_kind_b_whole_floats_are_integers_at_every_door(door, tmp_path):
    data = DOORS[door]([1.0, 2e6, 123456789012.0], tmp_path)
    for node in ("user", "item"):
        ids = raw_ids(data, node, range(data[node].num_nodes))
        assert set(ids) <= {1, 2, 3, 2000000, 123456789012}
        assert all(isinstance(i, int) for i in ids)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([2**70, 1, 2], r"the user ids hold 1180591620717411303424, which is beyond 64 bits"),
        ([-(2**63) - 1, 1, 2], "beyond 64 bits"),
        ([b"\xff\xfe", b"a", b"b"], r"the user ids are bytes \(binary\) that are not UTF-8"),
        ([b"\xff\xfe", "a", 1], "hold the bytes .* not UTF-8"),
        (pa.array([b"\x80a", b"cd", b"ef"], pa.binary(2)), "are bytes .* not UTF-8"),
        (pa.array([b"\x80"] * 3, pa.large_binary()), "are bytes .* not UTF-8"),
        (["a", "\ud800", "b"], "cannot be written as UTF-8"),
        ([1.0, np.inf, 2.0], "1 row has an infinite user: row 2 of the column user"),
        ([1e300, 1.0, 2.0], "beyond 9007199254740992"),
        (np.array([2**24 + 2, 1, 2], np.float32), "beyond 16777216"),
        ([[1], [2], [3]], "the user ids are list<.*>; give integers or strings"),
        ([["a"], "b", 1], "the user ids hold .*, of type list; give integers or strings"),
        (np.ones((3, 2)), "the users have 2 dimensions; give one"),
        ("abc", "the users are of type str; give a list or column"),
        (5, "the users are of type int; give a list or column"),
        ([1, 2], r"the columns differ in length \(user: 2, item: 3\)"),
    ],
)  # fmt: skip
def test_kind_b_ids_that_cannot_be_kept_exactly_are_refused(ids, message):
    with pytest.raises(DataError, match=message):
        from_frame({"user": ids, "item": [1, 2, 3]})


def test_kind_b_ids_of_several_types_are_what_they_are_written_as():
    ids = [1, 2.0, "x", True, b"y", decimal.Decimal("1.50"), datetime.date(2020, 1, 2), np.int8(3)]
    data = from_frame({"user": pd.Series(ids, dtype=object), "item": range(len(ids))})
    expected = ["1", "2", "x", "True", "y", "1.50", "2020-01-02", "3"]
    assert data["user"].raw_id == sorted(expected)


class Stream:
    """A frame of another library, as Arrow's C interface shows it."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def test_kind_b_frames_and_columns_of_other_libraries_are_read():
    table = pa.table({"user": [2.0, 1.0], "item": ["b", "a"]})
    users = Stream(pa.chunked_array([[2.0, 1.0, 7.0]]))
    data = from_frame(Stream(table), users=users)
    assert data["user"].raw_id.tolist() == [2, 1, 7]
    assert data["item"].raw_id == ["a", "b"]
    with pytest.raises(DataError, match="2 rows have no user: rows 1, 3 of the column"):
        from_frame(Stream(pa.table({"user": [NAN, 1.0, None], "item": [1, 2, 3]})))


@pytest.mark.parametrize("frame", [[[1, 2]], "log.csv", None, 5, np.ones((2, 2))], ids=str)
def test_kind_b_other_things_than_frames_are_refused(frame):
    with pytest.raises(DataError, match=r"the frame is of type .*; give a DataFrame, a pyarrow"):
        from_frame(frame)


def test_kind_b_text_in_a_file_is_an_id_even_if_it_says_nan(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\nnan,NA\nNone,null\n")
    data = load("csv", tmp_path)[0]
    assert (data["user"].raw_id, data["item"].raw_id) == (["None", "nan"], ["NA", "null"])


TIMES = {
    "arrow floats": lambda v: pa.array(v, pa.float64()),
    "pandas floats": lambda v: pd.Series(v),
    "text": lambda v: pa.array([str(x) for x in v]),
    "object": lambda v: pd.Series([None if x != x else x for x in v], dtype=object),
}


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize(
    "by", [{"by": "time"}, {"by": "time", "split": "leave_one_out"}, {"split": "global_time"}]
)
@pytest.mark.parametrize(
    ("odd", "message"),
    [([NAN, NAN], "2 rows have no timestamp"), ([np.inf], "1 row has an infinite timestamp")],
)
def test_kind_b_times_that_order_nothing_are_refused_with_their_number(kind, by, odd, message):
    times = TIMES[kind]([1.0, 2.0, 3.0, *odd])
    frame = {"user": [1] * len(times), "item": range(len(times)), "timestamp": times}
    with pytest.raises(DataError, match=message):
        from_frame(frame, **by)


@pytest.mark.parametrize(
    "column",
    [
        {"timestamp": [NAN, 1, 2, 3]},
        {"timestamp": ["12/31/2020"] * 4},
        {"timestamp": pa.array([(1, 2, 3)] * 4, pa.month_day_nano_interval())},
        {"timestamp": [[1], [2], [3], [4]]},
        {"rating": ["good"] * 4},
        {"rating": [True, False, True, True]},
        {"split": ["a", "b", "c", "d"]},
    ],
)
def test_kind_b_a_column_that_nothing_needs_is_ignored_with_a_notice(column):
    frame = {"user": [1, 1, 1, 2], "item": [1, 2, 3, 4]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = from_frame(frame, split="ratio")
    (name,) = column
    with pytest.warns(
        UserWarning, match=f"the column of {name}s is ignored, because it is not used"
    ):
        data = from_frame({**frame, **column}, split="ratio")
    assert torch.equal(data[INTERACTS].edge_index, plain[INTERACTS].edge_index)


@pytest.mark.parametrize(
    ("column", "settings", "message"),
    [
        ({"timestamp": ["12/31/2020"] * 4}, {"by": "time"},
         r"is '12/31/2020'; give numbers, or dates as in ISO 8601: 2020-12-31, 2020-12-31 "),
        ({"timestamp": [datetime.time(1)] * 4}, {"split": "global_time"}, "give numbers, or dates"),
        ({"timestamp": [True] * 4}, {"split": "global_time"}, "the timestamps are bool"),
        ({"rating": ["good"] * 4}, {"min_rating": 3}, "rating in row 1 .*, is 'good'"),
        ({"split": ["a"] * 4}, {}, "the split of a row is 'a'; give train, val or test"),
        ({"split": ["train", None, "val", "test"]}, {}, "1 row has no split: row 2 of the"),
    ],
)  # fmt: skip
def test_kind_b_a_column_that_is_needed_is_refused_in_clear_words(column, settings, message):
    with pytest.raises(DataError, match=message):
        from_frame({"user": [1, 1, 1, 2], "item": [1, 2, 3, 4], **column}, **settings)


DATES = [datetime.datetime(2020, 1, day, 12, 30) for day in (4, 2, 3, 1)]


@pytest.mark.parametrize(
    "times",
    [
        DATES,
        [date.date() for date in DATES],
        pd.Series(DATES),
        pd.Series(DATES).dt.tz_localize("Europe/Berlin"),
        [date.isoformat() for date in DATES],
        [date.isoformat(" ") for date in DATES],
        [date.isoformat() + "Z" for date in DATES],
        [date.isoformat() + "+02:00" for date in DATES],
        [date.isoformat() + ".123456789" for date in DATES],
        [str(date.date()) for date in DATES],
        [str(date.timestamp()) for date in DATES],
        [str(int(date.timestamp())) for date in DATES],
        [decimal.Decimal(day) for day in (4, 2, 3, 1)],
        np.array([4, 2, 3, 1], np.uint64),
        pa.array([date.isoformat() for date in DATES]).dictionary_encode(),
    ],
    ids=str,
)
@pytest.mark.parametrize("door", ["frame", "csv"])
def test_kind_b_the_accepted_times_order_the_same_everywhere(times, door, tmp_path):
    frame = {"user": [1] * 4, "item": [1, 2, 3, 4], "timestamp": times}
    if door == "frame":
        data = from_frame(frame, split="leave_one_out", by="time")
    else:
        written = [
            str(value) for value in (times.to_pylist() if isinstance(times, pa.Array) else times)
        ]
        rows = "".join(f"1,{i},{t}\n" for i, t in zip(frame["item"], written, strict=True))
        (tmp_path / "a.csv").write_text("user,item,timestamp\n" + rows)
        data = load("csv", tmp_path, split="leave_one_out", by="time")[0]
    assert raw_ids(data, "item", data[INTERACTS].test_edge_label_index[1]) == [1]
    assert raw_ids(data, "item", data[INTERACTS].val_edge_label_index[1]) == [3]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 50), min_size=6, max_size=6), st.sets(st.integers(0, 5)))
def test_kind_b_a_missing_rating_does_not_count(ratings, absent):
    column = [NAN if n in absent else rating for n, rating in enumerate(ratings)]
    frame = {"user": range(6), "item": range(6), "rating": column}
    kept = [n for n, rating in enumerate(ratings) if n not in absent and rating >= 25]
    if kept:
        data = from_frame(frame, min_rating=25)
        assert raw_ids(data, "user", range(data["user"].num_nodes)) == kept
    else:
        with pytest.raises(DataError, match="no interaction is rated"):
            from_frame(frame, min_rating=25)
