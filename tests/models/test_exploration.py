"""Places of new items in lists."""

import math

import pytest
import torch

from graphdiff import LD4MRec
from graphdiff.errors import ConfigError
from graphdiff.models import MODELS
from tests.conftest import make_model, random_data

FEATURES = {"image": 6}


def data():
    """Thirty items, the last ten of which have no training interactions."""
    made = random_data(20, 30, FEATURES, density=0.3)
    edges = made["user", "interacts", "item"].edge_index
    made["user", "interacts", "item"].edge_index = edges[:, edges[1] < 20]
    return made


def make(cls):
    torch.manual_seed(0)
    model = make_model(cls, data()).eval()
    if cls is LD4MRec:
        torch.nn.init.normal_(model.bias)
    return model


@pytest.mark.parametrize("explore", [0.0, 0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("name", ["ld4mrec", "contentknn", "bprmf"])
def test_new_items_take_their_share_and_no_more(name, explore):
    model, users, k = make(MODELS[name]), torch.arange(20), 12
    plain, scores_of_all = model.recommend(users, k=k), model.recommend(users, k=30)
    items, scores = model.recommend(users, k=k, explore=explore)
    places = math.ceil(explore * k)
    for user in range(20):
        found, before = items[user].tolist(), plain[0][user].tolist()
        assert len(set(found)) == k
        new, was = ([one for one in row if one >= 20] for row in (found, before))
        assert len(new) == max(min(places, 10), len(was))
        # The best of each kind, in the order of their scores.
        best = [one for one in scores_of_all[0][user].tolist() if one >= 0]
        assert sorted(new) == sorted([one for one in best if one >= 20][: len(new)])
        old = [one for one in found if one < 20]
        assert sorted(old) == sorted([one for one in best if one < 20][: len(old)])
    assert (scores.diff(dim=1) <= 0).all()
    if explore == 0:
        assert torch.equal(items, plain[0])


def test_excluded_items_and_candidates_hold_for_new_items_too():
    model = make(LD4MRec)
    exclude = (torch.zeros(5, dtype=torch.long), torch.arange(20, 25))
    items, scores = model.recommend([0], k=10, explore=1.0, exclude_index=exclude)
    assert set(range(25, 30)) <= set(items[0].tolist())
    assert not set(range(20, 25)) & set(items[0].tolist())
    few = model.recommend([0], k=5, explore=0.6, candidate_index=[1, 2, 3, 21], exclude_seen=False)
    assert set(few[0][0].tolist()) == {1, 2, 3, 21, -1}
    assert few[1][0, -1] == -torch.inf
    assert scores.isfinite().all()


@pytest.mark.parametrize("explore", [-0.1, 1.5, "much", True, float("nan")])
def test_a_share_out_of_range_is_refused(explore):
    with pytest.raises(ConfigError, match=r"explore is .*; give a share of the list"):
        make(LD4MRec).recommend([0], k=5, explore=explore)
