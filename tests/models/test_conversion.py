"""Conversion of arguments to indices: exact, or an error that says why not."""

import decimal
import enum
import math
import uuid
from collections import deque
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.errors import ConfigError, DataError, GraphDiffError
from graphdiff.models import LD4MRec, LightGCN
from graphdiff.schema import build_data
from tests.conftest import make_model, random_data

NUM_USERS, NUM_ITEMS, K = 30, 40, 5
property_test = settings(deadline=None, max_examples=15, derandomize=True)


def make(item_ids=None, user_ids=None):
    plain = random_data(NUM_USERS, NUM_ITEMS, features={"image": 4})
    edges = plain["user", "interacts", "item"]
    data = build_data(
        NUM_USERS,
        NUM_ITEMS,
        edges.edge_index,
        features={"image": plain["item"].x_image},
        user_ids=user_ids,
        item_ids=item_ids,
    )
    return make_model(LD4MRec, data, num_neighbors=3).eval()


@pytest.fixture(scope="module")
def plain():
    return make()


@pytest.fixture(scope="module")
def shifted():
    """Raw ids are integers, and those of other items' indices."""
    return make([(7 * n + 3) % NUM_ITEMS for n in range(NUM_ITEMS)], list(range(100, 130)))


@pytest.fixture(scope="module")
def named():
    return make([f"SKU-{n:04}" for n in range(NUM_ITEMS)], [f"u{n}" for n in range(NUM_USERS)])


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def filtered(values, dtype=None):
    """A column of a table of which rows were taken out: its labels have gaps and no order."""
    padded = pd.Series([*values, *values], index=range(2 * len(values), 0, -1), dtype=dtype)
    return padded[[*[True] * len(values), *[False] * len(values)]]


def ragged(lists):
    out = np.empty(len(lists), dtype=object)
    out[:] = [np.array(one, dtype=np.int64) for one in lists]
    return out


#: A flat list of integers in other hands; the order stays.
ORDERED = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "generator": lambda v: (n for n in v),
    "keys": lambda v: dict.fromkeys(v).keys() if len(set(v)) == len(v) else list(v),
    "numpy int64": lambda v: np.array(v, dtype=np.int64),
    "numpy uint8": lambda v: np.array(v, dtype=np.uint8),
    "numpy uint64": lambda v: np.array(v, dtype=np.uint64),
    "numpy int16, strided": lambda v: np.repeat(np.array(v, dtype=np.int16), 2)[::2],
    "numpy big-endian": lambda v: np.array(v, dtype=">i4"),
    "numpy whole floats": lambda v: np.array(v, dtype=np.float64),
    "numpy objects": lambda v: np.array(v, dtype=object),
    "numpy scalars": lambda v: [np.int32(n) for n in v],
    "torch int64": lambda v: torch.tensor(v, dtype=torch.int64),
    "torch int32": lambda v: torch.tensor(v, dtype=torch.int32),
    "torch uint8": lambda v: torch.tensor(v, dtype=torch.uint8),
    "torch float": lambda v: torch.tensor(v, dtype=torch.float32, requires_grad=True),
    "torch scalars": lambda v: [torch.tensor(n) for n in v],
    "pandas filtered": filtered,
    "pandas nullable": lambda v: filtered(v, "Int64"),
    "pandas category": lambda v: filtered(v).astype("category"),
    "pandas index": pd.Index,
    "pandas arrow": lambda v: filtered(v, "int64[pyarrow]"),
    "arrow": lambda v: pa.array(v, pa.int32()),
    "arrow chunks": lambda v: pa.chunked_array([v[:1], v[1:]], pa.int64()),
    "arrow scalars": lambda v: [pa.scalar(n) for n in v],
}
SETS = {"set": set, "frozenset": frozenset}
#: A list of lists in other hands.
NESTED = {
    "lists": lambda v: [list(one) for one in v],
    "tuples": lambda v: tuple(tuple(one) for one in v),
    "arrays": lambda v: [np.array(one, dtype=np.int64) for one in v],
    "array of arrays": ragged,
    "tensors": lambda v: [torch.tensor(one, dtype=torch.long) for one in v],
    "sets": lambda v: [set(one) for one in v],
    "series of lists": filtered,
    "series of arrays": lambda v: filtered([np.array(one, dtype=np.int64) for one in v]),
    "series of sets": lambda v: filtered([frozenset(one) for one in v]),
    "list of series": lambda v: [filtered(one) for one in v],
    "generator": lambda v: (iter(one) for one in v),
    "arrow lists": lambda v: pa.array([list(one) for one in v], pa.list_(pa.int64())),
    "mixed": lambda v: [[tuple, np.array, set][n % 3](list(one)) for n, one in enumerate(v)],
}
users = st.lists(st.integers(0, NUM_USERS - 1), min_size=1, max_size=6)
items = st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=8)
histories = st.lists(items, min_size=1, max_size=4)


