"""Tables that a model computes once and reuses while its weights stay the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Everything that scoring needs except the user: score(u, i) = user · item[i] + bias[i].

    Attributes:
        item: ``[I, d]``.
        bias: ``[I]``.
        user: ``[U, d]``, for models with a table of users.
    """

    item: Tensor
    bias: Tensor | None = None
    user: Tensor | None = None


class TableCache:
    """The tables of one model, valid until a parameter changes or moves.

    Copies and pickles of a cache are empty: tables may hold sparse tensors, which PyTorch does not
    copy, and they can be computed again.
    """

    def __init__(self) -> None:
        self._entry: tuple[_ParameterState, Tables] | None = None

    def get(
        self, module: torch.nn.Module, device: torch.device, build: Callable[[], Tables]
    ) -> Tables:
        """Return the cached tables, or build them if they are missing or outdated.

        Args:
            module: The model whose parameters the tables depend on.
            device: Where the model is now.
            build: Computes the tables.
        """
        if self._entry is None or self._entry[0].changed(device):
            tables = build()
            self._entry = (_ParameterState(module, device), tables)
        return self._entry[1]

    def __copy__(self) -> TableCache:
        return TableCache()

    def __deepcopy__(self, memo: dict[int, Any]) -> TableCache:
        return TableCache()

    def __reduce__(self) -> tuple[type[TableCache], tuple[()]]:
        return TableCache, ()


class _ParameterState:
    """A record of a module's parameters, to detect later changes.

    In-place updates increase a parameter's version, except those of fused optimizers, which happen
    in training mode. Walking through the modules would take a good part of a small request, so it
    is done once.
    """

    def __init__(self, module: torch.nn.Module, device: torch.device) -> None:
        self.device = device
        self.found = [
            (part._parameters, name, parameter, parameter._version)
            for part in module.modules()
            for name, parameter in part._parameters.items()
            if parameter is not None
        ]

    def changed(self, device: torch.device) -> bool:
        """Return whether a parameter was replaced or written to, or the model moved."""
        return self.device != device or any(
            owner.get(name) is not parameter or parameter._version != version
            for owner, name, parameter, version in self.found
        )
