"""The least credible training interactions are removed, and nothing else."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.transforms import Compose

from graphdiff import EASE, LightGCN, fit
from graphdiff.datasets import SyntheticMultimedia
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, fingerprint, validate
from graphdiff.transforms import DropUnlikely, InjectNoise
from tests.conftest import make_model, random_data


def pairs(data, attribute="edge_index"):
    return list(map(tuple, data[INTERACTS][attribute].t().tolist()))


def scores_of(model):
    rows, score = model.interaction_scores()
    return dict(
        zip(zip(rows.row.tolist(), rows.item.tolist(), strict=True), score.tolist(), strict=True)
    )


def reference(data, model, share):
    """The same by sorting pairs."""
    score = scores_of(model)
    best = {}
    for pair in sorted(score):
        if pair[0] not in best or score[pair] >= score[best[pair[0]]]:
            best[pair[0]] = pair
    removable = sorted(set(score) - set(best.values()), key=lambda pair: (score[pair], pair))
    return set(score) - set(removable[: round(share * len(score))])


@pytest.mark.parametrize("model_class", [EASE, LightGCN])
@settings(deadline=None, max_examples=15, derandomize=True)
@given(share=st.floats(0, 0.6), seed=st.integers(0, 9), shuffle=st.integers(0, 9))
def test_what_is_removed_is_least_credible(model_class, share, seed, shuffle):
    data = random_data(20, 15, seed=seed, density=0.5)
    model = make_model(model_class, data)
    store = data[INTERACTS]
    generator = torch.Generator().manual_seed(shuffle)
    order = torch.randperm(store.edge_index.size(1), generator=generator)
    store.edge_index = store.edge_index[:, order]
    store.is_noise = torch.arange(len(order)) % 3 == 0
    before = fingerprint(data)
    labels = dict(zip(pairs(data), store.is_noise.tolist(), strict=True))
    cleaned = DropUnlikely(model, share)(data)
    validate(cleaned)
    assert fingerprint(data) == before  # the data that came in stays as it was
    assert set(pairs(cleaned)) == reference(data, model, share)
    assert set(cleaned[INTERACTS].edge_index[0].tolist()) == set(store.edge_index[0].tolist())
    assert dict(zip(pairs(cleaned), cleaned[INTERACTS].is_noise.tolist(), strict=True)) == {
        pair: labels[pair] for pair in pairs(cleaned)
    }
    for attribute in ("val_edge_label_index", "test_edge_label_index"):
        assert torch.equal(cleaned[INTERACTS][attribute], store[attribute])


def test_a_larger_share_removes_more_of_the_same():
    data = random_data(20, 15, density=0.5)
    model = make_model(EASE, data)
    left = [set(pairs(DropUnlikely(model, share)(data))) for share in (0.0, 0.1, 0.3, 0.6)]
    assert left[0] == set(pairs(data))
    assert left[0] > left[1] > left[2] > left[3]


def test_an_only_interaction_stays():
    data = random_data(6, 5, density=0.0)
    assert len(pairs(data)) == 6
    model = make_model(EASE, data)
    assert len(pairs(DropUnlikely(model, 0.05)(data))) == 6
    with pytest.raises(
        DataError, match=r"is 1 of 6 training .* only 0 can be removed, as every us"
    ):
        DropUnlikely(model, 0.2)(data)


def test_the_largest_share_is_named():
    data = random_data(20, 15, density=0.5)
    model = make_model(EASE, data)
    with pytest.raises(DataError, match="give a share of at most") as error:
        DropUnlikely(model, 0.99)(data)
    most = float(str(error.value).rpartition(" ")[2])
    left = pairs(DropUnlikely(model, most)(data))
    users = {user for user, _ in pairs(data)}
    assert len(users) <= len(left) <= len(users) + 1 + 0.001 * len(pairs(data))


def test_known_fakes_are_removed_more_often_than_true_interactions():
    data = SyntheticMultimedia(num_users=300, num_items=120)[0]
    fakes = InjectNoise(0.3)(data)
    for noisy in (data, fakes):
        model = EASE.from_data(noisy)
        fit(model, noisy, progress=False)
        cleaned = DropUnlikely(model, 0.2)(noisy)
        noise, left = noisy[INTERACTS].is_noise, cleaned[INTERACTS].is_noise
        removed_fakes = 1 - left.sum() / noise.sum()
        removed_truth = 1 - (~left).sum() / (~noise).sum()
        assert removed_fakes > 1.2 * removed_truth


def test_it_is_a_transform_like_others():
    data = random_data(20, 15, density=0.5)
    model = make_model(EASE, data)
    once = DropUnlikely(model, 0.2)
    assert pairs(Compose([once])(data)) == pairs(once(data))
    assert repr(once) == "DropUnlikely(EASE(20, 15, regularization=100.0, recency=0.0), share=0.2)"


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, math.nan, math.inf, True, "0.1", None])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match="give a share of the training interactions, from 0"):
        DropUnlikely(make_model(EASE, random_data()), share)


def test_other_models_and_other_data_are_refused():
    with pytest.raises(ConfigError, match="model is of type str; give a trained graphdiff model"):
        DropUnlikely("ease", 0.1)
    data = random_data()
    drop = DropUnlikely(make_model(EASE, data), 0.1)
    with pytest.raises(DataError, match=r"the model was trained on .* which are not the"):
        drop(random_data(seed=3))
    with pytest.raises(DataError, match="give the graph that it was trained on"):
        drop(drop(data))
