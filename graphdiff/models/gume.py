"""GUME: MGCN on a user-item graph with item-item edges, and with learned user modalities."""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.propagation import FixedGraph, mean_layer, propagate
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Tables
from graphdiff.models.mgcn import MGCN, MGCNConfig
from graphdiff.models.multiview import nodes_with_views
from graphdiff.nn.losses import bpr_loss, info_nce_loss, l2_penalty


class GUMEConfig(MGCNConfig):
    """Settings of :class:`GUME`; the defaults are the authors' for Amazon Baby."""

    num_layers: int = Field(3, ge=0, description="Layers on the enhanced user-item graph.")
    num_item_layers: int = Field(2, ge=0, description="Layers on each item-item graph.")
    regularization: float = Field(
        1e-5, ge=0, description="Weight of the squared norm of the batch's final embeddings."
    )
    temperature: float = Field(0.4, gt=0, description="τ of the contrastive loss.")
    alignment: float = Field(
        0.1, ge=0, description="Weight of the loss that aligns mean and variance of the modalities."
    )
    user_contrastive: float = Field(
        0.01, ge=0, description="Weight of the contrastive losses of the users' modalities."
    )
    user_temperature: float = Field(0.1, gt=0, description="τ of these losses.")
    user_regularization: float = Field(
        0.1,
        ge=0,
        description="Weight of the squared norm of the positives in the extended modalities.",
    )
    noise: float = Field(0.1, ge=0, description="Length of the noise that perturbs views.")


class Embeddings(NamedTuple):
    """Embeddings of some users followed by some items, ``[N, d]`` each.

    Attributes:
        content: Extended ID embeddings.
        side: Integrated explicit modality embeddings.
        extended: Extended modality embeddings, averaged over the modalities.
        views: Explicit embeddings of each modality, of *all* nodes, ``[U + I, V, d]``.
    """

    content: Tensor
    side: Tensor
    extended: Tensor
    views: Tensor


