"""Models over time: what each of them may know at a cut-off."""

import json

import numpy as np
import pytest
import torch

from graphdiff.datasets import SyntheticDrift, load
from graphdiff.datasets.base import TimedLog
from graphdiff.errors import ConfigError
from graphdiff.experiments import backtest as module
from graphdiff.experiments import backtest_report
from graphdiff.experiments.backtest import _ByHistory, _Runner, backtest
from graphdiff.models.base import Recommender
from graphdiff.models.registry import get_model
from graphdiff.schema import raw_ids
from graphdiff.training.config import training_config
from tests.command import run as command
from tests.conftest import make_model, random_data

OPTIONS = {"seed": 2, "num_users": 60, "num_items": 50, "num_days": 12}
SETTINGS = {"hidden_channels": 8, "batch_size": 32, "objective.num_negatives": 16}
FAST = {"epochs": 2, "accelerator": "cpu", "report": lambda line: None}


@pytest.fixture(scope="module")
def result():
    return backtest(
        "synthetic-drift", options=OPTIONS, settings=SETTINGS, cutoffs=2,
        update={"passes": 1}, **FAST,
    )  # fmt: skip


def test_a_backtest_measures_all_models_at_all_cutoffs(result):
    assert [row["number"] for row in result["cutoffs"]] == [1, 2]
    for row in result["cutoffs"]:
        assert list(row["models"]) == ["retrained", "updated", "unchanged"]
        for figures in row["models"].values():
            assert 0 <= figures["recall@20"] <= 1
            assert 0 <= figures["ndcg@10"] <= 1
        assert row["new_items"] > 0
        costs = {arm: figures["steps"] for arm, figures in row["models"].items()}
        assert costs["retrained"] > costs["updated"] > costs["unchanged"] == 0
        # Items of the window are unknown to a model that is left as it was.
        assert row["models"]["unchanged"]["cold_recall@20"] == 0
    assert result["cutoffs"][0]["training"] < result["cutoffs"][1]["training"]
    json.dumps(result)


