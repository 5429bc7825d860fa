"""LD4MRec's training objective: soft reconstruction and ranking."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.config import ObjectiveConfig
from graphdiff.models.ld4mrec.draws import Draw, item_frequency
from graphdiff.nn.constants import constant
from graphdiff.nn.cosine_ranking import cosine_ranking
from graphdiff.nn.heads import CosineHeads, InnerProductHeads
from graphdiff.nn.pairs import Pairs
from graphdiff.nn.reconstruction import ItemTableSums
from graphdiff.nn.whole_row_error import whole_row_error


class SoftReconstruction(torch.nn.Module):
    r"""Reconstruction of rows with soft targets, over the whole catalogue.

    Each head predicts :math:`\hat{y}_{ui} = a\, \mathbf{h}^\eta \cdot \mathbf{z}^\eta_i + \beta_i`.
    With probability p a target is softened by γ: an observed 1 to :math:`1 - \gamma`, an unobserved
    0 to :math:`\gamma \pi_i`, with π the items' popularity relative to the most popular one.
    Unobserved entries have the weight :math:`\alpha_0`. A random softening of an unobserved zero
    enters the gradient of the squared error only through its mean :math:`p \gamma \pi_i`, so the
    mean is used. Softening is off by default, because it makes no difference in the benchmarks: see
    the ablation in ``benchmarks/results``.

    The error is exact and no tensor ``[B, I]`` is made: see
    :func:`~graphdiff.nn.whole_row_error.whole_row_error`.

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

    def residual(self, popularity: Tensor) -> Tensor:
        """Return what is left of the target of each item that a row lacks, besides its score:
        pγπ - β, ``[I]``, from π in the dtype of the biases, ``[I]``."""
        soften = self.config.soft_probability * self.config.soft_intensity
        return soften * popularity - self.bias if soften else -self.bias

    def excess(self, popularity: Tensor, item: Tensor, softened: Tensor | None) -> Tensor | None:
        """Return how far the targets of items of rows exceed those of :meth:`residual`, ``[nnz]``;
        None where all do by 1.

        Args:
            popularity: π, ``[I]``.
            item: Items of rows, long ``[nnz]``.
            softened: Bool ``[nnz]``, or None for none.
        """
        probability, intensity = self.config.soft_probability, self.config.soft_intensity
        if softened is None or not probability * intensity:
            return None
        soften = popularity.index_select(0, item) * probability + softened
        return 1 - intensity * soften


def training_loss(
    reconstruction: SoftReconstruction,
    heads: CosineHeads,
    sums: ItemTableSums,
    residual: Tensor,
    pairs: Pairs,
    negative: Tensor,
    hidden: Tensor,
    bias: Tensor,
    rows: Rows,
    draw: Draw,
    popularity: Tensor,
) -> Tensor:
    """Return the weighted sum of soft reconstruction and ranking of each row, ``[B]``, a mean over
    heads.

    Args:
        reconstruction: The reconstruction, with the weights of both losses.
        heads: The heads of the ranking scores.
        sums: Sums over the item table, and its rows ``[J, H * d]`` of different items.
        residual: :meth:`SoftReconstruction.residual`, which the sums were computed with.
        pairs: The items of the rows among these J.
        negative: The negatives among them, long ``[n]``.
        hidden: C-Net's output, ``[B, H * d]``.
        bias: Biases of the ranking scores of the J items.
        rows: B rows.
        draw: The random values of the step.
        popularity: π, ``[I]``.
    """
    config, num_heads = reconstruction.config, heads.num_heads

    def weight(loss: float) -> Tensor:
        hidden_share, like = loss / num_heads, sums.rows
        visible_share = hidden_share * config.visible_weight
        return torch.where(
            draw.visible, constant(visible_share, like), constant(hidden_share, like)
        )

    # In 16 bits, rounding of the quadratic form would exceed the error itself.
    with full_precision(hidden.device):
        h = hidden.to(sums.rows.dtype).contiguous()
        error = whole_row_error(
            h,
            sums,
            residual,
            reconstruction.log_scale,
            pairs,
            rows.item,
            weight(config.reconstruction),
            config.reconstruction / num_heads * config.unobserved_weight,
            reconstruction.excess(popularity, rows.item, draw.softened),
        )
        if not config.ranking:
            return error
        return error + cosine_ranking(
            h,
            sums.rows,
            bias,
            heads.log_temperature,
            pairs,
            weight(config.ranking),
            negative,
            draw.negatives.log_chance,
            num_heads,
        )


def full_precision(device: torch.device) -> torch.autocast:
    """Return a context without mixed precision."""
    return torch.autocast(device.type, enabled=False)


def item_popularity(graph: RecGraph) -> Tensor:
    """Return π, each item's interactions relative to the most popular item's, ``[I]``."""
    frequency = graph.cached(item_frequency)
    return frequency / frequency.max()
