"""LD4MRec's training step on dense rows, a direct transcription of the equations.

Network, tables and loss are the same, but tensors are ``[batch, items]``. The tests and the scaling
benchmark compare the exact sparse step with it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.models.ld4mrec.draws import Draw, training_process
from graphdiff.models.ld4mrec.heat import HeatProcess
from graphdiff.models.ld4mrec.model import LD4MRec
from graphdiff.models.ld4mrec.reverse_chain import PREDICTED
from graphdiff.models.ld4mrec.row_encoding import encode_scaled_rows
from graphdiff.models.ld4mrec.row_signals import row_signals


def dense_rows(rows: Rows, num_items: int, dtype: torch.dtype) -> Tensor:
    """Return rows of zeros and ones, ``[B, I]``."""
    dense = torch.zeros(rows.num, num_items, dtype=dtype, device=rows.item.device)
    dense[rows.row, rows.item] = 1
    return dense


def dense_losses(
    model: LD4MRec,
    rows: Rows,
    draw: Draw,
    withheld: Tensor | None = None,
    noise: torch.Generator | None = None,
) -> Tensor:
    """Return the loss of each row, ``[B]``; see :meth:`LD4MRec.row_losses`.

    Args:
        model: The model.
        rows: Rows of items.
        draw: The random values of the step; its noise, which is in d dimensions, is not used.
        withheld: Positions of interactions that are removed from message passing.
        noise: Generator of noise on the rows; without it there is none.
    """
    config, num_items, dtype = model.config.objective, model.num_items, model.bias.dtype
    propagated = model.propagated(withheld)
    table = propagated.table + (0 if propagated.shift is None else propagated.shift)
    everything = dense_rows(rows, num_items, dtype)
    shown = Rows(rows.row[draw.visible], rows.item[draw.visible], rows.num)
    seen = dense_rows(shown, num_items, dtype)
    scaled = seen * seen.sum(dim=1, keepdim=True).clamp(min=1).rsqrt()

    diffused = everything if model.config.diffusion.whole_row else seen
    diffused = diffused + dense_rows(draw.inserted, num_items, dtype)
    x_t = diffused * diffused.sum(dim=1, keepdim=True).clamp(min=1).rsqrt()
    behaviour = x_t @ table
    process = training_process(model.config, model.process)
    continuous = getattr(process, "continuous", process)
    if isinstance(continuous, HeatProcess):
        amount = continuous.strength * draw.t.to(dtype)[:, None] / continuous.num_steps
        behaviour = behaviour + amount * (x_t @ propagated.smoothing)
    if noise is not None:
        white = torch.randn(x_t.shape, generator=noise, device=x_t.device, dtype=dtype)
        sigma = x_t.norm(dim=1, keepdim=True) / num_items**0.5
        behaviour = model.schedule.add_noise(x_t, sigma * white, draw.t) @ table
    collaborative, *content = (scaled @ propagated.signal_tables).split(table.size(1), dim=1)
    preference = residual = torch.zeros_like(collaborative)
    if content:
        shares = model.shares()
        gate = model.gate(torch.stack(content, dim=1), shares)
        preference = torch.einsum("bm,mbd->bd", gate, torch.stack(content))
        residual = preference - torch.einsum("m,mbd->bd", shares, torch.stack(content))
    hidden = model.cnet(behaviour + residual, draw.t, collaborative, preference)

    softened = torch.zeros_like(everything)
    softened[rows.row, rows.item] = draw.softened.to(dtype)
    degree = model.graph.item_degree().to(dtype)
    prior = config.soft_probability * config.soft_intensity * degree / degree.max()
    target = torch.where(everything > 0, 1 - config.soft_intensity * softened, prior)
    observed = 1 + (config.visible_weight - 1) * seen
    weight = torch.where(everything > 0, observed, config.unobserved_weight)
    total = torch.zeros_like(model.bias[:1])
    for h, z in zip(
        *(x.chunk(model.config.num_heads, dim=1) for x in (hidden, table)), strict=True
    ):
        score = model.reconstruction.scale * h @ z.t() + model.reconstruction.bias
        error = (weight * (target - score).square()).sum(dim=1)
        length = (h.square().sum(dim=1, keepdim=True) + 0.05**2).sqrt()
        cosine = (h / length) @ F.normalize(z, dim=1).t()
        logit = cosine / model.heads.log_temperature.exp() + model.bias
        against = (logit[:, draw.negatives.item] - draw.negatives.log_chance).logsumexp(dim=1)
        surprise = ((against[:, None] - logit) * observed * everything).sum(dim=1)
        total = total + config.reconstruction * error + config.ranking * surprise
    return total / model.config.num_heads


def chain_on_rows(model: LD4MRec, rows: Rows, x_t: Tensor) -> Tensor:
    """Return vectors ``[B, d]`` of the reverse chain of T passes on dense rows.

    Args:
        model: The model.
        rows: Observed rows.
        x_t: Rows at step T, ``[B, I]``.
    """
    tables, observed = model.cached_tables(), dense_rows(rows, model.num_items, x_t.dtype)
    objective = model.config.objective
    encoded = tables.split(encode_scaled_rows(tables.row_encoder, rows))[1]
    signals = row_signals(encoded, model.gate, model.shares())
    for step in range(model.process.num_steps, 0, -1):
        t = torch.full((rows.num,), step, device=x_t.device)
        hidden = model.hidden(x_t @ tables.encoder, t, signals)
        # The heads' mean: their scores add up.
        score = hidden @ tables.encoder.t() * model.reconstruction.scale / model.config.num_heads
        predicted = PREDICTED * objective.unobserved_weight * (score + model.reconstruction.bias)
        missing = (predicted * (1 - observed)).sum(dim=1, keepdim=True).clamp(min=0)
        count = (observed.sum(dim=1, keepdim=True) + missing).clamp(min=1)
        x_0 = torch.where(observed > 0, 1, predicted) / count.sqrt()
        if step > 1:
            x_t = model.schedule.step(x_0, x_t, t)
    return model.scoring()[0](hidden)
