"""One check of item features for all entry points."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch_geometric.data import HeteroData

from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS, build_data, checked_features, prepare, validate

NAN, INF = float("nan"), float("inf")
ROWS = [[1, 2], [0, 0], [3, 4]]


def by_read(values, num_items):
    return checked_features(values, "image", num_items)


def by_build(values, num_items):
    data = build_data(1, num_items, [[0], [0]], features={"image": values})
    return with_nan(data)


def by_hand(values, num_items):
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1, num_items
    data[INTERACTS].edge_index = torch.zeros(2, 1, dtype=torch.long)
    data["item"].x_image = values
    return with_nan(prepare(data))


def with_nan(data):
    validate(data)
    return data["item"].x_image.masked_fill(~data["item"].has_image[:, None], NAN)


# Every entry point is to answer alike.
DOORS = [by_read, by_build, by_hand]

# The same three rows in many forms.
FORMS = {
    "lists": ROWS,
    "tuples": tuple(map(tuple, ROWS)),
    "ranges": [range(1, 3), [0, 0], range(3, 5)],
    "a list of arrays": [np.array(row) for row in ROWS],
    "a list of tensors": [torch.tensor(row) for row in ROWS],
    "tensors of several dtypes": [torch.tensor(ROWS[0]), torch.zeros(2), torch.tensor(ROWS[2])],
    "tensors that require grad": [
        torch.tensor(row, dtype=torch.float, requires_grad=True) for row in ROWS
    ],
    "a data frame": pd.DataFrame(ROWS),
    "a nullable data frame": pd.DataFrame(ROWS, dtype="Int64"),
    "a column of lists": pd.Series(ROWS),
    "an array of objects": np.array(ROWS, dtype=object),
    "decimals": [[Decimal(v) for v in row] for row in ROWS],
    "a masked array": np.ma.MaskedArray(ROWS),
    "big endian": np.array(ROWS, dtype=">f4"),
    "extended precision": np.array(ROWS, dtype=np.longdouble),
    "unsigned 64 bits": np.array(ROWS, dtype=np.uint64),
    "half": torch.tensor(ROWS).half(),
    "bfloat16": torch.tensor(ROWS).bfloat16(),
    "double": torch.tensor(ROWS).double(),
    "int8": torch.tensor(ROWS, dtype=torch.int8),
    "requires grad": torch.tensor(ROWS, dtype=torch.float, requires_grad=True),
    "transposed": torch.tensor(ROWS).t().contiguous().t(),
    "sparse tensor": torch.tensor(ROWS).to_sparse(),
    "sparse csr tensor": torch.tensor(ROWS).float().to_sparse_csr(),
    "csr_matrix": scipy.sparse.csr_matrix(ROWS),
    "csc_array": scipy.sparse.csc_array(np.array(ROWS, dtype=np.float64)),
    "coo_matrix": scipy.sparse.coo_matrix(np.array(ROWS, dtype=np.int8)),
    "dok_array": scipy.sparse.dok_array(np.array(ROWS, dtype=np.float32)),
}

BAD = {
    "2 rows for 3 items": ([[1, 2], [3, 4]], r"x_image has 2 rows but t.* 3 items; give one row"),
    "5 rows for 3 items": (np.ones((5, 2)), "x_image has 5 rows but t.* 3 items; give one row per"),
    "1-D": ([1, 2, 3], r"x_image has shape \[3\]; give \[3, F\]"),
    "3-D": (np.ones((3, 2, 2)), r"x_image has shape \[3, 2, 2\]; give \[3, F\]"),
    "no features": (np.ones((3, 0)), r"x_image has shape \[3, 0\]"),
    "a number": (5, r"x_image has shape \[\]"),
    "ragged lists": ([[1, 2], [3], [4, 5]], "row 0 has 2 values, row 1 has 1; give rows of one"),
    "ragged arrays": ([np.ones(2), np.ones(2), np.ones(3)], "row 0 has 2 values, row 2 has 3"),
    "ragged tensors": ([torch.ones(2), torch.ones(3), torch.ones(2)], "row 0 has 2 .* row 1 has 3"),
    "a ragged column": (pd.Series([[1, 2], [3], [4, 5]]), "row 0 has 2 values, row 1 has 1"),
    "nested": (
        torch.nested.nested_tensor([torch.ones(2), torch.ones(1), torch.ones(2)]),
        "x_image is a .*nested; give rows of one length",
    ),
    "a missing row": ([[1, 2], None, [3, 4]], "row 1 is of type NoneType; give a row of NaN"),
    "text": ([["a", "b"]] * 3, "cannot be read as an array of numbers: its dtype is <U1"),
    "numbers as text": (np.array([["1", "2"]] * 3, dtype=object), "numbers: found '1'"),
    "dates": (np.full((3, 2), "2020-01-01", "datetime64[s]"), "numbers: its dtype is datetime64"),
    "dictionaries": ([[{}, {}]] * 3, "numbers: a value is of type dict"),
    "a dictionary": ({"a": 1}, "numbers: a value is of type dict"),
    "complex": (torch.ones(3, 2) * 1j, "x_image is torch.complex64; give real numbers"),
    "complex array": (np.ones((3, 2)) * 1j, "x_image is complex128; give real numbers"),
    "complex lists": ([[1, 2j], [3, 4], [5, 6]], "x_image is complex128; give real numbers"),
    "a complex object": (np.array([[1, 2j]] * 3, dtype=object), "complex number 2j; give real"),
    "complex sparse": (scipy.sparse.csr_matrix(np.eye(3) * 1j), "x_image is complex128; give real"),
    "infinite": ([[1, 2], [INF, 3], [-INF, 5]], r"2 of 3 items \(1, 2\) have an infinite value"),
    "infinite in float32": ([[1, 2], [1e300, 3], [4, 5]], r"1 of 3 items \(1\) has an infinite"),
    "an integer beyond floats": ([[1, 2], [10**400, 3], [4, 5]], r"\(1\) has an infinite value"),
    "too large": ([[1, 2], [1e16, 3], [4, 5]], r"1 of 3 items \(1\) has a value beyond ±1e\+15"),
    "unsigned 64 bits": (np.full((3, 2), 2**64 - 1, np.uint64), "3 of 3 items .* beyond ±1e"),
    "partly NaN": ([[1, 2], [NAN, 3], [4, 5]], r"1 of 3 items \(1\) has NaN in part of the row"),
    "partly None": ([[1, 2], [None, 3], [4, 5]], r"1 of 3 items \(1\) has NaN in part of the row"),
    "partly masked": (
        np.ma.MaskedArray([[1, 2], [3, 4], [5, 6]], [[0, 0], [0, 1], [0, 0]]),
        r"1 of 3 items \(1\) has NaN in part of the row",
    ),
    "partly NaN, sparse": (scipy.sparse.csr_array([[1.0, 0], [0, NAN], [0, 1]]), r"\(1\) has NaN"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("form", FORMS)
def test_kind_d_the_same_numbers_in_any_form(form, door):
    x = door(FORMS[form], 3)
    assert x.dtype == torch.float32
    assert x.layout == torch.strided
    assert not x.requires_grad
    assert x.tolist() == ROWS


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("form", BAD)
def test_kind_d_what_is_no_matrix_of_features_is_refused(form, door):
    values, message = BAD[form]
    with pytest.raises(DataError, match=message):
        door(values, 3)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [NAN, NAN], [3, 4]],
        [[1, 2], [None, None], [3, 4]],
        torch.tensor([[1, 2], [NAN, NAN], [3, 4]]).bfloat16(),
        pd.DataFrame([[1, 2], [None, None], [3, 4]], dtype="Int64"),
        np.ma.MaskedArray([[1, 2], [7, 8], [3, 4]], [[0, 0], [1, 1], [0, 0]]),
        scipy.sparse.csr_array([[1, 2], [NAN, NAN], [3, 4]]),
    ],
)
def test_kind_d_a_row_without_numbers_is_missing(values, door):
    x = door(values, 3)
    assert x[1].isnan().all()
    assert x[[0, 2]].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("door", DOORS)
@given(value=st.integers(-(10**15), 10**15))
@settings(max_examples=40, deadline=None)
def test_kind_d_integers_are_rounded_alike_wherever_they_come_from(door, value):
    rounded = float(np.float32(value))
    forms = [
        [[value]],
        np.array([[value]]),
        np.array([[float(value)]]),
        np.array([[value]], dtype=object),
        [[Decimal(value)]],
        torch.tensor([[value]]),
        torch.tensor([[value]], dtype=torch.float64),
        scipy.sparse.csr_matrix(np.array([[value]])),
        pd.DataFrame([[value]], dtype="Int64"),
    ]
    if value >= 0:
        forms.append(np.array([[value]], dtype=np.uint64))
    assert [door(form, 1).item() for form in forms] == [rounded] * len(forms)


NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, width=32),
    st.sampled_from([0.0, NAN, INF, 1e15, -1e15, 2e15, 1e-45]),
)


@given(
    values=arrays(np.float32, array_shapes(min_dims=1, max_dims=3, max_side=4), elements=NUMBERS),
    num_items=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None)
def test_kind_d_any_array_is_taken_as_it_is_or_refused(values, num_items):
    """What is accepted comes out unchanged; what is refused breaks a documented rule, at every
    entry point and in every form."""
    known = ~np.isnan(values)
    fits = values.ndim == 2 and values.shape[0] == num_items
    fits = fits and bool((np.abs(values[known]) <= 1e15).all())
    fits = fits and bool((known.all(axis=1) | ~known.any(axis=1)).all())
    for form in (values, values.tolist(), torch.from_numpy(values.astype(np.float64))):
        for door in DOORS:
            if fits:
                np.testing.assert_array_equal(door(form, num_items).numpy(), values)
            else:
                with pytest.raises(DataError, match="x_image"):
                    door(form, num_items)


def test_kind_d_messages_name_rows_by_id_and_what_was_counted():
    with pytest.raises(DataError, match=r"1 of 3 items \('b'\) has an infinite value in x_image"):
        checked_features([[1], [INF], [2]], "image", 3, item_ids=["a", "b", "c"])
    with pytest.raises(DataError, match="x_image has 5 rows but 3 ids were given; give one row"):
        checked_features(np.ones((5, 2)), "image", 3, expected="3 ids were given")


@pytest.mark.parametrize("name", ["", 3, None, "an image", "a.b", "items", "type", "forward"])
def test_kind_d_a_modality_has_a_usable_name(name):
    with pytest.raises(DataError, match="cannot name a modality"):
        build_data(1, 3, [[0], [0]], features={name: ROWS})


@pytest.mark.parametrize("features", [np.ones((3, 2)), ROWS, "image"])
def test_kind_d_features_without_a_modality_are_refused(features):
    with pytest.raises(DataError, match=r"give a mapping from modality to an array \[3, F\]"):
        build_data(1, 3, [[0], [0]], features=features)


def test_kind_d_a_graph_made_by_hand_is_converted_or_refused():
    data = build_data(1, 3, [[0], [0]], features={"image": ROWS})
    data["item"].x_image = torch.tensor(ROWS).float().requires_grad_()
    with pytest.raises(DataError, match=r"requires grad; give a float32 tensor .*prepare"):
        validate(data)
    validate(prepare(data))
    assert data["item"].x_image.requires_grad
