import json

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from graphdiff import LightGCN
from graphdiff.cli.main import app
from graphdiff.cluster.parts import PartScorer, part_path
from graphdiff.cluster.score import PLAN, score
from graphdiff.errors import ConfigError, DataError, RunError
from tests.conftest import make_model, random_data


@pytest.fixture
def run(tmp_path):
    """A RUN folder with raw ids and a user who has too few items left for a long list."""
    model = make_model(LightGCN, random_data(11, 8))
    model.catalogue.user_ids = [f"u{n}" for n in range(11)]
    model.catalogue.item_ids = [100 + n for n in range(8)]
    model.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def rows(folder):
    return pq.read_table(folder).to_pylist()


def expected(run, users, k):
    model = LightGCN.from_pretrained(run)
    items, scores = model.recommend(torch.tensor(users), k=k)
    return [
        {"user": f"u{user}", "rank": rank, "item": 100 + item, "score": pytest.approx(value)}
        for user, *lists in zip(users, items.tolist(), scores.tolist(), strict=True)
        for rank, (item, value) in enumerate(zip(*lists, strict=True), start=1)
        if item >= 0
    ]


def test_every_user_is_scored_once(run, tmp_path):
    plan = score(run, tmp_path / "out", k=8, part_users=4)
    assert plan.num_parts == 3
    assert rows(tmp_path / "out") == expected(run, range(11), 8)
    assert len(rows(tmp_path / "out")) < 8 * 11


def test_scoring_that_was_cut_off_continues(run, tmp_path, monkeypatch):
    folder, write = tmp_path / "out", PartScorer.write

    def killed(self, part):
        if part == 2:
            raise KeyboardInterrupt
        write(self, part)

    monkeypatch.setattr(PartScorer, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        score(run, folder, k=3, part_users=2)
    monkeypatch.undo()
    kept = part_path(folder, 0).stat().st_mtime_ns
    lines = []
    score(run, folder, k=3, part_users=2, report=lines.append)
    assert lines == ["part 2 of 6", "part 3 of 6", "part 4 of 6", "part 5 of 6"]
    assert part_path(folder, 0).stat().st_mtime_ns == kept
    assert rows(folder) == expected(run, range(11), 3)
    score(run, folder, k=3, part_users=2, report=lines.append)
    assert len(lines) == 4


def test_a_folder_holds_one_plan(run, tmp_path):
    folder = tmp_path / "out"
    score(run, folder, k=3)
    with pytest.raises(RunError, match="another plan: its k is 3, here it is 2"):
        score(run, folder, k=2)
    make_model(LightGCN, random_data(11, 8), seed=1).save_pretrained(run)
    with pytest.raises(RunError, match="another plan: its files is"):
        score(run, folder, k=3)
    (folder / PLAN).unlink()
    with pytest.raises(RunError, match=r"holds parts without _plan\.json"):
        score(run, folder, k=3)


def test_some_users_by_raw_id(run, tmp_path):
    (tmp_path / "users.txt").write_text("u7\nu2\n")
    command = ["score", str(run), "--users", str(tmp_path / "users.txt"), "-k", "2"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "2 users, up to 2 items each, in 1 files" in done.output
    assert rows(tmp_path / "out") == expected(run, [7, 2], 2)
    assert json.loads((tmp_path / "out" / PLAN).read_text())["num_users"] == 2


def test_mistakes_are_found_before_the_first_part(run, tmp_path):
    for wrong, arguments in (
        ("k is 9 with a catalogue of 8 items", {"k": 9}),
        ("part_users is 0", {"part_users": 0}),
        ("engine is 'spark'; give local or ray", {"engine": "spark"}),
    ):
        with pytest.raises(ConfigError, match=wrong):
            score(run, tmp_path / "out", **arguments)
    with pytest.raises(DataError, match="nobody"):
        score(run, tmp_path / "out", users=["nobody"], k=2)
    done = CliRunner().invoke(app, ["score", str(run), "--out", str(tmp_path), "--users", "none"])
    assert isinstance(done.exception, ConfigError)
    assert not (tmp_path / "out").exists()
