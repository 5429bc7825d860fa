"""The order in which users had their items, and weights that prefer the latest."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.schema.pairs import rank_within, whole_groups


def ages(user: Tensor, time: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return how many later interactions the user of each interaction has.

    Interactions of a user at the same time share the mean of their places. Where they are sorted by
    user, temporary tensors stay small, also of many interactions.

    Args:
        user: Long ``[E]``, in any order.
        time: When each happened, numbers ``[E]``; only the order within a user counts.
        dtype: Floating type of the result.

    Returns:
        Floating ``[E]``.

    Example:
        >>> ages(torch.tensor([0, 1, 0, 0]), torch.tensor([5, 1, 9, 5]))
        tensor([1.5000, 0.0000, 0.0000, 1.5000])
    """
    if (user[1:] < user[:-1]).any():
        order = user.argsort(stable=True)
        found = torch.empty(user.shape, dtype=dtype, device=user.device)
        found[order] = ages(user[order], time[order], dtype)
        return found
    found = torch.empty(user.shape, dtype=dtype, device=user.device)
    for part in whole_groups(user):
        group, value = user[part] - user[part.start], time[part]
        # The smallest int32 has no negative one.
        value = value if value.is_floating_point() else value.long()
        others = torch.bincount(group)[group] - 1
        found[part] = (others + rank_within(group, -value) - rank_within(group, value)) / 2
    return found


def last_places(key: Tensor) -> tuple[Tensor, Tensor]:
    """Return the different values of ``key``, long ``[n]``, ascending, and the last place of each.

    Example:
        >>> last_places(torch.tensor([7, 2, 7]))
        (tensor([2, 7]), tensor([1, 2]))
    """
    different, inverse = key.unique(return_inverse=True)
    place = torch.arange(key.numel(), device=key.device)
    return different, torch.zeros_like(different).scatter_reduce(0, inverse, place, "amax")


def recency_weights(rows: Rows, exponent: float) -> Tensor | None:
    r"""Return the weight of each item of rows, :math:`(1 + a)^{-\rho}` for an item with a later
    items in the row, times a constant of the row that makes their mean one.

    Args:
        rows: B rows with nnz items in all.
        exponent: ρ ≥ 0.

    Returns:
        Float32 ``[nnz]``; None where all weights are one: at ρ = 0, or where the order is unknown.

    Example:
        >>> rows = Rows(torch.tensor([0, 0]), torch.tensor([3, 5]), 1, torch.tensor([0.0, 2.0]))
        >>> recency_weights(rows, exponent=1.0)
        tensor([1.5000, 0.5000])
    """
    if rows.age is None or not exponent:
        return None
    weight = (1 + rows.age).pow(-exponent)
    total = weight.new_zeros(rows.num).index_add(0, rows.row, weight)
    # An empty row has no item, and a row's newest item has a positive weight.
    return weight * (rows.degree() / total).index_select(0, rows.row)
