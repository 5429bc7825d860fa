"""Training objectives that more than one model uses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bpr_loss(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    r"""Bayesian personalised ranking, :math:`-\\ln\\sigma(u\\cdot p - u\\cdot n)`, averaged.

    Args:
        user: ``[B, d]``.
        positive: ``[B, d]``, an item each user has.
        negative: ``[B, d]``, an item each user has not.

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
    """
    return -F.logsigmoid((user * (positive - negative)).sum(dim=-1)).mean()


def sampled_softmax_loss(
    user: Tensor,
    table: Tensor,
    bias: Tensor,
    row: Tensor,
    item: Tensor,
    weight: Tensor,
    num_negatives: int,
    generator: torch.Generator,
    frequency: Tensor,
) -> Tensor:
    num = num_negatives // 2
    device = user.device
    uniform = torch.randint(table.size(0), (num,), generator=generator, device=device)
    pick = torch.randint(item.numel(), (num,), generator=generator, device=device)
    negative = torch.cat([uniform, item[pick]])
    proposal = 0.5 / table.size(0) + 0.5 * frequency[negative]
    logit = user @ table[negative].t() + bias[negative] - (proposal * negative.numel()).log()
    normaliser = logit.logsumexp(dim=-1)
    score = (user[row] * table[item]).sum(dim=-1) + bias[item]
    terms = weight * (normaliser[row] - score)
    return user.new_zeros(user.size(0)).index_add(0, row, terms)
