"""Item-item graphs: the k most similar items of each item, by cosine."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor

from graphdiff.console import print_status
from graphdiff.errors import ConfigError
from graphdiff.graph.approximate import approximate_neighbors, has_faiss
from graphdiff.graph.scaling import unit_rows

#: Largest number of items for which every pair is compared.
EXACT_UP_TO = 100_000
# Cosines held at a time: 32 MiB in float64.
BLOCK_ENTRIES = 2**22
# Edges whose cosine is computed at a time.
PAIRS = 2**20
# Fewer items than this are compared within seconds and need no progress bar.
SILENT = 20_000


class SimilarItems(NamedTuple):
    """An item-item graph of one modality.

    Attributes:
        edge_index: Long ``[2, E]``, neighbours in row 0 and items in row 1, sorted by item, then
            neighbour.
        edge_weight: Float32 ``[E]``.
        recall: Share of the true neighbours that an approximate search found on a sample of items;
            None after an exact search.
    """

    edge_index: Tensor
    edge_weight: Tensor
    recall: float | None


def similar_items(
    x: Tensor, has: Tensor, k: int, weighted: bool = False, exact_up_to: int = EXACT_UP_TO
) -> SimilarItems:
    """Connect each item with its k most similar items.

    The graph is described at :class:`graphdiff.transforms.ModalityGraph`.

    Args:
        x: Features, float32 ``[I, F]``.
        has: Bool ``[I]``; items where it is False, and those with a zero row, get no edges.
        k: Number of neighbours, at least 1; with ``weighted`` the item itself is the first.
        weighted: Weight edges by cosine similarity.
        exact_up_to: Largest number of items for which every pair is compared; above it, faiss
            searches approximately where it is installed.

    Raises:
        ConfigError: If ``k`` is less than 1.

    Example:
        >>> import torch
        >>> x, has = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]]), torch.ones(3).bool()
        >>> similar_items(x, has, k=1).edge_index
        tensor([[1, 0, 1],
                [0, 1, 2]])
    """
    if k < 1:
        raise ConfigError(f"k is {k}; an item needs at least 1 neighbour")
    recall = None
    item = (has & x.any(dim=1)).nonzero().flatten()
    k = min(k - 1 if weighted else k, item.numel() - 1)
    if k < 1:
        neighbor = item.new_empty(item.numel(), 0)
    elif item.numel() <= exact_up_to or not _faiss_available():
        neighbor = _exact_neighbors(x, item, k)
    else:
        neighbor, recall = approximate_neighbors(x[item], k)
        print_status(f"{recall:.1%} of the {k} nearest items found, measured on a sample of items")
    return SimilarItems(*_edges(x, item, neighbor, weighted), recall)


def nearest_candidates(x: Tensor, candidates: Tensor, new: Tensor, k: int) -> Tensor:
    """Return the k most similar candidates of each new item, long ``[n, k]``.

    Args:
        x: Features of all items, ``[I, F]``.
        candidates: Long ``[m]``, items with a non-zero row of ``x``.
        new: Features of the new items, ``[n, F]``, without zero rows.
        k: From 1 to m.

    Example:
        >>> import torch
        >>> x, new = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.1, 3.0]])
        >>> nearest_candidates(x, torch.tensor([0, 1]), new, k=1)
        tensor([[1]])
    """
    unit = unit_rows(x[candidates].double())
    cosine = unit_rows(new.double()) @ unit.t()
    return candidates[cosine.topk(k, dim=1).indices]


def _faiss_available() -> bool:
    if not has_faiss():
        warnings.warn(
            "faiss, which searches a catalogue of this size much faster, is not installed: "
            "`pip install 'graphdiff-rec[index]'`; continuing with the exact search",
            stacklevel=4,
        )
    return has_faiss()


def _edges(x: Tensor, item: Tensor, neighbor: Tensor, weighted: bool) -> tuple[Tensor, Tensor]:
    """Return edges and weights, given the positions ``[n, k]`` in ``item`` of each neighbour."""
    source, target = item[neighbor].flatten(), item.repeat_interleave(neighbor.size(1))
    weight = torch.ones_like(source, dtype=torch.float64)
    if weighted:
        for part in torch.arange(source.numel(), device=x.device).split(PAIRS):
            pair = (x[source[part]].double(), x[target[part]].double())
            # The default floor of the norms would count for features below 1e-8.
            weight[part] = F.cosine_similarity(*pair, eps=1e-300).clamp(min=0)
        source, target = torch.cat([item, source]), torch.cat([item, target])
        weight = torch.cat([torch.ones_like(item, dtype=weight.dtype), weight])
        order = (target * x.size(0) + source).argsort()
        source, target, weight = source[order], target[order], weight[order]
    degree = weight.new_zeros(x.size(0)).index_add_(0, target, weight)
    weight = weight * (degree[source] * degree[target]).rsqrt()
    return torch.stack([source, target]), weight.float()


def _exact_neighbors(x: Tensor, item: Tensor, k: int) -> Tensor:
    # In float32, rounding would decide between nearly equal items, differently per block size.
    unit = unit_rows(x[item].double())
    position = torch.arange(item.numel(), device=x.device)
    blocks = position.split(max(1, BLOCK_ENTRIES // item.numel()))
    return torch.cat(
        [
            _nearest(unit[rows] @ unit.t(), rows, k)
            for rows in track(
                blocks,
                "Nearest items",
                console=Console(stderr=True),
                disable=item.numel() < SILENT,
                transient=True,
            )
        ]
    )


def _nearest(cosine: Tensor, own: Tensor, k: int) -> Tensor:
    """Return the columns of the ``k`` largest entries of each row except column ``own``, ascending;
    of equal entries the lower column is taken."""
    # Differences below 1e-10 are rounding.
    cosine.mul_(1e10).round_().scatter_(1, own[:, None], -torch.inf)
    threshold = cosine.topk(k, dim=1).values[:, -1:]
    chosen = cosine >= threshold
    crowded = (chosen.sum(dim=1) > k).nonzero().flatten()
    if crowded.numel():
        above = cosine[crowded] > threshold[crowded]
        equal = chosen[crowded] & ~above
        room = k - above.sum(dim=1, keepdim=True)
        chosen[crowded] = above | (equal & (equal.cumsum(dim=1) <= room))
    return chosen.nonzero()[:, 1].view(-1, k)
