"""Shares, centring and standardisation against numpy."""

import numpy as np
import pytest
import torch

from graphdiff.errors import ConfigError
from graphdiff.nn.modalities import centred, modality_shares, standardised


@pytest.fixture
def features():
    generator = np.random.default_rng(0)
    x, has = generator.standard_normal((9, 4)) * [1, 10, 0.1, 0] + [0, 5, -2, 3], np.ones(9, bool)
    has[[2, 5]] = False
    return torch.from_numpy(x * has[:, None]).float(), torch.from_numpy(has)


def test_centred_features_have_mean_zero_where_they_are_known(features):
    x, has = features
    expected = np.zeros((9, 4))
    known = x[has].double().numpy()
    expected[has] = known - known.mean(axis=0)
    np.testing.assert_allclose(centred(x, has), expected, atol=1e-6)


def test_standardised_features_have_variance_one_and_rows_length_one(features):
    x, has = features
    known = x[has].double().numpy()[:, :3]
    known = (known - known.mean(axis=0)) / known.std(axis=0)
    expected = np.zeros((9, 4))
    # The last feature does not vary.
    expected[has, :3] = known / np.linalg.norm(known, axis=1, keepdims=True)
    np.testing.assert_allclose(standardised(x, has), expected, atol=1e-5)


@pytest.mark.parametrize("function", [centred, standardised])
def test_without_any_features_all_is_zero(function):
    assert function(torch.zeros(3, 2), torch.zeros(3, dtype=torch.bool)).tolist() == [[0, 0]] * 3


def test_shares_sum_to_one():
    assert modality_shares(["image", "text"], None) == {"image": 0.5, "text": 0.5}
    shares = modality_shares(["image", "text"], {"text": 6, "image": 2})
    assert shares == {"image": 0.25, "text": 0.75}
    assert list(shares) == ["image", "text"]
    assert modality_shares(["image", "text"], {"image": 0, "text": 2})["image"] == 0


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        ([], None, "EASE needs at least one modality, and the data has none"),
        (["image"], {"text": 1.0}, r"names \['text'\], but the data has \['image'\]"),
        (
            ["image", "text"],
            {"text": 1.0},
            r"names \['text'\], but the data has \['image', 'text'\]",
        ),
        (["image"], {"image": 0.0}, "weights of at least 0 that are not all 0"),
        (["image", "text"], {"image": -1.0, "text": 2.0}, "weights of at least 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(names, weights, message):
    with pytest.raises(ConfigError, match=message):
        modality_shares(names, weights, "EASE")
