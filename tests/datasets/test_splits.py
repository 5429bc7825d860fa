"""Splits hold out the stated share of every user, and no interaction twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.datasets.splits import (
    TEST,
    TRAINING,
    VALIDATION,
    by_ratio,
    leave_one_out,
    rank_within,
    temporal,
)
from graphdiff.errors import ConfigError, DataError

LOGS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=60)


def columns(log):
    user, time = (np.array(column) for column in zip(*log, strict=True))
    return np.unique(user, return_inverse=True)[1], time


@settings(max_examples=40, deadline=None)
@given(LOGS)
def test_ranks_are_those_of_sorting_each_group(log):
    user, time = columns(log)
    rank, size = rank_within(user, time)
    for u in np.unique(user):
        rows = np.flatnonzero(user == u)
        by_time = sorted(rows, key=lambda row: time[row])  # Stable, as is what it is held against.
        assert rank[by_time].tolist() == list(range(len(rows)))
        assert (size[rows] == len(rows)).all()


@settings(max_examples=40, deadline=None)
@given(LOGS)
def test_leave_one_out_holds_out_the_last_two(log):
    user, time = columns(log)
    label = leave_one_out(user, time)
    for u in np.unique(user):
        rows = sorted(np.flatnonzero(user == u), key=lambda row: time[row])
        wanted = [TRAINING] * (len(rows) - 2) + [VALIDATION, TEST]
        if len(rows) < 3:
            wanted = [TRAINING, TEST][: len(rows)]
        assert label[rows].tolist() == wanted


@settings(max_examples=40, deadline=None)
@given(LOGS, st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.0, 0.5), (0.1, 0.8, 0.1), (1, 0, 0)]))
def test_ratios_hold_for_every_user(log, ratios):
    user, time = columns(log)
    label = by_ratio(user, time, ratios)
    for u in np.unique(user):
        mine, when = label[user == u], time[user == u]
        size = len(mine)
        count = [int((mine == value).sum()) for value in (TRAINING, VALIDATION, TEST)]
        assert count[TRAINING] >= 1
        for value in (VALIDATION, TEST):
            if ratios[value] == 0:
                assert count[value] == 0
            elif size >= 4:  # Enough for all three, whatever the shares.
                assert count[value] >= 1
        if size >= 10 and ratios[0] >= 0.5:
            for value in (TRAINING, VALIDATION, TEST):
                assert abs(count[value] - ratios[value] * size) <= 1.5
        for earlier, later in ((TRAINING, VALIDATION), (VALIDATION, TEST), (TRAINING, TEST)):
            if count[earlier] and count[later]:
                assert when[mine == earlier].max() <= when[mine == later].min()


def test_a_split_in_time_is_the_same_for_all():
    time = np.array([5, 1, 2, 3, 4, 6, 7, 8, 9, 10])
    label = temporal(time, (0.6, 0.2, 0.2))
    assert time[label == TRAINING].tolist() == [5, 1, 2, 3, 4, 6]
    assert time[label == VALIDATION].tolist() == [7, 8]
    assert time[label == TEST].tolist() == [9, 10]


def test_equal_times_stay_together():
    time = np.array([1, 1, 1, 2, 2, 2, 2, 2, 3, 3])
    label = temporal(time, (0.7, 0.1, 0.2))
    assert time[label == TRAINING].tolist() == [1, 1, 1]
    assert set(time[label == VALIDATION]) == {2}
    assert set(time[label == TEST]) == {3}
    assert (temporal(time, (1, 0, 0)) == TRAINING).all()
    with pytest.raises(DataError, match="too few different times"):
        temporal(np.ones(9), (0.8, 0.1, 0.1))


@pytest.mark.parametrize("ratios", [(0.8, 0.1), (0.8, 0.1, 0.2), (0, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_ratios_that_are_no_shares_are_refused(ratios):
    for split in (lambda: by_ratio(np.zeros(3, int), np.arange(3), ratios),
                  lambda: temporal(np.arange(3), ratios)):  # fmt: skip
        with pytest.raises(ConfigError, match=r"ratios are .* sum to 1"):
            split()