class GUME(MGCN):
    r"""The GUME model from `"GUME: Graphs and User Modalities Enhancement for Long-Tail Multimodal
    Recommendation" <https://arxiv.org/abs/2407.12338>`_.

    *Enhanced graph.* Items that are among each other's k nearest neighbours in *every* modality
    are connected in the user-item graph, so that tail items have more neighbours. With A the
    adjacency of this graph and D its row sums, messages pass over
    :math:`\hat{A} = D^{-1/2} A D^{-1/2}`.

    *Explicit and extended embeddings.* As in :class:`~graphdiff.models.mgcn.MGCN`,
    :math:`\dot{E}_m = E \odot \sigma(W_m (P_m X_m + \mathbf{p}_m) + \mathbf{b}_m)`, and then

    .. math::
        H^i_m = S_m^L \dot{E}_m, \qquad H^u_m = \hat{A}_{ui} H^i_m, \qquad
        \bar{E} = \mathrm{mean}_l\, \hat{A}^l \begin{bmatrix} E_u \\ E_i \end{bmatrix}, \qquad
        T = \tfrac{1}{M} \sum_m \mathrm{mean}_l\, \hat{A}^l
        \begin{bmatrix} F_{u,m} \\ H^i_m \end{bmatrix}

    with learned user embeddings :math:`F_{u,m}` of each modality. MGCN's fuser integrates the
    :math:`H_m` into a side embedding :math:`\mathbf{s}`, guided by :math:`\bar{\mathbf{e}}`, and
    :math:`\mathbf{z} = \bar{\mathbf{e}} + \mathbf{s}`.

    *Loss.* With :math:`\tilde{\mathbf{x}} = \mathbf{x} + \mathrm{sign}(\mathbf{x}) \odot \epsilon
    \mathbf{r} / \lVert\mathbf{r}\rVert`, :math:`\mathbf{r}` uniform, drawn for each view,

    .. math::
        \mathcal{L} = \mathcal{L}_{BPR}
        &+ \lambda_c \big[\mathrm{InfoNCE}(\mathbf{s}_u, \bar{\mathbf{e}}_u) +
        \mathrm{InfoNCE}(\mathbf{s}_i, \bar{\mathbf{e}}_i)\big]
        + \lambda_a \textstyle\sum_{m < m'} \big(|\mathrm{Var} H_m - \mathrm{Var} H_{m'}| +
        |\mathrm{Mean} H_m - \mathrm{Mean} H_{m'}|\big) \\
        &+ \lambda_u \big[\mathrm{InfoNCE}(\mathbf{t}_u, \mathbf{s}_u) +
        \mathrm{InfoNCE}(\tilde{\mathbf{s}}_u, \tilde{\mathbf{s}}'_u) +
        \mathrm{InfoNCE}(\tilde{\mathbf{t}}_u, \tilde{\mathbf{t}}'_u)\big]
        + \tfrac{\lambda}{2B} \textstyle\sum \lVert\mathbf{z}\rVert^2
        + \tfrac{\lambda_2}{2B} \sum \lVert\mathbf{t}_i\rVert^2 .

    As in the authors' code, the features are parameters initialised from the data. Ours: data with
    one modality or more than two (their code has an image and a text); items that lack a modality
    are masked as in MGCN and get no further edges.

    Args:
        config: :class:`GUMEConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality.
    """

    Config: ClassVar[type[ModelConfig]] = GUMEConfig
    config: GUMEConfig

    def __init__(self, config: GUMEConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self.user_views = torch.nn.ParameterDict(
            {
                name: torch.empty(graph.num_users, config.hidden_channels)
                for name in graph.modalities
            }
        )
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries: the paper's grid and a few values around it."""
        return {
            "hidden_channels": [64, 128],
            "lr": [1e-3, 2e-3],
            "num_item_layers": [1, 2],
            "temperature": [0.1, 0.2, 0.4],
            "alignment": [1e-3, 1e-2, 1e-1],
            "user_contrastive": [1e-3, 1e-2, 1e-1],
            "user_temperature": [0.1, 0.2],
            "contrastive": [1e-2, 3e-2, 1e-1],
        }

    def reset_parameters(self) -> None:
        """Reset embeddings (Xavier uniform), layers, and features (a copy of the data)."""
        super().reset_parameters()
        if hasattr(self, "user_views"):  # The base class resets before they exist.
            for embedding in self.user_views.values():
                torch.nn.init.xavier_uniform_(embedding)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss above; ``batch`` is long ``[B]``, interactions."""
        config, size = self.config, batch.numel()
        user, positive = self.graph.user_of(batch), self.graph.col[batch]
        negative = sample_negatives(self.graph, user, generator)
        users, at_user, user_count = user.unique(return_inverse=True, return_counts=True)
        items, at_item = torch.cat([positive, negative]).unique(return_inverse=True)
        found = self._parts(users, items)

        final = found.content + found.side
        at_positive, at_negative = (users.numel() + at_item).split(size)
        chosen = final[at_user], final[at_positive], final[at_negative]
        loss = bpr_loss(*chosen) + config.regularization * l2_penalty(*chosen)
        loss = loss + config.user_regularization * l2_penalty(found.extended[at_positive])
        loss = loss + config.alignment * self._align(found.views)
        positives, item_count = at_positive.unique(return_counts=True)
        is_user = torch.arange(users.numel(), device=self.device)
        for nodes, count in ((is_user, user_count), (positives, item_count)):
            side, content = found.side[nodes], found.content[nodes]
            loss = loss + config.contrastive * info_nce_loss(
                side, content, config.temperature, count
            )
        return loss + config.user_contrastive * self._user_contrast(
            found.side[is_user], found.extended[is_user], user_count, generator
        )

    def tables(self) -> Tables:
        """Return the final embeddings of all users and items."""
        found = self._parts(slice(None), slice(None))
        users, items = (found.content + found.side).split([self.num_users, self.num_items])
        return Tables(item=items, user=users)

    def _parts(self, user: Tensor | slice, item: Tensor | slice) -> Embeddings:
        """Return the embeddings of the selected users followed by the selected items."""
        graph, config = self.graph, self.config
        enhanced, to_user = graph.cached(enhanced_graphs)
        sizes = [self.num_users, self.num_items]

        def selected(table: Tensor) -> Tensor:
            of_user, of_item = table.split(sizes)
            return torch.cat([of_user[user], of_item[item]])

        both = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        content = selected(mean_layer(propagate(both, enhanced, config.num_layers)))
        smooth = [self._smooth(view, n) for n, view in enumerate(self.item_views())]
        extended = [
            selected(mean_layer(propagate(torch.cat([own, view]), enhanced, config.num_layers)))
            for own, view in zip(self.user_views.values(), smooth, strict=True)
        ]
        of_item = torch.cat(smooth, dim=1)
        views = torch.cat([self.conv(of_item, to_user), of_item]).unflatten(1, (len(smooth), -1))
        has = torch.cat(graph.cached(nodes_with_views, self.has_views))
        side = self.fuse(content, selected(views), selected(has), None)
        return Embeddings(content, side, torch.stack(extended).mean(dim=0), views)

    @staticmethod
    def _align(views: Tensor) -> Tensor:
        """Return the differences of mean and variance between each two of the views."""
        flat = views.transpose(0, 1).flatten(1)
        mean, variance = flat.mean(dim=1), flat.var(dim=1)
        pairs = list(combinations(range(views.size(1)), 2))
        total = views.new_zeros(())
        for n, m in pairs:
            total = total + (mean[n] - mean[m]).abs() + (variance[n] - variance[m]).abs()
        return total

    def _user_contrast(
        self, side: Tensor, extended: Tensor, count: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the contrastive losses of the users' modalities; all ``[n, d]``, ``count``
        ``[n]``."""
        temperature = self.config.user_temperature
        loss = info_nce_loss(extended, side, temperature, count)
        for embedding in (side, extended):
            views = [self._perturbed(embedding, generator) for _ in range(2)]
            loss = loss + info_nce_loss(views[0], views[1], temperature, count)
        return loss

    def _perturbed(self, x: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return x + self.config.noise * x.sign() * F.normalize(noise, dim=1)


def enhanced_graphs(graph: RecGraph) -> tuple[FixedGraph, FixedGraph]:
    """Build the user-item graph with edges between items that are neighbours in every modality.

    Returns:
        The graph over ``U + I`` nodes, and its part from items to users.
    """
    keys = [target * graph.num_items + source for source, target in _neighbor_pairs(graph)]
    key, count = torch.cat(keys).unique(return_counts=True)
    shared = key[count == len(keys)]
    from_item, to_item = shared % graph.num_items, shared // graph.num_items
    user, item = graph.user, graph.col + graph.num_users
    source = torch.cat([item, user, from_item + graph.num_users])
    target = torch.cat([user, item, to_item + graph.num_users])
    num_nodes = graph.num_users + graph.num_items
    degree = torch.bincount(target, minlength=num_nodes).float()
    # A neighbour may have no row of its own: it then sends nothing, as in the authors' code.
    scale = torch.where(degree > 0, degree.rsqrt(), 0)
    weight = scale[source] * scale[target]
    part = slice(0, graph.num_interactions)
    return (
        FixedGraph(torch.stack([source, target]), weight, num_nodes, num_nodes),
        FixedGraph(
            torch.stack([graph.col, graph.user]), weight[part], graph.num_items, graph.num_users
        ),
    )


def _neighbor_pairs(graph: RecGraph) -> list[Tensor]:
    """Return each modality's edges, long ``[2, E]``, without those of items to themselves."""
    edges = [graph.similar(name)[0].long() for name in graph.modalities]
    return [edge_index[:, edge_index[0] != edge_index[1]] for edge_index in edges]
