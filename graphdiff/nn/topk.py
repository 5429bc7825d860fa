"""Top-k items of a whole catalogue, in memory that does not grow with the catalogue.

Scores are computed block by block over the items and only a running top-k is stored, so a batch
of B users costs O(B * (block_size + k)) memory whatever the number of items. The result is that of
a full score matrix followed by ``topk``, with ties resolved: the lower index first.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.errors import ConfigError, DataError, GraphDiffError

# Scores of one block, 128 MiB in float32: large enough that the matrix product dominates the small
# operations around it, for one user as for a thousand.
BLOCK_SCORES = 2**25

# PyTorch sorts partially on the CPU where a row has this many values for each that is returned, and
# selects and sorts otherwise, which takes twice as long in rows of at least half that length.
_PARTIAL = 64

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
    """Return the k items with the largest ``user @ item.T + bias`` for each user of a batch.

    The product is computed in the dtype of its inputs and ranked in float32.

    Args:
        user: Floating point, shape ``[B, d]``.
        item: Shape ``[I, d]``, dtype and device of ``user``.
        bias: Shape ``[I]``, dtype and device of ``user``, or None for no bias.
        k: Items to return, from 1 to I.
        exclude: Pairs to exclude, as in :func:`topk_blocks`.
        allowed: Items that may be returned, as in :func:`topk_blocks`.
        block_size: Items scored at a time, as in :func:`topk_blocks`.

    Returns:
        Scores, float32 ``[B, k]``, best first, and item indices, int64 ``[B, k]``, as
        :func:`topk_blocks` returns them.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is out of range.
        DataError: If shapes do not fit or an excluded pair is out of range.
        GraphDiffError: If a score is NaN or +inf.

    Example:
        >>> import torch
        >>> user = torch.tensor([[1.0, 0.0]])
        >>> item = torch.tensor([[1.0, 5.0], [3.0, 0.0], [2.0, 0.0]])
        >>> score, index = topk_inner_product(user, item, None, k=2)
        >>> score.tolist(), index.tolist()
        ([[3.0, 2.0]], [[1, 2]])
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
    """Return a function that computes ``user @ item.T + bias`` for one block of items, for
    :func:`topk_blocks`.

    Args:
        user: ``[B, d]``.
        item: ``[I, d]``.
        bias: ``[I]``, or None.

    Returns:
        A function ``(start, stop)`` that returns ``[B, stop - start]``. Where gradients are
        disabled, the next call overwrites the block.

    Example:
        >>> import torch
        >>> score_block = inner_product_scorer(torch.ones(1, 2), torch.eye(3, 2), torch.arange(3.0))
        >>> score_block(1, 3)
        tensor([[2., 2.]])
    """
    # One buffer for all blocks: allocating each would cost page faults worth a good part of the
    # product itself.
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


