"""Scores of training interactions: how credible a model finds each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.models.query import Query
from graphdiff.nn.topk import BLOCK_SCORES

if TYPE_CHECKING:
    from graphdiff.models.base import Recommender
    from graphdiff.models.table_cache import Tables

# Entries of the rows that are encoded at a time, and items that a score is compared with.
CHUNK_ENTRIES, REFERENCE_ITEMS = 2**18, 512


def observed_scores(model: Recommender, user: Tensor) -> tuple[Rows, Tensor]:
    """Score the training interactions of users.

    See :meth:`graphdiff.models.base.Recommender.interaction_scores`.

    Args:
        model: In evaluation mode.
        user: Long ``[B]``, in range.
    """
    rows = model.graph.rows(user)
    return rows, pair_scores(model, user[rows.row], rows.item)


def pair_scores(model: Recommender, user: Tensor, item: Tensor) -> Tensor:
    """Score pairs of a user and an item by the user's other items.

    Args:
        model: In evaluation mode.
        user: Long ``[P]``, in range.
        item: Long ``[P]``; training interactions of the users, or not.

    Returns:
        Float32 ``[P]``, on the scale of
        :meth:`~graphdiff.models.base.Recommender.interaction_scores`.
    """
    tables, generator = model.cached_tables(), torch.Generator().manual_seed(0)
    reference = torch.randperm(model.num_items, generator=generator)[:REFERENCE_ITEMS]
    reference = reference.to(model.device)
    inner = model.scores_by_inner_product()
    score_pairs = _by_inner_product if inner else _by_blocks
    score = torch.empty(item.numel(), device=model.device)
    cost = model.graph.user_degree()[user].clamp(min=1)
    for part in _chunks(cost, reference.numel() if inner else model.num_items):
        query = _query_without(model, user[part], item[part])
        own, others = score_pairs(model, query, tables, item[part], reference)
        spread, mean = torch.std_mean(others.float(), dim=1, correction=0)
        # Where all items have the same score, none is more credible than another.
        score[part] = (own.float() - mean) / torch.where(spread > 0, spread, torch.inf)
    return score


def _chunks(cost: Tensor, width: int) -> Iterator[slice]:
    """Yield slices of pairs whose rows and scores fit into memory.

    Args:
        cost: Number of items of each pair's row, long ``[P]``.
        width: Number of scores per pair.
    """
    cost = cost.cumsum(0).cpu()
    start, most = 0, max(1, BLOCK_SCORES // width)
    while start < cost.numel():
        before = int(cost[start - 1]) if start else 0
        stop = int(torch.searchsorted(cost, before + CHUNK_ENTRIES, right=True))
        stop = min(max(stop, start + 1), start + most)
        yield slice(start, stop)
        start = stop


def _query_without(model: Recommender, user: Tensor, item: Tensor) -> Query:
    """Return one row per pair: the user's items, without the pair's own if the model folds in."""
    rows = model.graph.rows(user)
    if not model.folds_in:
        return Query(rows, user)
    kept = rows.item != item[rows.row]
    return Query(Rows(rows.row[kept], rows.item[kept], rows.num))


def _by_inner_product(
    model: Recommender, query: Query, tables: Tables, item: Tensor, reference: Tensor
) -> tuple[Tensor, Tensor]:
    """Return scores ``[P]`` of each row's item and ``[P, R]`` of the reference items, without
    computing ``[P, I]``."""
    vectors = model.user_vectors(query, tables)
    own = (vectors * tables.item[item]).sum(dim=1)
    others = vectors @ tables.item[reference].t()
    if tables.bias is not None:
        own, others = own + tables.bias[item], others + tables.bias[reference]
    return own, others


def _by_blocks(
    model: Recommender, query: Query, tables: Tables, item: Tensor, reference: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the same for scores that are not inner products, from all scores ``[P, I]``."""
    score = model.scorer(query, tables)(0, model.num_items)
    return score.gather(1, item.unsqueeze(1)).squeeze(1), score[:, reference]
