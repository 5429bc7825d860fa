"""Rows of features are assigned to their items, or refused."""

import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphdiff.datasets import from_frame, load
from graphdiff.errors import DataError

NAN = float("nan")
LOG = {"user": ["a", "b", "c"], "item": ["x", "y", "z"]}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))


#: How N rows of whole numbers may be given.
CONTAINERS = {
    "float64": lambda x: x,
    "float16": lambda x: x.astype(np.float16),
    "big-endian": lambda x: x.astype(">f4"),
    "integers": lambda x: x.astype(np.int32),
    "fortran": np.asfortranarray,
    "a view": lambda x: np.repeat(x, 2, axis=0)[::2],
    "lists": lambda x: x.tolist(),
    "tuples": lambda x: tuple(map(tuple, x)),
    "DataFrame": pd.DataFrame,
    "objects": lambda x: x.astype(object),
    "tensor": torch.from_numpy,
    "bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
    "requires_grad": lambda x: torch.from_numpy(x).requires_grad_(),
    "sparse tensor": lambda x: torch.from_numpy(x).to_sparse(),
    "csr_matrix": sp.csr_matrix,
    "csc_array": sp.csc_array,
    "coo_matrix": sp.coo_matrix,
    "lil_matrix": sp.lil_matrix,
    "list of tensors": lambda x: list(torch.from_numpy(x)),
    "column of lists": lambda x: pd.Series(list(x)),
}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(CONTAINERS)),
    st.permutations(["x", "y", "z", "unsold", "new"]),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_kind_d_rows_in_any_container_and_order_go_to_their_items(kind, order, count, channels):
    ids = order[:count]
    values = np.array([[ord(i[0]) + c for c in range(channels)] for i in ids], dtype=np.float64)
    features = {"f": (ids, CONTAINERS[kind](values))}
    if not set(ids) & {"x", "y", "z"}:
        with pytest.raises(DataError, match="no row of the f features belongs to an item"):
            from_frame(LOG, features)
        return
    item = from_frame(LOG, features)["item"]
    assert item.has_f.tolist() == [i in ids for i in "xyz"]
    for row, i in enumerate("xyz"):
        expected = [ord(i) + c if i in ids else 0 for c in range(channels)]
        assert item.x_f[row].tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(CONTAINERS)), st.integers(1, 6), st.integers(1, 6))
def test_kind_d_as_many_rows_as_ids(kind, rows, count):
    ids = ["x", "y", "z", "p", "q", "r"][:count]
    given_ = CONTAINERS[kind](np.ones((rows, 2)))
    if rows == count:
        assert from_frame(LOG, {"f": (ids, given_)})["item"].x_f.shape == (3, 2)
    else:
        with pytest.raises(DataError, match=rf"x_f has {rows} rows but {count} item ids are given"):
            from_frame(LOG, {"f": (ids, given_)})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(3), r"x_f has shape \[3\]; give \[3, F\]"),
        (np.ones((3, 2, 2)), r"x_f has shape \[3, 2, 2\]"),
        (np.ones((3, 0)), r"x_f has shape \[3, 0\]"),
        ([[1, 2], [3], [4, 5]], "row 0 has 2 values, row 1 has 1"),
        ([["a"], ["b"], ["c"]], "cannot be read as an array of numbers"),
        (np.ones((3, 2)) * 1j, "complex128; give real numbers"),
        (torch.ones(3, 2, dtype=torch.complex64), "give real numbers"),
        (np.full((3, 1), "2020-01-01", "datetime64[D]"), "its dtype is datetime64"),
        (np.array([[1, NAN], [1, 2], [3, 4]]), r"1 of 3 items \('x'\) has NaN in part of the row"),
        (np.array([[1], [np.inf], [3]]), r"1 of 3 items \('y'\) has an infinite value"),
        (None, "give"),
        ({"a": 1}, "cannot be read as an array of numbers"),
    ],
    ids=str,
)
def test_kind_d_other_values_than_tables_of_numbers_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        from_frame(LOG, {"f": (["x", "y", "z"], values)})


