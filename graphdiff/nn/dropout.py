"""Dropout with an explicit random generator."""

from __future__ import annotations

import torch
from torch import Tensor


def dropout(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Set each entry to zero with probability ``p`` and scale the others by ``1 / (1 - p)``.

    Unlike :func:`torch.nn.functional.dropout` it does not use the global generator, so that a
    resumed training draws the same masks as an uninterrupted one.

    Args:
        x: Floating point, any shape.
        p: From 0 to less than 1; 0 returns ``x`` and draws nothing.
        generator: Source of randomness, on the device of ``x``.

    Returns:
        Same shape and dtype as ``x``.

    Example:
        >>> import torch
        >>> dropout(torch.ones(6), 0.5, torch.Generator().manual_seed(0)).unique().tolist()
        [0.0, 2.0]
    """
    if p == 0:
        return x
    kept = torch.rand(x.shape, generator=generator, device=x.device) >= p
    return x * (kept.to(x.dtype) / (1 - p))
