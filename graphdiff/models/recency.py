"""How much more a row counts its latest items."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphdiff.graph.recency import recency_weights
from graphdiff.graph.rows import Rows

#: Values of ρ that validation chooses from.
EXPONENTS: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


class Recency(torch.nn.Module):
    r"""Weights of the items of observed rows by their order.

    An item with a later items in the row has the weight :math:`(1 + a)^{-\rho}`, times a constant
    that makes the mean of a row one, so that lengths mean what they do without. Rows are weighted
    where users are ranked for; trainings see plain rows. It is ours: what users had last says more
    about what they take next, which hiding random items cannot teach.

    Without known times all weights are one.

    Args:
        setting: ρ; None for the value that validation chooses, 0 until then.
    """

    exponent: Tensor
    chosen: Tensor

    def __init__(self, setting: float | None) -> None:
        super().__init__()
        self.setting = setting
        self.register_buffer("exponent", torch.tensor(setting or 0.0))
        self.register_buffer("chosen", torch.tensor(False))

    def reset_parameters(self) -> None:
        """Set ρ to its setting, or to 0 where validation chooses it."""
        self.exponent.fill_(self.setting or 0.0)
        self.chosen.fill_(False)

    def forward(self, rows: Rows) -> Tensor | None:
        """Return the weights of the items of ``rows``, ``[nnz]``; None where all are one."""
        return None if rows.age is None else recency_weights(rows, self.exponent.item())

    def can_choose(self, known: bool) -> bool:
        """Return whether validation chooses ρ; ``known``: the order of the rows is known."""
        return self.setting is None and known

    def choose(self, recall: Callable[[float], Tensor]) -> None:
        """Set ρ to the value with the best recall, the least of equal ones: of all values the first
        time, later of the present one and its neighbours.

        Args:
            recall: Returns the recall with a value of ρ, a scalar.
        """
        place, tried = EXPONENTS.index(self.exponent.item()), EXPONENTS
        if self.chosen:
            tried = EXPONENTS[max(place - 1, 0) : place + 2]
        found = {exponent: recall(exponent).item() for exponent in tried}
        self.exponent.fill_(max(found, key=found.__getitem__))
        self.chosen.fill_(True)
