"""Scores of rare items by features, against their equation on dense matrices."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff.graph.popularity import popularity_groups
from graphdiff.models import LD4MRec
from graphdiff.models.held_out import HeldOut, sums_of_metrics
from graphdiff.models.ld4mrec.calibration import calibrate, rare_scorer
from graphdiff.models.ld4mrec.rare_content import RareContent
from graphdiff.schema import INTERACTS, ITEM
from tests.conftest import random_data

NUM_ITEMS = 30


def started(data, **settings):
    path = {"enabled": True, "rank": 8, "rare_content": True}
    model = LD4MRec.from_data(data, hidden_channels=8, linear_path=path, **settings).eval()
    model.start_epoch(torch.Generator().manual_seed(0))
    return model


def test_scores_are_the_equation():
    data = random_data(40, NUM_ITEMS, {"image": 6, "text": 5}, seed=1)
    data[ITEM].has_image[3] = False
    data[ITEM].x_image[3] = 0
    model = started(data)
    graph, path = model.graph, model.linear
    rows = graph.rows(torch.arange(40))
    dense = rows.dense(NUM_ITEMS)
    expected = torch.zeros(40, NUM_ITEMS)
    for name in ("image", "text"):
        x, has = graph.features(name)
        unit = F.normalize(x, dim=1)
        unit = (unit - unit.sum(0) / has.sum()) * has.unsqueeze(1)
        own = F.normalize(unit @ torch.linalg.eigh(unit.T @ unit)[1], dim=1)
        variance = own.square().mean(dim=0)
        own = F.normalize(own / (variance + 0.1 * variance.mean()).sqrt(), dim=1)
        expected += dense @ own @ own.T / dense.sum(dim=1, keepdim=True).clamp(min=1)
    rare = popularity_groups(graph.item_degree()) <= 1
    assert 0 < rare.sum() < NUM_ITEMS
    found = rare_scorer(path, graph, rows)(0, 40)
    # The principal directions are found by iteration; their signs do not matter.
    torch.testing.assert_close(found, expected * rare, atol=0.001, rtol=0)
    assert found[:, rare].std() > 0.1


def test_validation_sets_the_weight():
    # Users are of two kinds, whose items are similar, and so is a rare item for each.
    data, kind = random_data(40, 60, {"image": 8}), torch.arange(40) % 2
    for n in (0, 2, 58):
        data[ITEM].x_image[n : n + 2] = 5 * torch.eye(8)[:2]
    data[INTERACTS].edge_index = torch.cat(
        [torch.stack([torch.arange(40), n + kind]) for n in (0, 2)], dim=1
    )
    for split in ("val_edge_label_index", "test_edge_label_index"):
        data[INTERACTS][split] = torch.zeros(2, 0, dtype=torch.long)
    model = started(data, propagation={"num_item_layers": 0})
    for content in (model.items.content, model.linear.items.content):
        torch.nn.init.zeros_(content.weight)
    similar = torch.stack([torch.arange(40), 58 + kind])
    calibrate(model, similar)
    assert model.linear.rare.weight > 0
    assert metrics(model, similar)[0] == 1


@pytest.mark.parametrize("present", ["none", "of frequent items"])
def test_rare_items_without_features_get_no_weight(present):
    data = random_data(40, 60, {"image": 8})
    degree = torch.bincount(data[INTERACTS].edge_index[1], minlength=60)
    has = popularity_groups(degree) > (1 if present == "of frequent items" else 9)
    data[ITEM].has_image, data[ITEM].x_image = has, data[ITEM].x_image * has.unsqueeze(1)
    model = started(data)
    calibrate(model, data[INTERACTS].val_edge_label_index)
    assert model.linear.rare.weight == 0
    assert model(torch.arange(40)).isfinite().all()


@pytest.mark.parametrize("seed", range(4))
def test_it_costs_neither_recall_nor_ndcg(seed):
    data = random_data(60, 60, {"image": 8}, seed=seed)
    model = started(data)
    pairs = data[INTERACTS].val_edge_label_index
    calibrate(model, pairs)
    found = metrics(model, pairs)
    model.linear.rare.weight.zero_()
    model.invalidate_tables()
    assert (found >= metrics(model, pairs)).all()


def metrics(model, pairs):
    users = HeldOut(model.graph, pairs)
    num = users.user.numel()
    score = model(users.user).masked_fill(users.histories(0, num), -torch.inf)
    return sums_of_metrics(score, users.targets(0, num)) / num


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_an_explanation_has_all_of_the_score(weight):
    data = random_data(40, NUM_ITEMS, {"image": 6})
    model = started(data)
    model.linear.weight.fill_(weight)
    model.linear.rare.weight.fill_(0.8)
    rare = (model.graph.item_degree() <= 1).nonzero().flatten()[:3]
    score = model(torch.tensor([5]))[0]
    for item in rare.tolist():
        found = model.explain(item, user_index=5)
        assert found.score == pytest.approx(score[item].item(), abs=1e-4)
        assert sum(found.parts.values()) == pytest.approx(found.score, abs=1e-4)


def test_items_that_are_added_are_rare_and_move_no_other():
    data = random_data(40, NUM_ITEMS, {"image": 6})
    model = started(data)
    before = model.linear.rare_tables(model.graph)
    popular = model.graph.item_degree().argmax()
    model.add_items({"image": model.graph.features("image")[0][popular].unsqueeze(0)})
    features, of_rare = model.linear.rare_tables(model.graph)
    assert torch.equal(features[:-1], before[0])
    torch.testing.assert_close(features[-1], features[popular])
    assert torch.equal(of_rare[-1], features[-1])
    assert not of_rare[popular].any()


def test_one_lucky_validation_does_not_decide():
    rare = RareContent([4], 8)
    weights = torch.arange(6.0)
    loss = torch.linspace(0, -0.05, 6).unsqueeze(1).expand(6, 2)
    for _ in range(3):
        rare.choose(weights, 0.5 + loss)
        assert rare.weight == 0
    lucky = 0.5 + loss.clone()
    lucky[4] = 0.51
    rare.choose(weights, lucky)
    assert rare.weight == 0
    # A gain of recall that costs NDCG is none.
    mixed = 0.5 - loss
    mixed[:, 1] = 0.5 + loss[:, 1]
    for _ in range(30):
        rare.choose(weights, mixed)
        assert rare.weight == 0
    for _ in range(30):
        rare.choose(weights, 0.5 - loss)
    assert rare.weight == 5
