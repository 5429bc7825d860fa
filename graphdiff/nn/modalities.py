"""What models do with item features before they look at them: shares, centring, scaling."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.store import RecGraph


def modality_shares(
    model: str, graph: RecGraph, weights: Mapping[str, float] | None
) -> dict[str, float]:
    """Each modality's share, summing to one.

    Args:
        model: The model's name, for messages.
        graph: Whose modalities there are.
        weights: Their weights, at least 0 and not all 0; equal ones by default.

    Raises:
        ConfigError: If there is no modality, ``weights`` names others than there are, or a weight
            does not fit.
    """
    if not graph.modalities:
        raise ConfigError(
            f"{model} needs at least one modality, and the data has none; "
            "give item features (x_image, x_text, …)"
        )
    weights = dict.fromkeys(graph.modalities, 1.0) if weights is None else weights
    if sorted(weights) != graph.modalities:
        raise ConfigError(
            f"modality_weights names {sorted(weights)}, but the data has {graph.modalities}"
        )
    total = sum(weights.values())
    if min(weights.values()) < 0 or total == 0:
        raise ConfigError(
            f"modality_weights is {dict(weights)}; give weights of at least 0 that are not all 0"
        )
    return {name: weights[name] / total for name in graph.modalities}


def centred(x: Tensor, has: Tensor) -> Tensor:
    """Features ``[I, F]`` less the mean of the items that have them; the others are zero."""
    mean = x[has].mean(dim=0) if has.any() else 0
    return (x - mean) * has.unsqueeze(1)


def standardised(x: Tensor, has: Tensor) -> Tensor:
    """Features ``[I, F]`` with mean 0 and variance 1 over the items that have them, and then each
    item's scaled to length one; the others are zero. A feature that does not vary is zero."""
    x = centred(x, has)
    deviation = (x.square().sum(dim=0) / has.sum().clamp(min=1)).sqrt()
    return F.normalize(x / deviation.clamp(min=1e-6), dim=1)
