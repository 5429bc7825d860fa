"""Ranking and contrastive objectives."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def bpr_loss(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    r"""Compute Bayesian personalised ranking, the mean of :math:`-\ln\sigma(u \cdot (p - n))`.

    Args:
        user: ``[B, d]``.
        positive: ``[B, d]``, an item that each user has interacted with.
        negative: ``[B, d]``, an item that each user has not interacted with.

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.

    Example:
        >>> import torch
        >>> user = torch.ones(1, 2)
        >>> bpr_loss(user, torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
        tensor(0.6931)
    """
    return -F.logsigmoid((user * (positive - negative)).sum(dim=-1)).mean()


def l2_penalty(*embeddings: Tensor) -> Tensor:
    """Compute half the squared norm of embeddings ``[B, d]``, summed over them, per row.

    Example:
        >>> import torch
        >>> l2_penalty(torch.ones(4, 2), 2 * torch.ones(4, 2))
        tensor(5.)
    """
    total = torch.stack([embedding.square().sum() for embedding in embeddings]).sum()
    return total / (2 * embeddings[0].size(0))


def info_nce_loss(
    view: Tensor, other: Tensor, temperature: float, count: Tensor | None = None
) -> Tensor:
    r"""Contrast two views of the same rows, against all other rows of the batch.

    .. math::
        -\frac{1}{B} \sum_b \log \frac{e^{\cos(\mathbf{a}_b, \mathbf{b}_b) / \tau}}
        {\sum_c e^{\cos(\mathbf{a}_b, \mathbf{b}_c) / \tau}}

    Args:
        view: a, ``[B, d]``.
        other: b, ``[B, d]``.
        temperature: τ.
        count: How often each row occurs, positive, ``[B]``; once by default. The loss is that of
            the batch with its rows repeated, without computing them repeatedly.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding",
    arXiv 1807.03748.

    Example:
        >>> import torch
        >>> view = torch.eye(2)
        >>> info_nce_loss(view, view, temperature=1.0)
        tensor(0.3133)
    """
    view, other = F.normalize(view, dim=-1) / temperature, F.normalize(other, dim=-1)
    if count is None:
        return in_batch_softmax_loss(view, other)
    positive, weight = (view * other).sum(dim=-1), count.to(view.dtype)
    surprise = log_partition(view, other, weight.log()) - positive
    return (weight * surprise).sum() / weight.sum()


def in_batch_softmax_loss(query: Tensor, table: Tensor) -> Tensor:
    r"""Compute the cross-entropy of finding each row's own target among those of the batch,
    :math:`-\frac{1}{B} \sum_b \log \mathrm{softmax}_b(\mathbf{q}_b \cdot \mathbf{t}_\cdot)`.

    Args:
        query: q, ``[B, d]``.
        table: t, ``[B, d]``; row b is the target of query b.

    Example:
        >>> import torch
        >>> in_batch_softmax_loss(torch.zeros(2, 3), torch.ones(2, 3))
        tensor(0.6931)
    """
    return (log_partition(query, table) - (query * table).sum(dim=-1)).mean()


def log_partition(query: Tensor, table: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Compute :math:`\log \sum_n e^{\mathbf{q}_b \cdot \mathbf{t}_n + b_n}` over a whole table.

    Where the products ``[B, N]`` are many, they are computed block by block, recomputed in the
    backward pass, and never stored.

    Args:
        query: q, ``[B, d]``, or ``[H, B, d]`` for heads with a table each.
        table: t, ``[N, d]`` or ``[H, N, d]``.
        bias: b, ``[N]``; zero by default.

    Returns:
        ``[B]`` or ``[H, B]``.

    Example:
        >>> import torch
        >>> log_partition(torch.zeros(1, 3), torch.ones(4, 3)).exp()
        tensor([4.])
    """
    dtype = torch.promote_types(query.dtype, table.dtype)
    offset = table.new_zeros(table.size(-2)) if bias is None else bias
    # Under autocast the products of forward and backward pass would differ in dtype.
    with torch.autocast(query.device.type, enabled=False):
        heads = (x if x.dim() == 3 else x.unsqueeze(0) for x in (query.to(dtype), table.to(dtype)))
        found = _LogPartition.apply(*heads, offset.to(dtype))
    return found if query.dim() == 3 else found.squeeze(0)


# Largest number of products stored for the backward pass, 16 MiB in float32; and of products per
# block where there are more: on a CPU few enough to stay in its cache.
_KEPT_ENTRIES, _CACHED_ENTRIES = 2**22, 2**18


class Partition(NamedTuple):
    """Logarithms of partition functions, and what their gradient needs.

    Attributes:
        value: ``[H, B]``.
        share: The softmax, ``[H, B, N]``, where it is small enough to be stored; otherwise None.
        step: Rows per block.
    """

    value: Tensor
    share: Tensor | None
    step: int

    @classmethod
    def of(cls, query: Tensor, table: Tensor, bias: Tensor) -> Partition:
        """Compute them from queries ``[H, B, d]``, a table ``[H, N, d]`` and biases ``[N]``."""
        held, per_row = _KEPT_ENTRIES, max(1, table.size(0) * table.size(1))
        if query.device.type == "cpu" and query.size(1) * per_row > _KEPT_ENTRIES:
            held = _CACHED_ENTRIES
        step = max(1, held // per_row)
        if query.size(1) <= step:
            value, share = _softmax(query, table, bias)
            return cls(value, share, step)
        blocks = [_softmax(q, table, bias)[0] for q in query.split(step, dim=1)]
        return cls(torch.cat(blocks, dim=1), None, step)

    def backward(
        self, query: Tensor, table: Tensor, bias: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query, table and bias from that of the value, ``[H, B]`` or
        ``[B]``."""
        grad = grad.expand(self.value.shape).unsqueeze(-1)
        if self.share is not None:
            d_query = torch.bmm(self.share, table).mul_(grad)
            # The biases are one more column: a product with a single one is slow.
            both = torch.bmm(self.share.mT, torch.cat([query * grad, grad], dim=-1))
            return d_query, both[..., :-1], both[..., -1].sum(dim=0)
        # Recomputed block by block. In place: a product per block would be as large as the table.
        d_query, d_table = torch.empty_like(query), torch.zeros_like(table)
        d_bias = grad.new_zeros(len(table), table.size(1), 1)
        for start in range(0, query.size(1), self.step):
            part = slice(start, start + self.step)
            q, g = query[:, part], grad[:, part]
            share = torch.baddbmm(bias, q, table.mT).sub_(self.value[:, part, None]).exp_()
            d_query[:, part] = torch.bmm(share, table).mul_(g)
            d_table.baddbmm_(share.mT, g * q)
            d_bias.baddbmm_(share.mT, g)
        return d_query, d_table, d_bias.sum(dim=(0, 2))


def _softmax(query: Tensor, table: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logarithm of the partition function and the softmax."""
    share = torch.bmm(query, table.mT).add_(bias)
    # In place: on a CPU a new tensor of this size takes longer than its numbers.
    top = share.amax(dim=-1, keepdim=True)
    total = share.sub_(top).exp_().sum(dim=-1, keepdim=True)
    return (top + total.log()).squeeze(-1), share.div_(total)


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor, bias: Tensor) -> Tensor:
        value, share, ctx.step = Partition.of(query, table, bias)
        ctx.save_for_backward(query, table, bias, value, share)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, table, bias, value, share = ctx.saved_tensors
        return Partition(value, share, ctx.step).backward(query, table, bias, grads[0])


class Negatives(NamedTuple):
    """Negative items shared by all rows of a batch.

    Attributes:
        item: Long ``[n]``.
        log_chance: ``[n]``, logarithm of each item's expected number among the n.
    """

    item: Tensor
    log_chance: Tensor


def draw_negatives(
    item: Tensor, trained: Tensor, log_chance: Tensor, num: int, generator: torch.Generator
) -> Negatives:
    r"""Draw one half of the negatives uniformly over the items with training interactions, the
    other half from the items of the batch, in proportion to how often they occur.

    Args:
        item: Long ``[nnz]``, the items of the batch, at least one.
        trained: Long ``[J]``, the items with a training interaction; for the reason see
            :func:`graphdiff.graph.negatives.sample_negatives`.
        log_chance: Logarithm of each item's expected number among the negatives, ``[I]``: of
            :math:`n (\frac{1}{2 J} + \frac{f_i}{2})` with the item's share f of all interactions.
        num: Number n of negatives, at least 2.
        generator: Source of randomness, on the tensors' device.

    Source: Yang et al., "Mixed negative sampling for learning two-tower neural networks in
    recommendations", WWW 2020.

    Example:
        >>> import torch
        >>> trained, frequency = torch.tensor([0, 2]), torch.tensor([0.25, 0.0, 0.75])
        >>> log_chance = (4 * (0.25 + 0.5 * frequency)).log()
        >>> generator = torch.Generator().manual_seed(0)
        >>> negatives = draw_negatives(torch.tensor([2, 2]), trained, log_chance, 4, generator)
        >>> negatives.item[2:].tolist(), negatives.log_chance[2:].exp().tolist()
        ([2, 2], [2.5, 2.5])
    """
    half, device = num // 2, item.device
    place = torch.randint(trained.numel(), (half,), generator=generator, device=device)
    drawn = torch.randint(item.numel(), (half,), generator=generator, device=device)
    negative = torch.cat([trained.index_select(0, place), item.index_select(0, drawn)])
    return Negatives(negative, log_chance.index_select(0, negative))


def sampled_log_partition(
    query: Tensor, table: Tensor, bias: Tensor, negatives: Negatives
) -> Tensor:
    r"""Estimate the logarithm of a softmax's partition function over the catalogue from negatives.

    .. math::
        \log \sum_{j \in S} \frac{e^{s_{uj}}}{|S|\, q_j}, \qquad
        s_{uj} = \mathbf{q}_u \cdot \mathbf{t}_j + b_j

    Dividing by the probability :math:`q_j` of drawing j makes the sum unbiased. Less an item's
    score it is that item's softmax cross-entropy.

    Args:
        query: q, ``[B, d]``, or ``[H, B, d]`` for heads.
        table: t of the negatives, ``[n, d]`` or ``[H, n, d]``.
        bias: b of the negatives, ``[n]``.
        negatives: S with its probabilities.

    Returns:
        ``[B]`` or ``[H, B]``.

    Source: Bengio and Senécal, "Adaptive importance sampling to accelerate training of a neural
    probabilistic language model", 2008.

    Example:
        >>> import torch
        >>> negatives = Negatives(torch.tensor([3, 5]), torch.zeros(2))
        >>> sampled_log_partition(torch.zeros(1, 4), torch.ones(2, 4), torch.zeros(2), negatives)
        tensor([0.6931])
    """
    return log_partition(query, table, bias - negatives.log_chance)


def table_contrast_loss(view: Tensor, other: Tensor, node: Tensor, temperature: float) -> Tensor:
    r"""Contrast two views of some nodes, against *all* nodes.

    .. math::
        -\frac{1}{B} \sum_{b} \log \frac{e^{\cos(\mathbf{a}_{n_b}, \mathbf{b}_{n_b}) / \tau}}
        {\sum_v e^{\cos(\mathbf{a}_{n_b}, \mathbf{b}_v) / \tau}}

    Args:
        view: a, ``[N, d]``.
        other: b, ``[N, d]``.
        node: Long ``[B]``, 0 … N - 1; each repeat counts, at no cost.
        temperature: τ.

    Source: SGL's (Wu et al., arXiv 2010.10783), and DiffMM's.

    Example:
        >>> import torch
        >>> view = torch.eye(2)
        >>> table_contrast_loss(view, view, torch.tensor([0]), temperature=1.0)
        tensor(0.3133)
    """
    node, count = node.unique(return_counts=True)
    table = F.normalize(other, dim=-1)
    query = F.normalize(F.embedding(node, view), dim=-1) / temperature
    loss = log_partition(query, table) - (query * F.embedding(node, table)).sum(dim=-1)
    return (count * loss).sum() / count.sum()


def two_sided_contrast_loss(view: Tensor, other: Tensor, temperature: float) -> Tensor:
    r"""Contrast two views of the same rows, against all other rows of *both* views.

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

    Example:
        >>> import torch
        >>> view = torch.eye(2)
        >>> two_sided_contrast_loss(view, view, temperature=1.0)
        tensor(0.5514)
    """
    view, other = F.normalize(view, dim=-1), F.normalize(other, dim=-1)
    own = torch.eye(view.size(0), dtype=torch.bool, device=view.device)
    within = (view @ view.t() / temperature).masked_fill(own, -torch.inf)
    logit = torch.cat([view @ other.t() / temperature, within], dim=1)
    return F.cross_entropy(logit, torch.arange(view.size(0), device=view.device))
