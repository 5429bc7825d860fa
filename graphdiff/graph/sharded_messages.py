"""Message passing over items that several processes hold in parts.

Each process holds the rows of its own items and the edges that lead to them. Nothing of the size of
the whole item table is ever held by one process.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from graphdiff.distributed.processes import in_group, num_processes, part_of, rank
from graphdiff.graph.propagation import FixedConv, FixedGraph

#: Largest number of values that one exchange of user vectors holds, 64 MiB in float32.
BLOCK_ENTRIES = 2**24


class RoundTrip:
    r"""The product :math:`\tilde{A}^\top \tilde{A} E` over the user-item graph.

    A process sends the messages of its items to all users; their sums over the processes come
    back to its items. Users are passed in blocks, whose sums are all that the processes exchange:
    U · d numbers per round trip.

    Args:
        user: User of each interaction of the own items, ascending, long ``[E]``.
        item: Own item of each, long ``[E]``, from 0.
        weight: ``[E]``.
        num_users: U.
        num_items: Number of own items.
        channels: Width of the table, which decides on the size of the blocks.
        degrees: Numbers of interactions of the own items, ``[I_r]``, and of the users, ``[U]``, of
            which weights are made that are applied to the vectors; None where ``weight`` is all.
    """

    def __init__(
        self,
        user: Tensor,
        item: Tensor,
        weight: Tensor,
        num_users: int,
        num_items: int,
        channels: int,
        degrees: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.degrees = degrees
        size = max(BLOCK_ENTRIES // channels, 1)
        starts = torch.arange(0, num_users, size, device=user.device)
        self.users = [slice(first, first + size) for first in starts.tolist()]
        bounds = [*torch.searchsorted(user, starts).tolist(), user.numel()]
        self.blocks = []
        for number, first in enumerate(starts.tolist()):
            edges = slice(bounds[number], bounds[number + 1])
            edge_index = torch.stack([item[edges], user[edges] - first])
            users = min(size, num_users - first)
            self.blocks.append(FixedGraph(edge_index, weight[edges], num_items, users))

    def __call__(self, table: Tensor) -> Tensor:
        """Return the product with the own rows of a table, ``[I_r, d]``."""
        return _RoundTrip.apply(self, table)

    def multiply(self, table: Tensor) -> Tensor:
        """Return the product without a gradient."""
        conv, out = FixedConv(), torch.zeros_like(table)
        if self.degrees is not None:
            item_degree, degree = (x.clamp(min=1).to(table.dtype) for x in self.degrees)
            root = item_degree.sqrt().unsqueeze(1)
            table = table / root
        for block, part in zip(self.blocks, self.users, strict=True):
            users = conv(table, block)
            if in_group():
                dist.all_reduce(users)
            if self.degrees is not None:
                users /= degree[part].unsqueeze(1)
            out += conv(users, block.reversed())
        return out if self.degrees is None else out.div_(root)


class _RoundTrip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, trip: RoundTrip, table: Tensor) -> Tensor:
        ctx.trip = trip
        return trip.multiply(table)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        # The matrix is symmetric.
        return None, ctx.trip.multiply(grads[0].contiguous())


class ItemHop:
    """One hop over an item-item graph.

    The processes send their rows of the table to the others in turn: I · d numbers per hop, of
    which a process holds one part at a time.

    Args:
        edge_index: Edges to the own items, long ``[2, E]``: sources among all items, targets from
            0.
        edge_weight: ``[E]``.
        num_items: Number of all items I.
    """

    def __init__(self, edge_index: Tensor, edge_weight: Tensor, num_items: int) -> None:
        source, target = edge_index
        self.parts = [part_of(num_items, r, num_processes()) for r in range(num_processes())]
        own = self.parts[rank()]
        self.blocks = []
        for part in self.parts:
            edges = ((source >= part.start) & (source < part.stop)).nonzero().flatten()
            index = torch.stack([source[edges] - part.start, target[edges]])
            sizes = part.stop - part.start, own.stop - own.start
            self.blocks.append(FixedGraph(index, edge_weight[edges], *sizes))

    def __call__(self, table: Tensor) -> Tensor:
        """Return the sums of the messages at the own items, for the own rows of a table,
        ``[I_r, d]``."""
        return _ItemHop.apply(self, table)


class _ItemHop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hop: ItemHop, table: Tensor) -> Tensor:
        ctx.hop = hop
        conv, out = FixedConv(), torch.zeros_like(table)
        for source, (block, part) in enumerate(zip(hop.blocks, hop.parts, strict=True)):
            own = source == rank()
            rows = (
                table.contiguous()
                if own
                else table.new_empty(part.stop - part.start, table.size(1))
            )
            if in_group():
                dist.broadcast(rows, source)
            out += conv(rows, block)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        conv, grad, own = FixedConv(), grads[0].contiguous(), None
        for source, block in enumerate(ctx.hop.blocks):
            rows = conv(grad, block.reversed())
            if in_group():
                dist.reduce(rows, source)
            if source == rank():
                own = rows
        assert own is not None
        return None, own
