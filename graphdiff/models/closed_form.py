"""Base class of models with a closed-form solution."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

from torch import Tensor

from graphdiff.models.base import BaseConfig, Recommender


class ClosedForm(Recommender):
    """Base class of models that :meth:`solve` computes from the graph, without gradient descent.

    Such a model represents a user by the user's items and is deterministic. The solution is stored
    in buffers whose shapes depend only on the settings and the graph, so that it is saved, loaded
    and moved between devices like any other weight. The buffers are zero until :meth:`solve` runs.
    """

    Config: ClassVar[type[BaseConfig]] = BaseConfig
    batch_over: ClassVar[Literal["users", "interactions", "nothing"]] = "nothing"
    folds_in: ClassVar[bool] = True

    @abstractmethod
    def solution(self) -> dict[str, Tensor]:
        """Return the values of the model's buffers by name, computed from graph and settings."""

    def solve(self) -> None:
        """Compute the solution and store it in the buffers."""
        for name, value in self.solution().items():
            getattr(self, name).copy_(value)
        self.invalidate_tables()

    def num_parameters(self) -> int:
        """Return the number of values in the solution."""
        return sum(found.numel() for found in self.buffers(recurse=False))

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value}" for name, value in self.config)
        return f"{type(self).__name__}({self.num_users}, {self.num_items}{settings})"
