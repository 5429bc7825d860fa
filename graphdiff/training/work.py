"""Counted work of training and validation: what is chosen by cost must not depend on a clock.

A clock gives another result in each run. :class:`CountWork` counts instead what operators compute,
which is the same for the same data, settings and versions.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: Operations that reading or writing a value is worth; a processor is faster in matrix products.
PER_VALUE = 16
#: Additions that a value is worth where it is sorted, in whole or in part. Measured, in top-k's
#: partial sort of rows, are 30 with 1,200 values in a row and 7 with 6,710.
PER_SORTED = 24
#: Matrix products: positions of the factors among the arguments.
_FACTORS = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "addmm": 1, "baddbmm": 1, "addmv": 1}
#: Values that an optimizer reads and writes for one of a parameter.
PER_PARAMETER = 7
#: Work of a training step that is worth another thread: below it, threads wait for each other.
WORK_PER_THREAD = 2e8
#: Largest share of the work of training that validation may take, and the work of a validation that
#: is too little to save.
VALIDATION_SHARE, LITTLE_WORK = 0.5, 1e9


class CountWork(TorchDispatchMode):
    """Context that counts the work of the operators in it, in multiply-adds and their like.

    Attributes:
        work: The count.

    Example:
        >>> with CountWork() as counted:
        ...     _ = torch.ones(10, 20) @ torch.ones(20, 30)
        >>> counted.work >= 2 * 10 * 20 * 30
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.work = 0.0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        returned = func._schema.returns
        is_view = returned and returned[0].alias_info and not returned[0].alias_info.is_write
        if is_view or name.startswith(("empty", "_unsafe_view")):
            return out
        if (first := _FACTORS.get(name)) is not None:
            a, b = args[first : first + 2]
            self.work += 2 * a.numel() * (b.size(-1) if b.dim() > 1 else 1)
        elif "embedding_bag" in name:
            indices = args[2 if "per_sample_weights" in name else 1]
            self.work += PER_VALUE * indices.numel() * args[0].size(1)
        self.work += PER_VALUE * _values(out)
        if name in ("topk", "sort"):
            self.work += PER_SORTED * PER_VALUE * args[0].numel()
        return out


def _values(out: Any) -> int:
    if isinstance(out, Tensor):
        return out.numel() if out.layout == torch.strided else 0
    return sum(_values(one) for one in out) if isinstance(out, (tuple, list)) else 0


def epochs_between_validations(training: float, validation: float) -> int:
    """Return how many epochs to train between two validations.

    Args:
        training: Work of an epoch.
        validation: Work of a validation.

    Returns:
        The fewest with which validation takes at most half of the work of training; at most 10,
        and 1 where a validation takes a few milliseconds.

    Example:
        >>> [epochs_between_validations(1e10, cost) for cost in (2e9, 5e9, 1.2e10, 9e15)]
        [1, 1, 3, 10]
    """
    if training <= 0 or validation < LITTLE_WORK:
        return 1
    return min(max(-int(-validation // (VALIDATION_SHARE * training)), 1), 10)


def suitable_threads(
    step: float, most: int, load: Callable[[], tuple[float, float, float]] = os.getloadavg
) -> int:
    """Return the number of threads to train with on the CPU.

    Each thread needs a part of a step that is worth it, and a core that is free: threads that share
    a core wait for each other at every operator, and the step takes longer than with one.

    Args:
        step: Work of a training step.
        most: Largest number.
        load: Returns the system's load over the last minute first.

    Example:
        >>> idle, busy = (lambda: (0.1, 0.0, 0.0)), (lambda: (3.2, 2.0, 1.0))
        >>> suitable_threads(1e9, 4, idle), suitable_threads(1e6, 4, idle)
        (4, 1)
        >>> suitable_threads(1e9, 4, busy)
        1
    """
    try:
        free = round(available_cores() - load()[0])
    except OSError:
        free = most
    return max(1, min(most, free, int(step / WORK_PER_THREAD)))


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Not on every system.
        return os.cpu_count() or 1
