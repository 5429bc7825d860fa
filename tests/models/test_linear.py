"""Closed-form models against their papers' equations in numpy and dense torch."""

import numpy as np
import pytest
import torch

from graphdiff import EASE, GFCF, ContentKNN, EASEFeatures, ItemKNN, Popularity, PureSVD
from graphdiff.errors import ConfigError
from graphdiff.models.base import Query
from graphdiff.nn import item_regression
from tests.conftest import make_model, random_data
from tests.watch import ForbidShape

USERS = torch.arange(25)


@pytest.fixture
def data():
    data = random_data(25, 14, {"image": 6, "text": 5}, density=0.5)
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    return data


def dense(data):
    """Return the interactions as a float64 matrix of ones."""
    matrix = np.zeros((data["user"].num_nodes, data["item"].num_nodes))
    matrix[tuple(data["user", "interacts", "item"].edge_index.numpy())] = 1
    return matrix


def check(model, expected):
    """Return scores of training users and of unseen users with the same histories."""
    expected = torch.from_numpy(expected).float()
    torch.testing.assert_close(model(USERS), expected, rtol=1e-4, atol=1e-5)
    strangers = [model.graph.rows(user[None]).item.tolist() for user in USERS]
    items, scores = model.recommend(history_index=strangers, k=5, exclude_seen=False)
    torch.testing.assert_close(scores, expected.topk(5).values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(expected.gather(1, items), scores, rtol=1e-4, atol=1e-5)


def zero_diagonal_ridge(columns, regularization):
    """Regress each column on the others by ridge regression."""
    num = columns.shape[1]
    weight = np.zeros((num, num))
    for item in range(num):
        others = np.arange(num) != item
        x = columns[:, others]
        left = x.T @ x + regularization * np.eye(num - 1)
        weight[others, item] = np.linalg.solve(left, x.T @ columns[:, item])
    return weight


def nearest(similarity, k):
    """Keep the k largest entries of each column."""
    kept = np.zeros_like(similarity)
    for item in range(similarity.shape[1]):
        best = np.argsort(-similarity[:, item], kind="stable")[:k]
        kept[best, item] = similarity[best, item]
    return kept


def test_popularity_counts_users(data):
    x = dense(data)
    check(make_model(Popularity, data), np.tile(x.sum(axis=0), (25, 1)))


def test_ease_is_a_ridge_regression_of_each_item_on_the_others(data):
    x = dense(data)
    expected = x @ zero_diagonal_ridge(x, 3.0)
    check(make_model(EASE, data, regularization=3.0), expected)


def test_pairs_are_counted_in_chunks(data, monkeypatch):
    monkeypatch.setattr(item_regression, "_PAIRS", 7)
    x = dense(data)
    graph = make_model(EASE, data).graph
    np.testing.assert_array_equal(item_regression.gram(graph).numpy(), x.T @ x)


def standardised(data, name):
    has = data["item"][f"has_{name}"].numpy()
    x = data["item"][f"x_{name}"].double().numpy()
    x = (x - x[has].mean(axis=0)) / x[has].std(axis=0)
    return np.where(has[:, None], x / np.linalg.norm(x, axis=1, keepdims=True), 0)


def test_features_act_as_additional_users(data):
    x = dense(data)
    settings = {"regularization": 2.0, "feature_weight": 5.0}
    model = make_model(EASEFeatures, data, modality_weights={"image": 1.0, "text": 3.0}, **settings)
    columns = np.concatenate(
        [
            x,
            (5 * 0.25) ** 0.5 * standardised(data, "image").T,
            (5 * 0.75) ** 0.5 * standardised(data, "text").T,
        ]
    )
    check(model, x @ zero_diagonal_ridge(columns, 2.0))


def test_zero_feature_weight_equals_ease(data):
    model = make_model(EASEFeatures, data, regularization=2.0, feature_weight=0.0)
    ease = make_model(EASE, data, regularization=2.0)
    torch.testing.assert_close(model.weight, ease.weight)


def test_a_cold_item_is_recommended_by_its_features(data):
    assert make_model(EASE, data).weight[:, -1].eq(0).all()
    assert make_model(EASEFeatures, data).weight[:, -1].ne(0).any()


@pytest.mark.parametrize(("shrinkage", "exponent"), [(0.0, 0.0), (3.0, 0.0), (1.0, 0.5)])
def test_itemknn_is_a_shrunk_cosine(data, shrinkage, exponent):
    x = dense(data)
    scaled = x / np.maximum(x.sum(axis=1, keepdims=True), 1) ** exponent
    norm = np.linalg.norm(scaled, axis=0)
    similarity = scaled.T @ scaled / np.maximum(np.outer(norm, norm) + shrinkage, 1e-12)
    np.fill_diagonal(similarity, 0)
    model = make_model(ItemKNN, data, num_neighbors=4, shrinkage=shrinkage, row_exponent=exponent)
    check(model, x @ nearest(similarity.astype(np.float32), 4))


def test_neighbors_do_not_depend_on_the_block_size(data, monkeypatch):
    expected = [make_model(cls, data, num_neighbors=5) for cls in (ItemKNN, ContentKNN)]
    monkeypatch.setattr("graphdiff.nn.neighbors._TERMS", 11)
    monkeypatch.setattr("graphdiff.nn.neighbors._COSINES", 30)
    found = [make_model(cls, data, num_neighbors=5) for cls in (ItemKNN, ContentKNN)]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.index, other.index)
        torch.testing.assert_close(one.similarity, other.similarity)


