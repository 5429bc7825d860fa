"""Approximate nearest neighbours for large catalogues."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from graphdiff.graph.scaling import unit_rows

BLOCK = 16_384
SAMPLE = 1_000


def has_faiss() -> bool:
    """Return whether faiss is installed."""
    return find_spec("faiss") is not None


def approximate_neighbors(x: Tensor, k: int, recall: float = 0.95) -> tuple[Tensor, float]:
    """Search the items with the highest cosine similarity with an inverted file.

    Items are clustered into about :math:`4 \\sqrt{n}` cells, and an item is compared with those of
    the nearest cells. The number of visited cells is doubled until the required share of the true
    neighbours is found on a sample of items.

    Args:
        x: ``[n, F]``, without zero rows.
        k: Neighbours of each item, less than n.
        recall: Share of the true neighbours to find.

    Returns:
        ``(neighbor [n, k] long, ascending, found)``: positions of each item's neighbours, without
        the item itself, and the share found on the sample. On the device of ``x``.
    """
    from torch_geometric.nn.pool.knn import KNNIndex

    device, unit = x.device, unit_rows(x.float()).cpu()
    num = unit.size(0)
    # Between vectors of length one the smallest distance is the largest cosine.
    num_cells = max(1, int(4 * num**0.5))
    searcher = KNNIndex(f"IVF{num_cells},Flat")
    searcher.add(unit)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randperm(num, generator=generator)[:SAMPLE]
    truth = _without_self(_exact(unit, sample, k + 1), sample)
    num_visited, found = 8, 0.0
    while True:
        searcher.index.nprobe = min(num_visited, num_cells)
        guess = _without_self(searcher.search(unit[sample], k + 1).index, sample)
        found = share_found(guess, truth)
        if found >= recall or num_visited >= num_cells:
            break
        num_visited *= 2
    blocks = torch.arange(num).split(BLOCK)
    neighbors = []
    for rows in track(blocks, "Nearest items", console=Console(stderr=True), transient=True):
        near = searcher.search(unit[rows], k + 1).index
        # Where the visited cells contain too few items, the search returns -1.
        few = (near < 0).any(dim=1)
        near[few] = _exact(unit, rows[few], k + 1)
        neighbors.append(_without_self(near, rows))
    return torch.cat(neighbors).sort(dim=1).values.to(device), found


def share_found(guess: Tensor, truth: Tensor) -> float:
    """Return the share of the indices ``truth`` long ``[n, k]`` that are in the same row of
    ``guess``.

    Example:
        >>> import torch
        >>> share_found(torch.tensor([[1, 2], [5, 6]]), torch.tensor([[2, 3], [6, 5]]))
        0.75
    """
    return (truth.unsqueeze(2) == guess.unsqueeze(1)).any(dim=2).float().mean().item()


def _exact(unit: Tensor, rows: Tensor, k: int) -> Tensor:
    found = [(unit[part] @ unit.t()).topk(k, dim=1).indices for part in rows.split(64)]
    return torch.cat(found) if found else rows.new_empty(0, k)


def _without_self(neighbor: Tensor, own: Tensor) -> Tensor:
    """Remove from each row ``[n, k + 1]`` the item itself or, where it is missing, the last."""
    extra = neighbor == own.unsqueeze(1)
    extra[:, -1] |= ~extra.any(dim=1)
    return neighbor[~extra].view(neighbor.size(0), -1)
