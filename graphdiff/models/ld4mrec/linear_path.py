"""A linear item-item model of low rank, as two tables of items."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.nn.spectral import right_singular_vectors

# Directions in which the item factors vary by less than this share of the most are noise.
_FLAT = 1e-9


class LinearPath(torch.nn.Module):
    r"""EASEᴿ (`arXiv 1905.03375 <https://arxiv.org/abs/1905.03375>`_) of low rank.

    With the singular values :math:`s_k` and right singular vectors V of the interaction matrix X,
    :math:`P = (X^\top X + \lambda \mathrm{I})^{-1}` is

    .. math::
        \lambda P = \mathrm{I} - V F V^\top, \qquad
        F = \mathrm{diag}\Big(\frac{s_k^2}{s_k^2 + \lambda}\Big),

    and what EASE predicts of an item that a person does not have yet,
    :math:`-(\mathbf{x}_u P)_j / P_{jj}`, is an inner product of :math:`\mathbf{x}_u V F^{1/2}` and
    :math:`\mathbf{w}_j = F^{1/2} \mathbf{v}_j / (1 - \mathbf{v}_j F \mathbf{v}_j^\top)`. The
    largest K singular values are kept. With all of them it is EASE, but for the items that a person
    has; with few, it needs no matrix ``[I, I]``.

    Both factors are turned so that the covariance of the :math:`\mathbf{w}_j` over the catalogue
    is the identity. Scores then spread over the catalogue by the length of a person's vector, and
    a vector of length one gives scores with a standard deviation of one. That is ours, to mix
    them with others'.

    Args:
        num_items: I.
        rank: K. Where fewer singular values are there, the last columns are zero.
        ridge: λ, in users of an item.
    """

    read: Tensor
    item: Tensor
    solved: Tensor

    def __init__(self, num_items: int, rank: int, ridge: float) -> None:
        super().__init__()
        self.ridge = ridge
        self.register_buffer("read", torch.zeros(num_items, rank))
        self.register_buffer("item", torch.zeros(num_items, rank))
        self.register_buffer("solved", torch.tensor(False))

    @torch.no_grad()
    def solve(self, graph: RecGraph) -> None:
        """Finds the factors of a graph's interactions, in float64; once."""
        if self.solved:
            return
        matrix = graph.to_scipy()
        vectors = right_singular_vectors(matrix, min(self.read.size(1), *matrix.shape)).double()
        squares = torch.from_numpy(matrix @ vectors.numpy()).square().sum(dim=0)
        share = squares / (squares + self.ridge)
        read = vectors * share.sqrt()
        item = read / (1 - (vectors.square() @ share)).unsqueeze(1)
        variance, axes = torch.linalg.eigh(torch.cov(item.t(), correction=0).view(len(share), -1))
        kept = variance > _FLAT * variance.max().clamp(min=_FLAT)
        deviation, axes = variance[kept].sqrt(), axes[:, kept]
        self.read[:, : len(deviation)] = read @ axes * deviation
        self.item[:, : len(deviation)] = item @ axes / deviation
        self.solved.fill_(True)

    def grow(self, num: int) -> None:
        """Adds ``num`` items of which nothing is known."""
        for name in ("read", "item"):
            setattr(self, name, F.pad(getattr(self, name), (0, 0, 0, num)))

    def extra_repr(self) -> str:
        """Sizes for ``print(model)``."""
        return f"rank={self.read.size(1)}, ridge={self.ridge:g}"