@pytest.mark.parametrize("kind", CONTAINERS)
def test_kind_d_an_encoder_may_return_any_container(kind, tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item\n0,0\n1,1\n")
    (tmp_path / "names.csv").write_text("item,text\n1,abc\n0,x\n")

    def encode(texts):
        return CONTAINERS[kind](np.array([[len(text), 1.0] for text in texts]))

    data = load("csv", tmp_path, file="interactions.csv", content={"f": "names.csv"},
                encode={"f": encode})[0]  # fmt: skip
    assert data["item"].x_f.tolist() == [[1, 1], [3, 1]]


@pytest.mark.parametrize("result", [np.ones(2), np.ones((3, 1)), [["a"], ["b"]], None, "text"])
def test_kind_d_what_an_encoder_returns_is_checked(result, tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item\n0,0\n1,1\n")
    (tmp_path / "names.csv").write_text("item,text\n1,abc\n0,x\n")
    with pytest.raises(DataError, match=r"the encoder made \[|cannot be read as an array of num"):
        load("csv", tmp_path, file="interactions.csv", content={"f": "names.csv"},
             encode={"f": lambda texts: result})  # fmt: skip


@pytest.mark.parametrize("given_", [np.ones((3, 2)), "x", 5, (["x"],), {"x": [1]}], ids=str)
def test_kind_d_features_are_ids_and_values(given_):
    with pytest.raises(DataError, match=r"the f features are of type .*; give \(ids, values\)"):
        from_frame(LOG, {"f": given_})


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    items=st.sets(st.integers(0, 12), min_size=1, max_size=6),
    rows=st.integers(1, 8),
    layout=st.sampled_from(["csv", "parquet", "recbole"]),
)
def test_kind_d_rows_without_ids_are_those_of_the_items_0_1_and_so_on(
    tmp_path_factory, items, rows, layout
):
    folder = tmp_path_factory.mktemp("toys")
    log = {"user": list(range(len(items))), "item": sorted(items)}
    if layout == "parquet":
        pq.write_table(pa.table(log), folder / "interactions.parquet")
    else:
        separator, name = ("\t", "a.inter") if layout == "recbole" else (",", "interactions.csv")
        header = "user_id:token\titem_id:token" if layout == "recbole" else "user,item"
        lines = [separator.join(map(str, row)) for row in zip(*log.values(), strict=True)]
        (folder / name).write_text("\n".join([header, *lines]) + "\n")
    np.save(folder / "features_f.npy", np.arange(rows)[:, None] + 0.5)
    features = {"features": {"f": "features_f.npy"}}
    if max(items) < rows:
        item = load(layout, folder, **features)[0]["item"]
        assert item.x_f.tolist() == [[i + 0.5] for i in sorted(items)]
        assert item.has_f.all()
    else:
        with pytest.raises(DataError, match=rf"has {rows} rows and no item ids, .*items\.parquet"):
            load(layout, folder, **features)


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ([1, 2, 3], "3 items, 1 to 3"),
        ([0, 5, 9], "3 items, 0 to 9"),
        ([-1, 0, 1], "3 items, -1 to 1"),
        (["a", "b", "c"], "3 items, text: 'a', 'b', 'c'"),
        (["0", "1", "x"], "3 items, text: '0', '1', 'x'"),
    ],
)
def test_kind_d_a_list_of_items_settles_whose_rows_they_are(items, found, tmp_path):
    rows = "".join(f"{n},{item}\n" for n, item in enumerate(items))
    (tmp_path / "interactions.csv").write_text("user,item\n" + rows)
    np.save(tmp_path / "features_f.npy", np.arange(3)[:, None])
    with pytest.raises(DataError, match=rf"{found}\. List the items in the order of the rows in"):
        load("csv", tmp_path)
    order = [items[2], items[0], items[1]]
    pq.write_table(pa.table({"item": order}), tmp_path / "items.parquet")
    item = load("csv", tmp_path)[0]["item"]
    assert item.x_f.tolist() == [[0], [1], [2]]
    assert list(item.raw_id if isinstance(item.raw_id, list) else item.raw_id.tolist()) == order


def test_kind_d_filters_do_not_hide_a_wrong_numbering(tmp_path):
    # Item 3, which says that ids begin at 1, is rated too low to be kept.
    (tmp_path / "interactions.csv").write_text("user,item,rating\n0,1,5\n1,2,5\n2,3,1\n")
    np.save(tmp_path / "features_f.npy", np.arange(3)[:, None])
    with pytest.raises(DataError, match="1 to 3"):
        load("csv", tmp_path, min_rating=3)


