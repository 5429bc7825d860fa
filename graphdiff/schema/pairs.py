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
