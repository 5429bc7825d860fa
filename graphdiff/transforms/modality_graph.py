"""Item-item graphs of content similarity."""

from __future__ import annotations

from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.errors import ConfigError
from graphdiff.graph.item_similarity import EXACT_UP_TO, similar_items
from graphdiff.schema import ITEM, complete_masks, modalities, similar


@functional_transform("modality_graph")
class ModalityGraph(BaseTransform):
    r"""Add a k-nearest-neighbour graph between items for every modality.

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
    its ``k`` neighbours, the weight of an edge is the cosine :math:`c_{ij}` (zero where it is
    negative, which is ours), :math:`d_i = \sum_j c_{ij}` and
    :math:`S_{ij} = c_{ij} / \sqrt{d_i d_j}`.

    Cosines are computed block by block: memory is O(I · F) and a constant, time O(I² · F).
    Catalogues larger than ``exact_up_to`` are searched approximately with ``faiss``, of the extra
    ``index``: see :func:`~graphdiff.graph.approximate.approximate_neighbors`. The share of the true
    neighbours that is found is measured on a sample, printed, and stored as ``recall`` of the edge
    store.

    Args:
        k: Number of neighbours (default: 10).
        weighted: Weight edges by similarity, with self-loops (default: ``False``).
        exact_up_to: Largest number of items for which all pairs are compared (default: 100,000).

    Raises:
        ConfigError: If ``k`` is less than 1.

    Example:
        >>> from graphdiff.schema import build_data
        >>> features = {"image": [[1, 0], [2, 0], [0, 1], [0, 3]]}
        >>> data = ModalityGraph(k=1)(build_data(1, 4, [[0], [0]], features=features))
        >>> data["item", "similar_image", "item"].edge_index
        tensor([[1, 0, 3, 2],
                [0, 1, 2, 3]])
    """

    def __init__(self, k: int = 10, weighted: bool = False, exact_up_to: int = EXACT_UP_TO) -> None:
        if k < 1:
            raise ConfigError(f"k is {k}; an item needs at least 1 neighbour")
        self.k, self.weighted, self.exact_up_to = k, weighted, exact_up_to

    def forward(self, data: HeteroData) -> HeteroData:
        """Add the graphs, replacing existing ones."""
        # A graph built by hand may still contain NaN rows; nothing else of it changes.
        complete = complete_masks(data)
        for name in modalities(data):
            x, has = complete[ITEM][f"x_{name}"], complete[ITEM][f"has_{name}"]
            found = similar_items(x, has, self.k, self.weighted, self.exact_up_to)
            store = data[similar(name)]
            store.edge_index, store.edge_weight = found.edge_index, found.edge_weight
            if found.recall is not None:
                store.recall = found.recall
        return data

    def __repr__(self) -> str:
        weighted = ", weighted=True" if self.weighted else ""
        return f"{type(self).__name__}(k={self.k}{weighted})"