def test_a_backtest_trains_on_nothing_later_than_its_cutoff(monkeypatch):
    log = SyntheticDrift(**OPTIONS).read_log().log
    time_of = {
        (str(u), str(i)): t
        for u, i, t in zip(log.user.tolist(), log.item.tolist(), log.time.tolist(), strict=True)
    }
    seen, recommend = [], Recommender.recommend

    def latest(model):
        ids, graph = model.catalogue, model.graph
        return max(
            time_of[str(ids.user_id(u)), str(ids.item_id(i))]
            for u, i in zip(graph.user.tolist(), graph.col.tolist(), strict=True)
        )

    def watched(self, *args, **kwargs):
        if "history_index" in kwargs:  # As the backtest asks.
            known = kwargs["history_index"]
            seen.append((latest(self), self.graph.num_interactions, known))
        return recommend(self, *args, **kwargs)

    monkeypatch.setattr(Recommender, "recommend", watched)
    found = backtest(
        "synthetic-drift", options=OPTIONS, settings=SETTINGS, cutoffs=2,
        update={"passes": 1}, **FAST,
    )  # fmt: skip
    cutoffs = [row["cutoff"] for row in found["cutoffs"]]
    trained = [row["training"] for row in found["cutoffs"]]
    first = float(np.sort(log.time)[round(0.5 * len(log))])
    assert len(seen) == 6
    for n, (time, size, _) in enumerate(seen):
        arm, cutoff = n % 3, cutoffs[n // 3]
        if arm < 2:  # Retrained and updated know everything before the cut-off.
            assert size == trained[n // 3]
            assert time < cutoff
        else:
            assert time < first


def test_graphs_of_a_backtest_have_the_times_of_training(monkeypatch):
    log = load("synthetic-drift", **OPTIONS).read_log().log
    names = (log.user_ids.take(log.user).to_pylist(), log.item_ids.take(log.item).to_pylist())
    when = dict(zip(zip(*names, strict=True), log.time.tolist(), strict=True))
    seen, window = [], _Runner._window

    def watched(self, *args, **kwargs):
        found = window(self, *args, **kwargs)
        seen.append((args[0], found[0]))
        return found

    monkeypatch.setattr(_Runner, "_window", watched)
    backtest("synthetic-drift", "popularity", options=OPTIONS, cutoffs=1)
    assert seen
    for cutoff, data in seen:
        store = data["user", "interacts", "item"]
        users, items = (
            raw_ids(data, node, store.edge_index[row]) for row, node in enumerate(("user", "item"))
        )
        assert store.time.tolist() == [when[pair] for pair in zip(users, items, strict=True)]
        assert store.time.max() < cutoff


def test_histories_and_lists_are_translated_between_catalogues():
    data = random_data(num_users=12, num_items=9)
    data["item"].raw_id = [f"i{n}" for n in range(9)]
    data["user"].raw_id = [f"u{n}" for n in range(12)]
    from graphdiff import LD4MRec, LightGCN

    for cls in (LD4MRec, LightGCN):
        model = make_model(cls, data).eval()
        view = _ByHistory(model, data)
        users = torch.tensor([4, 0])
        found = view.recommend(users, k=9)[0]
        expected = model.recommend(users, k=9)[0]
        assert found.tolist() == expected.tolist()
        # The same data with its items in another order, and two that the model does not know.
        order = torch.tensor([3, 8, 0, 1, 2, 4, 5, 7, 6])
        place = order.argsort()
        other = random_data(num_users=12, num_items=11)
        edges = data["user", "interacts", "item"].edge_index
        other["user", "interacts", "item"].edge_index = torch.stack([edges[0], place[edges[1]]])
        other["item"].raw_id = [*(f"i{n}" for n in order.tolist()), "x", "y"]
        other["user"].raw_id = [f"u{n}" for n in range(11)] + ["stranger"]
        found = _ByHistory(model, other).recommend(users, k=11)[0]
        wanted = [[place[i].item() if i >= 0 else -1 for i in row] for row in expected.tolist()]
        assert found.tolist() == [[*row, -1, -1] for row in wanted]
        if cls is LightGCN:  # It knows the users of its training alone.
            stranger = _ByHistory(model, other).recommend(torch.tensor([11]), k=3)[0]
            assert stranger.tolist() == [[-1, -1, -1]]


def test_histories_and_updates_are_in_the_order_of_time():
    log, features = SyntheticDrift(**OPTIONS).read_log()
    shuffled = log.select(np.random.default_rng(0).permutation(len(log)))
    config = training_config(None, {})
    cls = get_model("ld4mrec")
    runner = module._Runner(cls, SETTINGS, config, {}, TimedLog(shuffled, features))
    cutoff = float(np.median(log.time))
    data, _ = runner._window(cutoff, None)
    view = _ByHistory(make_model(cls, data), data)
    assert sum(map(len, view.histories)) == (log.time < cutoff).sum()
    time = dict(zip(zip(log.user.tolist(), log.item.tolist(), strict=True), log.time, strict=True))
    users, items = (raw_ids(data, node, range(data[node].num_nodes)) for node in ("user", "item"))
    for user, history in zip(users, view.histories, strict=True):
        times = [time[int(user), int(items[item])] for item in history]
        assert times == sorted(times)
    rows = runner._rows(0, cutoff)
    pairs = zip(rows["user"].to_pylist(), rows["item"].to_pylist(), strict=True)
    times = [time[pair] for pair in pairs]
    assert times == sorted(times)


def test_a_model_that_cannot_be_updated_is_retrained_or_unchanged():
    found = backtest(
        "synthetic-drift", "popularity", options=OPTIONS, cutoffs=1,
        report=lambda line: None,
    )  # fmt: skip
    assert list(found["cutoffs"][0]["models"]) == ["retrained", "unchanged"]
    assert "unchanged: " in "\n".join(backtest_report.summary(found))


def test_a_backtest_needs_times():
    with pytest.raises(ConfigError, match="has no log with times"):
        backtest("synthetic", options={"num_users": 60, "num_items": 40}, **FAST)
    with pytest.raises(ConfigError, match="cutoffs is 0"):
        backtest("synthetic-drift", cutoffs=0, **FAST)


def test_the_table_and_the_plot_of_a_backtest(result, tmp_path):
    means = backtest_report.means(result)
    rows = [row["models"]["updated"]["recall@20"] for row in result["cutoffs"]]
    assert means["updated"]["recall@20"] == pytest.approx(np.mean(rows))
    page = backtest_report.markdown(result, "plot.svg")
    assert page.count("| updated |") == 3
    assert "Data: `seed=2`, `num_users=60`" in page
    assert "![Recall and seconds at each cut-off](plot.svg)" in page
    share = means["updated"]["recall@20"] / means["retrained"]["recall@20"]
    assert f"updated: {share:.1%} of the retrained model's recall@20" in page
    backtest_report.plot(result, tmp_path / "plot.svg")
    for arm in module.ARMS:
        assert f"<!-- {arm} -->" in (tmp_path / "plot.svg").read_text()


def test_the_backtest_command(tmp_path):
    options = [part for name, value in OPTIONS.items() for part in ("--option", f"{name}={value}")]
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    done = command(
        "backtest", *options, *settings, "--cutoffs", 1, "--epochs", 1, "--update", "passes=1",
        "--accelerator=cpu", "--out", tmp_path / "b.json", "--markdown", tmp_path / "b.md",
        "--plot", tmp_path / "b.svg",
    )  # fmt: skip
    assert "of the retrained model's recall@20" in done.stdout
    assert json.loads((tmp_path / "b.json").read_text())["update"] == {"passes": 1}
    assert "(b.svg)" in (tmp_path / "b.md").read_text()
    assert (tmp_path / "b.svg").exists()
