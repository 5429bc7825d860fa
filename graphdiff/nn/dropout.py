"""Dropout whose randomness comes from a generator that is given."""

from __future__ import annotations

import torch
from torch import Tensor


def dropout(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Zeroes each entry with probability ``p`` and scales the others by ``1 / (1 - p)``.

    Unlike :func:`torch.nn.functional.dropout` it leaves the global generator alone, so that a
    resumed training draws what an uninterrupted one would have drawn.

    Args:
        x: Floating point, any shape.
        p: From 0 to less than 1; 0 returns ``x`` and draws nothing.
        generator: Source of randomness, on the device of ``x``.
    """
    if p == 0:
        return x
    kept = torch.rand(x.shape, generator=generator, device=x.device) >= p
    return x * (kept.to(x.dtype) / (1 - p))
