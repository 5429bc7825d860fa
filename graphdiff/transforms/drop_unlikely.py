"""Removal of the training interactions that a model finds least credible."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, ITEM, USER
from graphdiff.schema.names import keep_edges, pair_keys


class ScoresInteractions(Protocol):
    """A trained model that scores its training interactions."""

    def interaction_scores(self) -> tuple[Any, Tensor]:
        """Return the rows of all users, with ``row`` and ``item`` ``[E]``, and scores ``[E]``."""


@functional_transform("drop_unlikely")
class DropUnlikely(BaseTransform):
    """Remove the least credible share of the training interactions.

    Credibility is the score that a model trained on the interactions gives them; see
    :meth:`~graphdiff.models.base.Recommender.interaction_scores`. A user's most credible
    interaction is always kept, so that no user becomes cold; this choice is ours. Items may lose
    all their interactions and are then cold.

    Validation and test pairs do not change. A larger share removes a superset of what a smaller one
    does. Of equally credible interactions the first by user and item are removed first.

    Args:
        model: Trained on the training interactions of the data.
        share: Share of all training interactions to remove, from 0 to below 1.

    Raises:
        ConfigError: If ``model`` does not score interactions or ``share`` is out of range.
        DataError: If the model was trained on other interactions, or the share would leave a user
            without any.

    Example:
        >>> from graphdiff import LightGCN
        >>> from graphdiff.datasets import SyntheticMultimedia
        >>> data = SyntheticMultimedia(num_users=60, num_items=40)[0]
        >>> cleaned = DropUnlikely(LightGCN.from_data(data), share=0.1)(data)
        >>> removed = data.num_edges - cleaned.num_edges
        >>> removed == round(0.1 * data.num_edges)
        True
    """

    def __init__(self, model: ScoresInteractions, share: float) -> None:
        if not callable(getattr(model, "interaction_scores", None)):
            raise ConfigError(
                f"model is of type {type(model).__name__}; give a trained graphdiff model"
            )
        is_number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not (is_number and math.isfinite(share) and 0 <= share < 1):
            raise ConfigError(
                f"share is {share!r}; give a share of the training interactions, from 0 to below 1"
            )
        self.model, self.share = model, share

    def forward(self, data: HeteroData) -> HeteroData:
        """Remove training interactions."""
        store = data[INTERACTS]
        key = pair_keys(data, store.edge_index).cpu()
        score = self._scores(data, key)
        removed = self._least_credible(data[USER].num_nodes, store.edge_index[0].cpu(), key, score)
        kept = torch.ones(key.numel(), dtype=torch.bool)
        kept[removed] = False
        keep_edges(store, kept.to(store.edge_index.device))
        return data

    def _scores(self, data: HeteroData, key: Tensor) -> Tensor:
        """Return the scores of the training interactions with the given keys, ``[E]``."""
        rows, score = self.model.interaction_scores()
        known, by_key = (rows.row * data[ITEM].num_nodes + rows.item).cpu().sort()
        ordered, order = key.sort()
        if not torch.equal(known, ordered):
            raise DataError(
                f"the model was trained on {known.numel()} interactions, which are not the "
                f"{key.numel()} of this data; give the graph that it was trained on"
            )
        return torch.empty(key.numel()).index_copy_(0, order, score.float().cpu()[by_key])

    def _least_credible(self, num_users: int, user: Tensor, key: Tensor, score: Tensor) -> Tensor:
        """Return the positions of the interactions to remove."""
        by_key = key.argsort()
        ascending = by_key[score[by_key].argsort(stable=True)]
        # The last place of each user in this order is that of the most credible interaction.
        place, owner = torch.arange(len(ascending)), user[ascending]
        last = torch.full((num_users,), -1).scatter_reduce(0, owner, place, "amax")
        removable = ascending[place != last[owner]]
        wanted = round(self.share * key.numel())
        if wanted > removable.numel():
            most = math.floor(1000 * removable.numel() / key.numel()) / 1000
            raise DataError(
                f"share {self.share:g} is {wanted} of {key.numel()} training interactions, but "
                f"only {removable.numel()} can be removed, as every user keeps one; give a share "
                f"of at most {most:g}"
            )
        return removable[:wanted]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, share={self.share:g})"
