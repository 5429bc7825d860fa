"""Processes of one training: which one this is, its part of the work, and exchanges between them.

Without a process group everything works as in a group of one process.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor

# Set by torchrun, Lightning, SLURM and Ray, in the order in which Lightning reads them.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def in_group() -> bool:
    """Return whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def num_processes() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if in_group() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if in_group() else 0


def is_main() -> bool:
    """Return whether this is the process that writes files and prints.

    Before the process group exists it is recognised by the variables of whatever started it.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    if os.environ.get("NODE_RANK", "0") != "0":
        return False
    known = (os.environ[name] for name in _RANKS if name in os.environ)
    return next(known, "0") == "0"


def part_of(num: int, rank: int, num_parts: int) -> slice:
    """Return part ``rank`` of ``num`` things in ``num_parts`` parts, whose sizes differ by at most
    one.

    Example:
        >>> [part_of(5, rank, 2) for rank in range(2)]
        [slice(0, 2, None), slice(2, 5, None)]
    """
    return slice(num * rank // num_parts, num * (rank + 1) // num_parts)


def own_part(num: int) -> slice:
    """Return this process's part of ``num`` things."""
    return part_of(num, rank(), num_processes())


def join_parts(own: Tensor, part: slice, num: int) -> Tensor:
    """Return the rows of all processes.

    Args:
        own: This process's rows, ``[part, *]``; no gradient flows into them.
        part: Their places; ``slice(None)`` where every process has all rows.
        num: Number of rows of all processes.

    Returns:
        ``[num, *]``, the same in every process.
    """
    if part == slice(None):
        return own.detach()
    whole = own.detach().new_zeros(num, *own.shape[1:])
    whole[part] = own.detach()
    return sum_over_processes(whole)


def join_columns(own: Tensor) -> Tensor:
    """Return the columns ``[B, k]`` of all processes side by side, in their order: ``[B, n * k]``.

    Example:
        >>> join_columns(torch.ones(1, 2))  # one process
        tensor([[1., 1.]])
    """
    if not in_group():
        return own
    columns = [torch.empty_like(own) for _ in range(num_processes())]
    dist.all_gather(columns, own.contiguous())
    return torch.cat(columns, dim=1)


def sum_over_processes(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, in place and without gradient."""
    if in_group():
        dist.all_reduce(value)
    return value


def largest_over_processes(value: int, device: torch.device) -> int:
    """Return the largest of the processes' values, which ``device`` exchanges."""
    if not in_group():
        return value
    largest = torch.tensor(value, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)
