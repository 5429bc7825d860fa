"""The generative model of :class:`~graphdiff.datasets.SyntheticMultimedia`.

Arrays are float64, so that rounding affects no choice and a seed gives the same data for any number
of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax, logsumexp

# Sorted, as graphdiff.schema.modalities gives them; every axis "M" is in this order.
FEATURE_CHANNELS = {"audio": 32, "image": 64, "text": 48}
NUM_MODALITIES = len(FEATURE_CHANNELS)
LATENT_CHANNELS = 12

STYLES = 32  # groups of similar items, in each modality
STYLE_SKEW = 0.3  # Zipf exponent of how many items a style has
STYLE_AGREEMENT = 0.6  # how often an item has the same style in two modalities by design
STYLE_SPREAD = 0.5  # distance of an item from its style
POPULARITY_SKEW = 0.5  # Zipf exponent of popularity

INTERESTS = 2  # tastes of a user
TASTE_SPREAD = 0.2  # distance of a taste from the item that it is drawn from
LEANING = 0.3  # Dirichlet concentration; below 1, most users prefer one modality
SHARPNESS = 14.0  # weight of affinity relative to popularity in a choice

NUISANCE_CHANNELS = 4  # part of a feature that is independent of the latent
NUISANCE = 0.5  # its size; the latent's is 1
FEATURE_NOISE = 0.3  # standard deviation, where the feature's is 1


class Items(NamedTuple):
    """The truth about the items."""

    latent: np.ndarray  # [I, M, d], of length 1 along d
    popularity: np.ndarray  # [I], logarithmic


class Users(NamedTuple):
    """The truth about the users."""

    taste: np.ndarray  # [U, S, d], of length 1 along d
    leaning: np.ndarray  # [U, M], sums to 1


def make_items(rng: np.random.Generator, num_items: int) -> tuple[Items, np.ndarray]:
    """Draw items with a style in each modality, and a popularity.

    Returns:
        The items, and their styles, integer ``[I, M]`` below :data:`STYLES`.
    """
    modality = np.arange(NUM_MODALITIES)
    style = _unit(rng.normal(size=(NUM_MODALITIES, STYLES, LATENT_CHANNELS)))
    share = _zipf(STYLES, STYLE_SKEW)
    common = rng.choice(STYLES, p=share, size=(num_items, 1))
    own = rng.choice(STYLES, p=share, size=(num_items, NUM_MODALITIES))
    member = np.where(rng.random(own.shape) < STYLE_AGREEMENT, common, own)
    latent = _stray(rng, style[modality, member], STYLE_SPREAD)
    popularity = np.log(rng.permutation(_zipf(num_items, POPULARITY_SKEW)))
    return Items(latent, popularity), member


def make_users(rng: np.random.Generator, num_users: int, items: Items) -> Users:
    """Draw users whose tastes are near items, in a modality that they prefer."""
    leaning = rng.dirichlet([LEANING] * NUM_MODALITIES, size=num_users)
    inspiration = rng.integers(len(items.latent), size=(num_users, INTERESTS))
    threshold = rng.random((num_users, INTERESTS, 1))
    modality = (threshold > leaning.cumsum(axis=1)[:, None, :-1]).sum(axis=2)
    taste = _stray(rng, items.latent[inspiration, modality], TASTE_SPREAD)
    return Users(taste, leaning)


def log_preference(users: Users, items: Items) -> np.ndarray:
    r"""Return the log-probability that a user's next choice is a given item.

    The user picks one of the interests :math:`s` uniformly and chooses by

    .. math::
        \mathrm{softmax}_i \Big( \beta \sum_m \mathrm{leaning}_{um} \,
        \mathrm{taste}_{us} \cdot \mathrm{latent}_{im} + \mathrm{popularity}_i \Big).

    Returns:
        ``[U, I]``.
    """
    affinity = sum(
        users.leaning[:, None, m, None] * (users.taste @ items.latent[:, m].T)
        for m in range(NUM_MODALITIES)
    )
    choice = log_softmax(SHARPNESS * affinity + items.popularity, axis=2)
    return logsumexp(choice, axis=1) - np.log(INTERESTS)


def make_features(rng: np.random.Generator, items: Items) -> dict[str, np.ndarray]:
    """Return features per modality ``[I, F]``: latent and nuisance through a random network, and
    noise.
    """
    features = {}
    for m, (name, channels) in enumerate(FEATURE_CHANNELS.items()):
        nuisance = _unit(rng.normal(size=(len(items.latent), NUISANCE_CHANNELS)))
        shown = np.concatenate([items.latent[:, m], NUISANCE * nuisance], axis=1)
        inner = rng.normal(scale=1.5, size=(shown.shape[1], 2 * channels))
        bias = rng.normal(scale=0.3, size=2 * channels)
        outer = rng.normal(size=(2 * channels, channels))
        x = np.tanh(shown @ inner + bias) @ outer
        x = x / x.std() + FEATURE_NOISE * rng.normal(size=x.shape)
        # The order of summation changes only digits that rounding drops.
        features[name] = x.round(4)
    return features


def _zipf(size: int, exponent: float) -> np.ndarray:
    weight = np.arange(1.0, size + 1) ** -exponent
    return weight / weight.sum()


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _stray(rng: np.random.Generator, x: np.ndarray, spread: float) -> np.ndarray:
    return _unit(x + spread * _unit(rng.normal(size=x.shape)))
