"""The denoising network of DiffRec and L-DiffRec, and the time embedding of diffusion models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.nn.dropout import dropout


def timestep_embedding(t: Tensor, channels: int, max_period: float = 10_000.0) -> Tensor:
    r"""Return the sinusoidal embedding of steps, :math:`[\cos(t \omega_k), \sin(t \omega_k)]` with
    :math:`\omega_k = P^{-k / \lfloor C / 2 \rfloor}`.

    Args:
        t: Long ``[B]``.
        channels: C; the last channel of an odd number is zero.
        max_period: P.

    Returns:
        Float32 ``[B, C]``.

    Source: Vaswani et al., arXiv 1706.03762, section 3.5, in the form of diffusion models.

    Example:
        >>> import torch
        >>> timestep_embedding(torch.tensor([0, 3]), channels=5).shape
        torch.Size([2, 5])
        >>> timestep_embedding(torch.tensor([0]), channels=4)
        tensor([[1., 1., 0., 0.]])
    """
    half = channels // 2
    frequency = torch.arange(half, device=t.device, dtype=torch.float32)
    frequency = torch.exp(-math.log(max_period) / max(half, 1) * frequency)
    angle = t.unsqueeze(-1).float() * frequency
    return F.pad(torch.cat([angle.cos(), angle.sin()], dim=-1), (0, channels % 2))


class Denoiser(torch.nn.Module):
    r"""A multilayer perceptron that predicts :math:`x_0` from :math:`x_t` and t.

    .. math::
        \mathbf{h}_1 = \tanh(W_1 [\mathbf{x}_t \,\|\, U \mathrm{emb}(t - 1) + \mathbf{u}]
        + \mathbf{b}_1), \quad
        \mathbf{h}_{k+1} = \tanh(W_{k+1} \mathbf{h}_k + \mathbf{b}_{k+1}), \quad
        \hat{\mathbf{x}}_0 = W \mathbf{h}_K + \mathbf{b}.

    The part of :math:`W_1` that multiplies the row is a layer of its own, so that a caller can
    encode sparse rows itself and pass the product to :meth:`hidden`.

    Args:
        channels: Width C of a row.
        hidden: Widths of :math:`\mathbf{h}_1 … \mathbf{h}_K`, at least one.
        time_channels: Width of the time embedding.
        dropout: Share of a row's entries that are dropped in training.
        normalize: Scale rows to length one before encoding.

    Source: DiffRec, arXiv 2304.04971, section 3.2, and its public code, with its initialisation.

    Example:
        >>> import torch
        >>> denoiser = Denoiser(channels=6, hidden=[4, 3])
        >>> denoiser(torch.rand(2, 6), torch.tensor([1, 5])).shape
        torch.Size([2, 6])
    """

    def __init__(
        self,
        channels: int,
        hidden: Sequence[int],
        time_channels: int = 10,
        dropout: float = 0.5,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.time_channels, self.dropout, self.normalize = time_channels, dropout, normalize
        self.time = torch.nn.Linear(time_channels, time_channels)
        self.row_encoder = torch.nn.Linear(channels, hidden[0], bias=False)
        self.time_encoder = torch.nn.Linear(time_channels, hidden[0])
        self.inner = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in pairwise(hidden))
        self.decoder = torch.nn.Linear(hidden[-1], channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise weights as Xavier normal and biases with standard deviation 0.001."""
        # The two encoders are one layer, whose fan-in is the sum of theirs.
        width, fan_in = self.row_encoder.weight.shape
        std = math.sqrt(2 / (fan_in + self.time_channels + width))
        for layer in (self.row_encoder, self.time_encoder):
            torch.nn.init.normal_(layer.weight, std=std)
        for layer in (self.time, *self.inner, self.decoder):
            torch.nn.init.xavier_normal_(layer.weight)
        for layer in (self.time, self.time_encoder, *self.inner, self.decoder):
            torch.nn.init.normal_(layer.bias, std=1e-3)

    def encode(self, x_t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return rows ``[B, C]`` multiplied by the first layer, before time is added.

        Args:
            x_t: ``[B, C]``.
            generator: Source of dropout in training; without it nothing is dropped.

        Returns:
            ``[B, d_1]``.
        """
        if self.normalize:
            x_t = F.normalize(x_t, dim=-1)
        if generator is not None:
            x_t = dropout(x_t, self.dropout, generator)
        return self.row_encoder(x_t)

    def hidden(self, encoded: Tensor, t: Tensor) -> Tensor:
        """Return the last hidden layer.

        Args:
            encoded: From :meth:`encode`, ``[B, d_1]``.
            t: Long ``[B]``, 1 … T.

        Returns:
            ``[B, d_K]``.
        """
        # The public code counts steps from 0.
        time = self.time(timestep_embedding(t - 1, self.time_channels).to(encoded.dtype))
        hidden = torch.tanh(encoded + self.time_encoder(time))
        for layer in self.inner:
            hidden = torch.tanh(layer(hidden))
        return hidden

    def forward(self, x_t: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Predict :math:`x_0`.

        Args:
            x_t: ``[B, C]``.
            t: Long ``[B]``, 1 … T.
            generator: Source of dropout in training; without it nothing is dropped.

        Returns:
            ``[B, C]``.
        """
        return self.decoder(self.hidden(self.encode(x_t, generator), t))
