"""Does a model tell the training interactions that are true from those that are noise?"""

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


def noise_auc(model: Recommender, data: HeteroData) -> dict[str, Any]:
    """Return how well ``model.interaction_scores`` separates true interactions from noise.

    Args:
        model: Trained on the training interactions of ``data``, noise included.
        data: The graph, with bool ``is_noise`` ``[E]`` beside the training interactions.

    Returns:
        As :func:`belief_auc`.

    Raises:
        DataError: If there are no labels, only one kind of interaction, or others than the model
            was trained on.
    """
    key, order = pair_keys(data, data[INTERACTS].edge_index).cpu().sort()
    graph = model.graph
    if not torch.equal(key, (graph.user * graph.num_items + graph.col).cpu()):
        raise DataError(
            f"the model was trained on {graph.num_interactions} interactions, which are not the "
            f"{key.numel()} of this data; give the graph that it was trained on"
        )
    _, score = model.interaction_scores()
    belief = torch.empty(score.shape)
    belief[order] = score.cpu()
    return belief_auc(belief, data)


def belief_auc(belief: Tensor, data: HeteroData) -> dict[str, Any]:
    """How well a belief in the training interactions tells truth from noise.

    An AUC is the chance that a true interaction is believed more than a noisy one, where equal
    beliefs count half: 0.5 is guessing.

    Args:
        belief: ``[E]``, for each training interaction of ``data``, in its order.
        data: The graph, with bool ``is_noise`` ``[E]`` beside the training interactions.

    Returns:
        ``auc`` over all pairs of a true and a noisy interaction; ``auc_within_users``, the mean of
        the AUCs of the users that have both kinds, left out where nobody has; ``users``, their
        number; and under ``groups`` the same for each of
        :func:`~graphdiff.evaluation.groups.user_groups` that has both kinds.

    Raises:
        DataError: If there are no labels, or only one kind of interaction.
    """
    store = data[INTERACTS]
    if "is_noise" not in store:
        raise DataError(
            "the training interactions have no labels is_noise; take SyntheticMultimedia, whose "
            "noise is known, or add some with graphdiff.transforms.InjectNoise before training"
        )
    is_noise, user = store.is_noise.cpu(), store.edge_index[0].cpu()
    score, true = belief.double().cpu(), ~is_noise
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


def cross_fitted(
    train: Callable[[HeteroData], Recommender], data: HeteroData, folds: int = 5, seed: int = 0
) -> Tensor:
    """How much each training interaction is believed by a model that has never seen it.

    A model believes what it was trained on, noise too: fewer people share an item, the more it has
    learned of it from the very interaction in question. So the interactions are dealt into folds,
    and those of each are judged by a model that was trained without them. That is what cleaning a
    log asks for, at the price of as many trainings; ``model.interaction_scores()`` is the
    quick alternative.

    Args:
        train: Makes and trains a model on a graph.
        data: The graph; validation pairs stay as they are.
        folds: Number of folds, and of models.
        seed: Deals the folds.

    Returns:
        Float32 ``[E]``, in the order of the training interactions, as
        :meth:`~graphdiff.models.base.Recommender.interaction_scores` gives it: standard deviations
        above the mean over the catalogue.

    Raises:
        ConfigError: If ``folds`` is not from 2 to the number of training interactions.
    """
    edges = data[INTERACTS].edge_index
    if not 2 <= folds <= edges.size(1):
        raise ConfigError(
            f"folds = {folds} of {edges.size(1)} training interactions; give 2 or more, and no "
            "more than there are interactions"
        )
    # By pair: the fold of an interaction does not follow from the order of the edges.
    order = pair_keys(data, edges).cpu().argsort()
    dealt = torch.randperm(order.numel(), generator=torch.Generator().manual_seed(seed)) % folds
    fold, belief = torch.empty_like(dealt), torch.empty(order.numel())
    fold[order] = dealt
    for number in range(folds):
        held_out = (fold == number).to(edges.device)
        rest = copy.copy(data)
        keep_edges(rest[INTERACTS], ~held_out)
        model = train(rest).eval()
        user, item = edges[:, held_out].to(model.device)
        with torch.no_grad():
            belief[held_out.cpu()] = pair_scores(model, user, item).cpu()
    return belief


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
