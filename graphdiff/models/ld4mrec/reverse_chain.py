"""The reverse chain of LD4MRec, on rows in encoded form."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.rows import Rows
from graphdiff.models.ld4mrec.item_tables import ItemTables
from graphdiff.models.ld4mrec.objective import SoftReconstruction
from graphdiff.models.ld4mrec.row_diffusion import noise_scale, with_inserted
from graphdiff.models.ld4mrec.row_encoding import ROW_EXPONENT, encode_scaled_rows
from graphdiff.nn.heads import head_blocks
from graphdiff.nn.processes import EncodedRows, Process
from graphdiff.nn.reconstruction import sum_rows

#: ω: weight of predicted entries. With 1, the many small ones of a whole catalogue add up to its
#: popular direction, which every pass amplifies; see the lab notes.
PREDICTED = 0.1


class ExpectedRows:
    r"""Predicted rows, encoded without making them.

    The network predicts what is missing from a row, so the complete row is the observed one and,
    outside it, the expected one: entry i is

    .. math::
        1 \;\text{for}\; i \in N_u, \qquad
        p_{ui} = \omega \alpha_0 \Big(\frac{a}{H} \mathbf{h}_u \cdot \mathbf{z}_i + \beta_i\Big)
        \;\text{otherwise},

    divided by :math:`(|N_u| + \sum_i p_{ui})^\nu`, as an observed row of so many items is. The
    bracket is the reconstruction's mean over heads. Its training weights an unobserved entry by
    :math:`\alpha_0`, which inflates small probabilities by :math:`1 / \alpha_0`. Predictions for
    items of the row are not used: training excludes what the encoder sees. All of this is ours.

    Decoder and encoder meet in a matrix ``[d, d]``, so the cost does not depend on the number of
    items.

    Args:
        reconstruction: From hidden states to rows.
        encoder: Z, ``[I, d]``.
        smoothing: SZ - Z, ``[I, d]``, where the process smooths; otherwise None.
        rows: Observed rows.
        num_heads: H.
    """

    def __init__(
        self,
        reconstruction: SoftReconstruction,
        encoder: Tensor,
        smoothing: Tensor | None,
        rows: Rows,
        num_heads: int,
    ) -> None:
        config = reconstruction.config
        # Without a reconstruction loss nothing is known of the missing items.
        weight = PREDICTED * config.unobserved_weight if config.reconstruction else 0.0
        table = encoder if smoothing is None else torch.cat([encoder, smoothing], dim=1)
        bias = reconstruction.bias
        self.rows, self.smooths, gram = rows, smoothing is not None, encoder.t() @ table
        self.scale = weight * reconstruction.scale / num_heads
        self.decode_encode, self.offset = self.scale * gram, weight * bias @ table
        self.sum, self.bias_sum = self.scale * encoder.sum(dim=0), weight * bias.sum()
        self.known, self.known_bias = table[rows.item], weight * bias[rows.item]
        self.count = rows.degree().to(encoder.dtype)
        self.gram = head_blocks(gram[:, : encoder.size(1)], num_heads)
        self.noise_scale = noise_scale(self.count, encoder.size(0))

    def __call__(self, hidden: Tensor) -> EncodedRows:
        """Return the expected rows of C-Net's outputs, ``[B, d]``."""
        row, num, d = self.rows.row, self.rows.num, hidden.size(1)
        inner = (hidden[row] * self.known[:, :d]).sum(dim=1)
        predicted = self.scale * inner + self.known_bias
        known = sum_rows((1 - predicted).unsqueeze(1) * self.known, row, num)
        expected = hidden @ self.sum + self.bias_sum - sum_rows(predicted[:, None], row, num)[:, 0]
        count = (self.count + expected.clamp(min=0)).clamp(min=1)
        encoded = hidden @ self.decode_encode + self.offset + known
        encoded = encoded / count.pow(ROW_EXPONENT).unsqueeze(1)
        values = encoded[:, :d]
        smoothed = values + encoded[:, d:] if self.smooths else None
        return EncodedRows(values, smoothed, self.gram, self.noise_scale)


def reverse_chain(
    process: Process,
    reconstruction: SoftReconstruction,
    tables: ItemTables,
    smoothing: Tensor | None,
    encoded: Tensor,
    rows: Rows,
    num_steps: int,
) -> Tensor:
    """Return C-Net's output ``[B, d]`` at the end of the reverse chain.

    The rows are corrupted to step T. The network is evaluated at ``num_steps`` steps at equal
    distances, from T to 1, and predicts the complete row at each; between two of them the chain
    walks back towards that prediction step by step. The output of the last evaluation, at step 1,
    makes the scores; of one evaluation alone, that at step T. All random numbers have a fixed seed,
    so that equal requests have equal answers.

    Args:
        process: Called as :class:`~graphdiff.nn.RowProcess` is.
        reconstruction: From hidden states to rows.
        tables: Item tables.
        smoothing: SZ - Z, ``[I, d]``, where the process smooths; otherwise None.
        encoded: Scaled rows times ``tables.row_encoder``, ``[B, (2 + M) * d + K]``.
        rows: The rows.
        num_steps: Evaluations of the network, 1 … T.

    Raises:
        ConfigError: If ``num_steps`` is out of range.
    """
    if not 1 <= num_steps <= process.num_steps:
        raise ConfigError(
            f"num_steps={num_steps}, but the model diffuses in {process.num_steps} steps; "
            f"give 1 to {process.num_steps}, or 0 for one pass on the observed row"
        )
    inference, behaviour = tables.inference, tables.split(encoded)[0]
    start, collaborative, preference = inference.signals(encoded)
    gate_residual, num_heads = start - behaviour, inference.heads.num_heads
    complete = ExpectedRows(reconstruction, tables.encoder, smoothing, rows, num_heads)
    x_t = corrupted_rows(process, tables.encoder, smoothing, rows, complete.gram)
    evaluated = torch.linspace(process.num_steps, 1, num_steps).round().int().tolist()
    for step, following in zip(evaluated, [*evaluated[1:], evaluated[-1]], strict=True):
        hidden = inference.cnet(x_t + gate_residual, step, collaborative, preference)
        x_0 = complete(hidden) if step > following else None
        for now in range(step, following, -1):
            assert x_0 is not None
            t = torch.full((rows.num,), now, device=x_t.device)
            x_t = process.step(x_0, x_t, t)
    return hidden


def corrupted_rows(
    process: Process, encoder: Tensor, smoothing: Tensor | None, rows: Rows, gram: Tensor
) -> Tensor:
    """Return x_T·Z of observed rows, ``[B, d]``; for the arguments see :class:`ExpectedRows`."""
    device, num_items = encoder.device, encoder.size(0)
    generator = torch.Generator(device).manual_seed(0)
    noise = torch.randn(rows.num, encoder.size(1), generator=generator, device=device)
    t = torch.full((rows.num,), process.num_steps, device=device)
    chance = torch.rand(rows.item.numel(), generator=generator, device=device)
    seen = rows.select(process.visible(chance, rows, t, 0.0).nonzero().flatten())
    items = torch.arange(num_items, device=device)
    diffused, _ = with_inserted(seen, process.inserted(rows, t, items, generator))
    values = encode_scaled_rows(encoder, diffused)
    smoothed = None if smoothing is None else values + encode_scaled_rows(smoothing, diffused)
    scale = noise_scale(diffused.degree().to(encoder.dtype), num_items)
    state = EncodedRows(values, smoothed, gram, scale)
    return process.corrupt(state, t, noise.to(encoder.dtype))
