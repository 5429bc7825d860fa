"""How well a model separates true training interactions from noise, as an AUC."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError, DataError
from graphdiff.evaluation.groups import user_groups
from graphdiff.models.base import Recommender
from graphdiff.models.interaction_scores import pair_scores
from graphdiff.schema import INTERACTS
from graphdiff.schema.names import keep_edges, pair_keys
from graphdiff.seeds import torch_seed


def noise_auc(model: Recommender, data: HeteroData) -> dict[str, Any]:
    """Return how well the interaction scores of a model separate truth from noise.

    The scores are those of :meth:`~graphdiff.models.base.Recommender.interaction_scores`.

    Args:
        model: Trained on the training interactions of ``data``, noise included.
        data: The graph, with bool ``is_noise`` ``[E]`` beside the training interactions.

    Returns:
        See :func:`score_auc`.

    Raises:
        DataError: If there are no labels, only one kind of interaction, or the interactions are
            not those that the model was trained on.
    """
    key, order = pair_keys(data, data[INTERACTS].edge_index).cpu().sort()
    graph = model.graph
    if not torch.equal(key, (graph.user * graph.num_items + graph.col).cpu()):
        raise DataError(
            f"the model was trained on {graph.num_interactions} interactions, which are not the "
            f"{key.numel()} of this data; give the graph that it was trained on"
        )
    _, score = model.interaction_scores()
    in_order = torch.empty(score.shape)
    in_order[order] = score.cpu()
    return score_auc(in_order, data)


def score_auc(score: Tensor, data: HeteroData) -> dict[str, Any]:
    """Return how well scores of the training interactions separate truth from noise.

    The AUC is the probability that a true interaction has a higher score than a noisy one, where
    equal scores count half: 0.5 is guessing.

    Args:
        score: ``[E]``, one score per training interaction of ``data``, in its order.
        data: The graph, with bool ``is_noise`` ``[E]`` beside the training interactions.

    Returns:
        ``auc`` over all pairs of a true and a noisy interaction; ``auc_within_users``, the mean of
        the AUCs of the users that have both kinds, missing where no user has; ``users``, their
        number; and under ``groups`` the same for each of
        :func:`~graphdiff.evaluation.groups.user_groups` that has both kinds.

    Raises:
        DataError: If there are no labels, or only one kind of interaction.
    """
    store = data[INTERACTS]
    if "is_noise" not in store:
        raise DataError(
            "the training interactions have no labels is_noise; use SyntheticMultimedia, whose "
            "noise is known, or add some with graphdiff.transforms.InjectNoise before training"
        )
    is_noise, user = store.is_noise.cpu(), store.edge_index[0].cpu()
    score, true = score.double().cpu(), ~is_noise
    found = _figures(score, true, user)
    if found is None:
        raise DataError(
            f"{int(is_noise.sum())} of {is_noise.numel()} training interactions are labelled as "
            "noise; an AUC needs both kinds: see graphdiff.transforms.InjectNoise"
        )
    groups = {}
    for name, members in user_groups(data).items():
        chosen = members[user]
        of_group = _figures(score[chosen], true[chosen], user[chosen])
        if of_group is not None:
            groups[name] = of_group
    return {**found, "groups": groups}


def cross_fitted_scores(
    train: Callable[[HeteroData], Recommender], data: HeteroData, folds: int = 5, seed: int = 0
) -> Tensor:
    """Return a score of each training interaction by a model that was trained without it.

    A model scores the interactions that it was trained on too high, noise included: the fewer
    users share an item, the more of what the model learned about it comes from the interaction in
    question. The interactions are therefore split into folds, and those of each fold are scored by
    a model that was trained on the others. This is the more accurate way to clean a log, at the
    cost of one training per fold; ``model.interaction_scores()`` needs none.

    Args:
        train: Function that creates and trains a model on a graph.
        data: The graph; validation pairs are unchanged.
        folds: Number of folds, and of models.
        seed: Seed of the assignment to folds, any non-negative integer.

    Returns:
        Float32 ``[E]``, in the order of the training interactions, in the unit of
        :meth:`~graphdiff.models.base.Recommender.interaction_scores`: standard deviations above
        the mean score of the catalogue for the user's other items.

    Raises:
        ConfigError: If ``folds`` is not from 2 to the number of training interactions.
    """
    edges = data[INTERACTS].edge_index
    if not 2 <= folds <= edges.size(1):
        raise ConfigError(
            f"folds = {folds} of {edges.size(1)} training interactions; give 2 or more, and no "
            "more than there are interactions"
        )
    # By pair, so that the fold of an interaction does not depend on the order of the edges.
    order = pair_keys(data, edges).cpu().argsort()
    generator = torch.Generator().manual_seed(torch_seed(seed))
    assigned = torch.randperm(order.numel(), generator=generator) % folds
    fold, score = torch.empty_like(assigned), torch.empty(order.numel())
    fold[order] = assigned
    for number in range(folds):
        held_out = (fold == number).to(edges.device)
        rest = copy.copy(data)
        keep_edges(rest[INTERACTS], ~held_out)
        model = train(rest).eval()
        user, item = edges[:, held_out].to(model.device)
        with torch.no_grad():
            score[held_out.cpu()] = pair_scores(model, user, item).cpu()
    return score


def auc(score: Tensor, positive: Tensor) -> float:
    """Return the probability that a positive scores higher than a negative.

    Equal scores count half.

    Args:
        score: ``[n]``.
        positive: Bool ``[n]``.

    Returns:
        A number from 0 to 1; NaN where all are of one kind.
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
    """Return the AUC within each group, float64, NaN for groups of one kind.

    It is computed from ranks, as in the Mann-Whitney test: with n positives, whose ranks sum to R,
    and m negatives, it is (R - n(n + 1) / 2) / nm. Equal scores have their mean rank.
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
