"""LGMRec: local graphs of interactions, and global hypergraphs learned from content."""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from graphdiff.graph.message_graphs import item_to_user_graph, user_item_graph
from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.propagation import FixedConv, mean_layer, propagate
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.nn.losses import bpr_loss, log_partition

# Features up to this width are propagated once, unprojected; wider ones in each step, projected.
MAX_FIXED_FEATURES = 256


class LGMRecConfig(ModelConfig):
    """Settings of :class:`LGMRec`; the defaults are the authors' for Amazon Baby."""

    num_layers: int = Field(2, ge=0, description="Layers on the user-item graph, of embeddings.")
    num_modality_layers: int = Field(
        2, ge=0, description="Layers on the user-item graph, of features."
    )
    num_hyper_layers: int = Field(1, ge=1, description="Layers on the hypergraphs.")
    num_hyperedges: int = Field(4, ge=1, description="Hyperedges of each modality.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout of the hyperedges' memberships.")
    hyper_weight: float = Field(0.3, ge=0, description="Weight α of the global embeddings.")
    contrastive: float = Field(
        1e-4, ge=0, description="Weight of the contrastive loss, which is summed over the batch."
    )
    regularization: float = Field(
        1e-6, ge=0, description="Weight of the norms of the batch's final embeddings."
    )
    temperature: float = Field(
        0.2, gt=0, description="τ of the memberships and of the contrastive loss."
    )


class Hypergraph(NamedTuple):
    """The global embeddings of one modality in factored form, ``member @ edge``.

    Attributes:
        member: Memberships of users, ``[U, K]``, and of items, ``[I, K]``.
        edge: Embeddings of hyperedges, ``[K, d]``.
    """

    member: tuple[Tensor, Tensor]
    edge: Tensor


# A selection of users and a selection of items.
Nodes = tuple[Tensor | slice, Tensor | slice]
USERS, ITEMS = 0, 1