@pytest.mark.parametrize("hold", ORDERED.values(), ids=list(ORDERED))
@property_test
@given(users=users, items=items)
def test_kind_f_flat_values_of_every_library(plain, hold, users, items):
    expected = plain.recommend(list(users), k=K)
    same(plain.recommend(hold(users), k=K), expected)
    same(plain.recommend(user_id=hold(users), k=K), expected)
    expected = plain.recommend(history_index=list(items), k=K)
    same(plain.recommend(history_index=hold(items), k=K), expected)
    same(plain.recommend(history=hold(items), k=K), expected)
    expected = plain.recommend(0, k=K, exclude_seen=False, candidate_index=list(items))
    same(plain.recommend(0, k=K, exclude_seen=False, candidate_index=hold(items)), expected)
    same(plain.recommend(0, k=K, exclude_seen=False, candidates=hold(items)), expected)
    rows = [0] * len(items)
    pairs = torch.tensor(rows), torch.tensor(items)
    expected = plain.recommend(0, k=K, exclude_index=pairs)
    same(plain.recommend(0, k=K, exclude_index=(hold(rows), hold(items))), expected)
    same(plain.recommend(0, k=K, exclude=hold(items)), expected)
    expected = plain.similar_items(list(items), k=K)
    same(plain.similar_items(hold(items), k=K), expected)
    same(plain.similar_items(item_id=hold(items), k=K), expected)


@pytest.mark.parametrize("hold", SETS.values(), ids=list(SETS))
@property_test
@given(items=items)
def test_kind_f_sets_where_order_does_not_matter(plain, hold, items):
    expected = plain.recommend(history_index=list(items), k=K)
    same(plain.recommend(history=hold(items), k=K), expected)
    expected = plain.recommend(0, k=K, exclude_seen=False, candidates=list(items))
    same(plain.recommend(0, k=K, exclude_seen=False, candidate_index=hold(items)), expected)
    same(plain.recommend(0, k=K, exclude=hold(items)), plain.recommend(0, k=K, exclude=list(items)))
    for argument in ("user_index", "user_id"):
        with pytest.raises(ConfigError, match=f"{argument} is a set, whose order is arbitrary"):
            plain.recommend(**{argument: hold([1, 2])}, k=K)
    with pytest.raises(ConfigError, match="item_index is a set, whose order is arbitrary"):
        plain.similar_items(hold([1, 2]), k=K)
    with pytest.raises(ConfigError, match="history is a set, whose order is arbitrary"):
        plain.recommend(history=hold([(1, 2), (3,)]), k=K)


@pytest.mark.parametrize("hold", NESTED.values(), ids=list(NESTED))
@property_test
@given(histories=histories)
def test_kind_f_histories_of_every_library(plain, hold, histories):
    expected = plain.recommend(history_index=[list(one) for one in histories], k=K)
    same(plain.recommend(history_index=hold(histories), k=K), expected)
    same(plain.recommend(history=hold(histories), k=K), expected)
    some = [one[:2] for one in histories]
    pairs = (
        torch.tensor([n for n, one in enumerate(some) for _ in one]),
        torch.tensor([item for one in some for item in one]),
    )
    expected = plain.recommend(history=histories, k=K, exclude_index=pairs)
    same(plain.recommend(history=histories, k=K, exclude=hold(some)), expected)


