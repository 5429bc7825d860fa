"""A training survives being killed, stopped, and running out of space: nothing is lost."""

import csv
import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml

from graphdiff import LightGCN, fit
from graphdiff.cli.main import main
from graphdiff.errors import ConfigError, Interrupted, RunError, StorageError
from graphdiff.files import write_bytes
from graphdiff.runs import resume_run, train_run
from graphdiff.training.checkpoints import checkpoint_of
from graphdiff.training.config import run_config
from tests.conftest import random_data
from tests.killed import needs_schedstat, run_killing

SIZES = {"num_users": 40, "num_items": 30}
TINY = {"seed": 3, "num_users": 60, "num_items": 40}
ARGUMENTS = {"accelerator": "cpu", "progress": False}
SETTINGS = {"hidden_channels": 8, "batch_size": 64}


@needs_schedstat
def test_kill_and_resume_end_where_an_uninterrupted_training_does(tmp_path):
    result = run_killing("tests.killing", tmp_path)
    assert result["kills"] == 20
    assert result["differing"] == []
    assert result["parts"]  # Some kills came while a file was being written.


def tiny(model, epochs):
    return run_config(
        {
            "model": {"name": model, "settings": SETTINGS},
            "dataset": {"name": "synthetic", "options": TINY},
            "training": {"epochs": epochs, "accelerator": "cpu"},
        }
    )


def begun(folder, epochs=2, model="lightgcn"):
    return train_run(folder, tiny(model, epochs), progress=False)


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def history(folder):
    with open(folder / "metrics.csv") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def interrupting(monkeypatch, step, signals=(signal.SIGINT,)):
    """Sends signals to this process in the given training step of LightGCN."""
    loss, steps = LightGCN.loss, []

    def watched(self, batch, generator):
        steps.append(batch)
        if len(steps) == step:
            for number in signals:
                os.kill(os.getpid(), number)
        return loss(self, batch, generator)

    monkeypatch.setattr(LightGCN, "loss", watched)
    return steps


class TestInterrupt:
    def model(self):
        data = random_data(**SIZES)
        return LightGCN.from_data(data, hidden_channels=8, batch_size=32, lr=0.01), data

    def test_the_epoch_is_repeated(self, tmp_path, monkeypatch):
        whole, data = self.model()
        fit(whole, data, epochs=4, **ARGUMENTS)
        steps = -(-whole.graph.num_interactions // 32)
        for step, epochs in ((2, 0), (steps, 1), (2 * steps + 1, 2)):
            with monkeypatch.context() as patch:
                taken = interrupting(patch, step)
                with pytest.raises(
                    Interrupted, match=f"after epoch {epochs}, which .* holds complete"
                ) as e:
                    fit(self.model()[0], data, epochs=4, out=tmp_path / str(step), **ARGUMENTS)
            assert e.value.signal == signal.SIGINT
            assert len(taken) == step  # The batch at hand was finished, and no other begun.
            again, _ = self.model()
            fit(again, data, epochs=4, out=tmp_path / str(step), resume=True, **ARGUMENTS)
            for one, other in zip(again.parameters(), whole.parameters(), strict=True):
                assert torch.equal(one, other)

    @pytest.mark.parametrize(
        "signals", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)], ids=["SIGTERM", "twice"]
    )
    def test_other_ways_to_ask(self, tmp_path, monkeypatch, signals):
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        model, data = self.model()
        interrupting(monkeypatch, 2, signals)
        with pytest.raises(Interrupted) as e:
            fit(model, data, epochs=4, out=tmp_path, **ARGUMENTS)
        assert e.value.signal == signals[0]
        assert checkpoint_of(tmp_path).is_file()
        assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def test_without_a_folder_it_says_so(self, monkeypatch):
        model, data = self.model()
        interrupting(monkeypatch, 1)
        with pytest.raises(Interrupted, match="nothing was saved"):
            fit(model, data, epochs=4, **ARGUMENTS)

    def test_the_command_exits_with_130_and_says_how_to_go_on(self, tmp_path, monkeypatch, capsys):
        out = tmp_path / "run"
        settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
        interrupting(monkeypatch, 30)
        line = ["train", "--model=lightgcn", "--out", str(out), "--epochs=2", "--no-progress"]
        monkeypatch.setattr(sys, "argv", ["graphdiff", *line, *settings])
        with pytest.raises(SystemExit) as e:
            main()
        assert e.value.code == 130
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("graphdiff: stopped after epoch 0, which")
        assert error.endswith(f"; resume with: graphdiff train --resume {out}")