class LGMRec(Recommender):
    r"""The LGMRec model from `"LGMRec: Local and Global Graph Learning for Multimodal
    Recommendation" <https://arxiv.org/abs/2312.16400>`_.

    *Local.* LightGCN's embeddings :math:`\bar{\mathbf{e}}` and, for each modality m, the projected
    features of the items (for users, the mean over their items) after L layers on the user-item
    graph:

    .. math::
        H_m = \hat{A}^L \begin{bmatrix} D_u^{-1} A X_m \\ X_m \end{bmatrix} P_m .

    *Global.* With learned hyperedges :math:`V_m \in \mathbb{R}^{F_m \times K}`, the memberships of
    items and users are

    .. math::
        B^i_m = \mathrm{softmax}\big((X_m V_m + \mathbf{g}) / \tau\big), \qquad
        B^u_m = \mathrm{softmax}\big((A X_m V_m + \mathbf{g}') / \tau\big)

    with Gumbel noise :math:`\mathbf{g}` and dropout. Embeddings pass from items to hyperedges and
    from hyperedges to items and users: starting from :math:`G^i_m = \bar{E}^i`, each layer computes
    :math:`C_m = B^{i\top}_m G^i_m,\ G^i_m \leftarrow B^i_m C_m,\ G^u_m \leftarrow B^u_m C_m`.

    *Scores and loss.*

    .. math::
        \mathbf{z} &= \bar{\mathbf{e}} + \sum_m \frac{\mathbf{h}_m}{\lVert\mathbf{h}_m\rVert} +
        \alpha \frac{\sum_m \mathbf{g}_m}{\lVert\sum_m \mathbf{g}_m\rVert}, \qquad
        \hat{y}_{ui} = \mathbf{z}_u \cdot \mathbf{z}_i, \\
        \mathcal{L} &= \mathcal{L}_{BPR} - \lambda_c \sum_{m < m'} \sum_b \log
        \frac{e^{\cos(\mathbf{g}_{bm}, \mathbf{g}_{bm'}) / \tau}}
        {\sum_n e^{\cos(\mathbf{g}_{bm}, \mathbf{g}_{nm'}) / \tau}} +
        \tfrac{\lambda}{B} \sum \lVert Z \rVert_F,

    where b runs over the users of the batch and n over all users, and likewise for items.

    As in the authors' code, features are frozen and the contrastive loss is one-sided. Ours: no
    noise and no dropout at inference (their code draws noise there too); with more than two
    modalities each pair is contrasted; a node is masked in a modality that it lacks (an item by its
    feature mask, a user if all of the user's items lack it). Constant terms are computed once, and
    cosines with all nodes are computed in the K dimensions of the memberships, which is equal.

    The contrastive loss is a sum over the batch, so with the default weight and batches of 2048 it
    outweighs BPR. Where content is weakly related to preferences this slows training down: tune
    its weight first.

    Args:
        config: :class:`LGMRecConfig`.
        graph: Training interactions and item content.

    Raises:
        ConfigError: If the data has no modality.
    """

    Config: ClassVar[type[ModelConfig]] = LGMRecConfig
    batch_over: ClassVar[Literal["users", "interactions"]] = "interactions"
    uses_content: ClassVar[bool] = True
    uses_similarity: ClassVar[bool] = False
    config: LGMRecConfig

    def __init__(self, config: LGMRecConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self._require_content()
        channels = config.hidden_channels
        self.user_embedding = torch.nn.Embedding(graph.num_users, channels)
        self.item_embedding = torch.nn.Embedding(graph.num_items, channels)
        width = {name: graph.features(name)[0].size(1) for name in graph.modalities}
        self.project = torch.nn.ParameterDict(
            {name: torch.empty(width[name], channels) for name in graph.modalities}
        )
        self.hyperedges = torch.nn.ParameterDict(
            {name: torch.empty(width[name], config.num_hyperedges) for name in graph.modalities}
        )
        self.conv = FixedConv()
        self.reset_parameters()

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries, around the best of the paper."""
        return {
            "hidden_channels": [64, 128],
            "lr": [1e-3, 2e-3],
            "num_layers": [2, 3],
            "num_modality_layers": [1, 2, 3],
            "num_hyperedges": [4, 16, 64],
            "dropout": [0.2, 0.5, 0.8],
            "hyper_weight": [0.1, 0.2, 0.3, 0.6, 1.0],
            "contrastive": [0.0, 1e-6, 1e-5, 1e-4],
            "regularization": [1e-6, 1e-4, 1e-2],
        }

    def reset_parameters(self) -> None:
        """Reset all learnable parameters (Xavier uniform)."""
        for parameter in self.parameters():
            torch.nn.init.xavier_uniform_(parameter)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return BPR plus hypergraph contrast plus an L2 penalty; ``batch`` is long ``[B]``."""
        config, size = self.config, batch.numel()
        user, positive = self.graph.user_of(batch), self.graph.col[batch]
        negative = sample_negatives(self.graph, user, generator)
        users, at_user, user_count = user.unique(return_inverse=True, return_counts=True)
        items, at_item = torch.cat([positive, negative]).unique(return_inverse=True)

        final_user, final_item, hyper = self._embeddings((users, items), generator)
        chosen = (
            final_user[at_user],
            final_item[at_item[:size]],
            final_item[at_item[size:]],
        )
        norms = torch.stack([embedding.norm() for embedding in chosen])
        loss = bpr_loss(*chosen) + config.regularization * norms.sum() / size
        if config.contrastive and len(hyper) > 1:
            positives, item_count = positive.unique(return_counts=True)
            loss = loss + config.contrastive * (
                self._contrast(hyper, users, user_count, USERS)
                + self._contrast(hyper, positives, item_count, ITEMS)
            )
        return loss

    def tables(self) -> Tables:
        """Return the final embeddings of all users and items, without noise."""
        user, item, _ = self._embeddings((slice(None), slice(None)), None)
        return Tables(item=item, user=user)

    def _embeddings(
        self, nodes: Nodes, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Hypergraph]]:
        """Return the final embeddings of the selected users and items and the hypergraph of each
        modality; with noise and dropout if a generator is given."""
        both = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        both = mean_layer(
            propagate(both, self.graph.cached(user_item_graph), self.config.num_layers)
        )
        content = both.split([self.num_users, self.num_items])
        hyper = {
            name: self._hypergraph(name, content[ITEMS], generator)
            for name in self.graph.modalities
        }
        final = [table[chosen] for table, chosen in zip(content, nodes, strict=True)]
        for name in self.graph.modalities:
            for kind, local in enumerate(self._local(name, nodes)):
                final[kind] = final[kind] + F.normalize(local, dim=1)
        for kind in (USERS, ITEMS):
            whole = torch.stack(
                [one.member[kind][nodes[kind]] @ one.edge for one in hyper.values()]
            )
            final[kind] = final[kind] + self.config.hyper_weight * F.normalize(whole.sum(0), dim=1)
        return final[USERS], final[ITEMS], hyper

    # --- local ---------------------------------------------------------------------------------

    def _local(self, modality: str, nodes: Nodes) -> list[Tensor]:
        """Return H_m of the selected users and of the selected items, ``[N, d]`` each."""
        features, project = self.graph.features(modality)[0], self.project[modality]
        if features.size(1) > MAX_FIXED_FEATURES:
            tables = _propagated(
                self.graph, modality, features @ project, self.config.num_modality_layers
            )
            return [table[chosen] for table, chosen in zip(tables, nodes, strict=True)]
        fixed = self.graph.cached(_propagated_features, modality, self.config.num_modality_layers)
        return [table[chosen] @ project for table, chosen in zip(fixed, nodes, strict=True)]

    # --- global --------------------------------------------------------------------------------

    def _hypergraph(
        self, modality: str, content_item: Tensor, generator: torch.Generator | None
    ) -> Hypergraph:
        logit = self.graph.features(modality)[0] @ self.hyperedges[modality]
        has_user, has_item = self._has(modality)
        of_user = self._belong(
            self.conv(logit, self.graph.cached(item_to_user_graph, normalized=False)),
            has_user,
            generator,
        )
        of_item = self._belong(logit, has_item, generator)
        edge = of_item.t() @ content_item
        for _ in range(self.config.num_hyper_layers - 1):
            edge = of_item.t() @ (of_item @ edge)
        return Hypergraph((of_user, of_item), edge)

    def _has(self, modality: str) -> tuple[Tensor, Tensor]:
        """Return the masks of users and items that have a modality, bool ``[U]`` and ``[I]``."""
        return self.graph.cached(_users_with, modality), self.graph.features(modality)[1]

    def _belong(self, logit: Tensor, has: Tensor, generator: torch.Generator | None) -> Tensor:
        dropout = self.config.dropout
        if generator is not None:
            # The negative logarithm of an exponential variate is a Gumbel variate.
            noise = torch.empty_like(logit).exponential_(generator=generator)
            logit = logit - noise.clamp(min=torch.finfo(noise.dtype).tiny).log()
        member = (logit / self.config.temperature).softmax(dim=1) * has.unsqueeze(1)
        if generator is None or dropout == 0:
            return member
        kept = torch.empty_like(member).bernoulli_(1 - dropout, generator=generator)
        return member * kept / (1 - dropout)

    def _contrast(
        self, hyper: dict[str, Hypergraph], nodes: Tensor, count: Tensor, kind: int
    ) -> Tensor:
        r"""Return the contrastive loss over all pairs of modalities, each of ``nodes`` weighted by
        its ``count`` in the batch.

        .. math::
            \cos(\mathbf{g}_{bm}, \mathbf{g}_{nm'}) =
            \frac{\mathbf{g}_{bm} C_{m'}^\top}{\lVert\mathbf{g}_{bm}\rVert} \cdot
            \frac{\mathbf{b}_{nm'}}{\lVert\mathbf{b}_{nm'} C_{m'}\rVert}
        """
        total = self.item_embedding.weight.new_zeros(())
        for first, second in combinations(self.graph.modalities, 2):
            has = self._has(second)[kind]
            both = (self._has(first)[kind] & has)[nodes]
            chosen, weight = nodes[both], count[both]
            edge, table = hyper[second].edge, hyper[second].member[kind]
            query = F.normalize(hyper[first].member[kind][chosen] @ hyper[first].edge, dim=1)
            query = query @ edge.t() / self.config.temperature
            table = table / (table @ edge).norm(dim=1, keepdim=True).clamp(min=1e-12)
            positive = (query * table[chosen]).sum(dim=1)
            total = total + (weight * (log_partition(query, table[has]) - positive)).sum()
        return total


def _propagated_features(graph: RecGraph, modality: str, num_layers: int) -> tuple[Tensor, ...]:
    return _propagated(graph, modality, graph.features(modality)[0], num_layers)


def _propagated(
    graph: RecGraph, modality: str, features: Tensor, num_layers: int
) -> tuple[Tensor, ...]:
    """Propagate item features ``[I, F]``; return those of users and of items after all layers."""
    conv, items_of_users = FixedConv(), graph.cached(item_to_user_graph, normalized=False)
    has_item = graph.features(modality)[1]
    number = conv(has_item.float().unsqueeze(1), items_of_users)
    both = torch.cat([conv(features, items_of_users) / number.clamp(min=1), features])
    for _ in range(num_layers):
        both = conv(both, graph.cached(user_item_graph))
    return both.split([graph.num_users, graph.num_items])


def _users_with(graph: RecGraph, modality: str) -> Tensor:
    """Return which users have an item with a modality, bool ``[U]``."""
    has = graph.features(modality)[1].float().unsqueeze(1)
    return FixedConv()(has, graph.cached(item_to_user_graph, normalized=False)).squeeze(1) > 0
