"""Watching a training for numbers that are not finite."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from graphdiff.models.base import Recommender


class FiniteWatch:
    """Notes the first step of an epoch at which a loss or a gradient is not finite, without making
    the device wait.

    Args:
        device: Where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((2,), -1, device=device)

    def loss(self, step: int, loss: Tensor) -> None:
        """Looks at a step's loss."""
        self._note(0, step, loss.detach().isfinite().all())

    def gradients(self, step: int, parameters: Iterable[Tensor]) -> None:
        """Looks at the gradients that parameters have."""
        gradients = [p.grad for p in parameters if p.grad is not None and p.grad.numel()]
        if gradients:
            # The largest entry, since a sum of squares may overflow where no entry does.
            largest = torch.stack(torch._foreach_norm(gradients, float("inf")))
            self._note(1, step, largest.isfinite().all())

    def _note(self, place: int, step: int, finite: Tensor) -> None:
        first = self._first[place]
        first.copy_(torch.where((first < 0) & ~finite, step, first))

    def first(self) -> tuple[int, str] | None:
        """The step, from 0, and ``"loss"`` or ``"gradient"``; None if all was finite."""
        steps = self._first.tolist()
        found = [(step, what) for step, what in zip(steps, ("loss", "gradient"), strict=True)]
        # Where a loss is not finite its gradient is not either.
        return min((f for f in found if f[0] >= 0), key=lambda f: f[0], default=None)


def describe_batch(model: Recommender, batch: Tensor, shown: int = 3) -> str:
    """The first users or interactions of a batch, by raw ids."""
    first, more = batch[:shown].to(model.device), ", …" if batch.numel() > shown else ""
    if model.batch_over == "users":
        return "users " + ", ".join(str(model.catalogue.user_id(u)) for u in first.tolist()) + more
    pairs = zip(model.graph.user_of(first).tolist(), model.graph.col[first].tolist(), strict=True)
    told = (
        f"user {model.catalogue.user_id(u)} item {model.catalogue.item_id(i)}" for u, i in pairs
    )
    return "interactions " + ", ".join(told) + more
