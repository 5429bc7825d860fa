"""Signals of encoded rows: collaborative, modality preference and gate."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphdiff.nn.signals import freeze_gate


class Signals(NamedTuple):
    """Signals of a batch of rows.

    Attributes:
        collaborative: x̃·C, ``[B, d]``.
        preference: x̃·M_m mixed by the gate, ``[B, d]``.
        gate_residual: The difference of this mix to the mix by the global weights, ``[B, d]``.
        gate: ``[B, M]``.
    """

    collaborative: Tensor
    preference: Tensor
    gate_residual: Tensor
    gate: Tensor


def row_signals(encoded: Tensor, gate: torch.nn.Module, shares: Tensor) -> Signals:
    """Return the signals of rows in training.

    Args:
        encoded: Scaled rows times C and the M_m, ``[B, (1 + M) * d]``.
        gate: Called as :class:`~graphdiff.nn.ModalityGate` is.
        shares: Global weights of the modalities, ``[M]``.

    Example:
        >>> from graphdiff.nn import ModalityGate
        >>> gate = ModalityGate(num_modalities=2, channels=4)
        >>> signals = row_signals(torch.randn(3, 3 * 4), gate, torch.tensor([0.5, 0.5]))
        >>> signals.preference.shape, signals.gate_residual.abs().max() < 1e-6
        (torch.Size([3, 4]), tensor(True))
    """
    num_modalities = shares.numel()
    channels = encoded.size(1) // (1 + num_modalities)
    collaborative, content = encoded[:, :channels], encoded[:, channels:]
    if not num_modalities:
        zero = torch.zeros_like(collaborative)
        return Signals(collaborative, zero, zero, content)
    content = content.view(encoded.size(0), num_modalities, channels)
    weight = gate(content, shares)
    # The mix by the gate, and its difference to that by the global weights.
    mixes = torch.stack([weight, weight - shares], dim=1)
    preference, residual = torch.bmm(mixes, content).unbind(dim=1)
    return Signals(collaborative, preference, residual, weight)


class FrozenSignals(torch.nn.Module):
    """The inference form of :func:`row_signals`, which also adds the gate's residual to Z.

    Args:
        gate: Called as :class:`~graphdiff.nn.ModalityGate` is; its weights are copied.
        shares: Global weights of the modalities, ``[M]``.
        channels: d.
    """

    shares: Tensor

    def __init__(self, gate: torch.nn.Module, shares: Tensor, channels: int) -> None:
        super().__init__()
        self.num_modalities, self.channels = shares.numel(), channels
        self.gate = freeze_gate(gate, shares) if self.num_modalities else None
        self.register_buffer("shares", shares.clone())

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return C-Net's input, ``[B, d]`` each: hidden states x̃·Z with the gate's residual,
        collaborative signals and preferences.

        Args:
            encoded: Scaled rows times Z, C and the M_m, ``[B, (2 + M) * d]``; further columns are
                ignored.
        """
        channels, num = self.channels, self.num_modalities
        known = encoded[:, : 2 * channels].view(-1, 2, channels)
        behaviour, collaborative = known.unbind(dim=1)
        if self.gate is None:
            return behaviour, collaborative, torch.zeros_like(behaviour)
        content = encoded[:, 2 * channels : (2 + num) * channels].view(-1, num, channels)
        # Sums of products, as everywhere in this pass: that code is in the processor's cache.
        preference = (content * self.gate(content).unsqueeze(-1)).sum(dim=1)
        residual = preference - (content * self.shares.unsqueeze(-1)).sum(dim=1)
        return behaviour + residual, collaborative, preference
