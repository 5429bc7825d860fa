"""Statistics against scipy and against figures worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from graphdiff.errors import ConfigError, DataError
from graphdiff.evaluation.significance import (
    bootstrap_interval,
    bootstrap_over_seeds,
    compare_models,
    holm,
    paired_t_test,
    wilcoxon_test,
)


def two_models(num=200, gap=0.02, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.random(num)
    return a, a - gap + 0.1 * rng.standard_normal(num)


def test_paired_t_test_by_its_formula():
    a, b = two_models()
    difference = a - b
    t = difference.mean() / (difference.std(ddof=1) / np.sqrt(200))
    assert paired_t_test(a, b) == pytest.approx(2 * stats.t.sf(abs(t), 199))
    assert paired_t_test(a, b) == pytest.approx(paired_t_test(b, a))


def test_wilcoxon_by_hand():
    # Differences 1, -2, 3, 4, 5 and a zero, which is left out: the ranks of the negative ones add
    # up to 2. Of the 32 ways to sign five ranks, 3 give at most 2: {}, {1}, {2}.
    a = np.array([1.0, -2, 3, 4, 5, 0])
    assert wilcoxon_test(a[:5], np.zeros(5)) == pytest.approx(2 * 3 / 32)
    assert wilcoxon_test(a, np.zeros(6)) == pytest.approx(2 * 3 / 32)


def test_many_ties_are_as_scipy_counts_them():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 2, 300).astype(float), rng.integers(0, 2, 300).astype(float)
    assert wilcoxon_test(a, b) == pytest.approx(stats.wilcoxon(a, b).pvalue)


@pytest.mark.parametrize("test", [paired_t_test, wilcoxon_test])
def test_equal_models_differ_by_chance(test):
    a, b = two_models()
    assert test(a, a) == 1
    assert test(a, b - 1) < 1e-6


@pytest.mark.parametrize("test", [paired_t_test, wilcoxon_test])
def test_pairs_must_fit(test):
    with pytest.raises(DataError, match="values of 3 users and another of 4"):
        test([0, 1, 2], [0, 1, 2, 3])
    with pytest.raises(DataError, match="n at least 2"):
        test([0.0], [1.0])
    with pytest.raises(DataError, match="finite"):
        test([0.0, np.nan], [1.0, 2.0])


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1 gives .04 .06 .06 .04, raised to .04 .06 .06 .06.
    assert holm([0.04, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([0.2]).tolist() == [0.2]
    with pytest.raises(DataError, match="from 0 to 1"):
        holm([0.5, 1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_the_plain_value_and_bonferroni(p):
    corrected = holm(p)
    assert (corrected >= np.array(p)).all()
    assert (corrected <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    # Order is kept.
    assert (np.diff(corrected[np.argsort(p, kind="stable")]) >= 0).all()


def test_bootstrap_is_what_drawing_users_gives(monkeypatch):
    values = np.random.default_rng(3).random((30, 2))
    rng = np.random.default_rng(5)
    means = np.array([values[rng.integers(30, size=30)].mean(axis=0) for _ in range(400)])
    expected = np.percentile(means, [2.5, 97.5], axis=0)
    assert bootstrap_interval(values, 400, seed=5) == pytest.approx(expected)
    monkeypatch.setattr("graphdiff.evaluation.significance.BLOCK_ENTRIES", 70)
    assert bootstrap_interval(values, 400, seed=5) == pytest.approx(expected)
    assert bootstrap_interval(values[:, 0], 400, seed=5) == pytest.approx(expected[:, 0])


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(4).exponential(size=500)
    low, high = bootstrap_interval(values, 4000)
    found = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=0)
    interval = found.confidence_interval
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=0.01)
    assert low < values.mean() < high


def test_bootstrap_settings_are_checked():
    for settings in ({"resamples": 0}, {"confidence": 1.0}):
        with pytest.raises(ConfigError, match="resamples is"):
            bootstrap_interval([1.0, 2.0], **settings)
    with pytest.raises(DataError, match=r"shape \[0\]"):
        bootstrap_interval([])


def test_each_model_meets_the_best_of_the_others():
    good, fair = two_models(gap=0.05)
    poor = fair - 0.3
    found = compare_models({"fair": fair, "good": good, "poor": poor}, resamples=500)
    assert {name: one.rival for name, one in found.items()} == {
        "good": "fair", "fair": "good", "poor": "good"
    }  # fmt: skip
    assert found["good"].difference == pytest.approx(good.mean() - fair.mean())
    assert found["good"].difference == pytest.approx(-found["fair"].difference)
    assert found["poor"].p_t == pytest.approx(stats.ttest_rel(poor, good).pvalue)
    plain = [found[name].p_wilcoxon for name in ("fair", "good", "poor")]
    assert [found[name].p_wilcoxon_holm for name in ("fair", "good", "poor")] == pytest.approx(
        holm(plain).tolist()
    )
    low, high = found["good"].difference_interval
    assert low < found["good"].difference < high
    # The same users are drawn for all columns.
    assert (low, high) == pytest.approx(bootstrap_interval(good - fair, 500).tolist())
    assert found["poor"].interval == pytest.approx(bootstrap_interval(poor, 500).tolist())


def test_one_model_has_nothing_to_be_compared_with():
    found = compare_models({"only": [0.0, 1.0, 1.0]}, resamples=50)["only"]
    assert (found.mean, found.rival, found.p_t) == (pytest.approx(2 / 3), None, None)
    with pytest.raises(DataError, match="no model"):
        compare_models({})
    with pytest.raises(DataError, match="same users"):
        compare_models({"a": [0.0, 1.0], "b": [0.0, 1.0, 1.0]})


def test_the_bootstrap_over_seeds_contains_the_variation_of_both():
    rng = np.random.default_rng(0)
    users, seeds = rng.normal(size=400), np.array([-0.3, 0.0, 0.3])
    alone = bootstrap_over_seeds(users[None], resamples=4000)
    np.testing.assert_allclose(alone, bootstrap_interval(users, resamples=4000), atol=0.01)
    # Independent variations add up in squares.
    both = bootstrap_over_seeds(seeds[:, None] + users, resamples=20000)
    expected = 1.96 * np.sqrt(users.var() / 400 + seeds.var() / 3)
    assert (both[1] - both[0]) / 2 == pytest.approx(expected, rel=0.1)
    assert np.mean(both) == pytest.approx(users.mean(), abs=0.03)


@pytest.mark.parametrize("differences", [[0.1, 0.2], [[]], [[np.nan, 0.0]]])
def test_differences_that_are_no_matrix_are_refused(differences):
    with pytest.raises(DataError, match=r"give finite \[S, n\]"):
        bootstrap_over_seeds(differences)


def test_differences_that_are_equal_but_for_rounding_share_their_rank():
    rng = np.random.default_rng(0)
    whole = rng.integers(-3, 4, 300)
    base = rng.integers(3, 7, 300)
    expected = wilcoxon_test(whole, np.zeros(300))
    assert wilcoxon_test((base + whole) / 10, base / 10) == expected
    # Means over seeds of values in single precision.
    a, b = (np.float32(one / 30).astype(float) for one in (base + whole, base))
    assert wilcoxon_test((a + 2 * b) / 3, (b + b + b) / 3) == expected
    assert wilcoxon_test(a, a + 1e-8) == 1
