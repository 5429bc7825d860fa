"""Metrics of a ranking beyond accuracy: whose items are recommended, and how they differ.

Notation: ``L_u`` is the list of user u, up to k items; ``n_i`` is the number of training
interactions of item i, U the number of users of the data, and ``c_i`` the number of lists that
contain i. Means are taken over the users with held-out items, as for the other metrics.

=========================  ======================================================================
``diversity@k``            Mean of ``1 - sim(i, j)`` over the pairs of items of a list. Where the
                           data has ``data['item'].category`` (integers ``[I]`` or I texts), ``sim``
                           is 1 for items of one category and 0 otherwise (an empty text is a
                           category of its own), as in
                           :class:`torch_geometric.metrics.LinkPredDiversity`. Otherwise it is the
                           cosine of the standardised features, averaged over the modalities
                           (Ziegler et al., WWW 2005); unrelated items then have about 1.
``personalization@k``      Mean of ``1 - |L_u ∩ L_v| / k`` over all pairs of users, exactly. PyG's
                           :class:`~torch_geometric.metrics.LinkPredPersonalization` computes the
                           same from 4,096 of the users.
``average_popularity@k``   Mean of ``n_i`` over the list; see
                           :class:`~torch_geometric.metrics.LinkPredAveragePopularity`.
``novelty@k``              Mean self-information of a list in bits, ``-log2(n_i / U)`` (Zhou et al.,
                           PNAS 2010). An item without training interactions counts as one with a
                           single interaction (ours), as its information would be infinite.
``gini@k``                 Gini coefficient of ``c`` over the whole catalogue: 0 where all items
                           are recommended equally often, near 1 where few items fill all lists.
``tail_recall@k``          ``recall@k`` where only held-out tail items are relevant.
``cold_recall@k``          The same for cold items; for both see
                           :func:`graphdiff.evaluation.groups.item_groups`.
=========================  ======================================================================

A metric that the data does not define is missing: diversity without categories and features or
with k = 1, personalization with one user, and the recall of a group without held-out items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.metrics import LinkPredRecall
from torch_geometric.metrics.link_pred import LinkPredMetricData

from graphdiff.errors import DataError
from graphdiff.evaluation.groups import item_groups
from graphdiff.evaluation.metrics import computed_here
from graphdiff.nn.modalities import standardised
from graphdiff.schema import INTERACTS, ITEM, USER, complete_masks, modalities

#: Names without ``@k``, in the order of tables.
BEYOND_ACCURACY = (
    "diversity",
    "personalization",
    "average_popularity",
    "novelty",
    "gini",
    "tail_recall",
    "cold_recall",
)
#: Entries of the largest temporary tensor.
BLOCK_ENTRIES = 2**22

#: Computes the sum of similarities of the pairs of each list, and the number of these pairs.
PairSimilarity = Callable[[Tensor], tuple[Tensor, Tensor]]


def beyond_accuracy(
    pairs: LinkPredMetricData, ks: Sequence[int], data: HeteroData
) -> dict[str, float]:
    """Return the metrics of this module at each ``k``; those that are not defined are missing.

    Time and memory are proportional to the lists, beside one pass over the item features; nothing
    of the size of users by items is stored.

    Args:
        pairs: Recommended items ``[n, at least max(ks)]``, ``I`` or more where no candidate was
            left, and held-out pairs of n users.
        ks: Lengths of the list.
        data: A graph that fits :mod:`graphdiff.schema`, whose items were ranked.

    Raises:
        DataError: If ``data['item'].category`` does not have one integer per item.
    """
    num_items, num_users = int(data[ITEM].num_nodes), int(data[USER].num_nodes)
    popularity = torch.bincount(data[INTERACTS].edge_index[1].cpu(), minlength=num_items)
    information = -(popularity.clamp(min=1).double() / num_users).log2()
    groups, similarities = item_groups(data), _similarities(data)
    found: dict[str, float] = {}
    for k in ks:
        top = pairs.pred_index_mat[:, :k]
        values = {
            "diversity": _diversity(top, similarities) if k > 1 else None,
            "personalization": _personalization(top, k, num_items),
            "average_popularity": _mean_of_lists(top, popularity.double()),
            "novelty": _mean_of_lists(top, information),
            "gini": _gini(_exposure(top, num_items)),
            "tail_recall": _recall(pairs, k, groups.get("tail")),
            "cold_recall": _recall(pairs, k, groups.get("cold")),
        }
        found |= {f"{name}@{k}": one for name, one in values.items() if one is not None}
    return found


def _exposure(top: Tensor, num_items: int) -> Tensor:
    """Return the number of lists that contain each item, long ``[I]``."""
    return torch.bincount(top[top < num_items], minlength=num_items)


def _mean_of_lists(top: Tensor, value: Tensor) -> float | None:
    """Return the mean over the lists that are not empty of their items' mean value."""
    there = top < value.numel()
    count = there.sum(dim=1)
    if not count.any():
        return None
    padded = torch.cat([value, value.new_zeros(1)])
    total = padded[top.clamp(max=value.numel())].sum(dim=1)
    return (total / count)[count > 0].mean().item()


