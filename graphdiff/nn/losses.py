"""Ranking objectives that more than one model uses."""

from __future__ import annotations

from typing import Any

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
    total = torch.stack([embedding.square().sum() for embedding in embeddings]).sum()
    return total / (2 * embeddings[0].size(0))


def info_nce_loss(
    view: Tensor, other: Tensor, temperature: float, count: Tensor | None = None
) -> Tensor:
    r"""Contrast of two views of the same rows, against all other rows of the batch.

    .. math::
        -\frac{1}{B} \sum_b \log \frac{e^{\cos(\mathbf{a}_b, \mathbf{b}_b) / \tau}}
        {\sum_c e^{\cos(\mathbf{a}_b, \mathbf{b}_c) / \tau}}

    Args:
        view: a, ``[B, d]``.
        other: b, ``[B, d]``.
        temperature: τ.
        count: How often the batch has each row, positive, ``[B]``; once by default. The loss is
            that of the batch with its rows repeated, without the work.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding",
    arXiv 1807.03748.
    """
    view, other = F.normalize(view, dim=-1) / temperature, F.normalize(other, dim=-1)
    positive = (view * other).sum(dim=-1)
    if count is None:
        return (log_partition(view, other) - positive).mean()
    weight = count.to(view.dtype)
    # A column more on each side adds log c to the products.
    view = torch.cat([view, torch.ones_like(view[:, :1])], dim=1)
    other = torch.cat([other, weight.log().unsqueeze(1)], dim=1)
    return (weight * (log_partition(view, other) - positive)).sum() / weight.sum()


def log_partition(query: Tensor, table: Tensor) -> Tensor:
    r""":math:`\log \sum_n e^{\mathbf{q}_b \cdot \mathbf{t}_n}` over a whole table, ``[B]``.

    The products ``[B, N]`` are made block by block, in the backward pass again, and never kept.

    Args:
        query: q, ``[B, d]``.
        table: t, ``[N, d]``.
    """
    dtype = torch.promote_types(query.dtype, table.dtype)
    # Mixed precision would make the products of forward and backward pass differ in type.
    with torch.autocast(query.device.type, enabled=False):
        return _LogPartition.apply(query.to(dtype), table.to(dtype))


# Products held at a time: 16 MiB in float32.
_BLOCK_ENTRIES = 2**22


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor) -> Tensor:
        ctx.rows = max(1, _BLOCK_ENTRIES // max(1, table.size(0)))
        blocks = query.split(ctx.rows)
        out = []
        for q in blocks:
            share = q @ table.t()
            top = share.amax(dim=1, keepdim=True)
            total = share.sub_(top).exp_().sum(dim=1, keepdim=True)
            out.append((top + total.log()).squeeze(1))
        # One block alone is small enough to keep.
        kept = share.div_(total) if len(blocks) == 1 else None
        result = torch.cat(out)
        ctx.save_for_backward(query, table, result, kept)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        query, table, result, kept = ctx.saved_tensors
        grad = grads[0].unsqueeze(1)
        if kept is not None:
            return grad * (kept @ table), kept.t() @ (grad * query)
        grad_query, grad_table = [], torch.zeros_like(table)
        for q, out, g in zip(*(t.split(ctx.rows) for t in (query, result, grad)), strict=True):
            share = (q @ table.t()).sub_(out.unsqueeze(1)).exp_()
            grad_query.append(g * (share @ table))
            grad_table.addmm_(share.t(), g * q)
        return torch.cat(grad_query), grad_table


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
