"""The scaling benchmark measures what it says, at a size that takes no time."""

import argparse
import math
import re

import pytest
import scaling


def arguments(kind, **more):
    given = {
        "worker": kind, "items": [400], "batch": 32, "dim": 8, "device": "cpu", "repeats": 1,
        "profile": None, "assert_equal": False, "markdown": None,
    }  # fmt: skip
    return argparse.Namespace(**{**given, **more})


def test_both_steps_are_measured_and_equal():
    sparse = scaling.measure(arguments("sparse"))
    assert sparse["step_seconds"] > 0
    assert sparse["step_seconds_with_propagation"] > sparse["step_seconds"]
    assert sparse["over_floor"] > 0
    dense = scaling.measure(arguments("dense", assert_equal=True))
    assert dense["peak_rss_bytes"] > 2**20


def test_a_dense_step_that_is_another_is_noticed(monkeypatch):
    def other(*given):
        return 1.01 * scaling_losses(*given)

    scaling_losses = scaling.dense_losses
    monkeypatch.setattr(scaling, "dense_losses", other)
    with pytest.raises(AssertionError):
        scaling.measure(arguments("dense", assert_equal=True))


def test_what_would_not_fit_is_skipped_with_a_reason():
    reason = scaling.does_not_fit("dense", 10**9, arguments(None, batch=1024))
    assert re.search(r"about \d+ GiB, more than four fifths of the \d+ that are free", reason)
    assert scaling.does_not_fit("sparse", 10**9, arguments(None)) is None
    assert scaling.does_not_fit("dense", 1000, arguments(None)) is None


def test_the_slope_is_that_of_the_logarithms():
    sizes = [{"items": n, "sparse_step_seconds": 3 * n**0.7} for n in (10, 100, 1000)]
    assert math.isclose(scaling.slope(sizes), 0.7)
    assert scaling.slope(sizes[:1]) is None