BIG = 2**24 + 1
VALUES = {
    "integers beyond 2**24": (np.array([[BIG], [3]]), [[float(np.float32(BIG))], [3]]),
    "unsigned": (np.array([[2**40 + 1], [3]], np.uint64), [[float(2**40)], [3]]),
    "bool": (np.array([[True], [False]]), [[1], [0]]),
    "float64": (np.array([[0.1], [3]]), [[float(np.float32(0.1))], [3]]),
    "float16": (np.array([[0.5], [3]], np.float16), [[0.5], [3]]),
    "beyond float32": (np.array([[1e300], [3]]), "an infinite value"),
    "too large to square": (np.array([[2**60], [3]]), "a value beyond"),
    "infinite": (np.array([[np.inf], [3]]), "an infinite value"),
    "NaN": (np.array([[NAN], [3]]), [[0], [3]]),
    "complex": (np.array([[1j], [3]]), None),
    "text": (np.array([["1"], ["3"]]), None),
    "dates": (np.array([["2020-01-01"]] * 2, "datetime64[D]"), None),
}


def to_npy(folder, values):
    np.save(folder / "features_f.npy", values)


def to_lists(folder, values):
    kind = pa.array(values[:, 0]).type
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values[:, 0], kind), 1)
    pq.write_table(pa.table({"item": [0, 1], "x_f": lists}), folder / "features_f.parquet")


def to_columns(folder, values):
    table = {"item": [0, 1], "x_0": pa.array(values[:, 0])}
    pq.write_table(pa.table(table), folder / "features_f.parquet")


def in_items(folder, values):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values[:, 0]), 1)
    pq.write_table(pa.table({"item": [0, 1], "x_f": lists}), folder / "items.parquet")


def in_memory(folder, values):
    return from_frame({"user": [0, 1], "item": [0, 1]}, {"f": ([0, 1], values)})


@pytest.mark.parametrize("door", [to_npy, to_lists, to_columns, in_items, in_memory])
@pytest.mark.parametrize("kind", VALUES)
def test_kind_d_the_same_values_get_the_same_answer_at_every_door(door, kind, tmp_path):
    values, expected = VALUES[kind]
    if kind == "complex" and door not in (to_npy, in_memory):
        pytest.skip("Arrow has no complex numbers")

    def read():
        made = door(tmp_path, values)
        if made is None:
            (tmp_path / "interactions.csv").write_text("user,item\n0,0\n1,1\n")
            made = load("csv", tmp_path, file="interactions.csv")[0]
        return made["item"]

    if isinstance(expected, list):
        assert read().x_f.tolist() == expected
    else:
        with pytest.raises(DataError, match=expected):
            read()


def test_kind_d_decimals_of_parquet_are_numbers(tmp_path):
    (tmp_path / "interactions.csv").write_text("user,item\n0,0\n1,1\n")
    lists = pa.array([[decimal.Decimal("1.5")], [decimal.Decimal("-2")]])
    pq.write_table(pa.table({"item": [0, 1], "x_f": lists}), tmp_path / "features_f.parquet")
    item = load("csv", tmp_path, file="interactions.csv")[0]["item"]
    assert item.x_f.tolist() == [[1.5], [-2]]


@pytest.mark.parametrize("layout", ["mmrec", "pairs", "diffmm"])
def test_kind_d_layouts_of_indices_refuse_fewer_rows_than_items(layout, tmp_path):
    pairs = np.array([[0, 1], [1, 3]])
    if layout == "mmrec":
        (tmp_path / "a.inter").write_text("userID\titemID\tx_label\n0\t1\t0\n1\t3\t0\n")
    elif layout == "pairs":
        for name in ("train", "valid", "test"):
            np.save(tmp_path / f"{name}_list.npy", pairs.T[: 2 if name == "train" else 0])
    else:
        for name in ("train", "val", "test"):
            lists = '{"0": [1], "1": [3]}' if name == "train" else "{}"
            (tmp_path / f"{name}.json").write_text(lists)
    np.save(tmp_path / "f_feat.npy", np.ones((3, 2)))
    with pytest.raises(DataError, match="x_f has 3 rows but the graph has 4 items"):
        load(layout, tmp_path)
