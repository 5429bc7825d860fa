"""Item-item graphs of items that look, read or sound alike."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.errors import ConfigError
from graphdiff.schema import ITEM, complete_masks, modalities, similar

# Cosines held at a time: 32 MiB in float64.
BLOCK_ENTRIES = 2**22


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

    Cosines are computed block by block: memory is O(I · F) and a constant, time O(I² · F).

    Args:
        k: Number of neighbours (default: 10).
        weighted: Weigh edges by similarity, with self-loops (default: ``False``).

    Raises:
        ConfigError: If ``k`` is less than 1.
    """

    def __init__(self, k: int = 10, weighted: bool = False) -> None:
        if k < 1:
            raise ConfigError(f"k is {k}; an item needs at least 1 neighbour")
        self.k, self.weighted = k, weighted

    def forward(self, data: HeteroData) -> HeteroData:
        """Adds the graphs, replacing those that are there."""
        # A graph made by hand may still hold NaN rows; nothing else of it is changed.
        complete = complete_masks(data)
        for name in modalities(data):
            store = data[similar(name)]
            store.edge_index, store.edge_weight = _knn_graph(
                complete[ITEM][f"x_{name}"], complete[ITEM][f"has_{name}"], self.k, self.weighted
            )
        return data

    def __repr__(self) -> str:
        weighted = ", weighted=True" if self.weighted else ""
        return f"{type(self).__name__}(k={self.k}{weighted})"


def _knn_graph(x: Tensor, has: Tensor, k: int, weighted: bool) -> tuple[Tensor, Tensor]:
    # Rounding of float32 would decide between near-equal items, differently for each block size.
    x = x.double()
    norm = x.norm(dim=1)
    item = (has & (norm > 0)).nonzero().flatten()
    num_others = max(0, min(k - 1 if weighted else k, item.numel() - 1))
    unit = F.normalize(x[item], dim=1)
    own = item if weighted else item[:0]
    source, target, weight = [own], [own], [x.new_ones(own.numel())]
    rows_at_once = max(1, BLOCK_ENTRIES // max(1, item.numel()))
    for rows in torch.arange(item.numel(), device=x.device).split(rows_at_once):
        if num_others == 0:
            break
        row, column, cosine = _nearest(unit[rows] @ unit.t(), rows, num_others)
        target.append(item[rows[row]])
        source.append(item[column])
        weight.append(cosine.clamp(min=0) if weighted else torch.ones_like(cosine))
    edge_index = torch.stack([torch.cat(source), torch.cat(target)])
    order = (edge_index[1] * x.size(0) + edge_index[0]).argsort()
    edge_index, edge_weight = edge_index[:, order], torch.cat(weight)[order]
    degree = x.new_zeros(x.size(0)).index_add_(0, edge_index[1], edge_weight)
    edge_weight = edge_weight * (degree[edge_index[0]] * degree[edge_index[1]]).rsqrt()
    return edge_index, edge_weight.float()


def _nearest(cosine: Tensor, own: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column and value of the ``k`` largest of each row other than its ``own`` column; the
    first of equal ones. ``cosine`` is overwritten."""
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
    row, column = chosen.nonzero(as_tuple=True)
    return row, column, cosine[row, column] * 1e-10