class TestResume:
    def test_the_folder_is_enough(self, tmp_path):
        whole = begun(tmp_path / "whole", epochs=3)
        begun(tmp_path / "cut", epochs=1)
        resumed = resume_run(tmp_path / "cut", epochs=3, progress=False)
        assert resumed["test"] == whole["test"]
        assert history(tmp_path / "cut") == history(tmp_path / "whole")
        configs = [
            yaml.safe_load((tmp_path / n / "config.yaml").read_text()) for n in ("cut", "whole")
        ]
        assert configs[0] == configs[1]

    def test_a_finished_training_is_left_at_its_end(self, tmp_path):
        first = begun(tmp_path)
        before = everything(tmp_path)
        assert resume_run(tmp_path, progress=False) == first
        after = everything(tmp_path)
        assert set(after) == set(before)
        assert after[tmp_path / "results.json"] == before[tmp_path / "results.json"]

    def test_before_its_first_checkpoint_it_starts_over(self, tmp_path):
        whole = begun(tmp_path)
        for name in ("checkpoints/last.ckpt", "results.json", "metrics.csv", "model.safetensors"):
            (tmp_path / name).unlink()
        assert resume_run(tmp_path, progress=False)["test"] == whole["test"]

    def test_a_training_is_not_written_over(self, tmp_path):
        begun(tmp_path)
        before = everything(tmp_path)
        with pytest.raises(RunError, match=r"already holds a training \(model\.safetensors, .*"):
            begun(tmp_path, model="freedom")
        assert everything(tmp_path) == before
        again = train_run(tmp_path, tiny("freedom", 1), overwrite=True, progress=False)
        assert again["model"] == "FREEDOM"
        assert len(history(tmp_path)) == 1

    def test_what_would_be_another_training_is_refused(self, tmp_path):
        begun(tmp_path)
        with pytest.raises(ConfigError, match="keeps its settings, so 'seed' cannot be given"):
            resume_run(tmp_path, seed=3)
        with pytest.raises(RunError, match="is not a RUN folder"):
            resume_run(tmp_path / "none")
        path = tmp_path / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["model"]["settings"]["lr"] = 0.5
        path.write_text(yaml.safe_dump(config))
        with pytest.raises(RunError, match="of another training: its setting lr is"):
            resume_run(tmp_path, progress=False)
        config["training"]["speed"] = 3
        path.write_text(yaml.safe_dump(config))
        with pytest.raises(RunError, match=r"no setting 'training\.speed'; there are epochs, pat"):
            resume_run(tmp_path, progress=False)

    def test_a_fresh_fit_does_not_leave_an_older_checkpoint(self, tmp_path):
        data = random_data(**SIZES)
        for seed, epochs in ((0, 3), (1, 1)):
            model = LightGCN.from_data(data, hidden_channels=8)
            fit(model, data, epochs=epochs, seed=seed, out=tmp_path, **ARGUMENTS)
        assert [path.name for path in checkpoint_of(tmp_path).parent.iterdir()] == ["last.ckpt"]
        model = LightGCN.from_data(data, hidden_channels=8)
        with pytest.raises(RunError, match="of another training: its seed is 1, here it is 0"):
            fit(model, data, seed=0, out=tmp_path, resume=True, **ARGUMENTS)

    @pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b"", lambda b: b"x" * 99])
    def test_a_damaged_checkpoint_is_refused(self, tmp_path, damage):
        data = random_data(**SIZES)
        model = LightGCN.from_data(data, hidden_channels=8)
        fit(model, data, epochs=1, out=tmp_path, **ARGUMENTS)
        path = checkpoint_of(tmp_path)
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(RunError, match="is not a complete checkpoint"):
            fit(model, data, epochs=2, out=tmp_path, resume=True, **ARGUMENTS)

    def test_a_checkpoint_that_would_run_code_is_refused(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "canary"),)

        data = random_data(**SIZES)
        model = LightGCN.from_data(data, hidden_channels=8)
        path = checkpoint_of(tmp_path)
        path.parent.mkdir()
        torch.save({"graphdiff": Evil()}, path)
        with pytest.raises(RunError, match="is not a complete checkpoint"):
            fit(model, data, out=tmp_path, resume=True, **ARGUMENTS)
        assert not (tmp_path / "canary").exists()
        torch.save({"state_dict": {}}, path)
        with pytest.raises(RunError, match="is not a checkpoint written by graphdiff"):
            fit(model, data, out=tmp_path, resume=True, **ARGUMENTS)


