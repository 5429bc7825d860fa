"""Does a model tell the training interactions that are true from those that are noise?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.errors import DataError
from graphdiff.groups import user_groups
from graphdiff.models.base import Recommender
from graphdiff.schema import INTERACTS
from graphdiff.schema.names import pair_keys


def noise_auc(model: Recommender, data: HeteroData) -> dict[str, Any]:
    """How well :meth:`~graphdiff.models.base.Recommender.denoise` tells truth from noise.

    An AUC is the chance that a true interaction scores higher than a noisy one, where equal scores
    count half: 0.5 is guessing.

    Args:
        model: Trained on the training interactions of ``data``, noise included.
        data: The graph, with bool ``is_noise`` ``[E]`` beside the training interactions.

    Returns:
        ``auc`` over all pairs of a true and a noisy interaction; ``auc_within_users``, the mean of
        the AUCs of the users that have both kinds, left out where nobody has; ``users``, their
        number; and under ``groups`` the same for each of :func:`~graphdiff.groups.user_groups`
        that has both kinds.

    Raises:
        DataError: If there are no labels, only one kind of interaction, or others than the model
            was trained on.
    """
    is_noise, user = _labels(model, data)
    _, score = model.denoise()
    score, true = score.double().cpu(), ~is_noise
    found = _figures(score, true, user)
    if found is None:
        raise DataError(
            f"{int(is_noise.sum())} of {is_noise.numel()} training interactions are labelled as "
            "noise; to tell the kinds apart there must be both: see InjectNoise"
        )
    groups = {}
    for name, members in user_groups(data).items():
        chosen = members[user]
        of_group = _figures(score[chosen], true[chosen], user[chosen])
        if of_group is not None:
            groups[name] = of_group
    return {**found, "groups": groups}


def auc(score: Tensor, positive: Tensor) -> float:
    """The chance that a positive scores higher than a negative; equal scores count half.

    Args:
        score: ``[n]``.
        positive: Bool ``[n]``.

    Returns:
        From 0 to 1; NaN where all are of one kind.
    """
    return _auc_of_groups(score, positive, torch.zeros_like(positive, dtype=torch.long))[0].item()


def _figures(score: Tensor, true: Tensor, user: Tensor) -> dict[str, Any] | None:
    if true.all() or not true.any():
        return None
    within = _auc_of_groups(score, true, user)
    within = within[~within.isnan()]
    found = {"auc": auc(score, true), "users": within.numel()}
    return found | ({"auc_within_users": within.mean().item()} if within.numel() else {})


def _auc_of_groups(score: Tensor, positive: Tensor, group: Tensor) -> Tensor:
    """The AUC within each group, float64; NaN for those of one kind.

    By ranks, as in the Mann-Whitney test: with n positives, whose ranks sum to R, and m negatives,
    it is (R - n(n + 1) / 2) / nm. Equal scores have their mean rank.
    """
    order = score.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    score, positive, group = score[order], positive[order], group[order]
    size = torch.bincount(group)
    start = size.cumsum(0) - size
    new = torch.ones_like(positive)
    new[1:] = (score[1:] != score[:-1]) | (group[1:] != group[:-1])
    tie = new.cumsum(0) - 1
    count = torch.bincount(tie)
    mean_rank = count.cumsum(0) - (count.double() - 1) / 2
    rank = mean_rank[tie] - start[group]
    n = torch.bincount(group[positive], minlength=size.numel()).double()
    ranks = torch.zeros_like(n).index_add_(0, group[positive], rank[positive])
    return (ranks - n * (n + 1) / 2) / (n * (size - n))


def _labels(model: Recommender, data: HeteroData) -> tuple[Tensor, Tensor]:
    """Labels and users of the interactions, in the order of the model's."""
    store = data[INTERACTS]
    if "is_noise" not in store:
        raise DataError(
            "the training interactions have no labels is_noise; take SyntheticMultimedia, whose "
            "noise is known, or add some with graphdiff.transforms.InjectNoise before training"
        )
    key, order = pair_keys(data, store.edge_index).cpu().sort()
    graph = model.graph
    if not torch.equal(key, (graph.user * graph.num_items + graph.col).cpu()):
        raise DataError(
            f"the model was trained on {graph.num_interactions} interactions, which are not the "
            f"{key.numel()} of this data; give the graph that it was trained on"
        )
    return store.is_noise.cpu()[order], store.edge_index[0].cpu()[order]
