"""Damaged and hostile files are read or refused; nothing else happens."""

import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import Fuzzer, Report
from tests.fuzz.every import EVERY
from tests.fuzz.targets import Target


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHDIFF_CACHE", "")
        yield Fuzzer(tmp_path_factory.mktemp("fuzz"))
    signal.signal(signal.SIGALRM, handler)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", EVERY, ids=lambda target: target.name)
def test_a_damaged_file_gives_data_or_a_clear_refusal(fuzzer, target):
    samples = fuzzer.samples(target)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32))
    def check(seed):
        report = Report()
        fuzzer.try_one(target, samples, seed, report)
        assert report.inputs == 1
        assert not report.uncaught, report.uncaught[0]
        assert not report.executed, report.executed[0]

    check()


def test_every_hostile_sample_is_refused(fuzzer):
    for target in EVERY:
        for sample in fuzzer.samples(target)[1]:
            report = Report()
            fuzzer.try_one(target, ([sample], []), "whole", report)
            assert (report.refused, report.executed) == (1, []), (target.name, sample, report)


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (lambda folder: eval("1 + 1"), "exec"),
        (lambda folder: __import__("os").system("true"), "os.system"),
        (lambda folder: __import__("pickle").loads(b"cos\nsystem\n."), "pickle.find_class"),
        (lambda folder: (folder / ".." / ".." / "x").write_text(""), "open"),
        (lambda folder: (folder / "x").rename(folder / ".." / "executed"), "os.rename"),
    ],
)
def test_the_fuzzer_detects_side_effects(fuzzer, read, found):
    report = Report()
    fuzzer.try_one(Target("careless", list, read), ([{"x": b"x"}], []), 0, report)
    assert len(report.executed) == 1
    assert found in report.executed[0]


def test_the_fuzzer_detects_uncaught_exceptions(fuzzer):
    report = Report()
    target = Target("careless", list, lambda folder: {}["x"])
    fuzzer.try_one(target, ([{"x": b"x"}], []), 0, report)
    assert "KeyError" in report.uncaught[0]
