"""Scores less a discount of popularity, for lists that reach further into the tail."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.store import RecGraph
from graphdiff.nn.topk import blocks

#: From the first and the last item of a block (exclusive) to its scores ``[B, stop - start]``.
ScoreBlock = Callable[[int, int], Tensor]


def discounted(
    score_block: ScoreBlock, num_users: int, discount: float, graph: RecGraph
) -> ScoreBlock:
    r"""Return scores less a multiple of the logarithm of popularity.

    With the standard deviation :math:`\sigma_u` of a user's scores over all items, and
    :math:`\sigma` of :math:`\log(1 + n_i)`, :math:`n_i` being the training interactions of an item,

    .. math:: s'_{ui} = s_{ui} - d \, \sigma_u \log(1 + n_i) / \sigma.

    So a discount d means the same for all models and users, whatever the unit of their scores.
    Subtracting the logarithm of a frequency from scores is logit adjustment (Menon et al.,
    "Long-tail learning via logit adjustment", ICLR 2021); the unit is ours.

    Args:
        score_block: The scores; computed twice where there is a discount.
        num_users: B.
        discount: d, 0 for none.
        graph: Training interactions.

    Raises:
        ConfigError: If ``discount`` is not a number of at least 0.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1]), num_items=3)
        >>> score = torch.tensor([[2.0, 1.9, 1.0]])
        >>> discounted(lambda start, stop: score[:, start:stop], 1, 0.5, graph)(0, 3)
        tensor([[1.4554, 1.5564, 1.0000]])
    """
    if not isinstance(discount, Real) or isinstance(discount, bool) or not 0 <= discount < math.inf:
        raise ConfigError(f"popularity_discount is {discount!r}; give a number of at least 0")
    if not discount or not num_users:
        return score_block
    taken = float(discount) * graph.cached(relative_popularity)
    spread = _spread(score_block, num_users, graph.num_items)

    def less(start: int, stop: int) -> Tensor:
        score = score_block(start, stop)
        return score - (spread * taken[start:stop]).to(score.dtype)

    return less


def relative_popularity(graph: RecGraph) -> Tensor:
    """Return the logarithm of one more than each item's training interactions, in standard
    deviations, double ``[I]``; zeros where all items have equally many."""
    popularity = graph.item_degree().double().log1p()
    deviation = popularity.std(correction=0)
    return popularity / deviation if deviation > 0 else torch.zeros_like(popularity)


def _spread(score_block: ScoreBlock, num_users: int, num_items: int) -> Tensor:
    """Return the standard deviation of each user's scores, ``[B, 1]`` in double precision."""
    sizes, means, variances = [], [], []
    for start, stop in blocks(num_users, num_items):
        score = score_block(start, stop).double()
        sizes.append((stop - start) / num_items)
        means.append(score.mean(dim=1))
        variances.append(score.var(dim=1, correction=0))
    mean, within = torch.stack(means), torch.stack(variances)
    share = mean.new_tensor(sizes).unsqueeze(1)
    between = (mean - (share * mean).sum(dim=0)).square()
    return (share * (within + between)).sum(dim=0).sqrt().unsqueeze(1)
