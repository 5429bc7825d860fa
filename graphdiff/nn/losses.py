"""Ranking objectives that more than one model uses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bpr_loss(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    r"""Bayesian personalised ranking, :math:`-\ln\sigma(u \cdot p - u \cdot n)`, averaged.

    Args:
        user: ``[B, d]``.
        positive: ``[B, d]``, an item each user has.
        negative: ``[B, d]``, an item each user has not.

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
    """
    return -F.logsigmoid((user * (positive - negative)).sum(dim=-1)).mean()


def l2_penalty(*embeddings: Tensor) -> Tensor:
    """Half the squared norm of a batch's embeddings ``[B, d]``, summed over them, per row."""
    total = sum(embedding.square().sum() for embedding in embeddings)
    return total / (2 * embeddings[0].size(0))


def info_nce_loss(view: Tensor, other: Tensor, temperature: float) -> Tensor:
    r"""Contrast of two views of the same rows, against all other rows of the batch.

    .. math::
        -\frac{1}{B} \sum_b \log \frac{e^{\cos(\mathbf{a}_b, \mathbf{b}_b) / \tau}}
        {\sum_c e^{\cos(\mathbf{a}_b, \mathbf{b}_c) / \tau}}

    Args:
        view: a, ``[B, d]``.
        other: b, ``[B, d]``.
        temperature: τ.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding",
    arXiv 1807.03748.
    """
    logit = F.normalize(view, dim=-1) @ F.normalize(other, dim=-1).t() / temperature
    return F.cross_entropy(logit, torch.arange(logit.size(0), device=logit.device))


def sampled_softmax_loss(
    user: Tensor,
    table: Tensor,
    bias: Tensor,
    row: Tensor,
    item: Tensor,
    weight: Tensor,
    frequency: Tensor,
    num_negatives: int,
    generator: torch.Generator,
) -> Tensor:
    r"""Softmax cross-entropy of each row's items against negatives that all rows share.

    .. math::
        \sum_{i \in N_u} w_{ui} \Big[\log \sum_{j \in S} \frac{e^{s_{uj}}}{|S|\, q_j}
        - s_{ui}\Big], \qquad s_{ui} = \mathbf{u} \cdot \mathbf{v}_i + b_i.

    Half of the negatives S are uniform over the catalogue and half are items of the batch's rows,
    drawn as often as they occur; dividing by the chance :math:`q_j` of that mixture makes the sum
    an unbiased estimate of the softmax's partition function.

    Args:
        user: ``[B, d]``.
        table: ``[I, d]``.
        bias: ``[I]``.
        row: Long ``[nnz]``.
        item: Long ``[nnz]``, at least one.
        weight: ``[nnz]``.
        frequency: ``[I]``, each item's share of all interactions.
        num_negatives: Size of S, at least 2.
        generator: Source of randomness, on the tensors' device.

    Returns:
        ``[B]``.

    Source: the correction is Bengio and Senécal's, "Adaptive importance sampling to accelerate
    training of a neural probabilistic language model", 2008; the mixture is Yang et al.'s "Mixed
    negative sampling for learning two-tower neural networks in recommendations", WWW 2020.
    """
    half, device = num_negatives // 2, user.device
    uniform = torch.randint(table.size(0), (half,), generator=generator, device=device)
    drawn = torch.randint(item.numel(), (half,), generator=generator, device=device)
    negative = torch.cat([uniform, item[drawn]])
    chance = 0.5 / table.size(0) + 0.5 * frequency[negative]
    logit = user @ table[negative].t() + bias[negative] - (negative.numel() * chance).log()
    partition = logit.logsumexp(dim=-1)
    score = (user[row] * table[item]).sum(dim=-1) + bias[item]
    return user.new_zeros(user.size(0)).index_add(0, row, weight * (partition[row] - score))


def table_contrast_loss(view: Tensor, other: Tensor, node: Tensor, temperature: float) -> Tensor:
    r"""Contrast of two views of some nodes, against *all* nodes.

    .. math::
        -\frac{1}{B} \sum_{b} \log \frac{e^{\cos(\mathbf{a}_{n_b}, \mathbf{b}_{n_b}) / \tau}}
        {\sum_v e^{\cos(\mathbf{a}_{n_b}, \mathbf{b}_v) / \tau}}

    Args:
        view: a, ``[N, d]``.
        other: b, ``[N, d]``.
        node: Long ``[B]``, 0 … N - 1; repeats count as often as they come, and cost nothing.
        temperature: τ.

    Source: SGL's (Wu et al., arXiv 2010.10783), and DiffMM's.
    """
    node, count = node.unique(return_counts=True)
    table = F.normalize(other, dim=-1)
    logit = (F.normalize(view[node], dim=-1) / temperature) @ table.t()
    loss = F.cross_entropy(logit, node, reduction="none")
    return (count * loss).sum() / count.sum()


def two_sided_contrast_loss(view: Tensor, other: Tensor, temperature: float) -> Tensor:
    r"""Contrast of two views of the same rows, against all other rows of *both* views.

    .. math::
        -\frac{1}{B} \sum_b \log \frac{e^{\cos(\mathbf{a}_b, \mathbf{b}_b) / \tau}}
        {\sum_c e^{\cos(\mathbf{a}_b, \mathbf{b}_c) / \tau}
        + \sum_{c \ne b} e^{\cos(\mathbf{a}_b, \mathbf{a}_c) / \tau}}

    Args:
        view: a, ``[B, d]``.
        other: b, ``[B, d]``.
        temperature: τ.

    Source: Zhu et al., "Deep Graph Contrastive Representation Learning", arXiv 2006.04131,
    equation 1, as used by MMSSL.
    """
    view, other = F.normalize(view, dim=-1), F.normalize(other, dim=-1)
    own = torch.eye(view.size(0), dtype=torch.bool, device=view.device)
    within = (view @ view.t() / temperature).masked_fill(own, -torch.inf)
    logit = torch.cat([view @ other.t() / temperature, within], dim=1)
    return F.cross_entropy(logit, torch.arange(view.size(0), device=view.device))
