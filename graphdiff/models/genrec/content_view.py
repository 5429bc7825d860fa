"""GenRec's layers for the content of items."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.nn.dropout import dropout


class NormalizedLinear(torch.nn.Module):
    """A linear map whose outputs have mean 0 and variance 1 over nodes, times learned scales.

    It is batch normalisation by the statistics of all nodes, in training and at inference.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(out_channels, in_channels))
        self.scale = torch.nn.Parameter(torch.empty(out_channels))
        self.shift = torch.nn.Parameter(torch.empty(out_channels))

    def reset_parameters(self) -> None:
        """Reset the weights (Xavier uniform), scales (one) and shifts (zero)."""
        torch.nn.init.xavier_uniform_(self.weight)
        torch.nn.init.ones_(self.scale)
        torch.nn.init.zeros_(self.shift)

    def forward(self, x: Tensor, has: Tensor) -> Tensor:
        """Map ``[N, in]`` to ``[N, out]``, with statistics of the nodes where ``has``, bool
        ``[N]``."""
        x = x @ self.weight.t()
        share = has.to(x.dtype) / has.sum().clamp(min=1)
        x = x - share @ x
        return x * (share @ x.square() + 1e-5).rsqrt() * self.scale + self.shift


class ContentView(torch.nn.Module):
    """The layers of one modality: two that project its features, and a gate.

    Args:
        in_channels: Width of the features.
        channels: Width d of the embeddings.
        p: Dropout of each layer's output.
    """

    def __init__(self, in_channels: int, channels: int, p: float) -> None:
        super().__init__()
        self.first = NormalizedLinear(in_channels, channels)
        self.second = NormalizedLinear(channels, channels)
        self.gate = NormalizedLinear(channels, channels)
        self.p = p

    def project(
        self, x: Tensor, has: Tensor, residual: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return the projected features Z, ``[I, d]``, zero where an item has none.

        Args:
            x: Features, ``[I, F_m]``.
            has: Bool ``[I]``.
            residual: Weight of the first layer's output beside the second's, a scalar.
            generator: Source of dropout; without it nothing is dropped.
        """
        outputs = []
        for layer in (self.first, self.second):
            x = F.leaky_relu(layer(x, has), 0.2)
            x = x if generator is None else dropout(x, self.p, generator)
            outputs.append(x)
        return (residual * outputs[0] + outputs[1]) * has.unsqueeze(1)
