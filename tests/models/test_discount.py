"""Lists with a discount of popularity."""

import pytest
import torch

from graphdiff.errors import ConfigError
from graphdiff.evaluation.ranking import evaluate
from graphdiff.models import MODELS
from tests.conftest import make_model, random_data

USERS = torch.arange(20)


def make(name):
    torch.manual_seed(0)
    data = random_data(20, 30, {"image": 6}, density=0.3)
    return make_model(MODELS[name], data).eval(), data


@pytest.mark.parametrize("discount", [0.0, 0.1, 1.0, 50.0])
@pytest.mark.parametrize("name", ["ld4mrec", "bprmf", "itemknn"])
def test_scores_lose_the_logarithm_of_popularity(name, discount):
    model, _ = make(name)
    item, score = model.recommend(USERS, k=30, exclude_seen=False)
    order = item.argsort(dim=1)
    expected = score.gather(1, order) - discount * model.graph.item_degree().log1p()
    found, less = model.recommend(USERS, k=30, exclude_seen=False, popularity_discount=discount)
    assert torch.allclose(less.gather(1, found.argsort(dim=1)), expected, atol=1e-5)
    assert (less.diff(dim=1) <= 0).all()


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