@property_test
@given(st.integers(1, 4), st.integers(1, 6), st.randoms(use_true_random=False))
def test_kind_f_rows_of_an_array_are_users(plain, num, length, random):
    lists = [[random.randrange(NUM_ITEMS) for _ in range(length)] for _ in range(num)]
    expected = plain.recommend(history_index=lists, k=K)
    for hold in (np.array, torch.tensor, lambda v: np.array(v, dtype=np.float32)):
        same(plain.recommend(history_index=hold(lists), k=K), expected)
        same(plain.recommend(history=hold(lists), k=K), expected)


def test_kind_f_polars_columns(plain):
    polars = pytest.importorskip("polars")
    expected = plain.recommend(history_index=[[3, 1], [2]], k=K)
    same(plain.recommend(history=polars.Series([[3, 1], [2]]), k=K), expected)
    same(plain.recommend(polars.Series([2, 7]), k=K), plain.recommend([2, 7], k=K))
    with pytest.raises(ConfigError, match=r"history is a DataFrame .* one column of a table"):
        plain.recommend(history=polars.DataFrame({"a": [1]}), k=K)


@property_test
@given(histories=histories)
def test_kind_f_the_name_of_an_argument_says_what_it_holds(shifted, histories):
    ids = [[shifted.catalogue.item_id(n) for n in one] for one in histories]
    expected = shifted.recommend(history_index=histories, k=K)
    same(shifted.recommend(history=ids, k=K), expected)
    same(shifted.recommend(history=[[str(one) for one in row] for row in ids], k=K), expected)
    same(shifted.recommend(history=[np.array(row) for row in ids], k=K), expected)
    flat = histories[0]
    expected = shifted.recommend(user_index=0, k=K, exclude_seen=False, candidate_index=flat)
    found = shifted.recommend(user_id=100, k=K, exclude_seen=False, candidates=set(ids[0]))
    same(found, expected)
    expected = shifted.similar_items(flat, k=K)
    same(shifted.similar_items(item_id=ids[0], k=K), expected)
    for argument in ("history", "candidates", "exclude"):
        user = {} if argument == "history" else {"user_index": 0}
        with pytest.raises(DataError, match="no item 40 among the 40 items"):
            shifted.recommend(**user, **{argument: [40]}, k=K)
    with pytest.raises(DataError, match="no user 0 among the 30 users"):
        shifted.recommend(user_id=0, k=K)


@pytest.mark.parametrize("hold", [list, tuple, np.array, pd.Series, pa.array, pd.Index, filtered])
def test_kind_f_text_is_one_id(named, hold):
    expected = named.recommend(history_index=[10], k=K)
    same(named.recommend(history="SKU-0010", k=K), expected)
    same(named.recommend(history=hold(["SKU-0010"]), k=K), expected)
    same(named.recommend(history=np.str_("SKU-0010"), k=K), expected)
    same(named.recommend(history=pa.scalar("SKU-0010"), k=K), expected)
    same(named.recommend(user_id="u3", k=K), named.recommend(3, k=K))
    same(named.recommend(user_id=hold(["u3", "u1"]), k=K), named.recommend([3, 1], k=K))
    same(
        named.recommend(0, exclude="SKU-0010", k=K),
        named.recommend(0, exclude_index=([0], [10]), k=K),
    )
    found = named.recommend(0, candidates="SKU-0010", exclude_seen=False, k=1)
    assert found[0].tolist() == [[10]]
    same(named.similar_items(item_id="SKU-0010", k=K), named.similar_items(10, k=K))


class Colour(str, enum.Enum):  # noqa: UP042 - its str() is another
    RED = "SKU-0007"


class Number(enum.IntEnum):
    SEVEN = 7


def test_kind_f_ids_of_other_kinds_have_a_text(named, plain):
    expected = named.recommend(history_index=[7], k=K)
    same(named.recommend(history=Colour.RED, k=K), expected)
    same(named.recommend(history=[Colour.RED], k=K), expected)
    expected = plain.recommend(history_index=[7], k=K)
    for seven in (Number.SEVEN, decimal.Decimal(7), np.float16(7), 7.0, -0.0 + 7, "7"):
        same(plain.recommend(history=[seven], k=K), expected)
        same(plain.recommend(history=seven, k=K), expected)
    with pytest.raises(DataError, match="no item UUID"):
        plain.recommend(history=uuid.UUID(int=3), k=K)


