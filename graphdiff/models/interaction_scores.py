"""How much a model believes the interactions it was trained on."""

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

# Entries of the rows that are encoded at a time, and items that scores are compared with.
CHUNK_ENTRIES, REFERENCE_ITEMS = 2**18, 512


def observed_scores(model: Recommender, user: Tensor) -> tuple[Rows, Tensor]:
    """See :meth:`graphdiff.models.base.Recommender.interaction_scores`.

    Args:
        model: In eval mode.
        user: Long ``[B]``, checked.
    """
    rows = model.graph.rows(user)
    return rows, pair_scores(model, user[rows.row], rows.item)


def pair_scores(model: Recommender, user: Tensor, item: Tensor) -> Tensor:
    """How much a model believes that these users have these items, by the users' other items.

    Args:
        model: In eval mode.
        user: Long ``[P]``, checked.
        item: Long ``[P]``, whether or not the users had them in training.

    Returns:
        Float32 ``[P]``, as :meth:`~graphdiff.models.base.Recommender.interaction_scores` tells it.
    """
    tables, generator = model.cached_tables(), torch.Generator().manual_seed(0)
    reference = torch.randperm(model.num_items, generator=generator)[:REFERENCE_ITEMS]
    reference = reference.to(model.device)
    inner = model.scores_by_inner_product()
    score_pairs = _by_vectors if inner else _by_blocks
    score = torch.empty(item.numel(), device=model.device)
    cost = model.graph.user_degree()[user].clamp(min=1)
    for part in _chunks(cost, reference.numel() if inner else model.num_items):
        query = _query(model, user[part], item[part])
        own, others = score_pairs(model, query, tables, item[part], reference)
        spread, mean = torch.std_mean(others.float(), dim=1, correction=0)
        # Where all items score alike, none is believed more than another.
        score[part] = (own.float() - mean) / torch.where(spread > 0, spread, torch.inf)
    return score


def _chunks(cost: Tensor, width: int) -> Iterator[slice]:
    """Slices of pairs with rows of so many items, long ``[P]``, each of so few that rows and
    scores (``width`` of a pair) fit."""
    cost = cost.cumsum(0).cpu()
    start, most = 0, max(1, BLOCK_SCORES // width)
    while start < cost.numel():
        before = int(cost[start - 1]) if start else 0
        stop = int(torch.searchsorted(cost, before + CHUNK_ENTRIES, right=True))
        stop = min(max(stop, start + 1), start + most)
        yield slice(start, stop)
        start = stop


def _query(model: Recommender, user: Tensor, item: Tensor) -> Query:
    """One row for each pair: the user's items, without the pair's own where the model folds in."""
    rows = model.graph.rows(user)
    if not model.folds_in:
        return Query(rows, user)
    kept = rows.item != item[rows.row]
    return Query(Rows(rows.row[kept], rows.item[kept], rows.num))


def _by_vectors(
    model: Recommender, query: Query, tables: Tables, item: Tensor, reference: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores ``[P]`` of each row's item and ``[P, R]`` of the reference, without ``[P, I]``."""
    vectors = model.user_vectors(query, tables)
    own = (vectors * tables.item[item]).sum(dim=1)
    others = vectors @ tables.item[reference].t()
    if tables.bias is not None:
        own, others = own + tables.bias[item], others + tables.bias[reference]
    return own, others


def _by_blocks(
    model: Recommender, query: Query, tables: Tables, item: Tensor, reference: Tensor
) -> tuple[Tensor, Tensor]:
    """The same for scores that are no inner product: of all items, ``[P, I]``."""
    score = model.scorer(query, tables)(0, model.num_items)
    return score.gather(1, item.unsqueeze(1)).squeeze(1), score[:, reference]
