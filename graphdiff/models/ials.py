"""iALS: matrix factorisation of implicit feedback by alternating least squares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import BaseConfig, Query, Tables
from graphdiff.models.closed_form import ClosedForm

#: Entries of the largest temporary tensor, 32 MiB.
BLOCK_ENTRIES = 2**23


class IALSConfig(BaseConfig):
    """Settings of :class:`IALS`.

    The revisited paper has λ = 0.003 and α₀ = 0.1 on MovieLens-20M. On sparser data the best α₀ is
    smaller and the best λ larger: these defaults are from 12 trainings of 64 channels on the
    validation pairs of TikTok (recall@20 .105, against .078 with the paper's) and Last.fm-2K (.428,
    against .382).
    """

    hidden_channels: int = Field(128, ge=1, description="Width d of the factors.")
    regularization: float = Field(0.03, gt=0, description="Penalty λ.")
    unobserved_weight: float = Field(
        0.01, gt=0, description="Weight α₀ of all pairs; that of observed ones is one more."
    )
    frequency_exponent: float = Field(
        1.0, ge=0, description="Exponent ν of the frequencies that scale the penalty."
    )
    num_iterations: int = Field(
        16, ge=1, description="Passes, each over the users and then the items."
    )
    init_std: float = Field(
        0.1, gt=0, description="Standard deviation of the initial factors, times √d."
    )


class IALS(ClosedForm):
    r"""The iALS model from `"Collaborative Filtering for Implicit Feedback Datasets"
    <https://doi.org/10.1109/ICDM.2008.22>`_, with the objective and the settings of `"Revisiting
    the Performance of iALS on Item Recommendation Benchmarks" <https://arxiv.org/abs/2110.14037>`_.

    With observed pairs S, the items :math:`N_u` of a user and the users :math:`N_i` of an item,

    .. math::
        \mathcal{L} = \sum_{(u,i) \in S} (\mathbf{w}_u \cdot \mathbf{h}_i - 1)^2
        + \alpha_0 \sum_{u,i} (\mathbf{w}_u \cdot \mathbf{h}_i)^2
        + \lambda \sum_u (|N_u| + \alpha_0 I)^\nu \lVert \mathbf{w}_u \rVert^2
        + \lambda \sum_i (|N_i| + \alpha_0 U)^\nu \lVert \mathbf{h}_i \rVert^2 .

    For fixed H each user has an exact solution,

    .. math::
        \mathbf{w}_u = \Big(\sum_{i \in N_u} \mathbf{h}_i \mathbf{h}_i^\top + \alpha_0 H^\top H
        + \lambda (|N_u| + \alpha_0 I)^\nu \mathrm{I}\Big)^{-1} \sum_{i \in N_u} \mathbf{h}_i,

    computed by Cholesky factors of many users at once, and likewise each item for fixed W. A user
    is represented by the history: scores use W computed from the final H, so that unseen users
    are supported (fold-in).

    A pass takes O((U + I) d³ + E d²), without any tensor of users by items. The objective is not
    convex; the initial factors are drawn with a fixed seed (ours), so that the solution is a
    function of data and settings.

    Args:
        config: :class:`IALSConfig`.
        graph: Training interactions.
    """

    Config: ClassVar[type[BaseConfig]] = IALSConfig
    config: IALSConfig
    factors: Tensor
    gram: Tensor

    def __init__(self, config: IALSConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        width = config.hidden_channels
        self.register_buffer("factors", torch.zeros(graph.num_items, width))
        self.register_buffer("gram", torch.zeros(width, width))

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries: the revisited paper's and those of sparser data."""
        return {
            "hidden_channels": [64, 128, 256],
            "regularization": [3e-3, 0.01, 0.03, 0.1, 0.3],
            "unobserved_weight": [1e-3, 3e-3, 0.01, 0.03, 0.1],
            "num_iterations": [8, 16, 32],
        }

    def solution(self) -> dict[str, Tensor]:
        """Return H as ``factors``, ``[I, d]``, and α₀ HᵀH as ``gram``, ``[d, d]``."""
        graph, width = self.graph, self.config.hidden_channels
        generator = torch.Generator().manual_seed(0)
        items = torch.randn(graph.num_items, width, generator=generator).to(self.factors)
        items *= self.config.init_std / width**0.5
        of_users = Rows(graph.user, graph.col, graph.num_users)
        order = graph.col.argsort(stable=True)
        of_items = Rows(graph.col[order], graph.user[order], graph.num_items)
        for _ in range(self.config.num_iterations):
            users = self._solve(of_users, items, self._gram(items))
            items = self._solve(of_items, users, self._gram(users))
        return {"factors": items, "gram": self._gram(items)}

    def tables(self) -> Tables:
        """Return H as item vectors."""
        return Tables(item=self.factors)

    def user_vectors(self, query: Query, tables: Tables) -> Tensor:
        """Return the solution W for the queried rows, ``[B, d]``."""
        return self._solve(query.rows, tables.item, self.gram)

    def _gram(self, table: Tensor) -> Tensor:
        return self.config.unobserved_weight * (table.t() @ table)

    def _solve(self, rows: Rows, table: Tensor, gram: Tensor) -> Tensor:
        """Return the least-squares solution of each row, ``[B, d]``.

        Args:
            rows: B rows of indices of ``table``.
            table: The fixed factors, ``[N, d]``.
            gram: α₀ times their Gram matrix, ``[d, d]``.
        """
        config, width = self.config, table.size(1)
        length, start = rows.degree(), rows.starts()
        frequency = length + config.unobserved_weight * table.size(0)
        ridge = config.regularization * frequency.to(table.dtype) ** config.frequency_exponent
        out = table.new_zeros(rows.num, width)
        # The solution of an empty row is zero.
        for chosen in _blocks(length, width):
            count = length[chosen]
            place = torch.arange(int(count.max()), device=count.device)
            there = place < count.unsqueeze(1)
            index = rows.item[(start[chosen, None] + place).where(there, 0)]
            observed = table[index] * there.unsqueeze(2)
            left = observed.mT @ observed + gram
            left.diagonal(dim1=1, dim2=2).add_(ridge[chosen, None])
            right = observed.sum(dim=1).unsqueeze(2)
            factor = torch.linalg.cholesky(left)
            out[chosen] = torch.cholesky_solve(right, factor).squeeze(2)
        return out


def _blocks(length: Tensor, width: int) -> Iterator[Tensor]:
    """Yield the rows that are not empty in blocks of similar length, long ``[b]``, such that
    ``b`` times the longest or the width, times the width, fits the limit."""
    # From the longest on: the first row of a block bounds the others.
    order = length.argsort(descending=True)
    order = order[length[order] > 0]
    first = 0
    while first < order.numel():
        longest = max(int(length[order[first]]), width)
        last = first + max(1, BLOCK_ENTRIES // (longest * width))
        yield order[first:last]
        first = last