def test_kind_f_nothing_for_nobody(plain):
    for nobody in ([], (), np.array([]), torch.tensor([], dtype=torch.long), pd.Series([])):
        item, score = plain.recommend(nobody, k=K)
        assert item.shape == score.shape == (0, K)
        assert item.dtype == torch.long
        # An empty history is that of one user without past items.
        assert plain.recommend(history=nobody, k=K)[0].shape == (1, K)
        assert plain.recommend(history_index=nobody, k=K)[0].shape == (1, K)
        same(plain.recommend(0, exclude=nobody, k=K), plain.recommend(0, k=K))
        same(plain.recommend([0, 1], exclude=nobody, k=K), plain.recommend([0, 1], k=K))
        assert plain.recommend(0, candidates=nobody, k=1)[0].tolist() == [[-1]]
    assert plain.recommend(history=[[], []], k=K)[0].shape == (2, K)
    assert plain.recommend(history=np.empty((0, 3)), k=K)[0].shape == (0, K)


@pytest.mark.parametrize("hold", [list, np.array, torch.tensor, pd.Series, pa.array])
def test_kind_f_masks_of_candidates(plain, hold):
    mask = [n % 3 == 0 for n in range(NUM_ITEMS)]
    found, _ = plain.recommend(0, k=14, exclude_seen=False, candidate_index=hold(mask))
    assert sorted(found[0].tolist()) == list(range(0, NUM_ITEMS, 3))
    with pytest.raises(ConfigError, match=r"candidate_index is a mask \[39\]; expected \[40\]"):
        plain.recommend(0, k=1, candidate_index=hold(mask[1:]))
    with pytest.raises(ConfigError, match=r"user_index holds .*True.*; give the positions where"):
        plain.recommend(hold(mask[:2]), k=1)
    with pytest.raises(ConfigError, match=r"candidates holds .*True.*, which is no raw id"):
        plain.recommend(0, k=1, candidates=hold(mask))