def _personalization(top: Tensor, k: int, num_items: int) -> float | None:
    # The sizes of all intersections add up to the pairs of lists that share each item.
    num, count = top.size(0), _exposure(top, num_items).double()
    if num < 2:
        return None
    shared = (count * (count - 1)).sum().item()
    return 1 - shared / (k * num * (num - 1))


def _gini(count: Tensor) -> float | None:
    count, num = count.double().sort().values, count.numel()
    if not count.any():
        return None
    rank = torch.arange(1, num + 1, dtype=torch.double)
    return ((2 * rank - num - 1) * count).sum().div(num * count.sum()).item()


def _recall(pairs: LinkPredMetricData, k: int, relevant: Tensor | None) -> float | None:
    if relevant is None:
        return None
    row, item = pairs.edge_label_index
    counts = relevant[item]
    if not counts.any():
        return None
    metric = LinkPredRecall(k)
    metric.update(pairs.pred_index_mat, (row[counts], item[counts]))
    return computed_here(metric)


def _diversity(top: Tensor, similarities: list[PairSimilarity]) -> float | None:
    """Return the mean over lists of 1 - the similarity of their pairs, by whatever measures have
    a pair."""
    total, measures = torch.zeros(top.size(0), dtype=torch.double), torch.zeros(top.size(0))
    for similarity in similarities:
        summed, count = similarity(top)
        total += torch.where(count > 0, summed / count.clamp(min=1), 0)
        measures += count > 0
    if not measures.any():
        return None
    known = measures > 0
    return (1 - total[known] / measures[known]).mean().item()


def _similarities(data: HeteroData) -> list[PairSimilarity]:
    """Return the measures of similarity that the data has."""
    num_items = int(data[ITEM].num_nodes)
    category = data[ITEM].get("category")
    if isinstance(category, list):
        return [_SharedCategory(_numbered(category))]
    if category is not None:
        if category.shape != (num_items,) or category.is_floating_point():
            raise DataError(
                f"data['item'].category is {category.dtype} of shape {list(category.shape)}; give "
                f"one integer per item, shape [{num_items}]"
            )
        return [_SharedCategory(category.cpu())]
    item = complete_masks(data)[ITEM]
    return [
        _FeatureCosine(item[f"x_{name}"].cpu(), item[f"has_{name}"].cpu())
        for name in modalities(data)
    ]


def _numbered(category: list[str]) -> Tensor:
    """Return texts as integers: equal for equal texts, and different for every empty one."""
    number: dict[object, int] = {}
    keys = (text or n for n, text in enumerate(category))
    return torch.tensor([number.setdefault(key, len(number)) for key in keys])


class _SharedCategory:
    """Similarity 1 of items of one category, 0 of others."""

    def __init__(self, category: Tensor) -> None:
        self.category = category

    def __call__(self, top: Tensor) -> tuple[Tensor, Tensor]:
        summed, count = [], []
        for block in _blocks(top, top.size(1)):
            there = block < self.category.numel()
            value = self.category[block.clamp(max=self.category.numel() - 1)]
            same = value.unsqueeze(2) == value.unsqueeze(1)
            same &= there.unsqueeze(2) & there.unsqueeze(1)
            number = there.sum(dim=1)
            summed.append((same.sum(dim=(1, 2)) - number).double())
            count.append(number * (number - 1))
        return torch.cat(summed), torch.cat(count)


class _FeatureCosine:
    """Cosine of standardised features; items without features, or with a row of zeros, have no
    pairs."""

    def __init__(self, x: Tensor, has: Tensor) -> None:
        unit = standardised(x.float(), has)
        # One more row for the places without an item.
        self.unit = torch.cat([unit, unit.new_zeros(1, unit.size(1))])
        self.known = self.unit.any(dim=1)

    def __call__(self, top: Tensor) -> tuple[Tensor, Tensor]:
        summed, count = [], []
        last = self.unit.size(0) - 1
        for block in _blocks(top, self.unit.size(1)):
            place = block.clamp(max=last)
            number = self.known[place].sum(dim=1)
            # Over ordered pairs: the squared length of the sum, less that of each row.
            total = self.unit[place].sum(dim=1).double()
            summed.append(total.square().sum(dim=1) - number)
            count.append(number * (number - 1))
        return torch.cat(summed), torch.cat(count)


def _blocks(top: Tensor, width: int) -> Iterator[Tensor]:
    """Yield blocks of lists whose items with ``width`` entries each fit the limit."""
    yield from top.split(max(1, BLOCK_ENTRIES // max(1, width * top.size(1))))
