"""Diffusion of rows in encoded form."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.models.ld4mrec.config import LD4MRecConfig
from graphdiff.models.ld4mrec.draws import Draw, training_process
from graphdiff.models.ld4mrec.item_messages import Propagated
from graphdiff.models.ld4mrec.row_encoding import encode_tables, row_scale
from graphdiff.nn.processes import EncodedRows, Process
from graphdiff.nn.reconstruction import ItemTableSums


def diffuse(
    process: Process,
    config: LD4MRecConfig,
    sums: ItemTableSums,
    propagated: Propagated,
    rows: Rows,
    place: Tensor,
    draw: Draw,
) -> Tensor:
    """Return x_t·Z of training rows, ``[B, d]``.

    Args:
        process: Called as :class:`~graphdiff.nn.RowProcess` is.
        config: Whether there is diffusion, and of which part of the rows.
        sums: Sums over Z, and its rows ``[J, d]`` of different items.
        propagated: Item tables.
        rows: The rows with all their items.
        place: Among the J items, those of ``rows``, the negatives and the inserted items, long
            ``[nnz + n + a]``.
        draw: The random values of the step.
    """
    seen = (draw.visible | config.diffusion.whole_row).nonzero().flatten()
    diffused = with_inserted(rows.select(seen), draw.inserted)
    added = place[place.numel() - draw.inserted.item.numel() :]
    places = Rows(draw.inserted.row, added, rows.num)
    places = with_inserted(Rows(rows.row[seen], place[seen], rows.num), places)
    values, smoothing = encode_tables([sums.rows], places), propagated.smoothing
    smoothed = None if smoothing is None else values + encode_tables([smoothing], diffused)
    scale = noise_scale(diffused, propagated.table.size(0), values.dtype)
    process, noise = training_process(config, process), draw.noise.to(values.dtype)
    return process.corrupt(EncodedRows(values, smoothed, sums.gram, scale), draw.t, noise)


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
