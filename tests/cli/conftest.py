import pytest

from tests.command import run

TRAIN = ["train", "--dataset", "synthetic", "--epochs", "2", "--no-progress", "--accelerator=cpu"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A RUN folder of a small LD4MRec; tests must leave it as it is."""
    out = tmp_path_factory.mktemp("runs") / "run"
    done = run(*TRAIN, "--model", "ld4mrec", "--set", "hidden_channels=16", "--out", out)
    assert "recall@20" in done.stdout
    assert "training items masked" in done.stdout
    return out
