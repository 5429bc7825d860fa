"""Base of the models that are found at once and not by gradient."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

from torch import Tensor

from graphdiff.models.base import BaseConfig, Recommender


class ClosedForm(Recommender):
    """Base of models that :meth:`solve` finds from the graph at once, without a gradient.

    Each makes a user from their items, and draws nothing at random. What is found lies in buffers,
    zero until then, whose shapes follow from settings and graph: so they move and save with the
    model.
    """

    Config: ClassVar[type[BaseConfig]] = BaseConfig
    batch_over: ClassVar[Literal["users", "interactions", "nothing"]] = "nothing"
    folds_in: ClassVar[bool] = True

    @abstractmethod
    def solution(self) -> dict[str, Tensor]:
        """The values of the model's buffers, by name, found from its graph and settings."""

    def solve(self) -> None:
        """Fills the buffers with the solution."""
        for name, value in self.solution().items():
            getattr(self, name).copy_(value)
        self.forget_tables()

    def num_parameters(self) -> int:
        """Number of values that solving finds."""
        return sum(found.numel() for found in self.buffers(recurse=False))

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value}" for name, value in self.config)
        return f"{type(self).__name__}({self.num_users}, {self.num_items}{settings})"
