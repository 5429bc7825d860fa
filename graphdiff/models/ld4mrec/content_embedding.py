"""Item embeddings that are linear in the features, by a learned map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.graph.streamed_messages import row_blocks
from graphdiff.nn.reconstruction import sum_items
from graphdiff.schema.pairs import blocks

# Power iterations of the randomised decomposition; more make no measurable difference.
_ITERATIONS = 4
#: Items, and interactions, that are looked at at a time.
ITEMS, INTERACTIONS = 2**20, 2**25


class ContentEmbedding(torch.nn.Module):
    r"""Item embeddings that are linear in the items' features,

    .. math::
        \sum_m \hat{\mathbf{x}}_{im} P_m,

    where :math:`\hat{\mathbf{x}}_{im}` are the features on their R principal directions, of length
    one, and zero where an item lacks them. The :math:`P_m` are learned.

    They are initialised as random maps with entries of standard deviation :math:`\rho_m`, the
    *agreement* of the modality: how much more similar the items of one user are than random items.
    Similar items then start with similar embeddings, as far as similarity matters to users; see
    :func:`agreement`. A modality without agreement starts from zero and can still be learned.

    Embeddings are zero until :meth:`start` has read the features.

    Args:
        graph: The graph whose item features are read; it has at least one modality.
        channels: Width d of the embeddings.
        rank: Largest number R of principal directions of a modality.
        scale: Factor of the initial maps.

    Example:
        >>> rowptr, col = torch.tensor([0, 2, 4]), torch.tensor([0, 1, 2, 3])
        >>> x, has = torch.eye(4), torch.ones(4, dtype=torch.bool)
        >>> graph = RecGraph(rowptr, col, 4, {"image": x}, {"image": has})
        >>> content = ContentEmbedding(graph, channels=8, rank=2)
        >>> content.start(graph, torch.Generator().manual_seed(0))
        >>> content().shape
        torch.Size([4, 8])
    """

    coordinates: Tensor
    agreement: Tensor
    started: Tensor

    def __init__(self, graph: RecGraph, channels: int, rank: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.modalities = list(graph.modalities)
        width = {name: graph.features(name)[0].size(1) for name in self.modalities}
        self.ranks = [min(rank, width[name]) for name in self.modalities]
        for name, own in zip(self.modalities, self.ranks, strict=True):
            self.register_buffer(f"centre_{name}", torch.zeros(width[name]))
            self.register_buffer(f"directions_{name}", torch.zeros(width[name], own))
        self.register_buffer("coordinates", torch.zeros(graph.num_items, sum(self.ranks)))
        self.register_buffer("agreement", torch.zeros(len(self.modalities)))
        self.register_buffer("started", torch.tensor(False))
        self.weight = torch.nn.Parameter(torch.zeros(sum(self.ranks), channels))

    @torch.no_grad()
    def start(self, graph: RecGraph, generator: torch.Generator) -> None:
        """Compute the directions and agreements and draw the maps; does nothing the second time."""
        if self.started:
            return
        columns = torch.arange(sum(self.ranks)).split(self.ranks)
        for m, (name, rank) in enumerate(zip(self.modalities, self.ranks, strict=True)):
            x, has = graph.features(name)
            centre, directions = self._principal(x, has, rank)
            getattr(self, f"centre_{name}").copy_(centre)
            getattr(self, f"directions_{name}")[:, : directions.size(1)] = directions
            own = slice(int(columns[m][0]), int(columns[m][-1]) + 1)
            for part in blocks(x.size(0), ITEMS):
                unit = self._unit(x[part])
                self.coordinates[part, own] = self._coordinates_of(name, unit, has[part])
            self.agreement[m] = agreement(self.coordinates[:, own].contiguous(), graph)
        self.started.fill_(True)
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the maps, scaled by the agreements; they are zero before :meth:`start`."""
        torch.nn.init.normal_(self.weight, generator=generator)
        rank = torch.tensor(self.ranks, device=self.weight.device)
        self.weight.mul_(self.scale * self.agreement.repeat_interleave(rank).unsqueeze(1))

    def forward(self, index: Tensor | None = None) -> Tensor:
        """Return the embeddings of all items, ``[I, d]``, or of those at ``index``, long
        ``[n]``."""
        coordinates = self.coordinates if index is None else self.coordinates[index]
        return coordinates @ self.weight

    def by_modality(self, index: Tensor | None = None) -> dict[str, Tensor]:
        """Return each modality's summand of the embeddings of all items, ``[I, d]``, or of those
        at ``index``, long ``[n]``."""
        coordinates = self.coordinates if index is None else self.coordinates[index]
        weights = self.weight.split(self.ranks)
        return {
            name: x @ weight
            for name, x, weight in zip(
                self.modalities, coordinates.split(self.ranks, dim=1), weights, strict=True
            )
        }

    @torch.no_grad()
    def grow(self, graph: RecGraph) -> None:
        """Read the features of items that were appended to the catalogue."""
        known = self.coordinates.size(0)
        new = []
        for name in self.modalities:
            x, has = graph.features(name)
            new.append(self._coordinates_of(name, self._unit(x[known:]), has[known:]))
        self.coordinates = torch.cat([self.coordinates, torch.cat(new, dim=1)])

    def keep(self, kept: Tensor) -> None:
        """Leave out all items but ``kept``, bool ``[I]``."""
        self.coordinates = self.coordinates[kept]

    def _principal(self, x: Tensor, has: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        """Return the mean of features of length one, ``[F]``, and their principal directions,
        ``[F, <= rank]``."""
        if x.size(0) > ITEMS:
            return _streamed_directions(x, has, rank)
        unit = self._unit(x)
        centre = unit.sum(dim=0) / has.sum().clamp(min=1)
        return centre, _principal_directions((unit - centre) * has.unsqueeze(1), rank)

    def _unit(self, x: Tensor) -> Tensor:
        """Scale the rows of features ``[n, F]`` to length one."""
        return F.normalize(x.to(self.coordinates), dim=1)

    def _coordinates_of(self, name: str, unit: Tensor, has: Tensor) -> Tensor:
        """Return :math:`\\hat{\\mathbf{x}}` of features ``[n, F]`` of length one, ``[n, R]``."""
        centre, directions = getattr(self, f"centre_{name}"), getattr(self, f"directions_{name}")
        return F.normalize((unit - centre) @ directions, dim=1) * has.unsqueeze(1)

    def extra_repr(self) -> str:
        """Return the sizes for ``print(model)``."""
        return ", ".join(f"{n}={rank}" for n, rank in zip(self.modalities, self.ranks, strict=True))


def agreement(coordinates: Tensor, graph: RecGraph) -> Tensor:
    r"""Return the intraclass correlation of items' coordinates within users' rows,

    .. math::
        \rho = \frac{\sum_u \frac{1}{|N_u| - 1} \sum_{i \ne j \in N_u} \mathbf{z}_i \cdot
        \mathbf{z}_j}{\sum_u |N_u|} \Big/ \frac{\sum_u \sum_{i \in N_u} \lVert\mathbf{z}_i\rVert^2}
        {\sum_u |N_u|},

    with the coordinates :math:`\mathbf{z}` centred on their mean over interactions, and sums over
    users with at least two items that have coordinates. It is 1 where all items of a user are the
    same, and 0 where they are no more similar than items of different users. Negative values are
    returned as 0.

    Args:
        coordinates: ``[I, R]``, zero where an item has none.
        graph: The interactions.

    Returns:
        A scalar.

    Source: Fisher, "Statistical Methods for Research Workers", 1925, chapter 7, with vectors in
    place of numbers.
    """
    present = coordinates.any(dim=1)
    chosen = torch.bincount(graph.col, minlength=graph.num_items) * present
    centre = chosen.to(coordinates.dtype) @ coordinates / chosen.sum().clamp(min=1)
    z = (coordinates - centre) * present.unsqueeze(1)
    total, squares = z.new_zeros(()), z.new_zeros(())
    for rowptr, col in row_blocks(graph, z.size(1), INTERACTIONS):
        row = torch.arange(rowptr.numel() - 1, device=col.device).repeat_interleave(rowptr.diff())
        rows = Rows(row, col, rowptr.numel() - 1)
        count = torch.bincount(rows.row, present[rows.item], rows.num).long()
        square = torch.bincount(rows.row, z.square().sum(dim=1)[rows.item], rows.num).to(z.dtype)
        # All pairs of a user's items, from the square of their sum.
        pairs = sum_items(z, rows).square().sum(dim=1) - square
        users = count > 1
        total += (pairs[users] / (count[users] - 1)).sum()
        squares += square[users].sum()
    return (total / squares.clamp(min=1e-12)).clamp(min=0)


def _principal_directions(centred: Tensor, rank: int) -> Tensor:
    """Return the directions of largest variance of rows ``[n, F]``, orthonormal columns
    ``[F, <= rank]``."""
    # In float32, directions of nearly equal variance would depend on the number of threads.
    rows = centred.double().cpu()
    # The same features give the same directions, whatever was drawn before.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, _, directions = torch.svd_lowrank(rows, min(rank, *rows.shape), _ITERATIONS)
    return directions.to(centred)


def _streamed_directions(x: Tensor, has: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the mean and the principal directions of features ``[n, F]`` of length one, from the
    products of all pairs of columns, summed over blocks of items."""
    width = x.size(1)
    total, gram = x.new_zeros(width).double(), x.new_zeros(width, width).double()
    for part in blocks(x.size(0), ITEMS):
        unit = F.normalize(x[part].double(), dim=1)
        total += unit.sum(dim=0)
        gram += unit.T @ unit
    num = has.sum().clamp(min=1)
    centre = total / num
    # Items without features have no deviation from the mean.
    square, directions = torch.linalg.eigh(gram - num * torch.outer(centre, centre))
    order = square.argsort(descending=True)[:rank]
    return centre.to(x.dtype), directions[:, order].to(x.dtype)
