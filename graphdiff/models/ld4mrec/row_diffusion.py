"""Diffusion of rows in encoded form."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.models.ld4mrec.config import LD4MRecConfig
from graphdiff.models.ld4mrec.draws import Draw, training_process
from graphdiff.models.ld4mrec.item_messages import Propagated
from graphdiff.models.ld4mrec.row_encoding import Entries, row_scale, scaled_entries
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
    # Rows that are not empty have length 1; see noise_scale.
    scale = entries.seen.clamp(max=num_items**-0.5)
    process, noise = training_process(config, process), draw.noise.to(values.dtype)
    return process.corrupt(EncodedRows(values, smoothed, sums.gram, scale), draw.t, noise)


def _all_entries(
    config: LD4MRecConfig, pairs: Pairs, inserted: Rows, draw: Draw, dtype: torch.dtype
) -> tuple[Pairs, Entries]:
    """Return the diffused rows with hidden items, where they are diffused, and inserted ones."""
    seen = draw.visible | config.diffusion.whole_row
    row, order = torch.cat([pairs.row, inserted.row]).sort(stable=True)
    place = torch.cat([pairs.place, inserted.item])[order]
    seen = torch.cat([seen, torch.ones_like(inserted.row, dtype=torch.bool)])[order]
    pairs = Pairs(row, place, pairs.num_rows, pairs.num_places)
    return pairs, scaled_entries(seen.to(dtype), row, pairs.num_rows)


def with_inserted(rows: Rows, inserted: Rows) -> Rows:
    """Return rows with the items of as many other rows inserted, which they do not contain."""
    if not inserted.item.numel():
        return rows
    row, order = torch.cat([rows.row, inserted.row]).sort(stable=True)
    return Rows(row, torch.cat([rows.item, inserted.item])[order], rows.num)


def noise_scale(rows: Rows, num_items: int, dtype: torch.dtype) -> Tensor:
    """Return the standard deviation of white noise with the energy of scaled rows, ``[B]``."""
    # A row of |N| entries 1/√|N| has length 1.
    length = rows.degree().to(dtype).sqrt() * row_scale(rows, dtype)
    return length / num_items**0.5
