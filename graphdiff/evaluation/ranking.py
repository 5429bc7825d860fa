"""Full-ranking evaluation: every item of the catalogue is a candidate for every place.

Training items are masked; :func:`describe_masking` states what a ranking masks. The metrics are
defined in :mod:`graphdiff.evaluation.metrics` and :mod:`graphdiff.evaluation.beyond_accuracy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.metrics.link_pred import LinkPredMetricData

from graphdiff.autocast import without_autocast
from graphdiff.errors import ConfigError, DataError, GraphDiffError
from graphdiff.evaluation.agreement import check_agreement
from graphdiff.evaluation.beyond_accuracy import beyond_accuracy
from graphdiff.evaluation.metrics import DEFAULT_KS, coverage, user_metrics
from graphdiff.schema import INTERACTS, ITEM, SPLITS, USER, raw_ids

if TYPE_CHECKING:
    import pandas as pd

_SPLIT_NAMES = {"val": "validation", "test": "test"}
_ADVICE = "evaluate a model on the data that it was trained on, before it is updated"


class RecommendsItems(Protocol):
    """A model that recommends items to training users, which is all that evaluation needs."""

    def recommend(
        self,
        user_index: Tensor,
        *,
        k: int,
        exclude_seen: bool = True,
        exclude_index: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the top-k items of each user.

        Args:
            user_index: Int64 ``[B]``.
            k: Items per user.
            exclude_seen: Mask the user's training items.
            exclude_index: Further pairs to mask, ``(row, item)``, int64 ``[P]`` each, where ``row``
                is a position in ``user_index``.

        Returns:
            Item indices, int64 ``[B, k]``, best first, -1 at the end where candidates ran out,
            and their scores ``[B, k]``.
        """


@overload
def evaluate(
    model: RecommendsItems,
    data: HeteroData,
    split: Literal["val", "test"] = "test",
    ks: Sequence[int] = DEFAULT_KS,
    mask_validation: bool = False,
    batch_size: int = 1024,
    progress: bool = False,
    *,
    recommend: Mapping[str, Any] | None = None,
    per_user: Literal[False] = False,
) -> dict[str, float]: ...


@overload
def evaluate(
    model: RecommendsItems,
    data: HeteroData,
    split: Literal["val", "test"] = "test",
    ks: Sequence[int] = DEFAULT_KS,
    mask_validation: bool = False,
    batch_size: int = 1024,
    progress: bool = False,
    *,
    recommend: Mapping[str, Any] | None = None,
    per_user: Literal[True],
) -> pd.DataFrame: ...


def evaluate(
    model: RecommendsItems,
    data: HeteroData,
    split: Literal["val", "test"] = "test",
    ks: Sequence[int] = DEFAULT_KS,
    mask_validation: bool = False,
    batch_size: int = 1024,
    progress: bool = False,
    *,
    recommend: Mapping[str, Any] | None = None,
    per_user: bool = False,
) -> dict[str, float] | pd.DataFrame:
    """Return the metrics of a model on the held-out items of a split, averaged over users.

    Training items are masked. All other items of the data are candidates, those without any
    training interaction included; items that were added to the model after training are not. The
    means are taken over the values of :func:`evaluate_users`.

    Args:
        model: An object with :meth:`RecommendsItems.recommend`. A module is in eval mode during
            the evaluation.
        data: A graph that fits :mod:`graphdiff.schema`, with held-out pairs in the attribute
            ``val_edge_label_index`` or ``test_edge_label_index`` of its interactions.
        split: ``"val"`` or ``"test"``. (default: ``"test"``)
        ks: Lengths of the list to evaluate, each from 1 to the number of items.
            (default: ``(10, 20)``)
        mask_validation: For ``"test"``, mask a user's validation items too, as DiffRec does; see
            :func:`describe_masking`. (default: False)
        batch_size: Users ranked at a time. (default: 1024)
        progress: Show a progress bar on standard error. (default: False)
        recommend: Further options of the model's ``recommend``, such as
            ``{"popularity_discount": 0.2}``. (default: None)
        per_user: Return the metrics of each user instead of their means. (default: False)

    Returns:
        A dictionary of ``"recall@10"``, ``"ndcg@10"``, ``"precision@10"``, ``"map@10"``,
        ``"mrr@10"``, ``"hit_ratio@10"``, ``"coverage@10"``, ``"recall@20"``, ..., all from 0 to 1,
        defined in :mod:`graphdiff.evaluation.metrics`, followed by what lies beyond accuracy:
        ``"diversity@10"``, ``"personalization@10"``, ``"average_popularity@10"``,
        ``"novelty@10"``, ``"gini@10"``, ``"tail_recall@10"``, ``"cold_recall@10"``, ...; see
        :mod:`graphdiff.evaluation.beyond_accuracy`, also for those that may be missing. With
        ``per_user``, a DataFrame with one row per user with held-out items: ``user``, the raw id,
        and the metrics that :func:`evaluate_users` has.

    Raises:
        ConfigError: If ``split``, ``ks``, ``batch_size`` or ``mask_validation`` does not fit.
        DataError: If the split has no held-out pairs, the data has other users or items than the
            model at the same places, its categories of items do not fit, or the model has learned
            held-out pairs, such as by an update.
        GraphDiffError: If what the model returns is not a ranking.
    """
    ranking = rank(
        model, data, split, ks, mask_validation, batch_size, progress, recommend=recommend
    )
    if per_user:
        import pandas as pd  # Takes half a second, which nothing else here needs.

        columns = {name: values.numpy() for name, values in ranking.users().items()}
        return pd.DataFrame({**columns, "user": raw_ids(data, USER, ranking.user)})
    return ranking.mean() | beyond_accuracy(ranking.pairs, ks, data)


