"""Signals that guide C-Net: collaborative and modality-preference signals of a user's items."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from graphdiff.graph.propagation import FixedConv, FixedGraph, propagate
from graphdiff.nn.constants import constant
from graphdiff.nn.norm import EPSILON, layer_norm
from graphdiff.nn.parts import Part


class CollaborativeSignal(torch.nn.Module):
    r"""The item table after propagation over the user-item graph.

    Users have no embedding of their own, so two LightGCN layers carry an item's embedding to its
    users and on to their other items. The mean over :math:`l = 0 … L` such round trips,

    .. math::
        C = \tfrac{1}{L + 1} \sum_l (\tilde{A}^\top \tilde{A})^l E, \qquad
        \tilde{A}_{ui} = 1 / \sqrt{|N_u||N_i|},

    is a low-pass filter over the items. Like the truncated SVD that encodes this signal in the
    LD4MRec paper, it keeps the directions of large singular values of :math:`\tilde{A}`, but of a
    learned table. That choice is ours.

    Args:
        num_layers: Round trips L; 0 returns the table itself.

    Example:
        Items 0 and 1 have user 0 in common, item 2 has no user in common with them.

        >>> edge_index = torch.tensor([[0, 1, 2], [0, 0, 1]])  # items, users
        >>> item_to_user = FixedGraph(edge_index, torch.tensor([0.5, 0.5, 1.0]).sqrt(), 3, 2)
        >>> CollaborativeSignal(num_layers=1)(torch.tensor([[1.0], [0.0], [0.0]]), item_to_user)
        tensor([[0.7500],
                [0.2500],
                [0.0000]])
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.conv = FixedConv()

    def forward(self, table: Tensor, item_to_user: FixedGraph) -> Tensor:
        r"""Return the propagated table, ``[I, d]``.

        Args:
            table: E, ``[I, d]``.
            item_to_user: :math:`\tilde{A}`, from items to users.
        """
        user_to_item = item_to_user.reversed()
        trained = torch.is_grad_enabled()
        # Without gradients in place: each table takes much memory on a large catalogue.
        total, current = table if trained else table.clone(), table
        for _ in range(self.num_layers):
            current = self.conv(current, item_to_user)
            current = self.conv(current, user_to_item)
            total = total + current if trained else total.add_(current)
        share = constant(1 / (self.num_layers + 1), table)
        return total * share if trained else total.mul_(share)


class ModalitySignal(torch.nn.Module):
    r"""The item table smoothed over one modality's item-item graph, :math:`M = w\, S^L E`.

    An item without interactions gets an embedding from similar items. Items that lack the modality
    have no edges, and their rows are zero.

    Args:
        num_layers: Smoothing layers L.
        weight: w.

    Example:
        Item 2 lacks the modality; items 0 and 1 are neighbours.

        >>> signal = ModalitySignal(num_layers=1, weight=2.0)
        >>> edge_index = torch.tensor([[0, 1], [1, 0]])
        >>> similar = FixedGraph(edge_index, torch.ones(2) * signal.edge_share, 3, 3)
        >>> table = torch.tensor([[1.0], [5.0], [7.0]])
        >>> signal(table, torch.tensor([True, True, False]), similar)
        tensor([[10.],
                [ 2.],
                [ 0.]])

    Source: smoothing over frozen item graphs is FREEDOM's (arXiv 2211.06924).
    """

    def __init__(self, num_layers: int, weight: float) -> None:
        super().__init__()
        self.num_layers, self.weight = num_layers, weight

    @property
    def edge_share(self) -> float:
        """Factor of the edge weights of S, so that L layers scale by w. Scaling the table instead
        would take as long as half a layer on a small graph."""
        return self.weight ** (1 / self.num_layers) if self.num_layers else 1.0

    def forward(
        self, table: Tensor, has: Tensor, similar: FixedGraph, scaled: bool = True
    ) -> Tensor:
        """Return the smoothed table, ``[I, d]``.

        Args:
            table: E, ``[I, d]``.
            has: Bool ``[I]``, False where an item lacks the modality; such items have no edges.
            similar: S, with its edge weights times :attr:`edge_share` if ``scaled``.
            scaled: False to scale the table, in place, instead of a copy of the weights of many
                edges. Without a gradient.
        """
        if not self.num_layers:
            return self.weight * table * has.unsqueeze(-1)
        smooth = propagate(table, similar, self.num_layers)[-1]
        return smooth if scaled else smooth.mul_(self.weight)


