import numpy as np
import pytest

from graphdiff.experiments.memory import STATUS, PeakMemory


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc")
def test_peak_memory_is_that_of_the_block():
    with PeakMemory() as large:
        np.ones(30_000_000)
    with PeakMemory() as small:
        np.ones(3)
    peaks = [
        one["peak_memory_bytes"] - one["memory_before_bytes"]
        for one in (large.figures(), small.figures())
    ]
    assert peaks[0] >= 200e6
    assert peaks[1] < 100e6
