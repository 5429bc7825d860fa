"""The k best items of a whole catalogue, in memory that does not grow with the catalogue.

Scores are made block by block over the items and only a running top-k is kept, so a batch
of B users costs O(B * (block_size + k)) memory whatever the number of items. The answer is
that of a full score matrix followed by ``topk``, with ties decided: the lower index first.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from graphdiff.errors import ConfigError, DataError, GraphDiffError

# Scores of one block, 128 MiB in float32: enough for the matrix product to dwarf the small
# operations around it, whether the batch is one user or a thousand.
BLOCK_SCORES = 2**25

_LOW_BITS = 0xFFFFFFFF
_SIGN_BIT = -(2**31)
_MAX_INDEX = 2**31 - 1


def topk_inner_product(
    user: Tensor,
    item: Tensor,
    bias: Tensor | None,
    k: int,
    exclude: tuple[Tensor, Tensor] | None = None,
    allowed: Tensor | None = None,
    block_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The k items with the largest ``user @ item.T + bias``, for each user of a batch.

    The product is computed in the dtype of its inputs and ranked in float32.

    Args:
        user: Floating point, shape ``[B, d]``.
        item: Shape ``[I, d]``, dtype and device of ``user``.
        bias: Shape ``[I]``, dtype and device of ``user``, or None for no bias.
        k: Items to return, from 1 to I.
        exclude: Pairs to leave out, as in :func:`topk_blocks`.
        allowed: Items that may be returned, as in :func:`topk_blocks`.
        block_size: Items scored at a time, as in :func:`topk_blocks`.

    Returns:
        Scores, float32 ``[B, k]``, best first, and item indices, int64 ``[B, k]``, as
        :func:`topk_blocks` returns them.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is out of range.
        DataError: If shapes do not fit or an excluded pair is out of range.
        GraphDiffError: If a score is NaN or +inf.
    """
    if user.dim() != 2 or item.dim() != 2 or user.size(1) != item.size(1):
        raise DataError(
            f"user has shape {list(user.shape)} and item {list(item.shape)}; expected [B, d] and "
            "[I, d] with the same d"
        )
    num_users, num_items = user.size(0), item.size(0)
    if bias is not None and bias.shape != (num_items,):
        raise DataError(
            f"bias has shape {list(bias.shape)} but there are {num_items} items; give one value "
            "per item"
        )
    score_block = inner_product_scorer(user, item, bias)
    return topk_blocks(score_block, num_users, num_items, k, exclude, allowed, block_size)


def inner_product_scorer(
    user: Tensor, item: Tensor, bias: Tensor | None
) -> Callable[[int, int], Tensor]:
    """``user @ item.T + bias``, a block of items at a time, for :func:`topk_blocks`.

    Args:
        user: ``[B, d]``.
        item: ``[I, d]``.
        bias: ``[I]``, or None.

    Returns:
        A function ``(start, stop)`` that gives ``[B, stop - start]``. Where no gradient is asked
        for, the next call overwrites the block.
    """
    # One buffer for all blocks: fresh memory for each would cost page faults worth a good part
    # of the product itself.
    buffer: Tensor | None = None

    def score_block(start: int, stop: int) -> Tensor:
        nonlocal buffer
        block = item[start:stop].t()
        out = None
        # Writing into a buffer is not differentiable.
        if not torch.is_grad_enabled():
            if buffer is None:
                buffer = user.new_empty(user.size(0), stop - start)
            out = buffer[:, : stop - start]
        if bias is None:
            return torch.mm(user, block, out=out)
        return torch.addmm(bias[start:stop], user, block, out=out)

    return score_block


