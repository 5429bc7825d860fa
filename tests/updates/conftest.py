import pytest

from tests.updates.runs import train


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A RUN that was never updated; tests change copies of it."""
    return train(tmp_path_factory.mktemp("runs") / "trained")
