"""GenRec's diffusion of interaction rows by flips, and its denoiser."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.nn.denoiser import timestep_embedding
from graphdiff.nn.dropout import dropout
from graphdiff.nn.losses import info_nce_loss
from graphdiff.nn.pairs import Pairs, sum_pairs
from graphdiff.nn.reconstruction import sum_items

#: As in the authors' code: exponent and share of ones of the focal loss, temperature of the
#: contrast of rows, width of the time embedding, dropout of the denoiser.
FOCUS, ONES_SHARE, TEMPERATURE, TIME_CHANNELS, DROPOUT = 2.0, 0.25, 0.2, 10, 0.2


class FlipDiffusion(torch.nn.Module):
    r"""Flips of the entries of binary rows, and a network that predicts the clean row.

    Step t flips zeros with probability :math:`\gamma_t` and ones with :math:`\epsilon_t`
    (:func:`flip_rates`). From a row at step t, with a linear map :math:`\mathbf{s}` of the
    sinusoidal embedding of :math:`t - 1`, the network computes logits

    .. math::
        \mathbf{h}_0 = (Z^\top \mathbf{x}_t + W\mathbf{s} + \mathbf{b}) \odot
        (1 + \mathbf{a}(\mathbf{s})) + \mathbf{d}(\mathbf{s}), \qquad
        \mathbf{y} = V\, \mathrm{GELU}(\mathrm{LN}(W' \mathbf{h}_K + \mathbf{b}')) + \mathbf{v},

    with K residual blocks (:class:`Block`) between. Source: GenRec-V1; for differences see
    :class:`~graphdiff.models.genrec.model.GenRec`.

    Args:
        num_items: Number of items I.
        density: Share of ones in all rows, between 0 and 1.
        num_steps: T.
        channels: Width of the network.
        num_blocks: K.
    """

    rates: Tensor

    def __init__(
        self, num_items: int, density: float, num_steps: int, channels: int, num_blocks: int
    ) -> None:
        super().__init__()
        self.num_steps, self.zeros_per_one = num_steps, (1 - density) / density
        self.register_buffer("rates", flip_rates(density, num_steps), persistent=False)
        self.encoder = torch.nn.Parameter(torch.empty(num_items, channels))
        self.time = torch.nn.Linear(TIME_CHANNELS, TIME_CHANNELS)
        self.time_encoder = torch.nn.Linear(TIME_CHANNELS, channels)
        self.modulate = torch.nn.Linear(TIME_CHANNELS, 2 * channels)
        self.blocks = torch.nn.ModuleList(Block(channels) for _ in range(num_blocks))
        self.narrow = torch.nn.Linear(channels, max(1, channels // 2))
        self.norm = torch.nn.LayerNorm(self.narrow.out_features)
        self.decoder = torch.nn.Linear(self.narrow.out_features, num_items)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset all weights (Xavier uniform)."""
        torch.nn.init.xavier_uniform_(self.encoder)
        for module in self.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(module.weight)
                torch.nn.init.zeros_(module.bias)
            elif isinstance(module, torch.nn.LayerNorm):
                module.reset_parameters()

    def forward(self, x_t: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return logits of the clean rows.

        Args:
            x_t: Bool ``[B, I]``.
            t: Steps, long ``[B]``, 1 … T.
            generator: Source of dropout in training; without it nothing is dropped.

        Returns:
            ``[B, I]``.
        """
        signal = self.time(timestep_embedding(t - 1, TIME_CHANNELS).to(self.encoder.dtype))
        shift, scale = self.modulate(F.silu(signal)).chunk(2, dim=1)
        row, item = x_t.nonzero(as_tuple=True)
        hidden = sum_pairs(self.encoder, Pairs(row, item, *x_t.shape)) + self.time_encoder(signal)
        hidden = hidden * (1 + scale) + shift
        for block in self.blocks:
            hidden = block(hidden, generator)
        return self.decoder(F.gelu(self.norm(self.narrow(hidden))))

    def flip(self, x: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        r"""Sample rows at some steps, ones with probability :math:`q_t(x) = x (1 -
        \bar\epsilon_t) + (1 - x) \bar\gamma_t`.

        Args:
            x: Clean rows, zeros and ones or probabilities, ``[B, I]``.
            t: Steps, long ``[B]``, 0 … T; :math:`q_0(x) = x`.
            generator: Source of randomness.

        Returns:
            Bool ``[B, I]``.
        """
        insert, remove = self.rates[:, t].unsqueeze(-1)
        chance = torch.rand(x.shape, generator=generator, device=x.device)
        return chance < x * (1 - remove) + (1 - x) * insert

    def loss(
        self, rows: Rows, content: list[Tensor], contrastive: float, generator: torch.Generator
    ) -> Tensor:
        """Return the focal loss plus the contrasts of observed and predicted rows.

        Args:
            rows: Clean rows of B users.
            content: Embeddings of all items, a table ``[I, d]`` for each contrast.
            contrastive: Weight of each contrast.
            generator: Source of randomness.
        """
        x_0 = rows.dense(self.encoder.size(0)).to(self.encoder.dtype)
        high = self.num_steps + 1
        t = torch.randint(1, high, (rows.num,), generator=generator, device=x_0.device)
        logit = self(self.flip(x_0, t, generator), t, generator)
        loss = focal_loss(logit, x_0, self.zeros_per_one)
        predicted = calibrated(logit, self.zeros_per_one)
        for table in content:
            observed = sum_items(table, rows)
            loss = loss + contrastive * info_nce_loss(observed, predicted @ table, TEMPERATURE)
        return loss

    @torch.no_grad()
    def generate(
        self, rows: Rows, num_replaced: int, num: int, generator: torch.Generator
    ) -> Tensor:
        """Run the reverse chain and select items.

        Args:
            rows: Observed rows of B users, from which the chain starts, flipped to step T.
            num_replaced: Entries, the most probable ones, where the chain's last sample replaces
                the observed row.
            num: Number k of items to select among the ones of the result, most probable first.
            generator: Source of randomness.

        Returns:
            Long ``[B, k]``; -1 where there are fewer ones.
        """
        x_0 = rows.dense(self.encoder.size(0)).to(self.encoder.dtype)
        t = torch.full((rows.num,), self.num_steps, device=x_0.device)
        predicted, x_t = x_0, self.flip(x_0, t, generator)
        for _ in range(self.num_steps):
            predicted = calibrated(self(x_t, t), self.zeros_per_one)
            t = t - 1
            x_t = self.flip(predicted, t, generator)
        place = predicted.topk(min(num_replaced, x_0.size(1))).indices
        ones = x_0.bool().scatter(1, place, x_t.gather(1, place))
        score, item = torch.where(ones, predicted, -1).topk(num)
        return torch.where(score >= 0, item, -1)


class Block(torch.nn.Module):
    r"""A residual block, :math:`\mathbf{h}' = \mathrm{LN}(\mathbf{h} + W\mathbf{h} + \mathbf{b})`
    and :math:`\mathrm{LN}(\mathbf{h}' + W_2\, \mathrm{ReLU}(W_1 \mathbf{h}' + \mathbf{b}_1) +
    \mathbf{b}_2)`.

    This is what a transformer layer computes on one token with a memory of zeros, as in the
    authors' code: attention of a token to itself is a linear map. That to the memory is a constant
    and left out.

    Args:
        channels: Width.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix, self.inner, self.outer = (torch.nn.Linear(channels, channels) for _ in range(3))
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(channels) for _ in range(2))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map ``[B, channels]`` to the same shape, with dropout where there is a generator."""
        x = self.norms[0](x + _dropped(self.mix(x), generator))
        hidden = _dropped(F.relu(self.inner(x)), generator)
        return self.norms[1](x + _dropped(self.outer(hidden), generator))


def _dropped(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return x if generator is None else dropout(x, DROPOUT, generator)


def flip_rates(density: float, num_steps: int) -> Tensor:
    r"""Return the probabilities that an entry is flipped by step t, :math:`\bar\gamma_t = 1 -
    \prod_{s \le t} (1 - \gamma_s)` of zeros and :math:`\bar\epsilon_t` of ones.

    As in the authors' code :math:`\gamma` and :math:`\epsilon` fall linearly to a tenth, from
    :math:`0.1\rho + 0.001` and :math:`0.005(1 - \rho) + 0.0001` for a share ρ of ones.

    Returns:
        Float32 ``[2, T + 1]``, for t from 0.

    Example:
        >>> flip_rates(density=0.1, num_steps=2)
        tensor([[0.0000, 0.0110, 0.0121],
                [0.0000, 0.0046, 0.0051]])
    """
    start = torch.tensor([0.1 * density + 0.001, 0.005 * (1 - density) + 0.0001])
    kept = 1 - start.double().unsqueeze(1) * torch.linspace(1, 0.1, num_steps).double()
    return F.pad(1 - kept.cumprod(dim=1), (1, 0)).float()


def focal_loss(logit: Tensor, target: Tensor, zeros_per_one: float) -> Tensor:
    r"""Compute the mean over all entries of a focal loss in which the ones as a whole weigh α, the
    zeros 1 - α: with r zeros per one and :math:`p = \sigma(y)`,

    .. math::
        -\alpha r\, x (1 - p)^\gamma \ln p - (1 - \alpha)(1 - x)\, p^\gamma \ln (1 - p).

    Args:
        logit: y, ``[B, I]``.
        target: x, zeros and ones, ``[B, I]``.
        zeros_per_one: r.

    Source: Lin et al., "Focal Loss for Dense Object Detection", arXiv 1708.02002.
    """
    # The probability and the loss of the wrong answer depend on the logit times ±1.
    wrong = torch.where(target > 0, -logit, logit)
    weight = torch.where(target > 0, ONES_SHARE * zeros_per_one, 1 - ONES_SHARE)
    return (weight * wrong.sigmoid() ** FOCUS * F.softplus(wrong)).mean()


def calibrated(logit: Tensor, zeros_per_one: float) -> Tensor:
    r"""Return the probability of a one for which a logit minimises :func:`focal_loss`.

    The loss is not minimal at the true probability: its weights and its exponent move rare ones
    from 0.001 to 0.4. Where its derivative is zero, the true odds are

    .. math::
        \frac{1 - \alpha}{\alpha r}\, e^{(\gamma - 1) y}\, \frac{g(y)}{g(-y)}, \qquad
        g(y) = e^y + \gamma \ln(1 + e^y).

    Source: the exponent alone in Charoenphakdee et al., "On Focal Loss for Class-Posterior
    Probability Estimation", CVPR 2021.

    Example:
        >>> calibrated(torch.tensor([-2.0, 0.0, 2.0]), zeros_per_one=3.0)
        tensor([0.0045, 0.5000, 0.9955])
    """
    y = logit.clamp(-30, 30)

    def log_g(y: Tensor) -> Tensor:
        return (y.exp() + FOCUS * F.softplus(y)).log()

    odds = (FOCUS - 1) * y + log_g(y) - log_g(-y)
    return (odds + math.log((1 - ONES_SHARE) / (ONES_SHARE * zeros_per_one))).sigmoid()
