"""The synthetic data is reproducible, learnable, and has the documented truth."""

import itertools

import numpy as np
import pytest
import torch

from graphdiff.datasets import SyntheticMultimedia, true_preference
from graphdiff.errors import ConfigError
from graphdiff.schema import INTERACTS, fingerprint, modalities, validate


@pytest.fixture(scope="module")
def data():
    return SyntheticMultimedia(seed=0)[0]


def small(**changes):
    return SyntheticMultimedia(**({"num_users": 60, "num_items": 50} | changes))[0]


def recall_at_20(data, score):
    """Return the mean recall@20 on the test pairs, with training items masked."""
    score = score.copy()
    train, test = (data[INTERACTS][n].numpy() for n in ("edge_index", "test_edge_label_index"))
    score[train[0], train[1]] = -np.inf
    wanted = np.zeros(score.shape, dtype=bool)
    wanted[test[0], test[1]] = True
    top = np.argsort(-score, axis=1)[:, :20]
    return (np.take_along_axis(wanted, top, axis=1).sum(axis=1) / wanted.sum(axis=1)).mean()


class TestReproducible:
    def test_a_seed_is_a_dataset(self):
        torch.manual_seed(1)
        one = small(seed=3)
        torch.manual_seed(2)
        np.random.seed(5)  # noqa: NPY002
        two = small(seed=3)
        assert fingerprint(one) == fingerprint(two)
        assert torch.equal(one[INTERACTS].is_noise, two[INTERACTS].is_noise)
        assert fingerprint(small(seed=4)) != fingerprint(one)

    def test_global_randomness_is_unchanged(self):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        state = np.random.get_state()[1].copy()  # noqa: NPY002
        small()
        assert torch.equal(torch.get_rng_state(), before)
        assert (np.random.get_state()[1] == state).all()  # noqa: NPY002

    def test_nothing_is_written_without_a_root(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path))
        small()
        assert list(tmp_path.iterdir()) == []

    def test_with_a_root_it_is_stored_until_arguments_change(self, tmp_path, monkeypatch):
        one = small(root=tmp_path)
        monkeypatch.setattr(SyntheticMultimedia, "read", None)
        assert fingerprint(small(root=tmp_path)) == fingerprint(one)
        with pytest.raises(TypeError):
            small(root=tmp_path, noise=0.3)


class TestContents:
    def test_it_fits_the_schema(self, data):
        validate(data)
        assert modalities(data) == ["audio", "image", "text"]

    def test_the_statistics_are_those_of_the_documentation(self, data):
        edges = data[INTERACTS]
        sizes = [edges[name].size(1) for name in ("edge_index", "val_edge_label_index")]
        sizes.append(edges.test_edge_label_index.size(1))
        table = SyntheticMultimedia.__doc__
        for size in (data["user"].num_nodes, data["item"].num_nodes, *sizes):
            assert f"- {size:,}\n" in table

    def test_most_users_have_few_items_and_some_have_many(self, data):
        degree = data[INTERACTS].edge_index[0].bincount(minlength=2000)
        assert 6 <= degree.median() <= 8
        assert degree.min() >= 3
        assert degree.max() >= 100
        assert degree.float().mean() > 1.5 * degree.median()

    def test_popularity_is_skewed(self, data):
        degree = data[INTERACTS].edge_index[1].bincount(minlength=1200).sort().values
        assert degree[-240:].sum() > 0.35 * degree.sum()

    def test_everyone_has_held_out_items(self, data):
        for name in ("val_edge_label_index", "test_edge_label_index"):
            assert data[INTERACTS][name][0].unique().numel() == 2000

    def test_cold_items_are_held_out_only_and_have_all_features(self, data):
        cold = data[INTERACTS].edge_index[1].bincount(minlength=1200) == 0
        assert 30 <= cold.sum() <= 40
        for name in ("val_edge_label_index", "test_edge_label_index"):
            assert 0.02 < cold[data[INTERACTS][name][1]].float().mean() < 0.15
        for name in modalities(data):
            assert data["item"][f"has_{name}"][cold].all()

    def test_some_items_lack_a_modality(self, data):
        for name in modalities(data):
            assert 0.01 < (~data["item"][f"has_{name}"]).float().mean() < 0.05