class ModalityGate(Part):
    r"""Weights of the modalities for each user.

    .. math::
        g_{um} = \mathrm{softmax}_m(
        \log a_m + \mathbf{w}_m \cdot \mathrm{LN}(\mathbf{p}_{um}) + b_m)

    over the modalities that the user's items have. It is initialised to the global weights a, and
    keeps them where it is not trained.

    Args:
        num_modalities: M.
        channels: Width d of a preference.
        trained: False for a gate whose parameters stay zero; what does not change its weights is
            not computed then.

    Example:
        >>> gate, shares = ModalityGate(num_modalities=2, channels=4), torch.tensor([0.25, 0.75])
        >>> preference = torch.randn(3, 2, 4)
        >>> preference[2, 1] = 0  # the items of user 2 lack the second modality
        >>> gate(preference, shares)
        tensor([[0.2500, 0.7500],
                [0.2500, 0.7500],
                [1.0000, 0.0000]], grad_fn=<MulBackward0>)
        >>> gate.freeze(shares)(preference)[0]
        tensor([0.2500, 0.7500])
    """

    def __init__(self, num_modalities: int, channels: int, trained: bool = True) -> None:
        super().__init__()
        self.trained = trained
        self.weight = torch.nn.Parameter(torch.zeros(num_modalities, channels), trained)
        self.bias = torch.nn.Parameter(torch.zeros(num_modalities), trained)

    def reset_parameters(self) -> None:
        """Reset to the global weights."""
        torch.nn.init.zeros_(self.weight)
        torch.nn.init.zeros_(self.bias)

    def forward(self, preference: Tensor, shares: Tensor) -> Tensor:
        """Return the weights, ``[B, M]``; they sum to one, or to zero where a user has no modality.

        Args:
            preference: ``[B, M, d]``, zero where a user's items lack a modality.
            shares: Global weights a, ``[M]``, all above zero.
        """
        if not self.trained:
            present = preference.detach().abs().amax(dim=-1).sign_()
            share = present * shares
            return share / share.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)
        present = preference.any(dim=-1)
        logit = (layer_norm(preference) * self.weight).sum(dim=-1) + self.bias + shares.log()
        # A finite mask: a row of -inf would make the gradient NaN.
        share = logit.masked_fill(~present, torch.finfo(logit.dtype).min).softmax(dim=-1)
        return share * present

    def freeze(self, shares: Tensor) -> FrozenModalityGate:
        """Return the inference form, with a copy of the weights and of ``shares``."""
        return FrozenModalityGate(self, shares)


class FrozenModalityGate(torch.nn.Module):
    """The inference form of a :class:`ModalityGate`, in few operations.

    Args:
        gate: The gate, whose weights are copied.
        shares: Global weights, ``[M]``.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, gate: ModalityGate, shares: Tensor) -> None:
        super().__init__()
        self.trained = gate.trained
        # A product with LN(p) is one of the centred weight with p, over the deviation of p.
        weight = gate.weight.detach()
        self.register_buffer("weight", weight - weight.mean(dim=1, keepdim=True))
        bias = shares.log()
        self.register_buffer("bias", gate.bias.detach() + bias if gate.trained else bias)

    def forward(self, preference: Tensor) -> Tensor:
        """As :meth:`ModalityGate.forward`, with the fixed global weights."""
        present, logit = preference.any(dim=-1), self.bias
        if self.trained:
            spread = preference.var(dim=-1, correction=0)
            logit = (preference * self.weight).sum(dim=-1)
            logit = torch.addcmul(self.bias, logit, (spread + EPSILON).rsqrt())
        share = torch.where(present, logit, torch.finfo(logit.dtype).min).softmax(dim=-1)
        return share * present


class EvaluatedGate(torch.nn.Module):
    """The inference form of a gate that defines no ``freeze()``: a copy in evaluation mode.

    Args:
        gate: Any module that is called as :class:`ModalityGate` is.
        shares: Global weights, ``[M]``.
    """

    shares: Tensor

    def __init__(self, gate: torch.nn.Module, shares: Tensor) -> None:
        super().__init__()
        self.gate = copy.deepcopy(gate).eval().requires_grad_(False)
        self.register_buffer("shares", shares.clone())

    def forward(self, preference: Tensor) -> Tensor:
        """As :meth:`FrozenModalityGate.forward`."""
        return self.gate(preference, self.shares)


def freeze_gate(gate: torch.nn.Module, shares: Tensor) -> torch.nn.Module:
    """Return the inference form of a gate: its own, or a copy in evaluation mode."""
    freeze = getattr(gate, "freeze", None)
    return EvaluatedGate(gate, shares) if freeze is None else freeze(shares)
