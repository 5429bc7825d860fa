"""Fingerprints of datasets."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphdiff.schema import INTERACTS, build_data, fingerprint, prepare
from graphdiff.schema.pairs import rank_within, whole_groups
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


class TestTimes:
    @given(st.permutations(range(3)))
    def test_their_order_is_that_of_the_edges(self, order):
        data = build_data(**arguments(train_time=[7, 5, 6]))
        shuffled = copy.copy(data)
        for name, value in (
            ("edge_index", data[INTERACTS].edge_index),
            ("time", data[INTERACTS].time),
        ):
            shuffled[INTERACTS][name] = value[..., list(order)]
        assert fingerprint(shuffled) == fingerprint(data)

    def test_the_order_of_a_users_pairs_counts(self):
        # User 0 has two pairs and user 1 has one.
        times = (None, [7, 5, 6], [5, 7, 6], [5, 5, 6])
        found = {fingerprint(build_data(**arguments(train_time=time))) for time in times}
        assert len(found) == 4

    def test_the_unit_does_not(self):
        times = ([5, 7, 6], [50.5, 70, 1], torch.tensor([-3, 2, 9], dtype=torch.int32))
        found = [build_data(**arguments(train_time=time)) for time in times]
        found[0][INTERACTS].time = found[0][INTERACTS].time.to(torch.bfloat16)
        assert len({fingerprint(prepare(data)) for data in found}) == 1

    def test_many_users_are_ranked_in_blocks(self):
        rng = np.random.default_rng(0)
        user, item = np.array(np.nonzero(rng.random((30, 20)) < 0.5))
        time = rng.integers(5, size=len(user))
        data = build_data(30, 20, np.stack([user, item]), train_time=time)
        before = fingerprint(data)
        ranks = torch.cat(
            [
                rank_within(torch.from_numpy(user[part]), torch.from_numpy(time[part]))
                for part in whole_groups(torch.from_numpy(user), 7)
            ]
        )
        expected = [sum(t < time[n] for t in time[user == user[n]]) for n in range(len(user))]
        assert ranks.tolist() == expected
        data[INTERACTS].time = ranks
        assert fingerprint(data) == before

    def test_without_them_it_is_what_it_was(self):
        # Fingerprints are in the folders of runs, so that they must not change.
        assert fingerprint(build_data(**arguments())) == "a0023eb09425b4ac"


def test_a_missing_row_is_not_a_zero_row():
    zero = {"image": np.zeros((4, 2))}
    missing = {"image": np.array([[0, 0], [0, 0], [0, 0], [NAN, NAN]])}
    found = [fingerprint(build_data(**arguments(features=f))) for f in (zero, missing)]
    assert found[0] != found[1]
    assert all(len(name) == 16 for name in found)
