"""The one pass of LD4MRec with weights that no longer change, in as few operations as there can be.

One person's answer takes microseconds of arithmetic, and waits for the number of operations. So
what can be worked out beforehand is, and everything that can be done together is done at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.nn.cnet import CNet, ConditionalBlock
from graphdiff.nn.norm import EPSILON, layer_norm
from graphdiff.nn.signals import ModalityGate

#: A head's vector is scaled by its length and this, as by the root of a sum of squares: one of
#: which nothing is known is zero, and stays so.
SOFT_LENGTH = 0.05


class SettledPass(torch.nn.Module):
    """From encoded rows to vectors of people, as :class:`~graphdiff.models.LD4MRec` is now.

    Args:
        gate: The gate, whose weights are copied, as all others.
        shares: What each modality counts for everybody, ``[M]``.
        cnet: C-Net, as it is in evaluation.
        temperature: τ.
        linear_rank: K, coordinates of the linear path at the end of an encoded row.
        linear_weight: ω, the length of what the linear path adds to a vector.
    """

    gate_weight: Tensor
    gate_bias: Tensor
    shares: Tensor
    floor: Tensor

    def __init__(
        self,
        gate: ModalityGate,
        shares: Tensor,
        cnet: CNet,
        temperature: float,
        linear_rank: int = 0,
        linear_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_modalities, self.channels = gate.weight.shape
        self.num_heads, self.linear_rank, self.linear_weight = (
            cnet.num_heads,
            linear_rank,
            linear_weight,
        )
        # A weight on the normalised is one without a mean on what is scaled by its spread alone.
        weight = gate.weight.detach()
        self.register_buffer("gate_weight", weight - weight.mean(dim=1, keepdim=True))
        self.register_buffer("gate_bias", gate.bias.detach() + shares.log())
        self.register_buffer("shares", shares.clone())
        # (H τ²)(length² + floor²), whose root divides.
        self.scale = cnet.num_heads * temperature**2
        self.register_buffer("floor", weight.new_tensor(self.scale * SOFT_LENGTH**2))
        time = F.silu(cnet.time.weight.detach())
        self.blocks = torch.nn.ModuleList(
            SettledBlock(block, time)  # type: ignore[arg-type]
            for block in cnet.blocks
        )

    def forward(self, encoded: Tensor) -> Tensor:
        """Vectors ``[B, d + K]`` by one pass on observed rows.

        Args:
            encoded: Scaled rows times :attr:`~graphdiff.models.ld4mrec.model.ItemTables.read`,
                ``[B, (2 + M) * d + K]``.
        """
        return self.vectors(self.hidden(self.told(encoded), 0), encoded)

    def told(self, encoded: Tensor) -> Tensor:
        """What C-Net is told of encoded rows, ``[B, 3, d]``: their hidden states before it, the
        collaborative signals, and the preferences."""
        channels, num = self.channels, self.num_modalities
        known = encoded[:, : 2 * channels].view(-1, 2, channels)
        behaviour, collaborative = known.unbind(dim=1)
        if not num:
            return torch.stack([behaviour, collaborative, torch.zeros_like(behaviour)], dim=1)
        content = encoded[:, 2 * channels : (2 + num) * channels].view(-1, num, channels)
        # Sums and products, as everywhere else: code that is in the processor's cache already.
        preference = (content * self._shares(content).unsqueeze(-1)).sum(dim=1)
        lean = preference - (content * self.shares.unsqueeze(-1)).sum(dim=1)
        return torch.stack([behaviour + lean, collaborative, preference], dim=1)

    def _shares(self, content: Tensor) -> Tensor:
        """The gate's answer ``[B, M]`` to ``[B, M, d]``, as :class:`ModalityGate` gives it."""
        there, spread = content.any(dim=-1), content.var(dim=-1, correction=0)
        logit = (content * self.gate_weight).sum(dim=-1)
        logit = torch.addcmul(self.gate_bias, logit, (spread + EPSILON).rsqrt())
        share = torch.where(there, logit, torch.finfo(logit.dtype).min).softmax(dim=-1)
        return share * there

    def hidden(self, told: Tensor, step: int) -> Tensor:
        """C-Net's answer at one ``step``, 0 … T, for everybody: ``[B, 3, d]`` to ``[B, d]``."""
        hidden = told[:, 0]
        if not self.blocks:
            return hidden
        normed = self._normed(told)
        inner, condition = normed[:, 0], normed[:, 1:].flatten(1)
        for number, block in enumerate(self.blocks):
            if number:
                inner = self._normed(hidden)
            hidden = hidden + block(inner, step, condition)
        return hidden

    def vectors(self, hidden: Tensor, encoded: Tensor) -> Tensor:
        """What is multiplied with the item table, ``[B, d + K]``: the heads' directions, divided
        by τ, and beside them what the linear path says, all of one length."""
        heads = hidden.unflatten(-1, (self.num_heads, -1))
        square = heads.square().sum(dim=-1, keepdim=True)
        query = heads * torch.add(self.floor, square, alpha=self.scale).rsqrt()
        if not self.linear_rank:
            return query.flatten(-2)
        linear = F.normalize(encoded[:, -self.linear_rank :], dim=-1)
        return torch.cat([query.flatten(-2), self.linear_weight * linear], dim=-1)

    def _normed(self, x: Tensor) -> Tensor:
        """``[*, H * d]`` with each head normalised."""
        return layer_norm(x.unflatten(-1, (self.num_heads, -1))).flatten(-2)


