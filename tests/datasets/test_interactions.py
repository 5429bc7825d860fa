"""Ids of any type, repeats, ratings and k-cores, against plain loops."""

import datetime
import decimal
import uuid
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.datasets.ids import as_ids, encode_ids, places
from graphdiff.datasets.interactions import Interactions, drop_repeats, k_core, keep_rated
from graphdiff.errors import DataError


def log(users, items, **columns):
    return Interactions.from_table(pa.table({"user": users, "item": items, **columns}))


def pairs(found):
    users, items = found.user_ids.to_pylist(), found.item_ids.to_pylist()
    return [(users[u], items[i]) for u, i in zip(found.user, found.item, strict=True)]


class TestIds:
    @pytest.mark.parametrize(
        ("column", "ids"),
        [
            (pa.array([30, 4, 30], pa.uint16()), [4, 30]),
            (pa.array([3.0, 1.0, 2.0]), [1, 2, 3]),
            (pa.array([0.5, 1.0]), ["0.5", "1"]),
            (pa.array(["b", "a", "b"]), ["a", "b"]),
            (pa.array(["10", "9"]), ["10", "9"]),
            (pa.array(["b", "a"], pa.large_string()), ["a", "b"]),
            (pa.array([b"b", b"a"]), ["a", "b"]),
            (pa.array([True, False]), ["false", "true"]),
            (pa.array([datetime.date(2020, 1, 2)]), ["2020-01-02"]),
            (pa.array([decimal.Decimal("1.50")]), ["1.50"]),
            (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
            (pa.array([uuid.UUID(int=1)], pa.uuid()), [str(uuid.UUID(int=1))]),
            (pa.array(pd.Categorical(["b", "a"], categories=["z", "b", "a"])), ["a", "b"]),
            (pa.chunked_array([["b"], [], ["a", "b"]], pa.string()), ["a", "b"]),
            (pa.chunked_array([pa.array(["b"]).dictionary_encode(),
                               pa.array(["a", "b"]).dictionary_encode()]), ["a", "b"]),
            (pa.array([], pa.int64()), []),
        ],
    )  # fmt: skip
    def test_any_type_is_numbered_in_sorted_order(self, column, ids):
        found = log(column, column).without_unused_ids("user")
        assert found.user_ids.to_pylist() == ids
        written = [str(value.as_py()) for value in column]
        if ids and isinstance(ids[0], str) and pa.types.is_string(column.type):
            assert [ids[code] for code in found.user] == written
        assert len(found) == len(column)

    def test_integers_in_a_text_file_are_integers_unless_that_loses_something(self):
        for texts, ids in (
            (["10", "9"], [9, 10]),
            (["-3", "0"], [-3, 0]),
            (["007", "7"], ["007", "7"]),
            (["1", "x"], ["1", "x"]),
            (["9" * 19], ["9" * 19]),
            (["+1"], ["+1"]),
        ):
            assert encode_ids(pa.array(texts), "user", text=True)[1].to_pylist() == ids
            assert encode_ids(pa.array(texts), "user")[1].to_pylist() == sorted(texts)

    def test_missing_ids_are_refused(self):
        with pytest.raises(DataError, match="1 row has no user: row 2"):
            log(pa.array(["a", None]), pa.array([1, 2]))
        with pytest.raises(DataError, match="2 rows have no item: rows 1, 2, counted"):
            as_ids(pa.array([None, None], pa.int64()), "item")

    def test_ids_that_cannot_be_written_are_refused(self):
        for column in (pa.array([[1], [2]]), pa.array([{"a": 1}, {"a": 2}])):
            with pytest.raises(DataError, match=r"the user ids are .*; give integers or strings"):
                log(column, pa.array([1, 2]))

    def test_an_integer_is_the_string_that_writes_it(self):
        ids, among = pa.array([3, 7]), pa.array(["7", "x"])
        assert places(ids, among).tolist() == [-1, 0]
        assert places(among, ids).tolist() == [1, -1]

    def test_a_given_list_sets_the_order_and_must_hold_all(self):
        table = pa.table({"user": ["a", "b"], "item": [5, 6]})
        found = Interactions.from_table(table, pa.array(["c", "b", "a"]), pa.array([6, 5]))
        assert found.user.tolist() == [2, 1]
        assert pairs(found) == [("a", 5), ("b", 6)]
        with pytest.raises(DataError, match=r"1 items of the interactions are not in the list .*6"):
            Interactions.from_table(table, None, pa.array([5]))


class TestRepeats:
    USERS, ITEMS = ["a", "a", "b", "a"], ["x", "x", "x", "y"]

    @pytest.mark.parametrize(
        ("times", "keep", "kept"),
        [
            (None, "first", [0, 2, 3]),
            (None, "last", [1, 2, 3]),
            ([2, 1, 0, 0], "first", [1, 2, 3]),
            ([2, 1, 0, 0], "last", [0, 2, 3]),
        ],
    )
    def test_first_and_last_are_by_time_or_by_row(self, times, keep, kept):
        columns = {"rating": [1.0, 2.0, 3.0, 4.0], **({"timestamp": times} if times else {})}
        with pytest.warns(UserWarning, match="1 rows that repeat a pair .* were left out"):
            found = drop_repeats(log(self.USERS, self.ITEMS, **columns), keep)
        assert found.rating.tolist() == [1.0 + row for row in kept]

    def test_a_pair_in_two_splits_belongs_to_the_earlier(self):
        found = log(self.USERS, self.ITEMS, split=["test", "train", "test", "val"])
        with pytest.warns(UserWarning, match="1 rows"):
            assert drop_repeats(found, "first").label.tolist() == [0, 2, 1]

    def test_they_can_be_refused(self):
        with pytest.raises(DataError, match="1 rows repeat a pair"):
            drop_repeats(log(self.USERS, self.ITEMS), "error")
        assert len(drop_repeats(log(["a", "b"], ["x", "x"]), "error")) == 2


def test_ratings_below_the_least_and_missing_ones_do_not_count():
    found = log(["a", "b", "c", "d"], [1, 2, 3, 4], rating=[5, None, 3, 2])
    assert pairs(keep_rated(found, 3)) == [("a", 1), ("c", 3)]
    with pytest.raises(DataError, match="no interaction is rated 6 or above"):
        keep_rated(found, 6)
    with pytest.raises(DataError, match="no column of ratings"):
        keep_rated(log(["a"], [1]), 3)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 7), st.integers(10, 17)), min_size=1), st.integers(1, 4))
