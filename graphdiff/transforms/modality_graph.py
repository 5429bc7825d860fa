"""Item-item graphs of items that look, read or sound alike."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.errors import ConfigError
from graphdiff.graph.approximate import approximate_neighbors, has_faiss
from graphdiff.schema import ITEM, complete_masks, modalities, similar

# Cosines held at a time: 32 MiB in float64.
BLOCK_ENTRIES = 2**22
# Pairs of items whose features are compared at a time.
PAIRS = 2**20
# Fewer items than this have their neighbours in seconds, and need no progress bar.
SILENT = 20_000


@functional_transform("modality_graph")
class ModalityGraph(BaseTransform):
    r"""Adds a k-nearest-neighbour graph between items for every modality.

    For each ``x_<modality>`` of the items, ``data['item', 'similar_<modality>', 'item']`` gets

    * ``edge_index``, long ``[2, E]``: each item :math:`i` has an edge :math:`j \to i` (row 0 is
      :math:`j`, row 1 is :math:`i`) from each of the ``k`` items with the highest cosine
      similarity, so that messages flow from the neighbours to the item. Edges are sorted by target,
      then source.
    * ``edge_weight``, float32 ``[E]``: :math:`S_{ij} = 1/\sqrt{d_i d_j}`, where the graph is
      binary and :math:`d_i` counts the neighbours of :math:`i`. Since every item has equally many,
      this is one over that number: the mean of the neighbours.

    An item has no edge to itself. Items that lack the modality (by its mask, or with an all-zero
    row) have no edges. With ``n`` items left, each has ``min(k, n - 1)`` neighbours. Of equally
    similar items the one with the lower index is taken, so that the result depends neither on the
    device nor on the order of computation.

    This is the item-item graph of `"A Tale of Two Graphs: Freezing and Denoising Graph Structures
    for Multimodal Recommendation" <https://arxiv.org/abs/2211.06924>`_ (FREEDOM), which simplifies
    that of `"Mining Latent Structures for Multimedia Recommendation"
    <https://arxiv.org/abs/2104.09036>`_ (LATTICE), without the latter's self-loops.

    With ``weighted`` it is LATTICE's own graph, which MGCN and SMORE use: each item is the first of
    its ``k`` neighbours, edges weigh their cosine :math:`c_{ij}` (or nothing, where it is
    negative, which is ours), :math:`d_i = \sum_j c_{ij}` and
    :math:`S_{ij} = c_{ij} / \sqrt{d_i d_j}`.

    Cosines are computed block by block: memory is O(I · F) and a constant, time O(I² · F). Larger
    catalogues than ``exact_up_to`` are searched approximately with ``faiss``, of the extra
    ``index``: see :func:`~graphdiff.graph.approximate.approximate_neighbors`. What share of
    the true neighbours is found is measured on a sample, printed, and kept as ``recall`` of the
    edge store.

    Args:
        k: Number of neighbours (default: 10).
        exact_up_to: Most items that are compared with all others (default: 100,000).
        weighted: Weigh edges by similarity, with self-loops (default: ``False``).

    Raises:
        ConfigError: If ``k`` is less than 1.
    """

    def __init__(self, k: int = 10, weighted: bool = False, exact_up_to: int = 100_000) -> None:
        if k < 1:
            raise ConfigError(f"k is {k}; an item needs at least 1 neighbour")
        self.k, self.weighted, self.exact_up_to = k, weighted, exact_up_to

    def forward(self, data: HeteroData) -> HeteroData:
        """Adds the graphs, replacing those that are there."""
        # A graph made by hand may still hold NaN rows; nothing else of it is changed.
        complete = complete_masks(data)
        for name in modalities(data):
            store = data[similar(name)]
            x, has = complete[ITEM][f"x_{name}"], complete[ITEM][f"has_{name}"]
            item = (has & (x.norm(dim=1) > 0)).nonzero().flatten()
            k = min(self.k - 1 if self.weighted else self.k, item.numel() - 1)
            if k < 1:
                neighbor = item.new_empty(item.numel(), 0)
            elif item.numel() <= self.exact_up_to or not self._may_search():
                neighbor = _exact_neighbors(x, item, k)
            else:
                neighbor, store.recall = approximate_neighbors(x[item], k)
                Console(stderr=True).print(
                    f"{name}: {store.recall:.1%} of the {k} nearest found, by a sample of items"
                )
            store.edge_index, store.edge_weight = _graph(x, item, neighbor, self.weighted)
        return data

    @staticmethod
    def _may_search() -> bool:
        if not has_faiss():
            warnings.warn(
                "a catalogue of this size is searched much faster with faiss, which is not "
                "installed: `pip install 'graphdiff[index]'`; going on with the exact search",
                stacklevel=4,
            )
        return has_faiss()

    def __repr__(self) -> str:
        weighted = ", weighted=True" if self.weighted else ""
        return f"{type(self).__name__}(k={self.k}{weighted})"


def _graph(x: Tensor, item: Tensor, neighbor: Tensor, weighted: bool) -> tuple[Tensor, Tensor]:
    """Edges and weights from positions ``[n, k]`` of each item's neighbours, ascending."""
    source, target = item[neighbor].flatten(), item.repeat_interleave(neighbor.size(1))
    weight = torch.ones_like(source, dtype=torch.float64)
    if weighted:
        for part in torch.arange(source.numel(), device=x.device).split(PAIRS):
            pair = (x[source[part]].double(), x[target[part]].double())
            weight[part] = F.cosine_similarity(*pair).clamp(min=0)
        source, target = torch.cat([item, source]), torch.cat([item, target])
        weight = torch.cat([torch.ones_like(item, dtype=weight.dtype), weight])
        order = (target * x.size(0) + source).argsort()
        source, target, weight = source[order], target[order], weight[order]
    degree = weight.new_zeros(x.size(0)).index_add_(0, target, weight)
    weight = weight * (degree[source] * degree[target]).rsqrt()
    return torch.stack([source, target]), weight.float()


def _exact_neighbors(x: Tensor, item: Tensor, k: int) -> Tensor:
    # Rounding of float32 would decide between near-equal items, differently for each block size.
    unit = F.normalize(x[item].double(), dim=1)
    everyone = torch.arange(item.numel(), device=x.device)
    blocks = everyone.split(max(1, BLOCK_ENTRIES // item.numel()))
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
    """The ``k`` largest of each row other than its ``own`` column, the first of equal ones,
    ascending."""
    # What differs by less than this is equal, and differs by rounding.
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