@pytest.mark.parametrize("centre", [False, True])
def test_contentknn_is_the_mean_cosine_of_common_modalities(data, centre):
    shares = {"image": 0.75, "text": 0.25}
    total, common = np.zeros((14, 14)), np.zeros((14, 14))
    for name, share in shares.items():
        has = data["item"][f"has_{name}"].numpy()
        x = data["item"][f"x_{name}"].double().numpy()
        x = x - centre * x[has].mean(axis=0)
        unit = np.where(has[:, None], x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-9), 0)
        total += share * unit @ unit.T
        common += share * np.outer(has, has)
    similarity = (total / common).clip(min=0)
    np.fill_diagonal(similarity, 0)
    model = make_model(
        ContentKNN,
        data,
        num_neighbors=4,
        centre=centre,
        modality_weights={"image": 3.0, "text": 1.0},
    )
    check(model, dense(data) @ nearest(similarity, 4))


def test_neighbors_are_scored_without_a_dense_row():
    data = random_data(40, 97, {"image": 6}, density=0.05)
    for model_class in (ItemKNN, ContentKNN):
        model = make_model(model_class, data, num_neighbors=3)
        users = torch.arange(11)
        expected = model(users)
        rows = model.graph.rows(users)
        query = Query(rows, users)
        with ForbidShape((11, 97)):
            score_block = model.scorer(query, model.tables())
            blocks = [score_block(start, min(start + 40, 97)) for start in range(0, 97, 40)]
        assert rows.item.unique().numel() < 97
        torch.testing.assert_close(torch.cat(blocks, dim=1), expected)


def test_puresvd_projects_on_the_largest_directions(data):
    x = dense(data)
    v = np.linalg.svd(x)[2][:4].T
    check(make_model(PureSVD, data, hidden_channels=4), x @ v @ v.T)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_gfcf_adds_a_linear_and_an_ideal_filter(data, alpha):
    x = dense(data)
    user, item = (np.maximum(x.sum(axis=axis), 1) ** 0.5 for axis in (1, 0))
    normed = x / np.outer(user, item)
    v = np.linalg.svd(normed)[2][:4].T
    ideal = (v @ v.T) * x.sum(axis=0) ** 0.5 / item[:, None]
    expected = x @ (normed.T @ normed + alpha * ideal)
    check(make_model(GFCF, data, hidden_channels=4, ideal_weight=alpha), expected)


@pytest.mark.parametrize("model_class", [PureSVD, GFCF])
def test_more_directions_than_exist_give_all(data, model_class):
    model = make_model(model_class, data, hidden_channels=1000)
    assert model.directions.shape == (14, 14)
    again = make_model(model_class, data, hidden_channels=1000)
    assert torch.equal(model.directions, again.directions)


def test_too_many_items_for_a_dense_matrix_are_rejected(data, monkeypatch):
    with pytest.raises(ConfigError, match=r"40,000 items take 6\.4 GB to store and 25\.6 GB"):
        item_regression.check_dense(40_000, "EASE")
    item_regression.check_dense(30_000, "EASE")
    monkeypatch.setattr(item_regression, "MAX_DENSE_ITEMS", 13)
    for model_class in (EASE, EASEFeatures):
        with pytest.raises(ConfigError, match="supports up to 13 items"):
            model_class.from_data(data)


@pytest.mark.parametrize("model_class", [ContentKNN, EASEFeatures])
def test_content_is_required_and_named(model_class, data):
    with pytest.raises(ConfigError, match="at least one modality"):
        model_class.from_data(random_data())
    with pytest.raises(ConfigError, match=r"\['audio'\], but the data has \['image', 'text'\]"):
        model_class.from_data(data, modality_weights={"audio": 1.0})
    with pytest.raises(ConfigError, match="at least 0 that are not all 0"):
        model_class.from_data(data, modality_weights={"image": -1.0, "text": 2.0})


def test_neighborhood_models_have_no_user_vectors(data):
    model = make_model(ItemKNN, data)
    with pytest.raises(ConfigError, match="ItemKNN has no user vectors"):
        model.user_vectors(None, model.tables())


def test_repr_shows_sizes_and_settings(data):
    assert str(make_model(EASE, data)) == "EASE(25, 14, regularization=100.0, recency=0.0)"
    assert str(make_model(Popularity, data)) == "Popularity(25, 14)"