REFUSED = [
    ({"user_index": "u3"}, ConfigError, "user_index holds 'u3'; .* raw ids are given as user_id"),
    ({"user_index": ["3"]}, ConfigError, "raw ids are given as user_id"),
    ({"user_index": 1.7}, ConfigError, r"user_index holds 1\.7; expected positions, whole numbers"),
    ({"user_index": [1, 1.9]}, ConfigError, r"user_index holds 1\.9"),
    ({"user_index": torch.tensor([1.5])}, ConfigError, r"user_index holds 1\.5"),
    ({"user_index": np.array([math.nan, 1])}, ConfigError, "user_index holds nan"),
    ({"user_index": math.inf}, ConfigError, "user_index holds inf"),
    ({"user_index": True}, ConfigError, "user_index holds True; .* where a mask is True"),
    ({"user_index": [[1, 2]]}, ConfigError, r"user_index holds \[1, 2\] \(list\) at place 0"),
    ({"user_index": torch.ones(2, 2, dtype=torch.long)}, ConfigError, "user_index is an array 2x2"),
    ({"user_index": np.ones((1, 2, 3))}, ConfigError, "user_index is an array 1x2x3; give one dim"),
    ({"user_index": {1: 2}}, ConfigError, r"user_index is \{1: 2\} \(dict\); give a list"),
    ({"user_index": pd.DataFrame({"a": [1]})}, ConfigError, r"a DataFrame \[1, 1\]; .* one column"),
    ({"user_index": pa.table({"a": [1]})}, ConfigError, "one column of a table"),
    ({"user_index": None}, ConfigError, "exactly one of user_index, user_id, history and"),
    ({"user_index": 1, "user_id": 1}, ConfigError, "exactly one of user_index"),
    ({"user_index": -1}, ConfigError, "user index -1 is out of range; .* users 0 to 29"),
    ({"user_index": 2**64}, ConfigError, "is out of range"),
    ({"user_index": np.uint64(2**64 - 1)}, ConfigError, "is out of range"),
    ({"user_index": 1e300}, ConfigError, r"holds 1e\+300"),
    ({"user_index": 1j}, ConfigError, "holds 1j"),
    ({"user_index": np.array(["2020-01-01"], "M8[ns]")}, ConfigError, "of datetime64"),
    ({"user_index": np.datetime64(3, "ns")}, ConfigError, "expected positions"),
    ({"user_index": np.array([1j])}, ConfigError, "of complex128"),
    ({"user_index": torch.tensor([1j])}, ConfigError, "of torch.complex64"),
    ({"user_index": np.ma.array([1, 2], mask=[0, 1])}, ConfigError, "user_index holds None"),
    ({"user_index": pd.Series([1, None], dtype="Int64")}, ConfigError, "user_index holds"),
    ({"user_index": torch.eye(2).to_sparse()}, ConfigError, "give a list or a dense array"),
    ({"user_index": torch.tensor([1]).to_sparse()}, ConfigError, "give a list or a dense array"),
    ({"user_id": None, "history": None}, ConfigError, "exactly one of"),
    ({"user_id": 30}, DataError, "no user 30 among the 30 users that this model knows"),
    ({"user_id": "05"}, DataError, "no user '05'"),
    ({"user_id": 1.5}, ConfigError, r"user_id holds 1\.5, which is no raw id"),
    ({"user_id": b"5"}, ConfigError, "which is no raw id; give text or integers; decode it"),
    ({"user_id": [math.nan]}, ConfigError, "user_id holds nan"),
    ({"user_id": [None]}, ConfigError, "user_id holds None"),
    ({"user_id": pd.Series([pd.NA, 1])}, ConfigError, "user_id holds <NA>"),
    ({"user_id": [pd.NaT]}, ConfigError, "user_id holds NaT"),
    ({"user_id": float(2**53)}, ConfigError, "user_id holds 9007199254740992.0"),
    ({"history": [[1], 2]}, ConfigError, r"mixes .*: entry 0 is \[1\] \(list\), entry 1 is 2"),
    ({"history": [1, [2]]}, ConfigError, "history mixes single values and collections"),
    ({"history": [[[1]]]}, ConfigError, "history holds"),
    ({"history": [{1: 2}]}, ConfigError, r"history\[0\] is \{1: 2\}"),
    ({"history": {1: [2]}}, ConfigError, r"history is \{1: \[2\]\} \(dict\)"),
    ({"history": pd.Series([[1], math.nan])}, ConfigError, "mixes single values and collections"),
    ({"history": scipy.sparse.eye(2).tocsr()}, ConfigError, "give a list or a dense array"),
    ({"history": np.ones((1, 1, 1))}, ConfigError, "1x1x1; give one dimension, or one list per us"),
    ({"history": [["nothing"]]}, DataError, "no item 'nothing' among the 40 items"),
    ({"history": 10**30}, DataError, "no item 1000000000"),
    ({"history": [[0, None]]}, ConfigError, "history holds None"),
    ({"history": [[True]]}, ConfigError, "history holds True"),
    ({"history_index": "3"}, ConfigError, "'3'; .* raw ids are given as history"),
    ({"history_index": [[1, 40]]}, ConfigError, "item index 40 is out of range; .* items 0 to 39"),
    ({"history_index": [[-1]]}, ConfigError, "item index -1"),
    ({"history_index": [[1.5]]}, ConfigError, r"history_index holds 1\.5"),
    ({"history_index": [[2**70]]}, ConfigError, "out of range"),
    ({"history_index": [["1"]]}, ConfigError, "raw ids are given as history"),
]  # fmt: skip
OPTIONS = [
    ({"k": 1.5}, ConfigError, r"k is 1\.5; expected a whole number"),
    ({"k": "3"}, ConfigError, "k is '3'; expected a whole number"),
    ({"k": True}, ConfigError, "k is True"),
    ({"k": None}, ConfigError, "k is None"),
    ({"k": [3]}, ConfigError, "k is "),
    ({"k": math.nan}, ConfigError, "k is nan"),
    ({"k": 0}, ConfigError, "k = 0"),
    ({"k": 41}, ConfigError, "k = 41"),
    ({"k": 2**80}, ConfigError, "k = 1208925819614629174706176"),
    ({"candidates": [1], "candidate_index": [1]}, ConfigError, "either candidates or candidate_in"),
    ({"candidates": [[1]]}, ConfigError, "candidates holds .* give single values"),
    ({"candidates": ["x"]}, DataError, "no item 'x'"),
    ({"candidates": {1: 1}}, ConfigError, "candidates is"),
    ({"candidate_index": "x"}, ConfigError, "raw ids are given as candidates"),
    ({"candidate_index": [40]}, ConfigError, "item index 40"),
    ({"candidate_index": [0.5]}, ConfigError, r"candidate_index holds 0\.5"),
    ({"candidate_index": [True, 1]}, ConfigError, "candidate_index holds True"),
    ({"candidate_index": torch.ones(2, 40, dtype=torch.bool)}, ConfigError, r"a mask \[2, 40\]"),
    ({"exclude": [1], "exclude_index": ([0], [1])}, ConfigError, "either exclude or exclude_index"),
    ({"exclude": [[1], [2]]}, ConfigError, "exclude holds 2 lists for 1 users"),
    ({"exclude": [1.5]}, ConfigError, r"exclude holds 1\.5, which is no raw id"),
    ({"exclude_index": [1]}, ConfigError, "exclude_index is not a pair"),
    ({"exclude_index": 3}, ConfigError, "exclude_index is not a pair"),
    ({"exclude_index": {0: 1, 2: 3}}, ConfigError, "exclude_index is not a pair"),
    ({"exclude_index": ([0], [1, 2])}, ConfigError, "holds 1 rows and 2 items"),
    ({"exclude_index": ([1], [1])}, ConfigError, "exclude_index holds row 1; expected 0 to 0"),
    ({"exclude_index": ([-1], [1])}, ConfigError, "exclude_index holds row -1"),
    ({"exclude_index": ([0], [40])}, ConfigError, "exclude_index holds item 40; expected 0 to 39"),
    ({"exclude_index": (torch.tensor([0]), torch.tensor([-1]))}, ConfigError, "holds item -1"),
    ({"exclude_index": ([0], [2**70])}, ConfigError, "exclude_index holds item 11805916207"),
    ({"exclude_index": ([0], [1.5])}, ConfigError, r"exclude_index holds 1\.5"),
    ({"exclude_index": ([0], ["1"])}, ConfigError, "raw ids are given as exclude"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED)
def test_kind_f_what_means_no_user_is_refused(plain, arguments, error, message):
    with pytest.raises(error, match=message):
        plain.recommend(**arguments, k=K)


@pytest.mark.parametrize(("arguments", "error", "message"), OPTIONS)
def test_kind_f_options_that_mean_nothing_are_refused(plain, arguments, error, message):
    with pytest.raises(error, match=message):
        plain.recommend(0, **{"k": K, **arguments})


@pytest.mark.parametrize("three", [3, 3.0, np.int8(3), np.float32(3), torch.tensor(3), np.array(3)])
def test_kind_f_whole_numbers_of_every_library(plain, three):
    same(plain.recommend(three, k=three), plain.recommend([3], k=3))
    same(plain.similar_items(three, k=three), plain.similar_items([3], k=3))
    assert plain.explain(three, user_index=three) == plain.explain(3, user_index=3)


@pytest.mark.parametrize("true", [True, np.bool_(True), torch.tensor(True), np.array(True)])
def test_kind_f_truth_values_of_every_library(plain, true):
    same(plain.recommend(0, k=3, exclude_seen=true), plain.recommend(0, k=3))


@pytest.mark.parametrize(
    "other", [None, 1, "no", [True], np.array([True, False]), pd.Series([True]), torch.ones(0)]
)
def test_kind_f_a_flag_is_no_mask(plain, other):
    with pytest.raises(ConfigError, match=r"exclude_seen is .*; expected True or False"):
        plain.recommend(0, k=3, exclude_seen=other)


def test_kind_f_other_methods_take_the_same_arguments(plain, named):
    with pytest.raises(
        ConfigError, match=r"item_index holds 'i3'; .* raw ids are given as item_id"
    ):
        plain.similar_items("i3")
    with pytest.raises(ConfigError, match="give either item_index or item_id"):
        plain.similar_items()
    with pytest.raises(ConfigError, match="give either item_index or item_id"):
        plain.explain(user_index=0)
    expected = named.explain(7, user_index=2)
    assert named.explain(item_id="SKU-0007", user_id="u2") == expected
    mine = named.graph.rows(torch.tensor([2])).item
    ids = pd.Series([named.catalogue.item_id(n) for n in mine.tolist()])
    assert named.explain(item_id=["SKU-0007"], history=ids) == expected
    for user in ({"user_id": ["u2"]}, {"history": ids}, {"history_index": mine}):
        found = named.modality_preference(**user)["image"]
        torch.testing.assert_close(found, named.modality_preference([2])["image"])
    rows, score = named.interaction_scores(np.array([4, 2], dtype=np.uint8))
    same((rows.item, score), (named.interaction_scores([4, 2])[0].item, score))
    with pytest.raises(ConfigError, match="user_index holds 'u2'"):
        named.interaction_scores("u2")


def test_kind_f_items_are_removed_by_index_or_by_id():
    for removed in ({"item_index": {4, 5}}, {"item_id": pd.Series(["SKU-0004", "SKU-0005"])}):
        model = make([f"SKU-{n:04}" for n in range(NUM_ITEMS)])
        model.remove_items(**removed)
        assert (~model.catalogue.available).nonzero().flatten().tolist() == [4, 5]
    with pytest.raises(DataError, match="no item 'SKU-4'"):
        model.remove_items(item_id="SKU-4")


def test_kind_f_models_without_fold_in_say_so():
    model = make_model(LightGCN, random_data())
    with pytest.raises(ConfigError, match="knows only the users it was trained on; give user_inde"):
        model.recommend(history=[1], k=3)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, NUM_ITEMS + 3),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.integers(0, 50).map(str),
    st.binary(max_size=2),
    st.complex_numbers(max_magnitude=10),
    st.sampled_from([np.nan, pd.NA, pd.NaT, np.int8(3), np.bool_(True), np.datetime64(3, "s")]),
    st.sampled_from([object(), len, int, Ellipsis, slice(1), range(3), "SKU-0001", b"\xff"]),
)
junk = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.integers(0, 9), inner, max_size=2),
        st.lists(inner, max_size=4).map(lambda v: pd.Series(v, dtype=object)),
        st.lists(st.floats(-2, 45) | st.integers(-2, 45), max_size=4).map(np.array),
        st.lists(st.integers(-2, 45), max_size=4).map(lambda v: torch.tensor(v)),
        st.sets(st.integers(-2, 45) | st.text(max_size=1), max_size=4),
    ),
    max_leaves=6,
)
ARGUMENTS = ["user_index", "user_id", "history", "history_index", "k", "candidates",
             "candidate_index", "exclude", "exclude_index"]  # fmt: skip