def test_the_k_core_is_what_is_left_when_the_rare_are_taken_out_one_by_one(found, k):
    left = set(found)
    while True:
        users, items = (Counter(pair[n] for pair in left) for n in (0, 1))
        rare = {(u, i) for u, i in left if users[u] < k or items[i] < k}
        if not rare:
            break
        left.discard(min(rare))
    users, items = (list(column) for column in zip(*sorted(found), strict=True))
    if not left:
        with pytest.raises(DataError, match=f"nothing is left of the log at k_core={k}"):
            k_core(log(users, items), k)
        return
    core = k_core(log(users, items), k)
    assert pairs(core) == sorted(left)
    assert core.user_ids.to_pylist() == sorted({u for u, _ in left})
    assert core.item_ids.to_pylist() == sorted({i for _, i in left})


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            {"timestamp": ["yesterday"]},
            "the timestamp in row 1 .*, is 'yesterday'; give numb",
        ),
        ({"timestamp": pa.array([None], pa.int64())}, "1 row has no timestamp"),
        ({"rating": ["good"]}, "the rating in row 1 .*, is 'good'; give numbers"),
        ({"split": ["trian"]}, "the split of a row is 'trian'; give train, val or test"),
    ],
)
def test_columns_of_something_else_are_refused(column, message):
    with pytest.raises(DataError, match=message):
        log(["a"], [1], **column)


def test_times_may_be_dates_or_numbers():
    dates = pa.array([datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)])
    for times in (dates, dates.cast(pa.timestamp("ns")), pa.array([2.5, 1.5]), pa.array([2, 1])):
        found = log(["a", "b"], [1, 2], timestamp=times)
        assert np.argsort(found.time).tolist() == [1, 0]


def test_the_names_of_splits():
    names = ["Train", "training", "0", "val", "valid", "VALIDATION", "1", "test", "2"]
    found = log(["a"] * 9, list(range(9)), split=names)
    assert found.label.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert log(["a"] * 3, [1, 2, 3], split=[0, 1, 2]).label.tolist() == [0, 1, 2]
