"""LD4MRec's one pass from encoded rows to user vectors, composed of frozen parts."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.models.ld4mrec.linear_path import LinearPath
from graphdiff.models.ld4mrec.row_signals import FrozenSignals
from graphdiff.nn.cnet import freeze_cnet
from graphdiff.nn.heads import CosineHeads, InnerProductHeads


class InferencePass(torch.nn.Module):
    """User vectors from encoded rows, with the weights of the moment of construction.

    It holds the inference forms of the parts; there is nothing to train.

    Args:
        gate: The gate, called as :class:`~graphdiff.nn.ModalityGate` is.
        shares: Global weights of the modalities, ``[M]``.
        cnet: C-Net, called as :class:`~graphdiff.nn.CNet` is.
        heads: The head queries.
        channels: Width d of hidden states.
        linear: The linear path; None for none.

    Example:
        >>> from graphdiff.nn import CNet, ModalityGate
        >>> gate, cnet = ModalityGate(num_modalities=1, channels=8), CNet(8, 2, 1, 20)
        >>> one_pass = InferencePass(gate, torch.ones(1), cnet, CosineHeads(2), channels=8)
        >>> one_pass(torch.randn(5, 3 * 8)).shape  # rows times Z, C and M_1
        torch.Size([5, 8])
    """

    def __init__(
        self,
        gate: torch.nn.Module,
        shares: Tensor,
        cnet: torch.nn.Module,
        heads: CosineHeads | InnerProductHeads,
        channels: int,
        linear: LinearPath | None = None,
    ) -> None:
        super().__init__()
        self.signals = FrozenSignals(gate, shares, channels)
        self.cnet = freeze_cnet(cnet)
        self.heads = heads.freeze()
        self.linear = None if linear is None else linear.freeze()
        self.linear_columns = (2 + shares.numel()) * channels

    def forward(self, encoded: Tensor) -> Tensor:
        """Return user vectors ``[B, d + K]`` by one pass on observed rows.

        Args:
            encoded: Scaled rows times ``ItemTables.row_encoder``, ``[B, (2 + M) * d + K]``.
        """
        hidden, collaborative, preference = self.signals(encoded)
        return self.vectors(self.cnet(hidden, 0, collaborative, preference), encoded)

    def vectors(self, hidden: Tensor, encoded: Tensor) -> Tensor:
        """Return user vectors ``[B, d + K]`` from C-Net's output ``[B, d]``: the head queries and,
        beside them, the linear path's."""
        query = self.heads(hidden)
        if self.linear is None:
            return query
        return torch.cat([query, self.linear(encoded[:, self.linear_columns :])], dim=-1)