def blocks(num_users: int, num_items: int, block_size: int | None = None) -> list[tuple[int, int]]:
    """Return the first and the last item (exclusive) of each block in which items are scored.

    Args:
        num_users: B, the number of rows of every block.
        num_items: I, the size of the catalogue.
        block_size: Items scored at a time; see :func:`topk_blocks`.
    """
    size = block_size or max(1, BLOCK_SCORES // max(1, num_users))
    return [(start, min(start + size, num_items)) for start in range(0, num_items, size)]


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
    """Return the top-k items of each user from scores computed one block of items at a time.

    Args:
        score_block: ``score_block(start, stop)`` returns the scores of items
            ``start, ..., stop - 1``, floating point ``[num_users, stop - start]``. It is called
            once per block, in ascending order. Its result is modified in place.
        num_users: B, the number of rows of every block.
        num_items: I, the size of the catalogue.
        k: Items to return, from 1 to ``num_items``.
        exclude: Two int64 tensors of equal length, ``(row, column)``: item ``column[j]`` is
            excluded for user ``row[j]`` of the batch. Any order, repetitions allowed, on the
            scores' device.
        allowed: Bool ``[num_items]`` on the scores' device; where False, an item is excluded for
            every user.
        block_size: Items scored at a time, at least 1 (default: 2^25 scores per block, which is
            128 MiB in float32 and 32768 items for 1024 users).

    Returns:
        Scores, float32 ``[B, k]``, best first, and item indices, int64 ``[B, k]``. Of equal scores
        (in float32) the lower index comes first. A user with fewer than k items left has score
        ``-inf`` and index ``-1`` in the last places; a score of ``-inf`` means *excluded* wherever
        it comes from.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is out of range.
        DataError: If a block or ``allowed`` has another shape, or an excluded pair is out of
            range.
        GraphDiffError: If a score is NaN or +inf.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[0.1, 0.9, 0.5, 0.7]])
        >>> without = torch.tensor([0]), torch.tensor([1])
        >>> def score_block(start, stop):
        ...     return scores[:, start:stop].clone()
        >>> score, index = topk_blocks(score_block, 1, 4, k=2, exclude=without, block_size=3)
        >>> index.tolist()
        [[3, 2]]
    """
    if not 1 <= k <= num_items:
        raise ConfigError(
            f"k = {k} with a catalogue of {num_items} items; k must be from 1 to {num_items}"
        )
    if block_size is not None and block_size < 1:
        raise ConfigError(f"block_size = {block_size}; it must be at least 1")
    if allowed is not None and (allowed.shape != (num_items,) or allowed.dtype != torch.bool):
        raise DataError(
            f"allowed is {allowed.dtype} of shape {list(allowed.shape)}; expected torch.bool of "
            f"shape [{num_items}]"
        )
    parts = blocks(num_users, num_items, block_size)
    bounds = [0, *(stop for _, stop in parts)]
    pairs = None if exclude is None else _PairsByBlock(exclude, bounds, num_users)

    best = torch.empty(num_users, 0, dtype=torch.long)
    for block, (start, stop) in enumerate(parts):
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
        # One more, to detect a tie.
        value, place = largest_of_rows(score, min(k + 1, score.size(1)))
        if len(parts) == 1 and not bool((value[:, 1:] == value[:, :-1]).any()):
            # No blocks to merge and no tie to resolve, as for most requests of one user.
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


def largest_of_rows(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest values of each row, ``[B, k]``, largest first, and their columns, long
    ``[B, k]``, as ``score.topk(k)`` does, faster on the CPU.

    Args:
        score: ``[B, I]``, floating point.
        k: At most I. Where a value is -inf, its column has no meaning.

    Scores may be copied once, at up to twice their size.

    Example:
        >>> value, column = largest_of_rows(torch.tensor([[0.1, 0.9, 0.5]]), 2)
        >>> column.tolist()
        [[1, 2]]
    """
    length, enough = score.size(1), _PARTIAL * k
    if score.is_cpu and enough / 2 <= length < enough:
        score = F.pad(score, (0, enough - length), value=-torch.inf)
    value, column = score.topk(k, dim=1)
    return value, column.clamp_(max=length - 1)


class _PairsByBlock:
    """Excluded pairs; with several blocks they are sorted once by column, so that those of a block
    are one slice."""

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
    """Return the keys of the k best items so far, int64 ``[B, at most k]``, from those of earlier
    blocks and the k + 1 best of a block."""
    key = _encode(value[:, :k], start + place[:, :k])
    if value.size(1) > k:
        # Where the k-th and the next score are equal, topk picks arbitrarily among equals. This
        # only matters where they beat the items of earlier blocks, which come first among equals.
        level = value[:, k - 1]
        floor = _decode(best[:, -1])[0] if best.size(1) == k else -torch.inf
        user = ((level == value[:, k]) & (level > floor)).nonzero().squeeze(1)
        if user.numel() > 0:
            key[user] = _lowest_of_tied(score[user], value[user, :k], key[user], start)
    both = torch.cat([best.to(key.device), key], dim=1)
    return both.topk(min(k, both.size(1)), dim=1).values


def _lowest_of_tied(score: Tensor, value: Tensor, key: Tensor, start: int) -> Tensor:
    """Return the keys of a block's k best items where others share the score of the k-th.

    These are the items above that score, followed by the lowest indices among those that share it.
    """
    k = value.size(1)
    level = value[:, -1:]
    index = torch.arange(start, start + score.size(1), dtype=torch.int32, device=score.device)
    lowest = -torch.where(score == level, -index, -_MAX_INDEX).topk(k, dim=1).values.long()
    above = key.masked_fill(value == level, torch.iinfo(key.dtype).min)
    return torch.cat([above, _encode(level, lowest)], dim=1).topk(k, dim=1).values


def _encode(score: Tensor, index: Tensor) -> Tensor:
    """Encode score and index in one int64, 32 bits each, ordered by score, then by lower index.

    Selecting on it resolves ties and carries the index along, equally on every device.
    """
    # NaN goes to the top, as in topk; by its bits it could be below everything.
    score = score.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return _ordered(score.view(torch.int32)).long() * 2**32 + (_LOW_BITS - index)


def _decode(key: Tensor) -> tuple[Tensor, Tensor]:
    score = _ordered((key >> 32).int()).view(torch.float32)
    return score, _LOW_BITS - (key & _LOW_BITS)


def _ordered(bits: Tensor) -> Tensor:
    """Convert float bits (a sign and a magnitude) to integers of the same order, and back.

    Both zeros become 0.
    """
    return torch.where(bits < 0, _SIGN_BIT - bits, bits)
