"""The embedded dataset: generated users, items and tastes, so that the truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.datasets.arguments import Integer, Number
from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.published.synthetic_pictures import draw_styles
from graphdiff.datasets.published.synthetic_truth import (
    FEATURE_CHANNELS,
    Items,
    Users,
    log_preference,
    make_features,
    make_items,
    make_users,
)
from graphdiff.datasets.published.synthetic_words import describe_styles
from graphdiff.errors import ConfigError
from graphdiff.schema import INTERACTS, ITEM, USER, build_data

# Smallest, exponent and largest of the Pareto law of how many training items a user has.
LEAST, TAIL, MOST = 5.0, 1.4, 120
VALIDATION, TEST = 0.2, 0.3  # held-out items per training item; at least one of each
COLD = 0.03  # share of items without training interactions
MISSING = 0.03  # share of the other items that lack a modality, for each
IMAGE = list(FEATURE_CHANNELS).index("image")
BLOCK = 512  # users who choose at a time, to bound memory


class SyntheticMultimedia(RecDataset):
    r"""Users and items generated from a seed, with image, text and audio features and known truth.

    * An item has a latent vector per modality, in one of 32 styles that mostly agree between
      modalities, and a popularity by Zipf's law. Its features are random nonlinear maps of the
      latents, with nuisance and noise.
    * A user has two tastes in the space of the latents and weights of the modalities (*leaning*)
      from a Dirichlet distribution under which most users prefer one modality. The affinity of a
      taste to an item is the weighted sum over modalities of the products of taste and latent; with
      popularity it determines what the user chooses (see :func:`true_preference`).
    * Activity follows a power law: most users have few items, some have many.
    * A share ``noise`` of the *training* interactions is drawn by popularity instead of chosen.
      Held-out pairs are all chosen.
    * An item's title names its styles, as in "Golden Harbour Waltz": image, text and audio. Its
      category is that of the text, and its picture, a data URI, that of the image.
    * 3 % of the items are cold (held-out only, reached by features alone), and 3 % of the others
      lack each modality.

    .. list-table:: Statistics of the default
        :header-rows: 1

        * - users
          - items
          - training
          - validation
          - test
          - audio
          - image
          - text
        * - 2,000
          - 1,200
          - 26,270
          - 5,162
          - 8,098
          - 32
          - 64
          - 48

    In addition to the :mod:`graphdiff.schema` the graph holds the truth, which no model reads:
    ``data['user', 'interacts', 'item'].is_noise`` (bool ``[E]``, beside ``edge_index``),
    ``data['user'].taste`` (float32 ``[U, S, d]``), ``data['user'].leaning`` (float32 ``[U, M]``,
    modalities in sorted order), ``data['item'].latent`` (float32 ``[I, M, d]``) and
    ``data['item'].popularity`` (float32 ``[I]``, logarithmic).

    Memory and time are O(U · I) and blocked over users.

    Args:
        seed: Seed of everything random (default: 0).
        num_users: U (default: 2000).
        num_items: I, at least 20 (default: 1200).
        noise: Share of training interactions that are noise, from 0 to below 1 (default: 0.15).
        root: Folder to store the graph in (default: none, nothing is written).
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once (default: none).
        force_reload: Generate the graph even if it is stored.

    Raises:
        ConfigError: If an argument is out of range.
    """

    name: ClassVar[str] = "synthetic"

    needs_root: ClassVar[bool] = False

    def __init__(
        self,
        seed: Integer = 0,
        num_users: Integer = 2000,
        num_items: Integer = 1200,
        noise: Number = 0.15,
        root: str | Path | None = None,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        for name, value, least in (
            ("seed", seed, 0),
            ("num_users", num_users, 1),
            ("num_items", num_items, 20),
        ):
            if value < least:
                raise ConfigError(f"{name} is {value}; give at least {least}")
        if not 0 <= noise < 1:
            raise ConfigError(f"noise is {noise}; give a share from 0 to below 1")
        self.seed, self.num_users, self.num_items, self.noise = seed, num_users, num_items, noise
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def parameters(self) -> dict[str, Any]:
        """Arguments that the graph depends on."""
        return {name: getattr(self, name) for name in ("seed", "num_users", "num_items", "noise")}

    def read(self) -> HeteroData:
        """Generate the graph."""
        rng = np.random.default_rng(self.seed)
        items, style = make_items(rng, self.num_items)
        users = make_users(rng, self.num_users, items)
        cold = np.zeros(self.num_items, dtype=bool)
        cold[rng.choice(self.num_items, round(COLD * self.num_items), replace=False)] = True
        chosen, noise = _interact(rng, users, items, cold, self.noise)
        features = make_features(rng, items)
        for x in features.values():
            x[(rng.random(self.num_items) < MISSING) & ~cold] = np.nan

        train = np.concatenate([chosen["training"], noise], axis=1)
        order = np.lexsort(train[::-1])
        data = build_data(
            self.num_users,
            self.num_items,
            train[:, order],
            chosen["validation"],
            chosen["test"],
            features,
            details={
                **describe_styles(style),
                "image": draw_styles(style[:, IMAGE], np.isfinite(features["image"][:, 0])),
            },
        )
        is_noise = np.arange(train.shape[1]) >= chosen["training"].shape[1]
        data[INTERACTS].is_noise = torch.from_numpy(is_noise[order])
        for node, truth in ((USER, users), (ITEM, items)):
            for name, value in truth._asdict().items():
                data[node][name] = torch.from_numpy(value).float()
        return data


def true_preference(data: HeteroData, user_index: Tensor | None = None) -> Tensor:
    """Return the best possible scores: the distribution by which synthetic users choose.

    Args:
        data: A graph of :class:`SyntheticMultimedia`.
        user_index: Long ``[B]`` (default: all users).

    Returns:
        Log-probability that an item is the next that a user chooses, float32 ``[B, I]``.
    """
    user, item = data[USER], data[ITEM]
    index = slice(None) if user_index is None else user_index
    tensors = (user.taste[index], user.leaning[index], item.latent, item.popularity)
    taste, leaning, latent, popularity = (t.double().cpu().numpy() for t in tensors)
    preference = log_preference(Users(taste, leaning), Items(latent, popularity))
    return torch.from_numpy(preference).float()


def _interact(
    rng: np.random.Generator, users: Users, items: Items, cold: np.ndarray, noise: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draw pairs ``[2, *]`` that users choose for each split, and noise pairs for training."""
    num_users, num_items = len(users.taste), len(items.latent)
    # A quarter of a small catalogue leaves room for held-out items and noise.
    pareto = LEAST * rng.random(num_users) ** (-1 / TAIL)
    activity = np.minimum(pareto, min(MOST, num_items // 4)).astype(np.int64)
    num_noise = np.minimum(rng.binomial(activity, noise), activity - 1)
    sizes = {
        "validation": np.maximum(1, np.rint(VALIDATION * activity)).astype(int),
        "test": np.maximum(1, np.rint(TEST * activity)).astype(int),
        "training": activity - num_noise,
    }
    chosen: dict[str, list[np.ndarray]] = {split: [] for split in sizes}
    drawn = []
    for block in np.array_split(np.arange(num_users), max(1, num_users // BLOCK)):
        preference = log_preference(Users(*(part[block] for part in users)), items)
        count = np.stack([size[block] for size in sizes.values()], axis=1)
        order = _draw(rng, preference, count.sum(axis=1))
        order = _cold_to_held_out(rng, order, cold, count)
        end = count.cumsum(axis=1)
        taken = np.repeat(cold[None], len(block), axis=0)
        for n, split in enumerate(sizes):
            place = np.arange(order.shape[1])
            row, column = np.nonzero(
                (place >= end[:, n, None] - count[:, n, None]) & (place < end[:, n, None])
            )
            item = order[row, column]
            taken[row, item] = True
            keep = ~cold[item] if split == "training" else slice(None)
            chosen[split].append(np.stack([block[row], item])[:, keep])
        by_popularity = np.where(taken, -np.inf, items.popularity)
        order = _draw(rng, by_popularity, num_noise[block])
        row, column = np.nonzero(np.arange(order.shape[1]) < num_noise[block, None])
        drawn.append(np.stack([block[row], order[row, column]]))
    joined = {split: np.concatenate(pairs, axis=1) for split, pairs in chosen.items()}
    return joined, np.concatenate(drawn, axis=1)


def _draw(rng: np.random.Generator, log_probability: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Draw ``count`` items per row without replacement; the rest of a row is padding.

    Sorting by log-probability plus Gumbel noise draws without replacement.
    """
    noisy = log_probability + rng.gumbel(size=log_probability.shape)
    return np.argsort(-noisy, axis=1)[:, : count.max()]


def _cold_to_held_out(
    rng: np.random.Generator, order: np.ndarray, cold: np.ndarray, count: np.ndarray
) -> np.ndarray:
    """Shuffle the draws of each row, cold items into the places of validation and test."""
    place = np.arange(order.shape[1])
    key = rng.random(order.shape) - cold[order]
    key[place >= count.sum(axis=1)[:, None]] = np.inf
    order = np.take_along_axis(order, key.argsort(axis=1), axis=1)
    # Cold items are in front now; validation and test get them at random.
    key = np.where(place < count[:, :2].sum(axis=1)[:, None], rng.random(order.shape), 1 + place)
    return np.take_along_axis(order, key.argsort(axis=1), axis=1)