@torch.no_grad()
def topk_blocks(
    score_block: Callable[[int, int], Tensor],
    num_users: int,
    num_items: int,
    k: int,
    exclude: tuple[Tensor, Tensor] | None = None,
    allowed: Tensor | None = None,
    block_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best items of each user, for scores that come a block of items at a time.

    Args:
        score_block: ``score_block(start, stop)`` gives the scores of items
            ``start, ..., stop - 1``, floating point ``[num_users, stop - start]``. It is called
            once per block, in ascending order. Its result is written to.
        num_users: B, the number of rows of every block.
        num_items: I, the size of the catalogue.
        k: Items to return, from 1 to ``num_items``.
        exclude: Two int64 tensors of equal length, ``(row, column)``: item ``column[j]`` is left
            out for user ``row[j]`` of the batch. Any order, repetitions allowed, on the scores'
            device.
        allowed: Bool ``[num_items]`` on the scores' device; where False, an item is left out for
            every user.
        block_size: Items scored at a time, at least 1. (default: as many as make 2^25 scores for
            the batch, which is 128 MiB in float32 and 32768 items for 1024 users)

    Returns:
        Scores, float32 ``[B, k]``, best first, and item indices, int64 ``[B, k]``. Equal scores
        (in float32) come with the lower index first. A user with fewer than k items left has
        score ``-inf`` and index ``-1`` in the places at the end; a score of ``-inf`` means *left
        out* wherever it comes from.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is out of range.
        DataError: If a block or ``allowed`` has another shape, or an excluded pair is out of
            range.
        GraphDiffError: If a score is NaN or +inf.
    """
    if not 1 <= k <= num_items:
        raise ConfigError(
            f"k = {k} with a catalogue of {num_items} items; k must be from 1 to {num_items}"
        )
    if block_size is None:
        block_size = max(1, BLOCK_SCORES // max(1, num_users))
    if block_size < 1:
        raise ConfigError(f"block_size = {block_size}; it must be at least 1")
    if allowed is not None and (allowed.shape != (num_items,) or allowed.dtype != torch.bool):
        raise DataError(
            f"allowed is {allowed.dtype} of shape {list(allowed.shape)}; expected torch.bool of "
            f"shape [{num_items}]"
        )
    starts = list(range(0, num_items, block_size))
    bounds = [*starts, num_items]
    pairs = None if exclude is None else _PairsByBlock(exclude, bounds, num_users)

    best = torch.empty(num_users, 0, dtype=torch.long)
    for block, start in enumerate(starts):
        stop = bounds[block + 1]
        score = score_block(start, stop).float()
        if score.shape != (num_users, stop - start):
            raise DataError(
                f"score_block({start}, {stop}) returned shape {list(score.shape)}; expected "
                f"[{num_users}, {stop - start}]"
            )
        if allowed is not None:
            score.masked_fill_(~allowed[start:stop], -torch.inf)
        if pairs is not None:
            row, column = pairs[block]
            score[row, column - start] = -torch.inf
        value, place = score.topk(min(k + 1, score.size(1)), dim=1)  # one more, to see a tie
        if len(starts) == 1 and not bool((value[:, 1:] == value[:, :-1]).any()):
            # Nothing to merge and nothing to decide, as for most requests of one person.
            score, index = value[:, :k], place[:, :k]
            break
        best = _merge(best, score, value, place, start, k)
    else:
        score, index = _decode(best)
    broken = ~(score[:, 0] < torch.inf)  # the best comes first, and NaN before everything
    if bool(broken.any()):
        raise GraphDiffError(
            f"scores are NaN or infinite for {int(broken.sum())} of {num_users} users; expected "
            "finite numbers: look for NaN in the model's weights and its input features"
        )
    return score, index.masked_fill_(score == -torch.inf, -1)


class _PairsByBlock:
    """Excluded pairs; of several blocks sorted once by column, so that a block's own are one
    slice."""

    def __init__(self, pairs: tuple[Tensor, Tensor], bounds: list[int], num_rows: int) -> None:
        row, column = pairs
        if row.dim() != 1 or row.shape != column.shape:
            raise DataError(
                f"exclude has rows of shape {list(row.shape)} and columns of shape "
                f"{list(column.shape)}; expected two vectors of the same length"
            )
        if row.numel() > 0:
            _check_range("row", row, num_rows)
            _check_range("column", column, bounds[-1])
        self.row, self.column, self.split = row, column, [0, column.numel()]
        if len(bounds) > 2:
            self.column, order = column.sort()
            self.row = row[order]
            self.split = torch.searchsorted(self.column, column.new_tensor(bounds)).tolist()

    def __getitem__(self, block: int) -> tuple[Tensor, Tensor]:
        piece = slice(self.split[block], self.split[block + 1])
        return self.row[piece], self.column[piece]


def _check_range(name: str, index: Tensor, size: int) -> None:
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= size:
        raise DataError(f"exclude has {name} {low if low < 0 else high}; expected 0 to {size - 1}")


def _merge(best: Tensor, score: Tensor, value: Tensor, place: Tensor, start: int, k: int) -> Tensor:
    """Keys of the k best items so far: int64 ``[B, at most k]``, from those of earlier blocks and
    a block's k + 1 best."""
    key = _encode(value[:, :k], start + place[:, :k])
    if value.size(1) > k:
        # Where the k-th and the next are equal, topk has picked among equals as it liked. It only
        # matters where they beat the items of earlier blocks, which come first among equals.
        level = value[:, k - 1]
        floor = _decode(best[:, -1])[0] if best.size(1) == k else -torch.inf
        user = ((level == value[:, k]) & (level > floor)).nonzero().squeeze(1)
        if user.numel() > 0:
            key[user] = _lowest_of_tied(score[user], value[user, :k], key[user], start)
    both = torch.cat([best.to(key.device), key], dim=1)
    return both.topk(min(k, both.size(1)), dim=1).values


def _lowest_of_tied(score: Tensor, value: Tensor, key: Tensor, start: int) -> Tensor:
    """Keys of a block's k best items, where others have the score of the k-th too.

    These are the items above that score and then, of those that have it, the lowest indices.
    """
    k = value.size(1)
    level = value[:, -1:]
    index = torch.arange(start, start + score.size(1), dtype=torch.int32, device=score.device)
    lowest = -torch.where(score == level, -index, -_MAX_INDEX).topk(k, dim=1).values.long()
    above = key.masked_fill(value == level, torch.iinfo(key.dtype).min)
    return torch.cat([above, _encode(level, lowest)], dim=1).topk(k, dim=1).values


def _encode(score: Tensor, index: Tensor) -> Tensor:
    """One int64 that orders by score, then by lower index: 32 bits for each.

    With it a selection decides ties and carries the index along, on every device alike.
    """
    # NaN goes to the top, as topk puts it; by its bits it could be below everything.
    score = score.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return _ordered(score.view(torch.int32)).long() * 2**32 + (_LOW_BITS - index)


def _decode(key: Tensor) -> tuple[Tensor, Tensor]:
    score = _ordered((key >> 32).int()).view(torch.float32)
    return score, _LOW_BITS - (key & _LOW_BITS)


def _ordered(bits: Tensor) -> Tensor:
    """Float bits (a sign and a magnitude) as integers of the same order, and back.

    Both zeros become 0.
    """
    return torch.where(bits < 0, _SIGN_BIT - bits, bits)
