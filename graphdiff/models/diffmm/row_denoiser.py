"""DiffMM's denoiser of interaction rows, and its reverse chain in the width of its hidden layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphdiff.graph.store import Rows
from graphdiff.nn.denoiser import timestep_embedding
from graphdiff.nn.diffusion import DiffusionSchedule
from graphdiff.nn.reconstruction import encode_rows


class RowDenoiser(torch.nn.Module):
    r"""Predicts a clean row from a noisy one and its step.

    .. math::
        \hat{\mathbf{x}}_0 = V \mathbf{h} + \mathbf{b}, \qquad
        \mathbf{h} = \tanh(Z^\top \mathbf{x}_t + W_t \mathbf{s}(t) + \mathbf{c}),

    where :math:`\mathbf{s}(t)` holds cosines and sines of the step. It is linear at the outside,
    which :class:`ReverseChain` makes use of.

    Args:
        num_items: I.
        channels: Width of the hidden layer.
        time_channels: Width of :math:`\mathbf{s}(t)`, even.

    Source: DiffMM (arXiv 2406.11781), whose network is DiffRec's (arXiv 2304.04971) with a linear
    map of the step's representation between the two.
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
        """Draws all weights anew, normal with variance 2 / (fan in + fan out) of their layer."""
        num_items, channels = self.encoder.shape
        steps = self.step.in_features
        torch.nn.init.normal_(self.encoder, std=math.sqrt(2 / (num_items + steps + channels)))
        torch.nn.init.normal_(self.time.weight, std=math.sqrt(2 / (num_items + steps + channels)))
        torch.nn.init.normal_(self.decoder, std=math.sqrt(2 / (num_items + channels)))
        torch.nn.init.normal_(self.step.weight, std=math.sqrt(1 / steps))
        for bias in (self.bias, self.time.bias, self.step.bias):
            torch.nn.init.normal_(bias, std=1e-3)

    def hidden(self, encoded: Tensor, t: Tensor) -> Tensor:
        """h of encoded rows ``x @ self.encoder``, ``[B, channels]``, at steps ``t``, long
        ``[B]``, 1 … T."""
        # The authors' code counts steps from 0.
        signal = timestep_embedding(t - 1, self.step.in_features).to(encoded.dtype)
        return torch.tanh(encoded + self.time(self.step(signal)))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Rows ``[B, I]`` at steps ``t``, long ``[B]``, to clean rows ``[B, I]``."""
        return torch.addmm(self.bias, self.hidden(x_t @ self.encoder, t), self.decoder.t())


class ReverseChain:
    r"""Walks the reverse chain from step T to 0, beginning with sparse rows as they are.

    A step is :math:`x_{t-1} = a_t \hat{x}_0 + b_t x_t`, and the network looks at
    :math:`x_t Z` alone, so that the chain is walked there:
    :math:`x_{t-1} Z = a_t (\mathbf{h} V^\top Z + \mathbf{b} Z) + b_t x_t Z`, with
    :math:`V^\top Z` made once. No row of the catalogue is made, and nothing is approximated.

    Args:
        denoiser: The network, as it is now.
        schedule: With posterior means, taken without noise.
    """

    def __init__(self, denoiser: RowDenoiser, schedule: DiffusionSchedule) -> None:
        self.denoiser, self.schedule = denoiser, schedule
        self.decode_encode = denoiser.decoder.t() @ denoiser.encoder
        self.offset = denoiser.bias @ denoiser.encoder

    def __call__(self, rows: Rows) -> Tensor:
        """Denoises the binary rows of B users.

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
