"""A linear item-item model of low rank, as two item tables."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.nn.spectral import right_singular_vectors

# Directions in which the item factors vary by less than this share of the largest are noise.
_FLAT = 1e-9


class LinearPath(torch.nn.Module):
    r"""EASEᴿ (`arXiv 1905.03375 <https://arxiv.org/abs/1905.03375>`_) of low rank.

    With the singular values :math:`s_k` and right singular vectors V of the interaction matrix X,
    :math:`P = (X^\top X + \lambda \mathrm{I})^{-1}` is

    .. math::
        \lambda P = \mathrm{I} - V F V^\top, \qquad
        F = \mathrm{diag}\Big(\frac{s_k^2}{s_k^2 + \lambda}\Big),

    and EASE's prediction of an item that the user does not have,
    :math:`-(\mathbf{x}_u P)_j / P_{jj}`, is an inner product of :math:`\mathbf{x}_u V F^{1/2}` and
    :math:`\mathbf{w}_j = F^{1/2} \mathbf{v}_j / (1 - \mathbf{v}_j F \mathbf{v}_j^\top)`. The
    largest K singular values are kept. With all of them it is EASE, except for the items that the
    user has; with few, it needs no matrix ``[I, I]``.

    Both factors are rotated and scaled so that the covariance of the :math:`\mathbf{w}_j` over the
    catalogue is the identity. The scores of a user then have a standard deviation over the
    catalogue equal to the length of the user's vector. That is ours, to mix them with other scores.

    In LD4MRec the factors are computed when training begins, and the scores are added at inference.
    They take no part in training: the linear model is smooth where the network is sharp, which the
    likelihood of training rows does not reward. It improves accuracy on dense data.

    Args:
        num_items: I.
        rank: K. Where there are fewer singular values, the last columns are zero.
        ridge: λ, in users of an item.
        weight: ω, the length of user vectors.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 2, 4]), torch.tensor([0, 1, 1, 2]), num_items=3)
        >>> path = LinearPath(num_items=3, rank=2, ridge=1.0, weight=0.5)
        >>> path.solve(graph)
        >>> query = path.query(path.row_encoder[:2].sum(dim=0, keepdim=True))  # user 0
        >>> (query @ path.item.t()).std(correction=0)
        tensor(0.5000)
    """

    row_encoder: Tensor
    item: Tensor
    solved: Tensor

    def __init__(self, num_items: int, rank: int, ridge: float, weight: float) -> None:
        super().__init__()
        self.ridge = ridge
        self.query = LinearQuery(weight)
        self.register_buffer("row_encoder", torch.zeros(num_items, rank))
        self.register_buffer("item", torch.zeros(num_items, rank))
        self.register_buffer("solved", torch.tensor(False))

    @torch.no_grad()
    def solve(self, graph: RecGraph) -> None:
        """Compute the factors of a graph's interactions, in float64; does nothing the second
        time."""
        if self.solved:
            return
        matrix = graph.to_scipy()
        rank = self.row_encoder.size(1)
        vectors = right_singular_vectors(matrix, min(rank, *matrix.shape)).double()
        squares = torch.from_numpy(matrix @ vectors.numpy()).square().sum(dim=0)
        share = squares / (squares + self.ridge)
        encoder = vectors * share.sqrt()
        item = encoder / (1 - (vectors.square() @ share)).unsqueeze(1)
        variance, axes = torch.linalg.eigh(torch.cov(item.t(), correction=0).view(len(share), -1))
        kept = variance > _FLAT * variance.max().clamp(min=_FLAT)
        deviation, axes = variance[kept].sqrt(), axes[:, kept]
        self.row_encoder[:, : len(deviation)] = encoder @ axes * deviation
        self.item[:, : len(deviation)] = item @ axes / deviation
        self.solved.fill_(True)

    def freeze(self) -> LinearQuery:
        """Return the map from encoded rows to user vectors, without the tables."""
        return LinearQuery(self.query.weight)

    def discard(self) -> None:
        """Set all factors to zero, so that :meth:`solve` computes them again."""
        self.row_encoder.zero_()
        self.item.zero_()
        self.solved.fill_(False)

    def change(self, kept: Tensor | None, num: int) -> None:
        """Leave out all items but ``kept``, bool ``[I]`` (default: none), and append ``num`` items
        without interactions."""
        for name in ("row_encoder", "item"):
            table = getattr(self, name) if kept is None else getattr(self, name)[kept]
            setattr(self, name, F.pad(table, (0, 0, 0, num)))

    def extra_repr(self) -> str:
        """Return the sizes for ``print(model)``."""
        return f"rank={self.row_encoder.size(1)}, ridge={self.ridge:g}"


class LinearQuery(torch.nn.Module):
    """User vectors of a linear path: encoded rows, scaled to one length.

    Args:
        weight: ω, the length.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, encoded: Tensor) -> Tensor:
        """Scale ``[B, K]``; rows of zeros stay zero."""
        return self.weight * F.normalize(encoded, dim=-1)