class SettledBlock(torch.nn.Module):
    """What a :class:`~graphdiff.nn.cnet.ConditionalBlock` adds to its input, all heads at once.

    The heads' weights are one block-diagonal matrix each, and what a step's time adds is worked out
    beforehand.

    Args:
        block: The block to copy.
        time: What it is told of each step, ``[T + 1, H * d]``.
    """

    modulate: Tensor
    modulation: Tensor
    inner: Tensor
    inner_bias: Tensor
    outer: Tensor
    outer_bias: Tensor

    def __init__(self, block: ConditionalBlock, time: Tensor) -> None:
        super().__init__()
        num_heads, d, _ = block.inner.weight.shape
        weight = block.modulate.weight.detach()
        # From (signal, head, channel) to (scale or shift, head, channel).
        modulate = weight.new_zeros(2, num_heads, d, 2, num_heads, d)
        for head in range(num_heads):
            modulate[:, head, :, :, head] = weight[head, d:].view(2, d, 2, d)
        self.register_buffer("modulate", modulate.view(2 * num_heads * d, -1))
        by_time = torch.einsum("thi,hio->tho", time.unflatten(1, (num_heads, d)), weight[:, :d])
        modulation = (by_time + block.modulate.bias.detach().squeeze(1)).unflatten(-1, (2, d))
        modulation[:, :, 0] += 1  # the input itself, beside what it is scaled by
        self.register_buffer("modulation", modulation.transpose(1, 2).flatten(1))
        for name, linear in (("inner", block.inner), ("outer", block.outer)):
            self.register_buffer(name, torch.block_diag(*linear.weight.detach()))
            self.register_buffer(f"{name}_bias", linear.bias.detach().flatten().clone())

    def forward(self, normed: Tensor, step: int, condition: Tensor) -> Tensor:
        """``[B, H * d]``, normalised, and signals ``[B, 2 * H * d]`` to ``[B, H * d]``."""
        modulation = torch.addmm(self.modulation[step], condition, self.modulate)
        scale, shift = modulation.chunk(2, dim=-1)
        x = torch.addcmul(shift, scale, normed)
        return torch.addmm(
            self.outer_bias, F.silu(torch.addmm(self.inner_bias, x, self.inner)), self.outer
        )
