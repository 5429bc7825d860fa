"""L-DiffRec's variational autoencoder, with an encoder for each cluster of items."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.store import Rows
from graphdiff.nn.reconstruction import encode_rows


class ClusterVAE(torch.nn.Module):
    r"""Rows to latent vectors and back, each cluster of items by itself.

    The items of cluster c are encoded into :math:`D_c` of the D latent channels, in proportion to
    their number:

    .. math::
        [\boldsymbol{\mu}_c \,\|\, \log\boldsymbol{\sigma}_c^2] = \tanh(W_c \mathbf{x}_c +
        \mathbf{b}_c).

    The decoder is one linear layer, either from all of the latent vector to all items or from each
    cluster's part to its items.

    Args:
        cluster: Long ``[I]``, 0 … C - 1, each at least once.
        channels: D, at least C.
        shared_decoder: Decode all items from the whole latent vector.

    Raises:
        ConfigError: If there are more clusters than channels.

    Source: L-DiffRec, arXiv 2304.04971, section 3.3; the single layers and the tanh on the
    encoder's output are its public code's, which shares the decoder in all recommended settings.
    """

    cluster: Tensor
    place: Tensor

    def __init__(self, cluster: Tensor, channels: int, shared_decoder: bool = True) -> None:
        super().__init__()
        self.channels, self.shared_decoder = channels, shared_decoder
        self._build(cluster)
        # Elsewhere the same graph might be clustered otherwise, by a rounding error.
        self.register_load_state_dict_pre_hook(_take_saved_clusters)

    def _build(self, cluster: Tensor) -> None:
        size = torch.bincount(cluster)
        width = _shares(size.tolist(), self.channels)
        place = torch.empty_like(cluster)
        for c, num in enumerate(size.tolist()):
            place[cluster == c] = torch.arange(num, device=cluster.device)
        self.register_buffer("cluster", cluster)
        self.register_buffer("place", place, persistent=False)
        pairs = list(zip(size.tolist(), width, strict=True))
        self.encoders = torch.nn.ModuleList(torch.nn.Linear(num, 2 * d) for num, d in pairs)
        if self.shared_decoder:
            pairs = [(cluster.numel(), self.channels)]
        self.decoders = torch.nn.ModuleList(torch.nn.Linear(d, num) for num, d in pairs)
        self.to(cluster.device)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights anew: Xavier normal, and biases of zero."""
        for layer in (*self.encoders, *self.decoders):
            torch.nn.init.xavier_normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)

    def encode(self, rows: Rows, value: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithmic variance of the latent vectors of sparse rows, ``[B, D]`` each.

        Args:
            rows: The items of each row.
            value: ``[nnz]``, what stands at them.
        """
        parts = []
        owner, place = self.cluster[rows.item], self.place[rows.item]
        for c, encoder in enumerate(self.encoders):
            mine = owner == c
            row, item = rows.row[mine], place[mine]
            table, bias = encoder.get_parameter("weight").t(), encoder.get_parameter("bias")
            encoded = encode_rows(table, row, item, value[mine], rows.num)
            parts.append(torch.tanh(encoded + bias).chunk(2, dim=-1))
        mean, log_variance = zip(*parts, strict=True)
        return torch.cat(mean, dim=-1), torch.cat(log_variance, dim=-1)

    def decoder_tables(self) -> tuple[Tensor, Tensor]:
        """Weights ``[I, D]`` and biases ``[I]`` of the decoder, in the order of the items."""
        weight = torch.block_diag(*[d.get_parameter("weight") for d in self.decoders])
        bias = torch.cat([d.get_parameter("bias") for d in self.decoders])
        if self.shared_decoder:
            return weight, bias
        start = torch.bincount(self.cluster).cumsum(0) - torch.bincount(self.cluster)
        order = start[self.cluster] + self.place
        return weight[order], bias[order]

    def decode(self, latent: Tensor) -> Tensor:
        """Logits of all items, ``[B, D]`` to ``[B, I]``."""
        return F.linear(latent, *self.decoder_tables())


def _shares(sizes: list[int], channels: int) -> list[int]:
    """Channels of each cluster in proportion to its size, one at least; the last has the rest."""
    shares = [max(1, size * channels // sum(sizes)) for size in sizes[:-1]]
    rest = channels - sum(shares)
    if rest < 1:
        raise ConfigError(
            f"{len(sizes)} clusters of items cannot share {channels} latent channels; "
            "take fewer clusters or more channels"
        )
    return [*shares, rest]


def _take_saved_clusters(
    module: torch.nn.Module, state: dict[str, Any], prefix: str, *_: Any
) -> None:
    assert isinstance(module, ClusterVAE)
    saved = state.get(f"{prefix}cluster")
    if saved is None or saved.shape != module.cluster.shape:
        return  # which loading itself complains about
    saved = saved.to(module.cluster.device)
    if not torch.equal(saved, module.cluster):
        module._build(saved)
