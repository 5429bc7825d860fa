"""DiffMM's row denoiser and its reverse chain in the width of the hidden layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.nn.denoiser import timestep_embedding
from graphdiff.nn.diffusion import DiffusionSchedule
from graphdiff.nn.reconstruction import encode_rows


class RowDenoiser(torch.nn.Module):
    r"""A network that predicts a clean row from a noisy row and its step.

    .. math::
        \hat{\mathbf{x}}_0 = V \mathbf{h} + \mathbf{b}, \qquad
        \mathbf{h} = \tanh(Z^\top \mathbf{x}_t + W_t \mathbf{s}(t) + \mathbf{c}),

    where :math:`\mathbf{s}(t)` holds cosines and sines of the step. First and last layer are
    linear, which :class:`ReverseChain` makes use of.

    Args:
        num_items: Number of items I.
        channels: Width of the hidden layer.
        time_channels: Width of :math:`\mathbf{s}(t)`, even.

    Source: DiffMM (arXiv 2406.11781), whose network is DiffRec's (arXiv 2304.04971) with a linear
    map of the time embedding.
    """

    def __init__(self, num_items: int, channels: int, time_channels: int) -> None:
        super().__init__()
        self.encoder = torch.nn.Parameter(torch.empty(num_items, channels))
        self.decoder = torch.nn.Parameter(torch.empty(num_items, channels))
        self.bias = torch.nn.Parameter(torch.empty(num_items))
        self.step = torch.nn.Linear(time_channels, time_channels)
        self.time = torch.nn.Linear(time_channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset all weights (normal with variance 2 / (fan in + fan out) of the layer)."""
        num_items, channels = self.encoder.shape
        steps = self.step.in_features
        torch.nn.init.normal_(self.encoder, std=math.sqrt(2 / (num_items + steps + channels)))
        torch.nn.init.normal_(self.time.weight, std=math.sqrt(2 / (num_items + steps + channels)))
        torch.nn.init.normal_(self.decoder, std=math.sqrt(2 / (num_items + channels)))
        torch.nn.init.normal_(self.step.weight, std=math.sqrt(1 / steps))
        for bias in (self.bias, self.time.bias, self.step.bias):
            torch.nn.init.normal_(bias, std=1e-3)

    def hidden(self, encoded: Tensor, t: Tensor) -> Tensor:
        """Return h of encoded rows ``x @ self.encoder``, ``[B, channels]``, at steps ``t``, long
        ``[B]``, 1 … T."""
        # The authors' code counts steps from 0.
        signal = timestep_embedding(t - 1, self.step.in_features).to(encoded.dtype)
        return torch.tanh(encoded + self.time(self.step(signal)))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict clean rows ``[B, I]`` from rows ``[B, I]`` at steps ``t``, long ``[B]``."""
        return torch.addmm(self.bias, self.hidden(x_t @ self.encoder, t), self.decoder.t())


class ReverseChain:
    r"""The reverse chain from step T to 0, starting from uncorrupted sparse rows.

    A step is :math:`x_{t-1} = a_t \hat{x}_0 + b_t x_t`, and the network depends only on
    :math:`x_t Z`, so that the chain runs on encoded rows:
    :math:`x_{t-1} Z = a_t (\mathbf{h} V^\top Z + \mathbf{b} Z) + b_t x_t Z`, where
    :math:`V^\top Z` is computed once. This is exact, and no dense row is built.

    Args:
        denoiser: The network with its current weights.
        schedule: The schedule; each step takes the posterior mean, without noise.
    """

    def __init__(self, denoiser: RowDenoiser, schedule: DiffusionSchedule) -> None:
        self.denoiser, self.schedule = denoiser, schedule
        self.decode_encode = denoiser.decoder.t() @ denoiser.encoder
        self.offset = denoiser.bias @ denoiser.encoder

    def __call__(self, rows: Rows) -> Tensor:
        """Denoise the binary rows of B users.

        Returns:
            The hidden states of the last step, ``[B, channels]``; the rows :math:`x_0` are
            ``hidden @ denoiser.decoder.T + denoiser.bias``.
        """
        ones = torch.ones_like(rows.item, dtype=self.denoiser.encoder.dtype)
        encoded = encode_rows(self.denoiser.encoder, rows.row, rows.item, ones, rows.num)
        t = torch.ones(rows.num, dtype=torch.long, device=encoded.device)
        for step in range(self.schedule.num_steps, 1, -1):
            hidden = self.denoiser.hidden(encoded, step * t)
            predicted = torch.addmm(self.offset, hidden, self.decode_encode)
            encoded = self.schedule.step(predicted, encoded, step * t)
        # The posterior mean of step 1 is the prediction itself.
        return self.denoiser.hidden(encoded, t)
