"""Computation in the precision of the weights, within mixed-precision training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def without_autocast() -> Iterator[None]:
    """Disable autocast in a ``with`` block or, as a decorator, in a function.

    Autocast is meant for the loss of one step. Cached tables and graphs would keep its rounding,
    and matrix products into a given output fail under it.
    """
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
