"""Lists with a discount of popularity."""

import pytest
import torch

from graphdiff.errors import ConfigError
from graphdiff.evaluation.ranking import evaluate
from graphdiff.models import MODELS
from graphdiff.nn import topk
from tests.conftest import make_model, random_data

USERS = torch.arange(20)


def make(name):
    torch.manual_seed(0)
    data = random_data(20, 30, {"image": 6}, density=0.3)
    return make_model(MODELS[name], data).eval(), data


@pytest.mark.parametrize("discount", [0.0, 0.1, 1.0, 50.0])
@pytest.mark.parametrize("name", ["ld4mrec", "bprmf", "itemknn"])
def test_scores_lose_popularity_in_units_of_their_spread(name, discount, monkeypatch):
    model, _ = make(name)
    item, score = model.recommend(USERS, k=30, exclude_seen=False)
    score = score.gather(1, item.argsort(dim=1))
    popularity = model.graph.item_degree().log1p()
    spread = score.std(dim=1, correction=0, keepdim=True) / popularity.std(correction=0)
    for scores_of_a_block in (2**25, 20 * 7):
        monkeypatch.setattr(topk, "BLOCK_SCORES", scores_of_a_block)
        found, less = model.recommend(USERS, k=30, exclude_seen=False, popularity_discount=discount)
        expected = score - discount * spread * popularity
        assert torch.allclose(less.gather(1, found.argsort(dim=1)), expected, atol=1e-4)
        assert (less.diff(dim=1) <= 0).all()


def test_a_discount_does_not_depend_on_the_unit_of_scores():
    model, _ = make("bprmf")
    before = model.recommend(USERS, k=10, popularity_discount=0.5)[0]
    with torch.no_grad():
        model.user_embedding.weight *= 1000
    assert torch.equal(model.recommend(USERS, k=10, popularity_discount=0.5)[0], before)


def test_a_large_discount_ranks_rare_items_first():
    model, data = make("ld4mrec")
    found, _ = model.recommend(USERS, k=30, exclude_seen=False, popularity_discount=1e4)
    degree = model.graph.item_degree()[found]
    assert (degree.diff(dim=1) >= 0).all()
    rare, usual = (
        evaluate(model, data, "val", [5], recommend={"popularity_discount": discount})
        for discount in (1e4, 0.0)
    )
    assert rare["average_popularity@5"] < usual["average_popularity@5"]
    assert usual == evaluate(model, data, "val", [5])


@pytest.mark.parametrize("discount", [-0.1, float("inf"), float("nan"), "much", True])
def test_a_discount_out_of_range_is_refused(discount):
    with pytest.raises(ConfigError, match=r"popularity_discount is .*; give a number"):
        make("ld4mrec")[0].recommend([0], k=5, popularity_discount=discount)
