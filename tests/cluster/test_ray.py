"""A cluster of two nodes on this machine."""

import threading

import pyarrow.parquet as pq
import pytest

from graphdiff import datasets
from graphdiff.cluster.parts import part_path
from graphdiff.cluster.score import score
from graphdiff.cluster.train import train_on_ray
from graphdiff.cluster.tune import tune_on_ray
from graphdiff.experiments.protocol import Protocol
from graphdiff.experiments.tune import Budget
from graphdiff.models import LightGCN
from graphdiff.runs import train_run
from graphdiff.training.config import run_config
from tests.cluster.slow import SlowPopularity
from tests.conftest import make_model, random_data

ray = pytest.importorskip("ray", reason="needs the extra graphdiff-rec[cluster]")

SIZES = {"num_users": 80, "num_items": 60}


@pytest.fixture
def cluster():
    """Two nodes with room for one worker each, and a connection to them."""
    from ray.cluster_utils import Cluster

    found = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = found.add_node(num_cpus=1)
    try:
        ray.init(address=found.address, log_to_driver=False, logging_level="error")
        yield found, second
    finally:
        ray.shutdown()
        found.shutdown()


# One test, since starting a cluster and its workers takes most of the time.
def test_ray_trains_tunes_and_scores_what_this_process_does(cluster, tmp_path):
    check_training(tmp_path)
    check_tuning(tmp_path)
    check_scoring(*cluster, tmp_path)
    # Ray's own measurements for reports on its use go on in a thread.
    assert not [one.name for one in threading.enumerate() if "usage" in one.name]


def check_training(folder):
    training = {"epochs": 2, "accelerator": "cpu", "precision": "64-true"}
    config = run_config(
        {
            "model": {"name": "ld4mrec", "settings": {"hidden_channels": 8, "num_heads": 2}},
            "dataset": {"options": SIZES},
            "training": training,
        }
    )
    found = train_on_ray(folder / "ray", config, num_workers=2)
    here = train_run(folder / "here", config, progress=False)
    assert found["epochs"] == 2
    for split in ("val", "test"):
        assert found[split] == pytest.approx(here[split])


def check_tuning(folder):
    data = datasets.load("synthetic", **SIZES)[0]
    for trials in (1, 3):
        lines = []
        found = tune_on_ray(
            "synthetic",
            data,
            LightGCN,
            folder / "tuned",
            budget=Budget(trials=trials, jobs=2),
            protocol=Protocol(epochs=1),
            report=lines.append,
        )
        assert found["trials"] == trials
        assert found["search"]["failed"] == 0
        # A search is resumed: the trials of the first are not repeated.
        assert sum(line.startswith("trial ") for line in lines) == {1: 1, 3: 2}[trials]


def check_scoring(cluster, second, folder):
    make_model(SlowPopularity, random_data(40, 20)).save_pretrained(folder / "run")
    out, nodes = folder / "scored", []

    def kill_a_node(line):
        nodes.append(line.split()[-1])
        if second.node_id in nodes and second in cluster.worker_nodes:
            cluster.remove_node(second, allow_graceful=False)
            # Parts that are there already are not computed again.
            assert not part_path(out, 19).exists()

    model = f"{SlowPopularity.__module__}:SlowPopularity"
    arguments = {"k": 5, "part_users": 2, "model": model}
    score(folder / "run", out, engine="ray", workers=2, report=kill_a_node, **arguments)
    assert second.node_id in nodes
    assert second not in cluster.worker_nodes
    score(folder / "run", folder / "local", **arguments)
    assert pq.read_table(out).equals(pq.read_table(folder / "local"))
    assert len(list(out.glob("part-*"))) == 20
