"""Gaussian diffusion of rows that are encoded already, and its reverse chain."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.rows import Rows
from graphdiff.models.ld4mrec.item_tables import ItemTables
from graphdiff.models.ld4mrec.objective import SoftReconstruction
from graphdiff.models.ld4mrec.row_encoding import row_scale
from graphdiff.nn.diffusion import Schedule
from graphdiff.nn.heads import head_blocks, join_heads, split_heads
from graphdiff.nn.reconstruction import noise_factor


def corrupt(
    schedule: Schedule,
    encoded: Tensor,
    gram: Tensor,
    rows: Rows,
    num_items: int,
    t: Tensor,
    noise: Tensor,
) -> Tensor:
    r"""Return x_t·Z of rows that are given as x̃·Z.

    Noise on a row, encoded, is Gaussian in d dimensions with covariance :math:`Z^\top Z`, so it is
    drawn there. Each head has its own noise.

    Args:
        schedule: Called as :class:`~graphdiff.nn.DiffusionSchedule` is.
        encoded: x̃·Z, ``[B, d]``.
        gram: :math:`Z^\top Z` of each head, ``[H, d / H, d / H]``.
        rows: The rows.
        num_items: I.
        t: Steps, long ``[B]``.
        noise: White noise, ``[B, d]``.
    """
    # A row of |N| entries 1/√|N| has length 1.
    length = rows.degree().to(noise.dtype).sqrt() * row_scale(rows, noise.dtype)
    sigma = (length / num_items**0.5).unsqueeze(-1)
    own_noise = join_heads(split_heads(noise, gram.size(0)) @ noise_factor(gram).mT)
    return schedule.add_noise(encoded, sigma * own_noise, t)


def reverse_chain(
    schedule: Schedule,
    reconstruction: SoftReconstruction,
    tables: ItemTables,
    encoded: Tensor,
    rows: Rows,
    num_steps: int,
) -> Tensor:
    """Return C-Net's output ``[B, d]`` at the end of the reverse chain.

    The rows are corrupted up to step ``num_steps``; the chain is walked back to step 1 with one
    pass for each step. The noise has a fixed seed, so that equal requests have equal answers.

    Args:
        schedule: Called as :class:`~graphdiff.nn.DiffusionSchedule` is.
        reconstruction: From hidden states to rows.
        tables: Item tables.
        encoded: Scaled rows times ``tables.row_encoder``, ``[B, (2 + M) * d + K]``.
        rows: The rows.
        num_steps: 1 … T.

    Raises:
        ConfigError: If there are no such steps.
    """
    if not 1 <= num_steps <= schedule.num_steps:
        raise ConfigError(
            f"num_steps={num_steps}, but the model diffuses in {schedule.num_steps} steps; "
            f"give 1 to {schedule.num_steps}, or 0 for one pass on the observed row"
        )
    inference, behaviour = tables.inference, tables.split(encoded)[0]
    start, collaborative, preference = inference.signals(encoded)
    gate_residual = start - behaviour
    encoder, num_heads = tables.encoder, inference.heads.num_heads
    gram = encoder.t() @ encoder
    generator = torch.Generator(encoded.device).manual_seed(0)
    noise = torch.randn(behaviour.shape, generator=generator, device=encoded.device)
    t = torch.full((rows.num,), num_steps, device=encoded.device)
    x_t = corrupt(
        schedule,
        behaviour,
        head_blocks(gram, num_heads),
        rows,
        encoder.size(0),
        t,
        noise.to(behaviour.dtype),
    )
    # A predicted row times Z, without making the row: decoder and encoder meet in a d x d matrix.
    # The row is the mean of the heads' predictions.
    decode_encode = reconstruction.scale / num_heads * gram
    offset = reconstruction.bias @ encoder
    value = row_scale(rows, encoded.dtype).unsqueeze(-1)
    for step in range(num_steps, 0, -1):
        t = torch.full_like(t, step)
        hidden = inference.cnet(x_t + gate_residual, step, collaborative, preference)
        x_t = schedule.step(value * (hidden @ decode_encode + offset), x_t, t)
    return hidden
