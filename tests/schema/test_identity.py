"""Fingerprints of datasets."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdiff.schema import INTERACTS, build_data, fingerprint
from tests.schema.samples import arguments

NAN = float("nan")


@given(st.permutations(range(3)))
def test_the_order_of_edges_does_not_matter(order):
    data = build_data(**arguments())
    shuffled = copy.copy(data)
    shuffled[INTERACTS].edge_index = data[INTERACTS].edge_index[:, list(order)]
    assert fingerprint(shuffled) == fingerprint(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_users": 4},
        {"num_items": 5, "features": None},
        {"train": [[0, 0, 1], [0, 1, 3]]},
        {"val": None},
        {"val": None, "test": [[1], [0]]},
        {"val": [[2], [1]], "test": [[1], [0]]},
        {"features": {"image": np.arange(8.0).reshape(4, 2)}},
        {"features": {"image": np.arange(8.0).reshape(4, 2) + 1e-6, "audio": np.ones((4, 3))}},
        {"features": {"picture": np.arange(8.0).reshape(4, 2), "audio": np.ones((4, 3))}},
        {"item_ids": [4, 5, 6, 7]},
        {"user_ids": ["0", "1", "2"]},
    ],
)
def test_everything_else_does(changes):
    unchanged = {"features": None} if "num_items" in changes else {}
    before = fingerprint(build_data(**arguments(**unchanged)))
    assert fingerprint(build_data(**arguments(**changes))) != before


def test_a_missing_row_is_not_a_zero_row():
    zero = {"image": np.zeros((4, 2))}
    missing = {"image": np.array([[0, 0], [0, 0], [0, 0], [NAN, NAN]])}
    found = [fingerprint(build_data(**arguments(features=f))) for f in (zero, missing)]
    assert found[0] != found[1]
    assert all(len(name) == 16 for name in found)
