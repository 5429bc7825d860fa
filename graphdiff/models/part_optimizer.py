"""An optimizer for a part of a model that the model trains itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class PartOptimizer:
    """Adam over a part of a model, apart from the optimizer of :func:`graphdiff.fit`.

    For models of two players: an adversary, or a generator that is trained before each epoch. The
    part's parameters never hold a gradient when :meth:`step` is over, so that the outer optimizer,
    which sees all parameters, passes them by.

    A model that owns one hands its :meth:`state_dict` on in
    :meth:`~graphdiff.models.base.Recommender.training_state`, so that a resumed training goes on
    with the same moments.

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
        """Forgets all moments."""
        self._adam = self._state = None

    def step(self, loss: Tensor) -> None:
        """One step of the part alone, downhill on ``loss``, a scalar."""
        parameters = list(self.part.parameters())
        for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = grad
        self._optimizer().step()
        for parameter in parameters:
            parameter.grad = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within, the part is a fixed function: gradients flow through it and not into it."""
        parameters = list(self.part.parameters())
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors; empty before the first step."""
        return self._adam.state_dict() if self._adam is not None else self._state or {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""
        self._adam, self._state = None, state or None

    def _optimizer(self) -> torch.optim.Adam:
        # Made when first needed: only then the part is on the device that it is trained on.
        if self._adam is None:
            parameters = list(self.part.parameters())
            fused = parameters[0].device.type in ("cpu", "cuda")
            self._adam = torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, fused=fused)
            if self._state is not None:
                self._adam.load_state_dict(self._state)
                self._state = None
        return self._adam
