"""Validation sets the weight of the linear path."""

import pytest
import torch

from graphdiff import evaluate, fit
from graphdiff.models import LD4MRec, Popularity
from graphdiff.models import held_out as module
from graphdiff.models.held_out import HeldOut, sums_of_metrics
from graphdiff.models.ld4mrec.calibration import PATH_WEIGHTS, metrics_of_sums
from graphdiff.schema import INTERACTS
from tests.conftest import make_model, random_data

WITH_RARE = {"enabled": True, "rank": 8, "rare_content": True}


def held_out(num_items=30):
    data = random_data(50, num_items)
    graph = make_model(Popularity, data).graph
    return graph, data, HeldOut(graph, data[INTERACTS].val_edge_label_index)


def test_metrics_are_those_of_the_evaluation():
    graph, data, users = held_out()
    model = make_model(Popularity, data)
    model.solve()
    popularity = graph.item_degree().float()
    # Ties would be ranked in another order.
    score = popularity + torch.arange(graph.num_items) / 1000

    class Fixed:
        def recommend(self, user_index, *, k, exclude_seen=True, exclude_index=None):
            block = score.repeat(len(user_index), 1)
            rows = graph.rows(user_index)
            block[rows.row, rows.item] = -torch.inf
            top = block.topk(k, dim=1)
            return top.indices, top.values

    expected = evaluate(Fixed(), data, "val")
    found = users.recall(lambda start, stop: score.repeat(stop - start, 1))
    assert 0 < expected["recall@20"] < 1
    assert found.item() == pytest.approx(expected["recall@20"], abs=1e-6)
    num = users.user.numel()
    unseen = score.repeat(num, 1).masked_fill(users.histories(0, num), -torch.inf)
    found = sums_of_metrics(unseen, users.targets(0, num)) / num
    assert found.tolist() == pytest.approx([expected["recall@20"], expected["ndcg@20"]], abs=1e-6)


def test_the_scores_that_know_the_answer_get_all_the_weight():
    users = held_out(num_items=60)[2]
    answer = users.target.dense(60)
    noise = torch.rand(users.user.numel(), 60, generator=torch.Generator().manual_seed(7))
    blocks = {
        name: lambda start, stop, all_scores=scores: all_scores[start:stop].clone()
        for name, scores in {"answer": answer + noise / 100, "noise": noise}.items()
    }
    weight, metrics = metrics_of_sums(users, blocks["noise"], blocks["answer"], PATH_WEIGHTS)
    assert weight[0] == 0
    assert (metrics.argmax(dim=0) > 0).all()
    assert metrics[-1, 0] == 1
    torch.testing.assert_close(metrics[-1], torch.ones(2))
    assert (metrics[0] < 0.9).all()
    weight, metrics = metrics_of_sums(users, blocks["answer"], blocks["noise"], PATH_WEIGHTS)
    assert (metrics.argmax(dim=0) == 0).all()
    assert metrics[0, 0] == 1
    torch.testing.assert_close(metrics[0], torch.ones(2))
    assert len(weight) == len(PATH_WEIGHTS)


def test_fit_sets_the_weight_and_a_saved_model_has_it(tmp_path):
    data = random_data(60, 60, {"image": 6})
    model = LD4MRec.from_data(data, hidden_channels=8, linear_path=WITH_RARE)
    assert model.linear.weight == 0
    assert model.cached_tables().item.shape == (60, 8)
    fit(model, data, epochs=6, progress=False, eval_every=2)
    assert model.linear.best > 0
    model.linear.weight.fill_(0.7)
    model.linear.rare.weight.fill_(0.0)
    model.invalidate_tables()
    assert model.cached_tables().item.shape == (60, 8 + 8 + 15 + 1)
    # Six directions of the features, and zeros.
    model.linear.rare.weight.fill_(0.4)
    model.invalidate_tables()
    assert model.cached_tables().item.shape == (60, 8 + 8 + 8 + 15 + 1)
    before = model.recommend([3, 4], k=5)
    lists = [model.graph.rows(torch.tensor([u])).item.tolist() for u in (3, 4)]
    model.save_pretrained(tmp_path / "model")
    for again in (model, LD4MRec.from_pretrained(tmp_path / "model")):
        found = again.recommend(history_index=lists, k=5)
        assert torch.equal(found[0], before[0])
        torch.testing.assert_close(found[1], before[1])


@pytest.mark.parametrize("part", [lambda path: path, lambda path: path.rare])
def test_the_path_adds_its_scores_times_the_weights(part):
    data = random_data(40, 60, {"image": 6})
    model = LD4MRec.from_data(data, hidden_channels=8, linear_path=WITH_RARE)
    fit(model, data, epochs=2, progress=False)
    users = torch.arange(40)
    scores = []
    for weight in (0.0, 0.5, 1.0):
        part(model.linear).weight.fill_(weight)
        scores.append(model.eval()(users))
    torch.testing.assert_close(scores[2] - scores[0], 2 * (scores[1] - scores[0]))
    assert (scores[2] - scores[0]).std() > 0


def test_calibration_changes_no_parameter():
    data = random_data(40, 60)
    model = LD4MRec.from_data(data, hidden_channels=8, linear_path={"enabled": True, "rank": 8})
    model.start_epoch(torch.Generator().manual_seed(0))
    before = [p.detach().clone() for p in model.parameters()]
    model.calibrate(data[INTERACTS].val_edge_label_index)
    assert model.linear.best > 0
    for p, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, value)


@pytest.mark.parametrize("path", [True, False])
def test_the_bias_of_cold_items_is_chosen_with_the_scores_of_the_model(path, monkeypatch):
    data = random_data(60, 60, {"image": 6}, seed=3)
    data[INTERACTS].time = torch.arange(data[INTERACTS].edge_index.size(1))
    model = LD4MRec.from_data(data, hidden_channels=8, linear_path={"enabled": path, "rank": 8})
    model.start_epoch(torch.Generator().manual_seed(0))
    found = []
    monkeypatch.setattr(model.cold_items, "can_choose", lambda graph, pairs: True)
    monkeypatch.setattr(model.cold_items, "choose", lambda *given: found.append(given))
    model.calibrate(data[INTERACTS].val_edge_label_index)
    (_, users, scorer), num = found[0], found[0][1].user.numel()
    torch.testing.assert_close(scorer(0, num), model.eval()(users.user), atol=1e-4, rtol=1e-4)


def test_users_with_few_items_left_have_what_is_left():
    data = random_data(12, 21)
    graph = make_model(Popularity, data).graph
    target = torch.tensor([[0], [20]])
    users = HeldOut(graph, target)
    users.seen = graph.rows(torch.tensor([0]))
    score = torch.zeros(1, 21)
    score[0, 20] = 1.0
    assert users.recall(lambda start, stop: score.clone()) == 1
    users.histories = lambda start, stop: torch.ones(1, 21, dtype=torch.bool)
    assert users.recall(lambda start, stop: score.clone()) == 0


def test_a_large_validation_set_is_sampled_the_same_way_each_time(monkeypatch):
    graph, data, everyone = held_out()
    monkeypatch.setattr(module, "MOST_USERS", 20)
    pairs = data[INTERACTS].val_edge_label_index
    one, two = HeldOut(graph, pairs), HeldOut(graph, pairs.flip(1))
    assert torch.equal(one.user, two.user)
    assert one.user.numel() == 20 < everyone.user.numel()
    for n, user in enumerate(one.user):
        own = pairs[1][pairs[0] == user].sort().values
        assert torch.equal(one.target.item[one.target.row == n].sort().values, own)
