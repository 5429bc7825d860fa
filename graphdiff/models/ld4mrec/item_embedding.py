"""Item embeddings of LD4MRec: learned from interactions and from features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.content_embedding import ContentEmbedding
from graphdiff.models.ld4mrec.spectral_start import DEVIATION, spectral_start


class ItemEmbedding(torch.nn.Module):
    r"""Item embeddings

    .. math::
        \mathbf{e}_i = \frac{n_i}{n_i + \kappa} \bar{\mathbf{e}}_i
        + \sum_m \hat{\mathbf{x}}_{im} P_m,

    where :math:`\bar{\mathbf{e}}_i` is learned from the :math:`n_i` interactions of the item, and
    the second term is linear in its features (see
    :class:`~graphdiff.models.ld4mrec.content_embedding.ContentEmbedding`). The fewer interactions
    an item has, the more it depends on features and neighbours: few interactions may be chance,
    and Adam moves rare embeddings as far as others. Shrinking is ours.

    Args:
        graph: Training interactions and item content.
        channels: Width d.
        content_rank: Principal directions R of each modality; 0 for no linear term.
        shrinkage: :math:`\kappa`.
        spectral: Start training from a truncated SVD of the interactions; see
            :func:`~graphdiff.models.ld4mrec.spectral_start.spectral_start`.
        scale: Factor of all initial values; with 1, embeddings from interactions have a standard
            deviation of 0.1.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 2]), torch.tensor([0, 1]), num_items=3)
        >>> items = ItemEmbedding(graph, channels=4, content_rank=0, shrinkage=3.0)
        >>> items.reset_parameters()
        >>> e = items(graph)
        >>> torch.equal(e[0], items.weight[0] / 4), torch.count_nonzero(e[2]).item()
        (True, 0)
    """

    started: Tensor

    def __init__(
        self,
        graph: RecGraph,
        channels: int,
        content_rank: int,
        shrinkage: float,
        spectral: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.shrinkage, self.spectral, self.scale = shrinkage, spectral, scale
        self.register_buffer("started", torch.tensor(False))
        self.weight = torch.nn.Parameter(torch.zeros(graph.num_items, channels))
        self.content = (
            ContentEmbedding(graph, channels, content_rank, scale)
            if content_rank and graph.modalities
            else None
        )

    def reset_parameters(self) -> None:
        """Draw the embeddings and the maps of features; they are zero before."""
        torch.nn.init.normal_(self.weight, std=DEVIATION * self.scale)
        self.started.fill_(False)
        if self.content is not None:
            self.content.reset_parameters()

    @torch.no_grad()
    def start(self, graph: RecGraph, generator: torch.Generator) -> None:
        """Read features and interactions; does nothing the second time. See
        :meth:`ContentEmbedding.start`."""
        if self.content is not None:
            self.content.start(graph, generator)
        if self.spectral and not self.started:
            table = spectral_start(graph, self.weight.size(1), generator)
            if table is not None:
                self.weight.copy_(table)
            self.started.fill_(True)

    def forward(self, graph: RecGraph, index: Tensor | None = None, once: bool = False) -> Tensor:
        """Return E, ``[I, d]``, or its rows ``index``, long ``[n]``.

        Args:
            graph: Training interactions and item content.
            index: The rows; all by default.
            once: E is used once, so that the memory of its gradient becomes that of the weight's.
        """
        if self.shrinkage and self.content is not None and index is None:
            share = graph.cached(_degree_share, self.shrinkage).to(self.weight.dtype)
            content = self.content
            return _Sum.apply(self.weight, share, content.coordinates, content.weight, once)
        learned = self.from_interactions(graph, index)
        return learned if self.content is None else learned + self.content(index)

    def from_interactions(self, graph: RecGraph, index: Tensor | None = None) -> Tensor:
        """Return the first term of E, ``[I, d]``, or its rows ``index``."""
        weight = self.weight if index is None else self.weight[index]
        if not self.shrinkage:
            return weight
        share = graph.cached(_degree_share, self.shrinkage)
        return weight * (share if index is None else share[index]).to(weight.dtype)

    def summands(self, graph: RecGraph, index: Tensor) -> dict[str, Tensor]:
        """Return the terms of E at ``index``, long ``[n]``: ``behaviour`` and, for each modality,
        ``features_<name>``, ``[n, d]`` each."""
        terms = {"behaviour": self.from_interactions(graph, index)}
        if self.content is not None:
            by_modality = self.content.by_modality(index)
            terms |= {f"features_{name}": term for name, term in by_modality.items()}
        return terms

    def modality_shares(self, num_modalities: int, agreeing: bool) -> Tensor:
        """Return the global weights of the modalities, ``[M]``: positive, with a sum of one.

        Args:
            num_modalities: M.
            agreeing: In proportion to the agreements of the features; otherwise, and before
                :meth:`start`, they are equal.
        """
        if self.content is not None and agreeing:
            # The minimum is for items that have no other modality.
            weight = self.content.agreement.clamp(min=1e-6)
            return weight / weight.sum()
        return self.weight.new_full((num_modalities,), 1 / max(num_modalities, 1))

    @torch.no_grad()
    def grow(self, graph: RecGraph) -> None:
        """Append the items that ``graph`` has more; they are known by their features alone."""
        num = graph.num_items - self.weight.size(0)
        new = self.weight.new_zeros(num, self.weight.size(1))
        self.weight = torch.nn.Parameter(torch.cat([self.weight, new]))
        if self.content is not None:
            self.content.grow(graph)

    @torch.no_grad()
    def keep(self, kept: Tensor) -> None:
        """Leave out all items but ``kept``, bool ``[I]``."""
        self.weight = torch.nn.Parameter(self.weight[kept])
        if self.content is not None:
            self.content.keep(kept)


class _Sum(torch.autograd.Function):
    """Shrunk embeddings and embeddings from features, in one tensor: each takes much memory on a
    large catalogue."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, share: Tensor, coordinates: Tensor, maps: Tensor, once: bool
    ) -> Tensor:
        ctx.save_for_backward(share, coordinates)
        ctx.once = once
        return (weight * share).addmm_(coordinates, maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (share, coordinates), grad = ctx.saved_tensors, grads[0]
        d_maps = coordinates.t() @ grad
        return grad.mul_(share) if ctx.once else grad * share, None, None, d_maps, None


def _degree_share(graph: RecGraph, shrinkage: float) -> Tensor:
    """Return n / (n + κ) of each item, ``[I, 1]``."""
    degree = graph.item_degree().float().unsqueeze(-1)
    return degree / (degree + shrinkage)
