"""Detection of losses and gradients that are not finite."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class FiniteWatch:
    """Record of the first step of an epoch whose loss or gradient is not finite.

    Recording does not make the device wait; :meth:`first` does.

    Args:
        device: Device of the losses.
    """

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((2,), -1, device=device)

    def loss(self, step: int, loss: Tensor) -> None:
        """Check the loss of a step."""
        self._note(0, step, loss.detach().isfinite().all())

    def gradients(self, step: int, parameters: Iterable[Tensor]) -> None:
        """Check the gradients of a step, of those parameters that have one."""
        gradients = [p.grad for p in parameters if p.grad is not None and p.grad.numel()]
        if gradients:
            # The largest entry, since a sum of squares may overflow where no entry does.
            largest = torch.stack(torch._foreach_norm(gradients, float("inf")))
            self._note(1, step, largest.isfinite().all())

    def _note(self, place: int, step: int, finite: Tensor) -> None:
        first = self._first[place]
        first.copy_(torch.where((first < 0) & ~finite, step, first))

    def first(self) -> tuple[int, str] | None:
        """Return the first such step, from 0, with ``"loss"`` or ``"gradient"``, or None."""
        steps = self._first.tolist()
        found = [(step, what) for step, what in zip(steps, ("loss", "gradient"), strict=True)]
        # Where a loss is not finite its gradient is not either, so the loss comes first.
        return min((f for f in found if f[0] >= 0), key=lambda f: f[0], default=None)
