"""Diffusion of rows in encoded form."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.models.ld4mrec.config import LD4MRecConfig
from graphdiff.models.ld4mrec.draws import Draw, training_process
from graphdiff.models.ld4mrec.item_messages import Propagated
from graphdiff.models.ld4mrec.row_encoding import Entries, scaled_entries
from graphdiff.nn.pairs import Pairs, sum_pairs
from graphdiff.nn.processes import EncodedRows, Process
from graphdiff.nn.reconstruction import ItemTableSums


def diffuse(
    process: Process,
    config: LD4MRecConfig,
    sums: ItemTableSums,
    propagated: Propagated,
    pairs: Pairs,
    items: Tensor | None,
    entries: Entries,
    inserted: Rows,
    draw: Draw,
) -> Tensor:
    """Return x_t·Z of training rows, ``[B, d]``.

    Args:
        process: Called as :class:`~graphdiff.nn.RowProcess` is.
        config: Whether there is diffusion, and of which part of the rows.
        sums: Sums over Z, and its rows ``[J, d]`` of different items.
        propagated: Item tables.
        pairs: The items of the rows among these J, nnz pairs.
        items: The J items, long, ascending; None for all.
        entries: The entries of the visible rows.
        inserted: What the process inserts, with places among the J items.
        draw: The random values of the step.
    """
    num_items = propagated.table.size(0)
    if config.diffusion.whole_row or inserted.item.numel():
        pairs, entries = _all_entries(config, pairs, inserted, draw, entries.value.dtype)
    values, smoothing = sum_pairs(sums.rows, pairs, entries.value), propagated.smoothing
    smoothed = None
    if smoothing is not None:
        larger = pairs.within(items, num_items)
        smoothed = values + sum_pairs(smoothing, larger, entries.value)
    scale = noise_scale(entries.seen, num_items)
    process, noise = training_process(config, process), draw.noise.to(values.dtype)
    return process.corrupt(EncodedRows(values, smoothed, sums.gram, scale), draw.t, noise)


def _all_entries(
    config: LD4MRecConfig, pairs: Pairs, inserted: Rows, draw: Draw, dtype: torch.dtype
) -> tuple[Pairs, Entries]:
    """Return the diffused rows with hidden items, where they are diffused, and inserted ones."""
    seen = draw.visible | config.diffusion.whole_row
    rows, order = with_inserted(Rows(pairs.row, pairs.place, pairs.num_rows), inserted)
    seen = torch.cat([seen, torch.ones_like(inserted.row, dtype=torch.bool)])[order]
    pairs = Pairs(rows.row, rows.item, pairs.num_rows, pairs.num_places)
    return pairs, scaled_entries(seen.to(dtype), rows.row, rows.num)


def with_inserted(rows: Rows, inserted: Rows) -> tuple[Rows, Tensor]:
    """Return rows with the items of as many other rows inserted, which they do not contain, and the
    position of each entry among those of ``rows`` followed by those of ``inserted``, long
    ``[nnz + n]``."""
    row, order = torch.cat([rows.row, inserted.row]).sort(stable=True)
    return Rows(row, torch.cat([rows.item, inserted.item])[order], rows.num), order


def noise_scale(count: Tensor, num_items: int) -> Tensor:
    """Return the standard deviation of white noise with the energy of scaled rows, ``[B]``.

    Args:
        count: Number of items of each row, in the dtype of the result, ``[B]``.
        num_items: I.
    """
    # A row of |N| entries 1/√|N| has length 1, and an empty one 0.
    return count.clamp(max=num_items**-0.5)
