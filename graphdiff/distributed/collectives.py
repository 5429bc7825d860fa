"""Exchanges with gradients between processes that hold parts of the items.

All processes compute the same values from the same inputs, except in between, where each works on
its own items. A value enters that part of the computation by :func:`spread`, and what the processes
computed leaves it by :func:`sum_parts`. The gradients of what is computed by all are then equal in
all processes, and those of what each holds are complete. These are the conjugate operators f and g
of Megatron-LM (Shoeybi et al., arXiv 1909.08053, section 3).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from graphdiff.distributed.processes import in_group, num_processes, part_of, rank


def spread(value: Tensor) -> Tensor:
    """Return a value that is equal in all processes, to compute with the own items. Its gradient is
    the sum of the processes' gradients.

    Example:
        >>> import torch
        >>> spread(torch.ones(2))  # one process
        tensor([1., 1.])
    """
    return _Spread.apply(value)


def sum_parts(*values: Tensor) -> list[Tensor]:
    """Return the sums of tensors over the processes, in one exchange. Their gradients pass
    unchanged.

    Args:
        *values: Of one dtype and any shapes.

    Example:
        >>> import torch
        >>> sum_parts(torch.ones(2), torch.zeros(1, 1))  # one process
        [tensor([1., 1.]), tensor([[0.]])]
    """
    whole = _Sum.apply(torch.cat([value.reshape(-1) for value in values]))
    parts = whole.split([value.numel() for value in values])
    return [part.view(value.shape) for part, value in zip(parts, values, strict=True)]


def log_sum_parts(value: Tensor) -> Tensor:
    r"""Return :math:`\log \sum_r e^{x_r}` over the processes r; -inf for a process without items.

    Example:
        >>> import torch
        >>> log_sum_parts(torch.zeros(2))  # one process
        tensor([0., 0.])
    """
    top = value.detach().clone()
    if in_group():
        dist.all_reduce(top, dist.ReduceOp.MAX)
    (total,) = sum_parts((value - top).exp())
    return top + total.log()


def gather_parts(own: Tensor, num: int) -> Tensor | None:
    """Return the rows of all processes in the main one, on the CPU; None in the others.

    Args:
        own: The rows of this process's part of ``num``, by
            :func:`~graphdiff.distributed.processes.part_of`.
        num: Number of rows of all processes.
    """
    own = own.detach().contiguous()
    if own.dtype == torch.bool:  # which not every backend sends
        whole = gather_parts(own.byte(), num)
        return None if whole is None else whole.bool()
    if rank() > 0:
        dist.send(own, 0)
        return None
    whole = torch.empty(num, *own.shape[1:], dtype=own.dtype)
    for source in range(num_processes()):
        part = part_of(num, source, num_processes())
        if source > 0:
            own = own.new_empty(part.stop - part.start, *own.shape[1:])
            dist.recv(own, source)
        whole[part] = own.cpu()
    return whole


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        if in_group():
            dist.all_reduce(grad)
        return grad


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        whole = value.clone()
        if in_group():
            dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]
