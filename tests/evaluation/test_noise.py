"""Interaction scores and their AUC, with and without cross-fitting."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff import fit
from graphdiff.datasets import SyntheticMultimedia
from graphdiff.errors import ConfigError, DataError
from graphdiff.evaluation.noise import auc, cross_fitted_scores, noise_auc, score_auc
from graphdiff.graph.rows import Rows
from graphdiff.models import (
    BPRMF,
    EASE,
    GFCF,
    MODELS,
    ItemKNN,
    LD4MRec,
    MultVAE,
    Popularity,
    interaction_scores,
)
from graphdiff.models.base import Query
from graphdiff.schema import INTERACTS
from graphdiff.transforms import InjectNoise
from tests.conftest import make_model, random_data


def brute_force(score, positive):
    pairs = [(a > b) + (a == b) / 2 for a in score[positive] for b in score[~positive]]
    return float(sum(pairs) / len(pairs)) if pairs else math.nan


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=15))
def test_auc_counts_pairs_and_ties_half(drawn):
    score = torch.tensor([float(s) for s, _ in drawn])
    positive = torch.tensor([p for _, p in drawn])
    assert auc(score, positive) == pytest.approx(brute_force(score, positive), nan_ok=True)


@pytest.mark.parametrize("model_class", [LD4MRec, MultVAE, EASE, ItemKNN, GFCF, Popularity])
def test_belief_is_the_score_from_all_other_items(model_class, multimodal_data):
    model = make_model(model_class, multimodal_data).eval()
    rows, score = model.interaction_scores([7, 2])
    for row, item, found in zip(rows.row.tolist(), rows.item, score, strict=True):
        own = model.graph.rows(torch.tensor([[7, 2][row]])).item
        others = own[own != item]
        query = Query(Rows(torch.zeros_like(others), others, 1))
        with torch.no_grad():
            every = model.scorer(query, model.tables())(0, model.num_items)[0].clone()
        spread = every.std(correction=0)
        expected = (every[item] - every.mean()) / spread if spread > 0 else torch.zeros(())
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_models_with_a_table_of_users_tell_their_score():
    model = make_model(BPRMF, random_data()).eval()
    rows, score = model.interaction_scores(3)
    every = model(torch.tensor([3]))[0].detach()
    expected = (every[rows.item] - every.mean()) / every.std(correction=0)
    torch.testing.assert_close(score, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("model_class", MODELS.values(), ids=list(MODELS))
def test_every_model_tells_whatever_the_chunks(model_class, multimodal_data, monkeypatch):
    model = make_model(model_class, multimodal_data)
    training = model.training
    rows, score = model.interaction_scores()
    assert torch.equal(rows.item, model.graph.col)
    assert score.isfinite().all()
    assert model.training == training
    monkeypatch.setattr(interaction_scores, "CHUNK_ENTRIES", 5)
    torch.testing.assert_close(model.interaction_scores()[1], score, atol=1e-4, rtol=1e-4)
    with pytest.raises(ConfigError, match="out of range"):
        model.interaction_scores(99)


def test_noise_auc_is_that_of_the_scores_overall_and_within_users():
    data = InjectNoise(0.5)(random_data(20, 30))
    store = data[INTERACTS]
    mixed = torch.randperm(store.edge_index.size(1))
    store.edge_index, store.is_noise = store.edge_index[:, mixed], store.is_noise[mixed]
    model = make_model(EASE, data)
    noise = set(map(tuple, store.edge_index[:, store.is_noise].t().tolist()))
    rows, score = model.interaction_scores()
    pairs = zip(rows.row.tolist(), rows.item.tolist(), strict=True)
    true = torch.tensor([pair not in noise for pair in pairs])
    found = noise_auc(model, data)
    assert found["auc"] == pytest.approx(brute_force(score, true))
    each = [brute_force(score[rows.row == u], true[rows.row == u]) for u in range(20)]
    each = [one for one in each if not math.isnan(one)]
    assert found["auc_within_users"] == pytest.approx(sum(each) / len(each))
    assert found["users"] == len(each)
    assert sum(group["users"] for group in found["groups"].values()) <= len(each)


def test_a_trained_model_believes_truth_more_than_noise():
    data = SyntheticMultimedia(num_users=300, num_items=120)[0]
    model = EASE.from_data(data)
    fit(model, data, progress=False)
    assert noise_auc(model, data)["auc_within_users"] > 0.55


def test_what_cannot_be_told_apart_is_refused():
    data = random_data()
    model = make_model(EASE, data)
    with pytest.raises(DataError, match="InjectNoise"):
        noise_auc(model, data)
    with pytest.raises(DataError, match="not the"):
        noise_auc(model, InjectNoise(0.3)(data))
    with pytest.raises(DataError, match="0 of"):
        noise_auc(model, InjectNoise(0.0)(data))


def test_cross_fitting_judges_each_interaction_by_a_model_that_never_saw_it():
    data = InjectNoise(0.5)(random_data(20, 30))
    store = data[INTERACTS]
    mixed = torch.randperm(store.edge_index.size(1))
    store.edge_index, store.is_noise = store.edge_index[:, mixed], store.is_noise[mixed]
    everything, models = set(map(tuple, store.edge_index.t().tolist())), []

    def train(rest):
        models.append(make_model(EASE, rest))
        return models[-1]

    belief = cross_fitted_scores(train, data, folds=3)
    known = [
        set(zip(model.graph.user.tolist(), model.graph.col.tolist(), strict=True))
        for model in models
    ]
    held_out = [everything - pairs for pairs in known]
    assert sum(map(len, held_out)) == len(everything) == len(set().union(*held_out))
    assert max(map(len, held_out)) - min(map(len, held_out)) <= 1
    for (user, item), found in zip(store.edge_index.t().tolist(), belief, strict=True):
        (model,) = (m for m, pairs in zip(models, held_out, strict=True) if (user, item) in pairs)
        every = model(torch.tensor([user]))[0].detach()
        spread = every.std(correction=0)
        expected = (every[item] - every.mean()) / spread if spread > 0 else torch.zeros(())
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(store.is_noise, data[INTERACTS].is_noise)
    assert score_auc(belief, data)["auc"] == pytest.approx(
        brute_force(belief, ~data[INTERACTS].is_noise)
    )
    assert torch.equal(
        belief, cross_fitted_scores(lambda rest: make_model(EASE, rest), data, folds=3)
    )
    with pytest.raises(ConfigError, match="give 2 or more"):
        cross_fitted_scores(train, data, folds=1)


def test_a_model_that_never_saw_a_fake_doubts_it_more():
    # Fakes are uniform over items: an item of no other user has a high score if learned from.
    data = InjectNoise(0.3)(SyntheticMultimedia(num_users=300, num_items=120)[0])

    def train(rest):
        model = ItemKNN.from_data(rest)
        fit(model, rest, progress=False)
        return model

    own, unseen = (
        noise_auc(train(data), data)["auc"],
        score_auc(cross_fitted_scores(train, data), data)["auc"],
    )
    assert 0.5 < own < unseen