@contextmanager
def no_file_larger_than(size):
    """A limit of the operating system's on what this process writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def full_disk(size):
    """A folder on a disk of its own of so many bytes."""
    folder = Path(tempfile.mkdtemp())
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    try:
        if mounted.returncode:
            pytest.skip("no right to mount a small disk here")
        yield folder
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def not_allowed_to_write(folder):
    """Takes the right to write into ``folder`` away, from the superuser too."""
    user = os.geteuid()
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


@pytest.fixture
def open_folder():
    """A folder that other users may look into."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


class TestNoSpace:
    def test_the_old_file_stays_and_no_part_is_left(self, tmp_path):
        path = tmp_path / "file"
        write_bytes(path, b"old")
        with no_file_larger_than(4096), pytest.raises(StorageError) as e:
            write_bytes(path, b"x" * 10**5)
        assert e.value.errno == errno.EFBIG
        assert everything(tmp_path) == {path: b"old"}
        with no_file_larger_than(4096), pytest.raises(StorageError):
            write_bytes(tmp_path / "new", b"x" * 10**5)
        assert everything(tmp_path) == {path: b"old"}

    def test_a_training_stops_and_what_it_had_is_whole(self, tmp_path, monkeypatch, capsys):
        begun(tmp_path, epochs=1)
        before = everything(tmp_path)
        monkeypatch.setattr(sys, "argv", ["graphdiff", "train", "--no-progress", "--epochs=3",
                                          "--resume", str(tmp_path)])  # fmt: skip
        with no_file_larger_than(4096), pytest.raises(SystemExit) as e:
            main()
        assert e.value.code == 2
        error = capsys.readouterr().err.splitlines()
        assert len(error) == 1
        assert "cannot be written: File too large" in error[0]
        after = everything(tmp_path)
        assert set(after) == set(before)
        for name in ("checkpoints/last.ckpt", "model.safetensors"):
            assert after[tmp_path / name] == before[tmp_path / name]
        resume_run(tmp_path, epochs=3, progress=False)
        whole = tmp_path / "whole"
        begun(whole, epochs=3)
        assert history(tmp_path) == history(whole)

    def test_a_full_disk(self):
        with full_disk(2**16) as folder:
            write_bytes(folder / "file", b"x" * 30_000)
            with pytest.raises(StorageError, match="No space left on device") as e:
                write_bytes(folder / "file", b"y" * 60_000)
            assert e.value.errno == errno.ENOSPC
            assert everything(folder) == {folder / "file": b"x" * 30_000}

    def test_a_folder_that_may_not_be_written_to(self, open_folder, monkeypatch, capsys):
        (open_folder / "file").write_bytes(b"old")
        line = ["train", "--model=lightgcn", "--epochs=1", "--out", str(open_folder / "run")]
        monkeypatch.setattr(sys, "argv", ["graphdiff", *line])
        with not_allowed_to_write(open_folder):
            with pytest.raises(StorageError, match="Permission denied"):
                write_bytes(open_folder / "file", b"new")
            with pytest.raises(SystemExit) as e:
                main()
        assert e.value.code == 2
        assert capsys.readouterr().err == (
            f"graphdiff: {open_folder / 'run'} cannot be written: Permission denied; what was "
            "there before is unchanged, so make room or give another folder\n"
        )
        assert everything(open_folder) == {open_folder / "file": b"old"}


def test_a_file_has_the_rights_that_others_have(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_bytes(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_folder_is_forced_to_disk_after_the_rename(tmp_path, monkeypatch):
    forced = []
    fsync = os.fsync

    def watched(descriptor):
        forced.append((os.readlink(f"/proc/self/fd/{descriptor}"), (tmp_path / "file").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_bytes(tmp_path / "file", b"x")
    assert [exists for _, exists in forced] == [False, True]
    assert forced[1][0] == str(tmp_path)