class TestTruth:
    def test_the_share_of_noise_is_as_asked(self, data):
        assert data[INTERACTS].is_noise.shape == (data[INTERACTS].edge_index.size(1),)
        assert data[INTERACTS].is_noise.float().mean() == pytest.approx(0.15, abs=0.01)
        assert not small(noise=0)[INTERACTS].is_noise.any()
        assert small(noise=0.5)[INTERACTS].is_noise.float().mean() == pytest.approx(0.5, abs=0.05)

    def test_noise_is_what_users_would_not_choose(self, data):
        preference = true_preference(data)
        user, item = data[INTERACTS].edge_index
        noise = data[INTERACTS].is_noise
        # How far above the user's mean is the item that the user has?
        above = preference[user, item] - preference.mean(dim=1)[user]
        assert above[~noise].mean() > above[noise].mean() + 4
        held_out = data[INTERACTS].test_edge_label_index
        clean = preference[held_out[0], held_out[1]] - preference.mean(dim=1)[held_out[0]]
        assert clean.mean() > above[noise].mean() + 4

    def test_noise_goes_by_popularity(self, data):
        noise = data[INTERACTS].edge_index[1][data[INTERACTS].is_noise]
        popularity = data["item"].popularity
        assert popularity[noise].mean() > popularity.mean() + 0.2

    def test_preferences_are_probabilities(self, data):
        preference = true_preference(data, torch.tensor([5, 0]))
        assert preference.shape == (2, 1200)
        torch.testing.assert_close(preference.exp().sum(dim=1), torch.ones(2))
        torch.testing.assert_close(preference[1], true_preference(data)[0])

    def test_leanings_are_shares_and_personal(self, data):
        leaning = data["user"].leaning
        torch.testing.assert_close(leaning.sum(dim=1), torch.ones(2000))
        assert (leaning.max(dim=1).values > 0.7).float().mean() > 0.5
        assert leaning.argmax(dim=1).bincount(minlength=3).min() > 500

    def test_features_tell_of_the_latents(self, data):
        # Ridge regression from features to latents, on half of the items, tested on the others.
        for m, name in enumerate(modalities(data)):
            has = data["item"][f"has_{name}"]
            x = data["item"][f"x_{name}"][has].double()
            z = data["item"].latent[has, m].double()
            fit, held_out = slice(0, 500), slice(500, None)
            gram = x[fit].t() @ x[fit] + 10 * torch.eye(x.size(1))
            error = x[held_out] @ torch.linalg.solve(gram, x[fit].t() @ z[fit]) - z[held_out]
            explained = 1 - error.square().mean() / z[held_out].var()
            assert 0.5 < explained < 0.99


def test_it_is_neither_trivial_nor_hopeless(data):
    user, item = data[INTERACTS].edge_index.numpy()
    x = np.zeros((2000, 1200))
    x[user, item] = 1

    def ease(gram, weight):
        inverse = np.linalg.inv(gram + weight * np.eye(len(gram)))
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        return x @ weights

    features = [data["item"][f"x_{name}"].numpy() for name in modalities(data)]
    norms = [np.linalg.norm(f, axis=1, keepdims=True) for f in features]
    unit = np.concatenate(
        [f / np.maximum(n, 1e-9) for f, n in zip(features, norms, strict=True)], axis=1
    )
    ladder = [
        recall_at_20(data, np.tile(x.sum(axis=0), (2000, 1))),
        recall_at_20(data, ease(x.T @ x, 200)),
        recall_at_20(data, ease(x.T @ x + 3 * unit @ unit.T, 800)),
        recall_at_20(data, true_preference(data).numpy()),
    ]
    assert ladder[0] > 0.04
    assert all(upper > lower * 1.1 for lower, upper in itertools.pairwise(ladder))
    assert 2 * ladder[2] < ladder[3] < 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed is -1; give at least 0"),
        ({"num_users": 0}, "num_users is 0"),
        ({"num_items": 19}, "num_items is 19; give at least 20"),
        ({"noise": 1.0}, "noise is 1.0; give a share from 0 to below 1"),
        ({"noise": float("nan")}, "noise=nan: expected a finite number"),
    ],
)
def test_arguments_out_of_range_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        small(**changes)


@pytest.mark.parametrize(("num_users", "num_items"), [(1, 20), (600, 20), (3, 500)])
def test_any_size_works(num_users, num_items):
    validate(small(num_users=num_users, num_items=num_items))
