"""A separate optimizer for a part of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from graphdiff.errors import GraphDiffError


class PartOptimizer:
    """Adam for a part of a model, separate from the optimizer of :func:`graphdiff.fit`.

    For models with an adversary, or with a generator that is trained before each epoch. After
    :meth:`step` the parameters of the part have no gradient, so that the outer optimizer, which
    holds all parameters, skips them.

    A model's :meth:`~graphdiff.models.base.Recommender.training_state` includes the
    :meth:`state_dict` of those that are its attributes, so that a resumed training continues with
    the same moments.

    Args:
        part: The module to train.
        lr: Learning rate.
        betas: Adam's decay rates.
    """

    def __init__(
        self, part: torch.nn.Module, lr: float, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        self.part, self.lr, self.betas = part, lr, betas
        self._adam: torch.optim.Adam | None = None
        self._state: dict[str, Any] | None = None

    def reset(self) -> None:
        """Discard all moments."""
        self._adam = self._state = None

    def step(self, loss: Tensor) -> None:
        """Update the part by one step on the scalar ``loss``."""
        parameters = list(self.part.parameters())
        for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = grad
        self._optimizer().step()
        for parameter in parameters:
            parameter.grad = None

    def train(self, batches: Iterable[Tensor], loss: Callable[[Tensor], Tensor], name: str) -> None:
        """Update the part by one step on the loss of each batch.

        Args:
            batches: What the loss is of.
            loss: Returns a scalar.
            name: Name of the part in the message of an error.

        Raises:
            GraphDiffError: If a loss is not finite.
        """
        total: Tensor | float = 0.0
        with torch.enable_grad():
            for batch in batches:
                value = loss(batch)
                self.step(value)
                total = total + value.detach()
        if not math.isfinite(total):
            raise GraphDiffError(
                f"the loss of the {name} became {float(total)}; lower the learning rate "
                f"(now {self.lr:g})"
            )

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the part: gradients flow through it but not into its parameters."""
        parameters = list(self.part.parameters())
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer state; empty before the first step."""
        return self._adam.state_dict() if self._adam is not None else self._state or {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by :meth:`state_dict`."""
        self._adam, self._state = None, state or None

    def _optimizer(self) -> torch.optim.Adam:
        # Created on first use: only then is the part on its training device.
        if self._adam is None:
            parameters = list(self.part.parameters())
            fused = parameters[0].device.type in ("cpu", "cuda")
            self._adam = torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, fused=fused)
            if self._state is not None:
                self._adam.load_state_dict(self._state)
                self._state = None
        return self._adam
