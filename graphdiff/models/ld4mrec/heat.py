"""Heat processes: diffusion of rows along the edges of item graphs."""

from __future__ import annotations

import torch
from torch import Tensor

from graphdiff.graph.item_graph import scaled_interactions
from graphdiff.graph.message_graphs import item_to_user_graph, similarity_graph
from graphdiff.graph.propagation import FixedConv, FixedGraph
from graphdiff.graph.store import RecGraph
from graphdiff.nn.processes import EncodedRows, RowProcess
from graphdiff.nn.spectral import right_singular_vectors

#: Share of the error that a step back keeps, as in GiffCF.
DECAY = 0.5


class HeatProcess(RowProcess):
    r"""Heat on the item-item graph of interactions,

    .. math::
        \mathbf{x}_t = \mathbf{x} + \alpha \tfrac{t}{T} (\mathbf{x} A - \mathbf{x}), \qquad
        A = R^\top R / \lambda_1, \qquad R = D_U^{-1/4} X D_I^{-1/2},

    with :math:`\lambda_1` the largest eigenvalue of :math:`R^\top R`. Encoded, it interpolates
    between two tables: :math:`\mathbf{x}_t Z = (1 - \alpha t / T)\, \mathbf{x} Z + (\alpha t / T)\,
    \mathbf{x} A Z`.

    A step back from t moves to :math:`\hat{\mathbf{x}}_{t-1} + \sigma (\mathbf{x}_t -
    \hat{\mathbf{x}}_t)`, where :math:`\hat{\mathbf{x}}_t` is the predicted row at step t and
    :math:`\sigma = 0.5`.

    Args:
        num_steps: T.
        strength: α, smoothing at step T.

    Source: GiffCF (arXiv 2311.08744, section 3.2), without its noise and ideal filter. The encoded
    form is ours.
    """

    def __init__(self, num_steps: int, strength: float = 1.5) -> None:
        super().__init__(num_steps)
        self.strength, self.conv = strength, FixedConv()

    def smooth(
        self, table: Tensor, graph: RecGraph, weights: Tensor, withheld: Tensor | None
    ) -> Tensor | None:
        """Return AZ, ``[I, d]``; withheld interactions count neither in R nor in its degrees."""
        if withheld is None:
            to_user = graph.cached(interaction_heat)
        else:
            to_user = interaction_heat(graph, withheld)
        smoothed = self.conv(self.conv(table, to_user), to_user.reversed())
        return smoothed / graph.cached(largest_eigenvalue)

    def corrupt(self, rows: EncodedRows, t: Tensor, noise: Tensor) -> Tensor:
        """Smooth rows."""
        assert rows.smoothed is not None
        amount = (self.strength / self.num_steps) * t.to(rows.values.dtype).unsqueeze(-1)
        return rows.values + amount * (rows.smoothed - rows.values)

    def step(self, x_0: EncodedRows, x_t: Tensor, t: Tensor) -> Tensor:
        """Smooth the prediction less, and keep a part of the error."""
        none = torch.zeros_like(x_t)
        error = x_t - self.corrupt(x_0, t, none)
        return self.corrupt(x_0, t - 1, none) + DECAY * error

    def extra_repr(self) -> str:
        """Return the sizes for ``print``."""
        return f"{super().extra_repr()}, strength={self.strength:g}"


class ContentHeatProcess(HeatProcess):
    r"""Heat on the item-item graphs of the modalities: :class:`HeatProcess` with the mean over an
    item's neighbours in place of A,

    .. math::
        \mathbf{z}_i \leftarrow \sum_m a_{im} \sum_j (S_m)_{ij} \mathbf{z}_j,

    where :math:`a_{im}` are the weights of the modalities that item i has. An item without any
    keeps its vector.

    Args:
        num_steps: T.
        strength: α, smoothing at step T; 1 replaces an item by its neighbours.

    Source: ours.
    """

    def __init__(self, num_steps: int, strength: float = 1.0) -> None:
        super().__init__(num_steps, strength)

    def smooth(
        self, table: Tensor, graph: RecGraph, weights: Tensor, withheld: Tensor | None
    ) -> Tensor | None:
        """Return SZ, ``[I, d]``."""
        weights = weights.to(table.dtype)
        smoothed = (1 - weights.sum(dim=1, keepdim=True)) * table
        for name, weight in zip(graph.modalities, weights.unbind(dim=1), strict=True):
            neighbours = graph.cached(similarity_graph, {name: 1.0})
            smoothed = smoothed + weight.unsqueeze(1) * self.conv(table, neighbours)
        return smoothed


def interaction_heat(graph: RecGraph, withheld: Tensor | None = None) -> FixedGraph:
    r"""Build R, from items to users, with weights :math:`|N_u|^{-1/4} |N_i|^{-1/2}`.

    Args:
        graph: Training interactions.
        withheld: Positions of interactions that are left out, long ``[n]``, without repeats.
    """
    user = graph.cached(_user)
    weight = torch.ones_like(graph.col, dtype=torch.float32)
    removed = graph.col.new_empty(0) if withheld is None else withheld
    weight.index_fill_(0, removed, 0)
    for index, degree, power in (
        (user, graph.user_degree(), -0.25),
        (graph.col, graph.item_degree(), -0.5),
    ):
        degree = degree - torch.bincount(index[removed], minlength=degree.numel())
        # A node without any other edge gets weight zero, not infinity.
        weight *= degree.clamp(min=1).float().pow(power)[index]
    return graph.cached(item_to_user_graph).reweighted((graph.col, user), weight)


def largest_eigenvalue(graph: RecGraph) -> float:
    r"""Return :math:`\lambda_1` of :math:`R^\top R` with all interactions; 1 without any."""
    if not graph.num_interactions:
        return 1.0
    matrix = scaled_interactions(graph)
    largest = matrix @ right_singular_vectors(matrix, 1)[:, 0].double().numpy()
    return float(largest @ largest)


def _user(graph: RecGraph) -> Tensor:
    return graph.user
