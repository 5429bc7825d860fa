"""Groups of users by activity and of items by popularity, to compare models on each.

Only *training* interactions are counted, so that groups do not depend on the held-out pairs and are
the same for every model.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.graph.popularity import popularity_groups
from graphdiff.schema import INTERACTS, ITEM, USER

#: Groups of items, from the least popular to the most popular.
ITEM_GROUPS = ("cold", "tail", "mid", "head")


def user_groups(data: HeteroData, users: Tensor | None = None) -> dict[str, Tensor]:
    """Divide users into up to four groups of about equal size by activity.

    Activity is the number of training interactions. The borders are the quartiles of the users
    that have any; groups with equal quartiles are merged. Users without any form the group ``"0"``.

    Args:
        data: A graph that fits :mod:`graphdiff.schema`.
        users: The users to divide, long ``[n]``, such as those of the test pairs; all by default.

    Returns:
        For each group that is not empty, from the least active on, its members as bool ``[U]``.
        The name states the numbers of interactions, such as ``"3–5"`` or ``"12+"``.
    """
    activity = _degrees(data, USER)
    chosen = torch.ones_like(activity, dtype=torch.bool)
    if users is not None:
        chosen = torch.zeros_like(chosen)
        chosen[users] = True
    groups = {"0": chosen & (activity == 0)}
    active = activity[chosen & (activity > 0)].sort().values
    if active.numel():
        quarter = torch.arange(1, 4) * (active.numel() - 1) // 4
        borders = active[quarter].unique().tolist()
        lows = [1, *(border + 1 for border in borders)]
        for low, high in zip(lows, [*borders, None], strict=True):
            below = True if high is None else activity <= high
            groups[_range(low, high)] = chosen & (activity >= low) & below
    return {name: members for name, members in groups.items() if members.any()}


def item_groups(data: HeteroData) -> dict[str, Tensor]:
    """Divide items into cold, tail, mid and head by popularity; cold items have no training
    interaction. See :func:`~graphdiff.graph.popularity.popularity_groups`.

    Args:
        data: A graph that fits :mod:`graphdiff.schema`.

    Returns:
        For each group that is not empty, in the order of :data:`ITEM_GROUPS`, its members as bool
        ``[I]``.
    """
    group = popularity_groups(_degrees(data, ITEM))
    found = {name: group == n for n, name in enumerate(ITEM_GROUPS)}
    return {name: members for name, members in found.items() if members.any()}


def _range(low: int, high: int | None) -> str:
    if high is None:
        return f"{low}+"
    return str(low) if low == high else f"{low}–{high}"


def _degrees(data: HeteroData, node: str) -> Tensor:
    """Return the number of training interactions of each user or item, long ``[N]``, on the CPU."""
    index = data[INTERACTS].edge_index[0 if node == USER else 1].cpu()
    return torch.bincount(index, minlength=data[node].num_nodes)