def flat(value):
    """The single values in what was given, as far as a user would read them."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return [value.item() if hasattr(value, "item") else value]
    if getattr(value, "shape", None) == ():
        return [value.item()]
    listed = value.tolist() if hasattr(value, "tolist") else value
    return [single for one in listed for single in flat(one)]


@pytest.mark.parametrize("argument", ARGUMENTS)
@settings(deadline=None, max_examples=100, derandomize=True)
@given(value=junk)
def test_kind_f_anything_is_understood_exactly_or_refused(plain, argument, value):
    user = {} if argument in ARGUMENTS[:4] else {"user_index": 0}
    try:
        item, score = plain.recommend(**user, **{"k": K, argument: value})
    except GraphDiffError:
        return
    assert item.shape == score.shape
    if value is None:
        return
    # Nothing was cut, rounded or read as something else.
    for one in flat(value):
        if isinstance(one, bool):
            assert argument == "candidate_index"
        elif isinstance(one, str):
            assert argument in ("user_id", "history", "candidates", "exclude")
            assert str(int(one)) == one
        else:
            assert one == int(one)
            assert 0 <= one < NUM_ITEMS
    if argument == "user_index":
        same((item, score), plain.recommend([int(one) for one in flat(value)], k=K))


@settings(deadline=None, max_examples=100, derandomize=True)
@given(value=junk, argument=st.sampled_from(["item_index", "item_id", "k", "num_items"]))
def test_kind_f_other_methods_understand_anything_or_refuse_it(plain, argument, value):
    for call in (plain.similar_items, plain.explain, plain.remove_items):
        if argument == "num_items" and call != plain.explain:
            continue
        if argument == "k" and call != plain.similar_items:
            continue
        item = {} if argument.startswith("item") else {"item_index": 3}
        user = {"user_index": 1} if call == plain.explain else {}
        with suppress(GraphDiffError):
            call(**{**item, **user, argument: value})
    plain.catalogue.available.fill_(True)
