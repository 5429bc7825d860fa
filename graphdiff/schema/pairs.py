"""Pairs in sorted order, read block by block: they may be more than fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

#: Pairs that are looked at at a time, so that temporary tensors take at most 32 MiB each.
BLOCK = 2**22


def blocks(num: int, size: int = BLOCK) -> Iterator[slice]:
    """Yield consecutive slices of at most ``size`` positions that cover ``num``.

    Example:
        >>> list(blocks(5, 3))
        [slice(0, 3, None), slice(3, 5, None)]
    """
    for start in range(0, num, size):
        yield slice(start, min(start + size, num))


def is_ascending(pairs: Tensor) -> bool:
    """Return whether pairs (user, item), long ``[2, P]``, are sorted by user, then item, and each
    is there once.

    Example:
        >>> is_ascending(torch.tensor([[0, 0, 1], [1, 3, 0]]))
        True
        >>> is_ascending(torch.tensor([[0, 0], [1, 1]]))
        False
    """
    user, item = pairs
    for part in blocks(user.numel() - 1):
        after = slice(part.start + 1, part.stop + 1)
        before_user, next_user = user[part], user[after]
        in_order = (next_user > before_user) | (
            (next_user == before_user) & (item[after] > item[part])
        )
        if not in_order.all():
            return False
    return True


def key_blocks(pairs: Tensor, num_items: int) -> Iterator[Tensor]:
    """Yield the keys user · I + item of pairs, long, block by block."""
    user, item = pairs
    for part in blocks(user.numel()):
        yield user[part] * num_items + item[part]


def found_among(keys: Tensor, pairs: Tensor, num_items: int) -> Tensor:
    """Return which keys are those of a pair.

    Args:
        keys: Long ``[n]``, ascending.
        pairs: Ascending pairs, long ``[2, P]``.
        num_items: I.

    Returns:
        Bool ``[n]``.

    Example:
        >>> pairs = torch.tensor([[0, 0, 1], [1, 3, 0]])
        >>> found_among(torch.tensor([1, 2, 4]), pairs, num_items=4)
        tensor([ True, False,  True])
    """
    found = torch.zeros_like(keys, dtype=torch.bool)
    for block in key_blocks(pairs, num_items):
        first, last = torch.searchsorted(keys, block[[0, -1]]).tolist()
        wanted = keys[first : last + 1]
        place = torch.searchsorted(block, wanted).clamp(max=block.numel() - 1)
        found[first : last + 1] |= block[place] == wanted
    return found


def whole_groups(group: Tensor, size: int = BLOCK) -> Iterator[slice]:
    """Yield consecutive slices that cover all positions and divide no group.

    Args:
        group: Long ``[n]``, ascending.
        size: Positions of a slice, at most, unless a group is larger or crosses its end.

    Example:
        >>> list(whole_groups(torch.tensor([0, 0, 0, 1, 2]), size=2))
        [slice(0, 3, None), slice(3, 5, None)]
    """
    start = 0
    while start < group.numel():
        last = group[min(start + size, group.numel()) - 1]
        stop = int(torch.searchsorted(group, last, right=True))
        yield slice(start, stop)
        start = stop


def rank_within(group: Tensor, value: Tensor) -> Tensor:
    """Return how many values of the same group are smaller, long ``[n]``.

    Args:
        group: Long ``[n]``, ascending.
        value: Numbers ``[n]``.

    Example:
        >>> rank_within(torch.tensor([0, 0, 0, 1]), torch.tensor([7.0, 5.0, 7.0, 1.0]))
        tensor([1, 0, 1, 0])
    """
    order = value.argsort()
    order = order[group[order].argsort(stable=True)]
    place = torch.arange(group.numel(), device=group.device)
    ordered = value[order]
    differs = torch.ones(2, group.numel(), dtype=torch.bool, device=group.device)
    differs[0, 1:] = group[1:] != group[:-1]
    differs[1, 1:] = differs[0, 1:] | (ordered[1:] != ordered[:-1])
    # The place of the first of each group, and of the first of each run of equal values.
    first, run = torch.where(differs, place, 0).cummax(dim=1).values
    return torch.empty_like(place).index_copy_(0, order, run - first)
