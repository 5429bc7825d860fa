"""Changes of a trained LD4MRec's graph: its tables of items follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphdiff.graph.store import RecGraph

if TYPE_CHECKING:
    from graphdiff.models.ld4mrec.model import LD4MRec

#: Parameters with one row for each item.
ITEM_PARAMETERS = (
    "items.weight",
    "bias",
    "reconstruction.bias",
    "linear.items.weight",
    "linear.bias",
)


@torch.no_grad()
def adopt(model: LD4MRec, graph: RecGraph, kept: Tensor | None = None) -> None:
    """Give a model another graph.

    The embedding of a new item is zero, so that it is known by its features and neighbours alone
    until it is trained. Its biases are the mean of those of items without interactions, or of all
    items.

    Args:
        model: The model; modified.
        graph: Its first items are those of ``kept``; further ones are new.
        kept: Items of the present graph that stay, bool ``[I]``; all by default.
    """
    untouched = model.graph.item_degree() == 0
    like = untouched if untouched.any() else ~untouched
    num = graph.num_items - (model.num_items if kept is None else int(kept.sum()))
    if num:
        model.cold_items.prepare(model)
    model.bias = changed(model.bias, kept, num, like)
    model.reconstruction.bias = changed(model.reconstruction.bias, kept, num, like)
    if kept is not None:
        model.items.keep(kept)
    model.items.grow(graph)
    if model.linear is not None:
        model.linear.change(graph, kept, num, like)
    model.messages.change(graph, kept, num)
    model.graph = graph
    model.invalidate_tables()


def changed(
    parameter: torch.nn.Parameter, kept: Tensor | None, num: int, like: Tensor
) -> torch.nn.Parameter:
    """Return a parameter ``[I]`` reduced to the entries ``kept``, bool ``[I]``, with ``num``
    entries appended, the mean of the entries ``like``, bool ``[I]``."""
    new = parameter.new_zeros(num) + parameter[like].mean()
    return torch.nn.Parameter(torch.cat([parameter if kept is None else parameter[kept], new]))
