"""Decomposition of one LD4MRec score into parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.explanation import REMAINDER, Contribution, Explanation
from graphdiff.models.ld4mrec.item_embedding import ItemEmbedding
from graphdiff.models.ld4mrec.item_messages import ItemMessages
from graphdiff.models.ld4mrec.item_tables import ItemTables
from graphdiff.models.ld4mrec.row_encoding import encode_entries, row_scale
from graphdiff.models.links import item_links
from graphdiff.nn.heads import CosineHeads, InnerProductHeads, split_heads

if TYPE_CHECKING:
    from graphdiff.models.ld4mrec.model import LD4MRec


def explain_score(model: LD4MRec, item: Tensor, rows: Rows, num_items: int) -> Explanation:
    """Split the score of one item for one row into parts; see ``LD4MRec.explain``.

    Args:
        model: The model.
        item: Index of the item, long ``[1]``.
        rows: One row.
        num_items: Largest number of items of the history to name.

    Raises:
        ConfigError: If there is not exactly one item and one row.
    """
    if item.numel() != 1 or rows.num != 1:
        raise ConfigError(
            f"explain takes one item and one user; {item.numel()} and {rows.num} were given"
        )
    with model.evaluation_mode():
        tables, shares = model.cached_tables(), model.shares()
        assert isinstance(tables, ItemTables)
        columns = tables.row_encoder[rows.item]
        weight = model.recency(rows)
        weight = columns.new_ones(len(columns)) if weight is None else weight.to(columns.dtype)
        encoder, counted, _ = tables.split(weight.unsqueeze(1) * columns)
        signals, behaviour = model.signals(counted, rows), encode_entries(encoder, rows)
        hidden = model.hidden(behaviour, rows.item.new_zeros(1), signals)
    parts = shares, model.items, model.messages, model.graph
    summands = history_summands(rows, tables.split(columns)[1], signals.gate[0], *parts)
    network = hidden - behaviour - signals.gate_residual
    gate = dict(zip(model.graph.modalities, signals.gate[0].tolist(), strict=True))
    heads, _ = model.scoring()
    given = rows, weight, summands, hidden, network, gate, heads, tables, num_items, model.graph
    return decompose(int(item), *given)


def history_summands(
    rows: Rows,
    signal_tables: Tensor,
    gate: Tensor,
    shares: Tensor,
    items: ItemEmbedding,
    messages: ItemMessages,
    graph: RecGraph,
) -> dict[str, Tensor]:
    """Return the contributions of the items of one row to C-Net's input, ``[nnz, d]`` for each
    part; their sum, scaled as the row is, is that input.

    Args:
        rows: One row.
        signal_tables: C and the M_m of its items, ``[nnz, (1 + M) * d]``.
        gate: The user's weights of the modalities, ``[M]``.
        shares: Global weights, ``[M]``.
        items: Item embeddings.
        messages: Message passing.
        graph: The graph of both.
    """
    channels = items.weight.size(1)
    collaborative, *content = signal_tables.split(channels, dim=1)
    summands = items.summands(graph, rows.item)
    if messages.singular is None:
        # A table is the mean of E and of its propagation along each number of edges.
        num_terms = messages.collaborative.num_layers + 1
        summands = {name: part / num_terms for name, part in summands.items()}
        summands["collaborative"] = collaborative - sum(summands.values())
    weight = messages.modality_weights(graph, shares, rows.item) + gate - shares
    for m, name in enumerate(graph.modalities):
        summands[f"preference_{name}"] = content[m] * weight[:, m : m + 1]
    return summands


def decompose(
    item: int,
    rows: Rows,
    weight: Tensor,
    summands: dict[str, Tensor],
    hidden: Tensor,
    network: Tensor,
    gate: dict[str, float],
    heads: CosineHeads | InnerProductHeads,
    tables: ItemTables,
    num_items: int,
    graph: RecGraph,
) -> Explanation:
    """Split the score of one item for one row into parts.

    Args:
        item: Index of the item.
        rows: One row.
        weight: The weights of its items, ``[nnz]``.
        summands: From :func:`history_summands`.
        hidden: C-Net's output, ``[1, d]``.
        network: C-Net's output less its input, ``[1, d]``.
        gate: The user's weight of each modality.
        heads: The head queries.
        tables: Item tables.
        num_items: Largest number of items of the history to name.
        graph: The graph, for the connections of these items.
    """
    # s = h · direction + b, with the lengths of h's heads taken as constant.
    num_heads = heads.num_heads
    query, split_hidden = split_heads(heads(hidden), num_heads), split_heads(hidden, num_heads)
    # A head without signal is zero, and contributes zero.
    scale = (query * split_hidden).sum(dim=-1) / split_hidden.square().sum(dim=-1).clamp(min=1e-12)
    own_item, linear_item = tables.item[item].tensor_split([tables.channels])
    direction = (scale * split_heads(own_item, num_heads)).flatten()
    value = weight * row_scale(rows, hidden.dtype)
    each = {name: value * (part @ direction) for name, part in summands.items()}
    score = hidden @ direction
    linear_query, linear_bias = tables.inference.linear, 0.0
    if linear_query is not None:
        columns = weight.unsqueeze(1) * tables.split(tables.row_encoder[rows.item])[2]
        each["linear"], linear_bias = linear_query.decompose(columns, linear_item)
        score = score + each["linear"].sum()
    assert tables.bias is not None
    bias = tables.bias[item].item() + linear_bias
    remainder = {"cnet": (network @ direction).item(), "bias": bias}
    parts = {name: part.sum().item() for name, part in each.items()}
    history, unnamed = _contributions(rows.item, each, num_items)
    return Explanation(
        item=item,
        score=score.item() + remainder["bias"],
        parts={**parts, REMAINDER: sum(remainder.values())},
        remainder=remainder,
        gate=gate,
        history=history,
        unnamed=unnamed,
        links=item_links(graph, item, [one.item for one in history]),
    )


def _contributions(
    items: Tensor, each: dict[str, Tensor], num_items: int
) -> tuple[list[Contribution], float]:
    """Return the largest contributions of items, and the sum of the others."""
    by_part = torch.stack(list(each.values()), dim=1)
    by_item = by_part.sum(dim=1)
    order = by_item.argsort(descending=True)
    named, unnamed = order[:num_items], order[num_items:]
    history = [
        Contribution(index, value, dict(zip(each, row, strict=True)))
        for index, value, row in zip(
            items[named].tolist(), by_item[named].tolist(), by_part[named].tolist(), strict=True
        )
    ]
    return history, by_item[unnamed].sum().item()
