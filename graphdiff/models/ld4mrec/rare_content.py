"""Similarity of rare items to a row, by features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.popularity import rare_items
from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.content_embedding import ContentEmbedding

#: Part of the mean variance that is added to the variance of each direction.
RIDGE = 0.1
#: Weights that are tried, where these scores and those of the model are brought to one standard
#: deviation.
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
#: Share of the latest validation in the moving averages of what a weight gains.
RENEWAL = 0.2


class RareContent(torch.nn.Module):
    r"""Scores of rare items by features,

    .. math::
        s_{ui} = \tau\, r_i\, \frac{1}{|N_u|} \sum_{j \in N_u} \sum_m
        \mathbf{f}_{jm} \cdot \mathbf{f}_{im}.

    :math:`r_i` is 1 for items of the tail and for cold items, otherwise 0. The
    :math:`\mathbf{f}_{im}` are the features on their R principal directions, whitened: divided by
    the standard deviation of each direction, which lets items be similar by what sets them apart;
    they have length one and are zero where an item lacks the modality. There is nothing to learn.

    Interactions say little of a rare item, and a model that learns from them ranks it low, whatever
    its features. Where these are worth something, :math:`\tau > 0` lifts the rare items that
    resemble a row, and no others. Validation sets it, to the largest of six values that costs
    neither recall@20 nor NDCG@20 in a moving average over validations: in a single one the gain of
    a weight is mostly chance, and the epoch with the largest would be kept. Until then :math:`\tau`
    is 0. This is ours.

    Args:
        ranks: R of each modality.
        width: The number of columns is a multiple of it; the last ones are zero.
    """

    variance: Tensor
    weight: Tensor
    gain: Tensor

    def __init__(self, ranks: list[int], width: int) -> None:
        super().__init__()
        self.ranks = ranks
        self.num_columns = sum(ranks) + -sum(ranks) % width
        self.register_buffer("variance", torch.zeros(sum(ranks)))
        self.register_buffer("weight", torch.tensor(0.0))
        self.register_buffer("gain", torch.zeros(len(WEIGHTS), 2))

    def reset_parameters(self) -> None:
        """Forget what validations found; there is nothing to draw."""
        self.weight.zero_()
        self.gain.zero_()

    @torch.no_grad()
    def start(self, content: ContentEmbedding) -> None:
        """Read the variances of the directions, unless they are known."""
        if not self.variance.any():
            self.variance.copy_(content.coordinates.square().mean(dim=0))

    def tables(self, content: ContentEmbedding, graph: RecGraph) -> tuple[Tensor, Tensor]:
        """Return what rows are encoded by, f, and the item vectors, r f, float ``[I, C]`` each, C
        being the number of columns."""
        parts = [
            F.normalize(x * (variance + RIDGE * variance.mean()).clamp(min=1e-12).rsqrt(), dim=1)
            for x, variance in zip(
                content.coordinates.split(self.ranks, dim=1),
                self.variance.split(self.ranks),
                strict=True,
            )
        ]
        whitened = F.pad(torch.cat(parts, dim=1), (0, self.num_columns - sum(self.ranks)))
        return whitened, whitened * graph.cached(rare_items).unsqueeze(1)

    @torch.no_grad()
    def choose(self, weights: Tensor, metrics: Tensor) -> None:
        """Set τ after a validation.

        Args:
            weights: What :data:`WEIGHTS` are in the units of the scores, ``[6]``.
            metrics: Recall@20 and NDCG@20 with each, ``[6, 2]``.
        """
        self.gain.lerp_(metrics - metrics[0], RENEWAL)
        free = (self.gain >= 0).all(dim=1)
        self.weight.copy_(weights[free.nonzero().max()])
