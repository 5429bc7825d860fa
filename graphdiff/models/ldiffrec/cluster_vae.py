"""L-DiffRec's variational autoencoder with one encoder per item cluster."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.rows import Rows
from graphdiff.nn.reconstruction import encode_rows


class ClusterVAE(torch.nn.Module):
    r"""A variational autoencoder of rows with a separate encoder for each item cluster.

    The items of cluster c are encoded into :math:`D_c` of the D latent channels, in proportion to
    the size of the cluster:

    .. math::
        [\boldsymbol{\mu}_c \,\|\, \log\boldsymbol{\sigma}_c^2] = \tanh(W_c \mathbf{x}_c +
        \mathbf{b}_c).

    The decoder is linear: either one layer from the whole latent vector to all items, or one layer
    per cluster.

    Args:
        cluster: Cluster of each item, long ``[I]``, 0 … C - 1, each at least once.
        channels: Number of latent channels D, at least C.
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
        # On another machine rounding may change the clusters, so the saved ones are restored.
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
        """Reset weights (Xavier normal) and biases (zero)."""
        for layer in (*self.encoders, *self.decoders):
            torch.nn.init.xavier_normal_(layer.weight)
            torch.nn.init.zeros_(layer.bias)

    def encode(self, rows: Rows, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latent vectors of sparse rows, ``[B, D]`` each.

        Args:
            rows: Positions of the non-zero entries.
            value: Values of these entries, ``[nnz]``.
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
        """Return weights ``[I, D]`` and biases ``[I]`` of the decoder, in item order."""
        weight = torch.block_diag(*[d.get_parameter("weight") for d in self.decoders])
        bias = torch.cat([d.get_parameter("bias") for d in self.decoders])
        if self.shared_decoder:
            return weight, bias
        start = torch.bincount(self.cluster).cumsum(0) - torch.bincount(self.cluster)
        order = start[self.cluster] + self.place
        return weight[order], bias[order]

    def decode(self, latent: Tensor) -> Tensor:
        """Return the logits of all items, ``[B, D]`` to ``[B, I]``."""
        return F.linear(latent, *self.decoder_tables())


def _shares(sizes: list[int], channels: int) -> list[int]:
    """Split channels among clusters by size, at least one each; the last gets the remainder."""
    shares = [max(1, size * channels // sum(sizes)) for size in sizes[:-1]]
    rest = channels - sum(shares)
    if rest < 1:
        raise ConfigError(
            f"{len(sizes)} item clusters cannot share {channels} latent channels; "
            "use fewer clusters or more channels"
        )
    return [*shares, rest]


def _take_saved_clusters(
    module: torch.nn.Module, state: dict[str, Any], prefix: str, *_: Any
) -> None:
    assert isinstance(module, ClusterVAE)
    saved = state.get(f"{prefix}cluster")
    if saved is None or saved.shape != module.cluster.shape:
        return  # load_state_dict itself reports this
    saved = saved.to(module.cluster.device)
    if not torch.equal(saved, module.cluster):
        dtype = module.encoders[0].get_parameter("weight").dtype
        module._build(saved)
        module.to(dtype)
