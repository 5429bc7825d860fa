"""The users of one request."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from graphdiff.graph.rows import Rows


@dataclass(frozen=True)
class Query:
    """The users of one request.

    Attributes:
        rows: The history of each user.
        user: Long ``[B]``, training users; None for users known only by their history.
    """

    rows: Rows
    user: Tensor | None = None
