"""Mistakes in options are named in one line, with exit code 2, before anything is trained."""

import pytest

from graphdiff.models.base import Recommender
from tests.command import run


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Arguments of a training on a small interaction log, in which no step may be made."""

    def step(self, *arguments):
        raise AssertionError("a training step was made")

    monkeypatch.setattr("graphdiff.LightGCN.loss", step)
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "log"
    root.mkdir()
    lines = [f"{user},{(user * 7 + n * 3) % 30},{n}" for user in range(30) for n in range(8)]
    (root / "log.csv").write_text("\n".join(["user,item,timestamp", *lines]))
    return ["--dataset", "csv", "--root", str(root), "--out", str(tmp_path / "run")]


TRAIN = ["train", "--model", "lightgcn", "--no-progress"]


@pytest.mark.parametrize(
    "option",
    [
        "ratios=[0.8,0.1", "ratios=many", "ratios=[0.8,0.1]", "ratios=[0.9,0.1,0.1]", "seed=@1",
        "seed=-1", "seed=1.5", "content=photos", "names=5", "names={user: item}", "transform=foo",
        "pre_transform=[]", "k_core=many", "k_core=-1", "split=half", "min_rating=high",
        "features=3", "bogus=1", "root=x", "user=", "=user", "delimiter",
    ],
)  # fmt: skip
def test_kind_h_bad_options_of_a_log(log, option):
    done = run(*TRAIN, *log, "--option", option, expect=2)
    assert option.partition("=")[0] in done.stderr
    assert done.stderr.startswith("graphdiff: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "option", ["num_users=many", "num_users=0", "seed=@1", "seed=-1", "noise=2", "noise=a", "x=1"]
)
def test_kind_h_bad_options_of_generated_data(option, tmp_path):
    arguments = [*TRAIN, "--dataset", "synthetic", "--out", tmp_path / "run"]
    done = run(*arguments, "--option", option, expect=2)
    assert option.partition("=")[0] in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--option", "split=ratio", "--option", "ratios=[0.9,0.1,0]"], "no test pairs"),
        (["--option", "split=ratio", "--option", "ratios=[0.9,0,0.1]"], "needs validation pairs"),
        (["--monitor", "recall@7"], "no metric 'recall@7' to monitor; there are recall@10"),
        (["--eval-every", "9", "--epochs", "5"], "eval_every=9 is more than epochs=5"),
        (["--precision", "bf16-true"], "'bf16-mixed'"),
        (["--precision", "16-true"], "'32-true'"),
        (["--seed", "-1"], "'--seed'"),
        (["--seed", "1.5"], "'--seed'"),
        (["--accelerator", "abacus"], "accelerator='abacus'"),
        (["--set", "lr=-1"], "lr=-1"),
        (["--tuned"], "no tuned settings of 'lightgcn' on 'csv'"),
    ],
)
def test_kind_h_what_cannot_be_trained_is_refused_at_once(log, arguments, message):
    done = run(*TRAIN, *log, *arguments, expect=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["compare --models", "tune --model"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--monitor", "recall@7"], "no metric 'recall@7' to monitor"),
        (["--eval-every", "9", "--epochs", "5"], "eval_every=9 is more than epochs=5"),
    ],
)
def test_kind_h_experiments_are_refused_before_data_is_read(
    command, arguments, message, tmp_path, monkeypatch
):
    def load(*arguments, **options):
        raise AssertionError("the dataset was read")

    monkeypatch.setattr("graphdiff.datasets.load", load)
    monkeypatch.setattr("graphdiff.experiments.workers.warm_up", lambda: None)
    done = run(*command.split(), "lightgcn", "--out", tmp_path / "o", *arguments, expect=2)
    assert message in done.stderr


@pytest.mark.parametrize("seed", ["0", "4294967296", str(2**64), "1785139200123456789"])
def test_kind_h_any_seed_of_the_shell(tmp_path, seed):
    arguments = ["--set=hidden_channels=8", "--epochs=1", "--accelerator=cpu", "--seed", seed]
    options = ["--option=num_users=60", "--option=num_items=40", "--option", f"seed={seed}"]
    run(*TRAIN, *arguments, *options, "--out", tmp_path / "run")
    run("train", "--resume", tmp_path / "run", "--epochs=2", "--no-progress")
    run("evaluate", tmp_path / "run")


def test_kind_h_the_suffix_of_a_plot_is_checked_before_reading(tmp_path):
    done = run("describe", "--dataset", "csv", "--root", tmp_path, "--plot", "x.txt", expect=2)
    assert "x.txt is not the name of a figure" in done.stderr


def test_kind_h_the_folder_of_a_run_is_checked_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(Recommender, "reset_parameters", None)
    (tmp_path / "file").write_text("")
    done = run(*TRAIN, "--dataset", "synthetic", "--out", tmp_path / "file" / "run", expect=2)
    assert "cannot be written: Not a directory" in done.stderr
