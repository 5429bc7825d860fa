"""LD4MRec's training objective: soft reconstruction and ranking."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.config import ObjectiveConfig
from graphdiff.models.ld4mrec.draws import Draw, item_frequency
from graphdiff.nn.heads import CosineHeads, InnerProductHeads, item_length, split_heads
from graphdiff.nn.losses import Negatives, sampled_log_partition
from graphdiff.nn.pairs import Pairs, pair_products
from graphdiff.nn.reconstruction import ItemTableSums, Quadratic, reconstruction_error


class SoftReconstruction(torch.nn.Module):
    r"""Reconstruction of rows with soft targets, over the whole catalogue.

    Each head predicts :math:`\hat{y}_{ui} = a\, \mathbf{h}^\eta \cdot \mathbf{z}^\eta_i + \beta_i`.
    With probability p a target is softened by γ: an observed 1 to :math:`1 - \gamma`, an unobserved
    0 to :math:`\gamma \pi_i`, with π the items' popularity relative to the most popular one.
    Unobserved entries have the weight :math:`\alpha_0`. A random softening of an unobserved zero
    enters the gradient of the squared error only through its mean :math:`p \gamma \pi_i`, so the
    mean is used. Softening is off by default, because it makes no difference in the benchmarks: see
    the ablation in ``benchmarks/results``.

    The error is exact and no tensor ``[B, I]`` is made: see :mod:`graphdiff.nn.reconstruction`.

    Args:
        num_items: I.
        config: Weights and softening.
    """

    def __init__(self, num_items: int, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config
        self.bias = torch.nn.Parameter(torch.zeros(num_items))
        self.log_scale = torch.nn.Parameter(torch.zeros(()))

    def reset_parameters(self) -> None:
        """Reset the biases and the scale."""
        torch.nn.init.zeros_(self.bias)
        torch.nn.init.zeros_(self.log_scale)

    @property
    def scale(self) -> Tensor:
        """a."""
        return self.log_scale.exp()

    def scoring(
        self, heads: CosineHeads, bias: Tensor
    ) -> tuple[CosineHeads | InnerProductHeads, Tensor]:
        """Return heads and biases ``[I]`` of a model's scores: those given, which the ranking loss
        trains, or without that loss those of the reconstructed rows."""
        if self.config.ranking:
            return heads, bias
        return InnerProductHeads(heads.num_heads, self.scale), self.bias

    def forward(
        self,
        sums: ItemTableSums,
        hidden: Tensor,
        product: Tensor,
        rows: Rows,
        softened: Tensor,
        weight: Tensor,
        popularity: Tensor,
    ) -> Tensor:
        """Return each head's error of each row, ``[H, B]``.

        Args:
            sums: Sums over the item table Z.
            hidden: h of each head, ``[H, B, d]``.
            product: h · z of the rows' items, ``[H, nnz]``.
            rows: B rows with nnz items in all.
            softened: Bool ``[nnz]``.
            weight: Weights of the observed targets, ``[nnz]``.
            popularity: π in the dtype of the biases, ``[I]``.
        """
        config, scale = self.config, self.scale
        soften = config.soft_probability * config.soft_intensity
        prior = soften * popularity
        everywhere = Quadratic(
            weight=config.unobserved_weight,
            matrix=scale.square() * sums.gram,
            linear=scale * (soften * sums.prior - sums.bias),
            constant=(prior - self.bias).square().sum(),
        )
        score = scale * product + self.bias.index_select(0, rows.item)
        target = 1 - config.soft_intensity * softened.to(hidden.dtype)
        return reconstruction_error(
            hidden, everywhere, rows.row, score, target, weight, prior[rows.item]
        )


def ranking_loss(
    query: Tensor,
    product: Tensor,
    rows: Rows,
    table: Tensor,
    bias: Tensor,
    negatives: Negatives,
    weight: Tensor,
) -> Tensor:
    """Return each head's ranking loss of each row, ``[H, B]``: a softmax of every item of the row
    against shared negatives; see :func:`~graphdiff.nn.losses.sampled_log_partition`.

    Args:
        query: Queries whose inner products are each head's own scores, ``[H, B, d]``.
        product: Each head's own scores of the rows' items, with their biases, ``[H, nnz]``.
        rows: B rows with nnz items in all.
        table: Item directions of the negatives, ``[H, n, d]``.
        bias: Their biases, ``[n]``.
        negatives: n negatives.
        weight: Weights of the targets, ``[nnz]``.
    """
    partition = sampled_log_partition(query, table, bias, negatives)
    surprise = weight * (partition.index_select(1, rows.row) - product)
    return torch.zeros_like(partition).index_add(1, rows.row, surprise)


def training_loss(
    reconstruction: SoftReconstruction,
    heads: CosineHeads,
    sums: ItemTableSums,
    place: Tensor,
    hidden: Tensor,
    bias: Tensor,
    rows: Rows,
    draw: Draw,
    popularity: Tensor,
) -> Tensor:
    """Return the weighted sum of soft reconstruction and ranking of each row, ``[B]``.

    Args:
        reconstruction: The reconstruction, with the weights of both losses.
        heads: The head queries of the ranking scores.
        sums: Sums over the item table, and its rows ``[J, H * d]`` of different items.
        place: Among these J, the rows' items and the negatives, long ``[nnz + n]``.
        hidden: C-Net's output, ``[B, H * d]``.
        bias: Biases of the ranking scores of the J items.
        rows: B rows.
        draw: The random values of the step.
        popularity: π, ``[I]``.
    """
    config, num_heads = reconstruction.config, heads.num_heads
    own, other = place.tensor_split([rows.item.numel()])
    z = split_heads(sums.rows, num_heads).contiguous()
    h = split_heads(hidden, num_heads).to(z.dtype).contiguous()
    weight = torch.where(draw.visible, config.visible_weight, 1.0).to(z.dtype)
    with full_precision(hidden.device):
        # In 16 bits, rounding of the quadratic form would exceed the error itself.
        product = pair_products(h, z, Pairs(rows.row, own, rows.num, bias.numel()))
        error = reconstruction(sums, h, product, rows, draw.softened, weight, popularity)
    if not config.ranking:
        return (config.reconstruction * error).mean(dim=0)
    # Both losses need the same products: in the ranking, of vectors that are scaled.
    length, divisor = item_length(z), heads.divisor(h) / num_heads
    score = product / (divisor[..., 0].index_select(1, rows.row) * length.index_select(1, own))
    ranking = ranking_loss(
        h / divisor,
        score + bias.index_select(0, own),
        rows,
        (z / length.unsqueeze(-1)).index_select(1, other),
        bias.index_select(0, other),
        draw.negatives,
        weight,
    )
    return (config.reconstruction * error + config.ranking * ranking).mean(dim=0)


def full_precision(device: torch.device) -> torch.autocast:
    """Return a context without mixed precision."""
    return torch.autocast(device.type, enabled=False)


def item_popularity(graph: RecGraph) -> Tensor:
    """Return π, each item's interactions relative to the most popular item's, ``[I]``."""
    frequency = graph.cached(item_frequency)
    return frequency / frequency.max()
