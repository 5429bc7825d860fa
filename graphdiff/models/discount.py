"""Scores less a discount of popularity, for lists that reach further into the tail."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.store import RecGraph

#: From the first and the last item of a block (exclusive) to its scores ``[B, stop - start]``.
ScoreBlock = Callable[[int, int], Tensor]


def discounted(score_block: ScoreBlock, discount: float, graph: RecGraph) -> ScoreBlock:
    r"""Return scores less ``discount`` times :math:`\log(1 + n)`, n being an item's training
    interactions.

    Where scores are logarithms of a probability up to a constant, a discount of 1 ranks by how much
    more often a user chooses an item than the average user does, and values between 0 and 1 lie
    between the two (logit adjustment: Menon et al., "Long-tail learning via logit adjustment", ICLR
    2021). Items without training interactions keep their scores.

    Args:
        score_block: The scores.
        discount: 0 for none; in units of the scores, which models differ in.
        graph: Training interactions.

    Raises:
        ConfigError: If ``discount`` is not a number of at least 0.

    Example:
        >>> import torch
        >>> graph = RecGraph(torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1]), num_items=3)
        >>> score = torch.tensor([[2.0, 1.7, 1.0]])
        >>> discounted(lambda start, stop: score[:, start:stop], 1.0, graph)(0, 3)
        tensor([[0.9014, 1.0069, 1.0000]])
    """
    if not isinstance(discount, Real) or isinstance(discount, bool) or not 0 <= discount < math.inf:
        raise ConfigError(f"popularity_discount is {discount!r}; give a number of at least 0")
    if not discount:
        return score_block
    taken = float(discount) * graph.cached(log_popularity)

    def less(start: int, stop: int) -> Tensor:
        score = score_block(start, stop)
        return score - taken[start:stop].to(score.dtype)

    return less


def log_popularity(graph: RecGraph) -> Tensor:
    """Return the logarithm of one more than each item's training interactions, float ``[I]``."""
    return graph.item_degree().log1p()