def evaluate_users(
    model: RecommendsItems,
    data: HeteroData,
    split: Literal["val", "test"] = "test",
    ks: Sequence[int] = DEFAULT_KS,
    mask_validation: bool = False,
    batch_size: int = 1024,
    progress: bool = False,
    *,
    recommend: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Return the metrics of a model for each user, for a paired test against another model.

    Arguments and errors are those of :func:`evaluate`, whose values are the means of these.

    Returns:
        ``"user"``: the users with held-out items, ascending, int64 ``[n]``; and for each of
        ``"recall@10"``, ``"ndcg@10"``, ... their values, float32 ``[n]``. Coverage and what lies
        beyond accuracy are missing, since they are not properties of one user. All on the CPU.
    """
    ranking = rank(
        model, data, split, ks, mask_validation, batch_size, progress, recommend=recommend
    )
    return ranking.users()


def describe_masking(mask_validation: bool) -> str:
    """Return which items a test ranking masks, for captions and ``results.json``."""
    return "training and validation items" if mask_validation else "training items"


def check_evaluation(
    data: HeteroData,
    split: str,
    ks: Sequence[int] = DEFAULT_KS,
    mask_validation: bool = False,
    batch_size: int = 1024,
) -> None:
    """Check the arguments of :func:`evaluate` without a model, such as before training one.

    Raises:
        ConfigError: If ``split``, ``ks``, ``batch_size`` or ``mask_validation`` does not fit.
        DataError: If the split has no held-out pairs.
    """
    num_items = int(data[ITEM].num_nodes)
    if split not in _SPLIT_NAMES:
        raise ConfigError(f"split is {split!r}; expected 'val' or 'test'")
    if mask_validation and split == "val":
        raise ConfigError(
            "mask_validation=True would mask what split='val' measures; use it with split='test'"
        )
    if not ks or not all(1 <= k <= num_items for k in ks):
        raise ConfigError(
            f"ks is {list(ks)} with a catalogue of {num_items} items; give one or more list "
            f"lengths from 1 to {num_items}"
        )
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; it must be at least 1")
    if _held_out(data, split).size(1) == 0:
        raise DataError(
            f"the data has no {_SPLIT_NAMES[split]} pairs to evaluate on; give at least one in "
            f"data[{INTERACTS}].{SPLITS[_SPLIT_NAMES[split]]}"
        )


@dataclass
class Ranking:
    """Recommended and held-out items of the users of a split, on the CPU.

    Attributes:
        user: The users with held-out items, ascending, int64 ``[n]``.
        pairs: Recommended items ``[n, max(ks)]`` and held-out ones, by position in ``user``.
        ks: Lengths of the list to evaluate.
        num_items: Size of the catalogue.
    """

    user: Tensor
    pairs: LinkPredMetricData
    ks: Sequence[int]
    num_items: int

    def users(self) -> dict[str, Tensor]:
        """Return each user's metrics; see :func:`evaluate_users`."""
        result = {"user": self.user}
        for k in self.ks:
            result |= user_metrics(self.pairs, k)
        return result

    def mean(self) -> dict[str, float]:
        """Return accuracy averaged over users, and coverage: the cheap part of :func:`evaluate`,
        by which training validates."""
        result = {}
        for k in self.ks:
            for name, value in user_metrics(self.pairs, k).items():
                result[name] = value.double().mean().item()
            result[f"coverage@{k}"] = coverage(self.pairs, k, self.num_items)
        return result

    def of_items(self, items: Tensor) -> Ranking:
        """Return the same recommendations with only some of the held-out items as relevant.

        Args:
            items: The items that count as relevant, bool ``[I]``. The others keep their places in
                the lists.

        Returns:
            The ranking of the users with such held-out items, possibly none.
        """
        row, item = self.pairs.edge_label_index
        counts = items.cpu()[item]
        kept, row = row[counts].unique(return_inverse=True)
        pairs = LinkPredMetricData(self.pairs.pred_index_mat[kept], (row, item[counts]))
        return Ranking(self.user[kept], pairs, self.ks, self.num_items)


@torch.no_grad()
def rank(
    model: RecommendsItems,
    data: HeteroData,
    split: Literal["val", "test"] = "test",
    ks: Sequence[int] = DEFAULT_KS,
    mask_validation: bool = False,
    batch_size: int = 1024,
    progress: bool = False,
    *,
    recommend: Mapping[str, Any] | None = None,
) -> Ranking:
    """Rank the catalogue for the users of a split, once for everything to be measured on it.

    Scores are computed in the precision of the model's weights, without autocast. Arguments and
    errors are those of :func:`evaluate`.
    """
    check_evaluation(data, split, ks, mask_validation, batch_size)
    check_agreement(model, data, _SPLIT_NAMES[split], _ADVICE)
    num_items = int(data[ITEM].num_nodes)
    options = {**(recommend or {}), **_without_added_items(model, num_items)}
    held_out = _held_out(data, split)
    user = held_out[0].unique()
    masked = _held_out(data, "val") if mask_validation else held_out[:, :0]
    exclude = _PairsOfUsers(masked, user, int(data[USER].num_nodes))
    label = _PairsOfUsers(held_out, user, int(data[USER].num_nodes))

    top = []
    with _eval_mode(model), without_autocast():
        for start in track(
            range(0, user.numel(), batch_size),
            description=f"Ranking {split}",
            console=Console(stderr=True),
            disable=not progress,
        ):
            batch = user[start : start + batch_size]
            pairs = exclude.rows(start, start + batch_size) if mask_validation else None
            item, _ = model.recommend(
                batch, k=max(ks), exclude_seen=True, exclude_index=pairs, **options
            )
            _check_ranking(item, batch.numel(), max(ks), num_items)
            top.append(item.cpu())
    ranked = torch.cat(top)
    # PyG would take -1 for the last item of the user before. It is replaced by an item beyond the
    # catalogue, which no user holds out.
    ranked[ranked < 0] = num_items
    pairs = LinkPredMetricData(ranked, label.rows(0, user.numel()))
    return Ranking(user, pairs, ks, num_items)


def _without_added_items(model: RecommendsItems, num_items: int) -> dict[str, Tensor]:
    """Return the arguments of ``recommend`` that keep items beyond those of the data out."""
    known = getattr(model, "num_items", num_items)
    return {} if known == num_items else {"candidate_index": torch.arange(known) < num_items}


class _PairsOfUsers:
    """Pairs (user, item) of some users, sorted once so that those of a batch are one slice."""

    def __init__(self, pairs: Tensor, user: Tensor, num_users: int) -> None:
        row_of_user = torch.full((num_users,), -1)
        row_of_user[user] = torch.arange(user.numel())
        row = row_of_user[pairs[0]]
        self.row, order = row.sort(stable=True)
        self.item = pairs[1][order]

    def rows(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the pairs of users ``start, ..., stop - 1`` as (row from ``start`` on, item)."""
        first, last = torch.searchsorted(self.row, torch.tensor([start, stop])).tolist()
        return self.row[first:last] - start, self.item[first:last]


def _held_out(data: HeteroData, split: str) -> Tensor:
    pairs = data[INTERACTS].get(SPLITS[_SPLIT_NAMES[split]])
    return torch.empty(2, 0, dtype=torch.long) if pairs is None else pairs.cpu()


@contextmanager
def _eval_mode(model: object) -> Iterator[None]:
    """Set a module and its parts to eval mode, and restore the mode of each afterwards."""
    modules = list(model.modules()) if isinstance(model, torch.nn.Module) else []
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _check_ranking(item: Tensor, num_users: int, k: int, num_items: int) -> None:
    """Refuse lists that would be measured wrongly: metrics rely on distinct items."""
    if item.shape != (num_users, k):
        raise GraphDiffError(
            f"recommend returned items of shape {list(item.shape)}; expected [{num_users}, {k}]"
        )
    low, high = int(item.min()), int(item.max())
    if low < -1 or high >= num_items:
        raise GraphDiffError(
            f"recommend returned item {low if low < -1 else high}; expected 0 to "
            f"{num_items - 1}, or -1 where no candidate is left"
        )
    ordered = item.sort(dim=1).values
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if bool(twice.any()):
        raise GraphDiffError(
            f"recommend returned an item twice to {int(twice.any(dim=1).sum())} of {num_users} "
            "users; expected k different items"
        )
