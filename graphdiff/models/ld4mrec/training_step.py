"""The losses of a training step of LD4MRec, from its random values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.models.ld4mrec.draws import Draw
from graphdiff.models.ld4mrec.objective import item_popularity, training_loss
from graphdiff.models.ld4mrec.row_diffusion import diffuse
from graphdiff.models.ld4mrec.row_encoding import scaled_entries
from graphdiff.models.ld4mrec.row_signals import row_signals
from graphdiff.nn.pairs import Pairs, distinct, sum_pairs

if TYPE_CHECKING:
    from graphdiff.models.ld4mrec.model import LD4MRec


def row_losses(model: LD4MRec, rows: Rows, draw: Draw, withheld: Tensor | None) -> Tensor:
    """Return the loss of each row, ``[B]``.

    Args:
        model: The model.
        rows: The rows, with hidden items.
        draw: The random values of the step.
        withheld: Positions of interactions that are removed from message passing; see
            :meth:`ItemMessages.for_step`.
    """
    shares, inserted, dtype = model.shares(), draw.inserted, model.bias.dtype
    propagated = model.propagated(withheld, shares)
    requested = [rows.item, draw.negatives.item]
    # Joining an empty index takes many operators.
    requested += [inserted.item] if inserted.item.numel() else []
    items, place = distinct(torch.cat(requested), model.num_items)
    own, negative, *added = place.split([index.numel() for index in requested])
    num_places = model.num_items if items is None else items.numel()
    pairs = Pairs(rows.row, own, rows.num, num_places)
    popularity = model.graph.cached(item_popularity).to(dtype)
    residual = model.reconstruction.residual(popularity)
    sums = propagated.sums(residual, items, model.config.num_heads)
    entries = scaled_entries(draw.visible.to(dtype), rows.row, rows.num)
    everywhere = pairs.within(items, model.num_items)
    encoded = sum_pairs(propagated.signal_tables, everywhere, entries.value)
    signals = row_signals(encoded, model.gate, shares)
    inserted = Rows(inserted.row, added[0], rows.num) if added else inserted
    x_t = diffuse(
        model.process, model.config, sums, propagated, pairs, items, entries, inserted, draw
    )
    # Throughout: the gradient of x[index] is several times slower than index_select's.
    bias = model.bias if items is None else model.bias.index_select(0, items)
    return training_loss(
        model.reconstruction,
        model.heads,
        sums,
        residual,
        pairs,
        negative,
        model.hidden(x_t, draw.t, signals),
        bias,
        rows,
        draw,
        popularity,
    )
