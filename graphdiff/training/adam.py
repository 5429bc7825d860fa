"""Adam with one counter of steps for all parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Devices with the fused kernel.
DEVICES = ("cpu", "cuda")


class FusedAdam(torch.optim.Adam):
    """:class:`torch.optim.Adam` with ``fused=True``, which counts the steps of parameters with the
    same history once.

    PyTorch increments a counter for each parameter. With few large and many small parameters, as
    recommenders have, these are most of the optimizer's operators. All numbers are the same.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = FusedAdam([weight], lr=0.1)
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> weight
        Parameter containing:
        tensor([0.9000, 0.9000], requires_grad=True)
    """

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; ``closure`` computes the gradients before, if it is given."""
        if getattr(self, "grad_scale", None) is not None:
            # Of a loss scaler, whose state the other implementation reads.
            self._separate()
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        waiting = [p for p in group["params"] if p.grad is None and self.state.get(p)]
        moving = [p for p in group["params"] if p.grad is not None]
        own = {id(self.state[p]["step"]) for p in waiting}
        counters: dict[int | tuple[torch.device, torch.dtype], tuple[Tensor, list[Tensor]]] = {}
        for p in moving:
            state = self.state[p]
            if not state:
                key: Any = (p.device, p.dtype)
                if key not in counters:
                    counters[key] = torch.zeros((), device=p.device), []
                state["step"] = counters[key][0]
                state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            else:
                key = id(state["step"])
                if key not in counters:
                    # Parameters without a gradient do not take this step.
                    found = state["step"]
                    counters[key] = found.clone() if key in own else found, []
                state["step"] = counters[key][0]
            counters[key][1].append(p)
        beta1, beta2 = group["betas"]
        for step, params in counters.values():
            step.add_(1)
            torch._fused_adam_(
                params,
                [p.grad for p in params if p.grad is not None],
                [self.state[p]["exp_avg"] for p in params],
                [self.state[p]["exp_avg_sq"] for p in params],
                [],
                [step] * len(params),
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state with a counter for each parameter, as every other Adam has it."""
        found = super().state_dict()
        found["state"] = {
            key: {**state, "step": state["step"].clone()} for key, state in found["state"].items()
        }
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, and count equal numbers of steps together again."""
        super().load_state_dict(state_dict)
        shared: dict[Any, Tensor] = {}
        for group in self.param_groups:
            for p in group["params"]:
                if self.state.get(p):
                    step = self.state[p]["step"]
                    key = (id(group), step.item(), p.device, p.dtype)
                    self.state[p]["step"] = shared.setdefault(key, step)

    def _separate(self) -> None:
        for state in self.state.values():
            state["step"] = state["step"].clone()


def adam(params: Any, lr: float, weight_decay: float, device: torch.device) -> torch.optim.Adam:
    """Return Adam for parameters on a device: fused where there is a kernel."""
    if device.type in DEVICES:
        return FusedAdam(params, lr, weight_decay)
    return torch.optim.Adam(params, lr=lr, weight_decay=weight_decay)
