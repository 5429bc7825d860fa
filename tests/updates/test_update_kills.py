"""Updates that are killed by the operating system."""

from tests.killed import needs_schedstat, run_killing


@needs_schedstat
def test_20_killed_updates_end_as_one_that_was_not(tmp_path):
    result = run_killing("tests.updates.killing", tmp_path)
    assert result["kills"] == 20
    assert result["differing"] == []
    assert result["old"] > 0
