"""Splits hold out the stated share of every user, and no interaction twice."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.datasets.splits import (
    LATER,
    TEST,
    TRAINING,
    VALIDATION,
    by_ratio,
    cutoff_times,
    global_time,
    leave_one_out,
    rank_within,
    split_by_time,
)
from graphdiff.errors import ConfigError, DataError

LOGS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=60)


SHARES = [(0.8, 0.1, 0.1), (0.5, 0.0, 0.5), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8), (1, 0, 0)]


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
@given(LOGS, st.sampled_from(SHARES))
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
            elif size >= 3:  # Enough for all three, whatever the shares.
                assert count[value] >= 1
        if size >= 10 and ratios[0] >= 0.5:
            for value in (TRAINING, VALIDATION, TEST):
                assert abs(count[value] - ratios[value] * size) <= 1.5
        for earlier, later in ((TRAINING, VALIDATION), (VALIDATION, TEST), (TRAINING, TEST)):
            if count[earlier] and count[later]:
                assert when[mine == earlier].max() <= when[mine == later].min()


@pytest.mark.parametrize(
    ("size", "ratios", "counts"),
    [
        (5, (0.1, 0.1, 0.8), [1, 1, 3]),
        (3, (0.1, 0.1, 0.8), [1, 1, 1]),
        (2, (0.1, 0.1, 0.8), [1, 0, 1]),
        (5, (0.2, 0.0, 0.8), [1, 0, 4]),
        (10, (0.8, 0.1, 0.1), [8, 1, 1]),
    ],
)
def test_few_rows_are_enough_for_each_share(size, ratios, counts):
    label = by_ratio(np.zeros(size, int), np.arange(size), ratios)
    assert np.bincount(label, minlength=3).tolist() == counts


def test_a_split_in_time_is_the_same_for_all():
    time = np.array([5, 1, 2, 3, 4, 6, 7, 8, 9, 10])
    label = global_time(time, (0.6, 0.2, 0.2))
    assert time[label == TRAINING].tolist() == [5, 1, 2, 3, 4, 6]
    assert time[label == VALIDATION].tolist() == [7, 8]
    assert time[label == TEST].tolist() == [9, 10]


def test_equal_times_stay_together():
    time = np.array([1, 1, 1, 2, 2, 2, 2, 2, 3, 3])
    label = global_time(time, (0.7, 0.1, 0.2))
    assert time[label == TRAINING].tolist() == [1, 1, 1]
    assert set(time[label == VALIDATION]) == {2}
    assert set(time[label == TEST]) == {3}
    assert (global_time(time, (1, 0, 0)) == TRAINING).all()
    with pytest.raises(DataError, match="too few different times"):
        global_time(np.ones(9), (0.8, 0.1, 0.1))


@pytest.mark.parametrize(
    ("groups", "ratios", "counts"),
    [
        ([70, 25, 5], (0.8, 0.1, 0.1), [70, 25, 5]),
        # Both points are nearest to the same place.
        ([10, 85, 5], (0.8, 0.1, 0.1), [10, 85, 5]),
        ([5, 45, 45, 5], (0.45, 0.1, 0.45), [5, 45, 50]),
        # The nearest place is the end, or the beginning.
        ([60, 15, 25], (0.8, 0.1, 0.1), [60, 15, 25]),
        ([50, 30, 20], (0.1, 0.1, 0.8), [50, 30, 20]),
        ([70, 25, 5], (0.8, 0.0, 0.2), [70, 0, 30]),
        ([70, 25, 5], (0.9, 0.1, 0.0), [95, 5, 0]),
        ([1, 1, 1, 1], (0.8, 0.1, 0.1), [2, 1, 1]),
    ],
)
def test_times_are_divided_where_it_is_closest_to_the_ratios(groups, ratios, counts):
    label = global_time(np.repeat(np.arange(len(groups)), groups), ratios)
    assert np.bincount(label, minlength=3).tolist() == counts
    assert (np.diff(label) >= 0).all()


def closest(time, ratios):
    """Return what the sizes of the parts are, by trying all places between groups of times."""
    num, sizes = len(time), np.unique(time, return_counts=True)[1]
    edges = [0, *np.cumsum(sizes)]
    second = round((ratios[0] + ratios[1]) * num) if ratios[2] else num
    first = round(ratios[0] * num) if ratios[1] else second
    found = [
        (abs(a - first) + abs(b - second), [a, b - a, num - b])
        for a, b in itertools.combinations_with_replacement(edges, 2)
    ]
    found = [
        (off, cut)
        for off, cut in found
        if all((c > 0) == (r > 0) for c, r in zip(cut, ratios, strict=True))
    ]
    return min(found, default=(0, None))[1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.sampled_from(SHARES))
def test_no_other_division_of_equal_times_is_closer_to_the_ratios(times, ratios):
    time = np.array(times)
    expected = closest(time, ratios)
    if expected is None:
        with pytest.raises(DataError, match=f"found {len(np.unique(time))}, expected at least"):
            global_time(time, ratios)
    else:
        label = global_time(time, ratios)
        assert np.bincount(label, minlength=3).tolist() == expected
        assert (np.diff(label[np.argsort(time, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("ratios", [(0.8, 0.1), (0.8, 0.1, 0.2), (0, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_ratios_that_are_no_shares_are_refused(ratios):
    for split in (lambda: by_ratio(np.zeros(3, int), np.arange(3), ratios),
                  lambda: global_time(np.arange(3), ratios)):  # fmt: skip
        with pytest.raises(ConfigError, match=r"ratios are .* sum to 1"):
            split()


ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), min_size=2, max_size=60
)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_nothing_later_than_the_cutoff_is_trained_on(rows, cutoff, before, after):
    user, item, time = (np.array(column) for column in zip(*rows, strict=True))
    start, until = cutoff - before, cutoff + after
    try:
        found = split_by_time(user, item, time, cutoff, validation_from=start, until=until)
    except DataError:
        assert not ((time < start).any() and ((time >= cutoff) & (time < until)).any())
        return
    expected = {TRAINING: time < start, VALIDATION: (time >= start) & (time < cutoff),
                TEST: (time >= cutoff) & (time < until), LATER: time >= until}  # fmt: skip
    for value, wanted in expected.items():
        assert ((found.label == value) == wanted).all()
    for node, new, rows_of_new in (
        (user, found.new_users, found.of_new_users),
        (item, found.new_items, found.of_new_items),
    ):
        known = set(node[found.label == TRAINING].tolist())
        later = [one for one in node[found.label == TEST].tolist() if one not in known]
        assert (new, rows_of_new) == (len(set(later)), len(later))


def test_a_cutoff_without_validation_or_end_keeps_all_rows():
    time = np.array([3.5, 1.5, 2.5])
    found = split_by_time(np.array([0, 0, 1]), np.array([0, 1, 1]), time, 2.5)
    assert found.label.tolist() == [TEST, TRAINING, TEST]
    assert (found.new_users, found.new_items) == (1, 1)


@pytest.mark.parametrize("points", [{"validation_from": 2}, {"until": 2}, {"until": 1}])
def test_points_in_time_out_of_order_are_refused(points):
    one = np.zeros(4, int)
    with pytest.raises(ConfigError, match="give ascending ones"):
        split_by_time(one, one, np.arange(4), 2, **points)


@pytest.mark.parametrize(("cutoff", "what"), [(0, "training"), (4, "test")])
def test_a_cutoff_outside_the_log_is_refused(cutoff, what):
    one = np.zeros(4, int)
    with pytest.raises(DataError, match=f"no {what} interactions; the times are from 0 to 3"):
        split_by_time(one, one, np.arange(4), cutoff)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=8, max_size=80), st.integers(1, 4))
def test_windows_between_cutoffs_are_of_equal_size(times, num):
    time = np.array(times)
    try:
        points = cutoff_times(time, num)
    except DataError:
        return
    ends = np.append(points[1:], np.inf)
    sizes = [int(((time >= a) & (time < b)).sum()) for a, b in zip(points, ends, strict=True)]
    assert min(sizes) > 0
    if len(np.unique(time)) == len(time):
        assert max(sizes) - min(sizes) <= 1
        assert abs(int((time < points[0]).sum()) - len(time) / 2) <= 1


def test_cutoffs_need_enough_different_times():
    with pytest.raises(DataError, match="too few different times for 4 points"):
        cutoff_times(np.array([1, 1, 2, 2, 2, 2]), 4)
    with pytest.raises(ConfigError, match="num is 0"):
        cutoff_times(np.arange(9), 0)
