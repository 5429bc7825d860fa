"""Preprocessing of item features: modality shares, centring and standardisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.scaling import SMALLEST, inverse_scale, unit_rows


def modality_shares(
    modalities: Sequence[str], weights: Mapping[str, float] | None, model: str = "the model"
) -> dict[str, float]:
    """Return the share of each modality; shares sum to one.

    Args:
        modalities: Names of the modalities of the data, sorted.
        weights: Weight of each, at least 0 and not all 0 (default: equal weights).
        model: Name of the model, for messages.

    Raises:
        ConfigError: If there is no modality, ``weights`` names other modalities, or a weight is
            negative or all are 0.

    Example:
        >>> modality_shares(["image", "text"], {"image": 1.0, "text": 3.0})
        {'image': 0.25, 'text': 0.75}
    """
    modalities = list(modalities)
    if not modalities:
        raise ConfigError(
            f"{model} needs at least one modality, and the data has none; "
            "give item features (x_image, x_text, …)"
        )
    weights = dict.fromkeys(modalities, 1.0) if weights is None else weights
    if sorted(weights) != modalities:
        raise ConfigError(
            f"modality_weights names {sorted(weights)}, but the data has {modalities}"
        )
    total = sum(weights.values())
    if min(weights.values()) < 0 or total == 0:
        raise ConfigError(
            f"modality_weights is {dict(weights)}; give weights of at least 0 that are not all 0"
        )
    return {name: weights[name] / total for name in modalities}


def centred(x: Tensor, has: Tensor) -> Tensor:
    """Subtract the mean over the items that have features; the rows of others become zero.

    Args:
        x: ``[I, F]``.
        has: Bool ``[I]``, True for items that have features.

    Example:
        >>> import torch
        >>> centred(torch.tensor([[1.0], [3.0], [9.0]]), torch.tensor([True, True, False])).tolist()
        [[-1.0], [1.0], [0.0]]
    """
    mean = x[has].mean(dim=0) if has.any() else 0
    return (x - mean) * has.unsqueeze(1)


def standardised(x: Tensor, has: Tensor) -> Tensor:
    """Scale features to mean 0 and variance 1 over items with features, then rows to length one.

    Rows of other items become zero, and so does a feature that does not vary.

    Args:
        x: ``[I, F]``.
        has: Bool ``[I]``, True for items that have features.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 5.0], [3.0, 5.0], [9.0, 9.0]])
        >>> standardised(x, torch.tensor([True, True, False])).tolist()
        [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    """
    x = centred(x, has)
    if x.abs().max() < SMALLEST:
        x = x * inverse_scale(x)
    deviation = (x.square().sum(dim=0) / has.sum().clamp(min=1)).sqrt()
    return unit_rows(x / deviation.clamp(min=1e-6))
