"""The graph that a model carries: interactions as CSR rows, and what is known of the items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.errors import DataError
from graphdiff.graph.propagation import FixedGraph, symmetric_norm
from graphdiff.schema import INTERACTS, modalities

T = TypeVar("T")

# Draws of a negative that may hit one of the user's items, before all others are looked up.
REDRAWS = 16


class Rows(NamedTuple):
    """Rows of items, sparse: ``item[n]`` belongs to row ``row[n]``.

    Attributes:
        row: Long ``[nnz]``, 0 … ``num - 1``, ascending.
        item: Long ``[nnz]``, without repeats in a row.
        num: Number of rows B; some may be empty.
    """

    row: Tensor
    item: Tensor
    num: int

    def degree(self) -> Tensor:
        """Number of items of each row, long ``[B]``."""
        if self.num == 1:
            # A request of one person does not wait for counting.
            return self.row.new_tensor([self.row.numel()])
        return torch.bincount(self.row, minlength=self.num)

    def starts(self) -> Tensor:
        """Where each row's items begin, long ``[B]``."""
        if self.num == 1:
            return self.row.new_zeros(1)
        degree = self.degree()
        return degree.cumsum(0) - degree

    def dense(self, num_items: int) -> Tensor:
        """The rows as float32 ``[B, I]`` of zeros and ones."""
        x = torch.zeros(self.num, num_items, device=self.item.device)
        x[self.row, self.item] = 1
        return x


class RecGraph(torch.nn.Module):
    """Training interactions and item content as buffers, so that they move and save with a model.

    Args:
        rowptr: Long ``[U + 1]``; user ``u`` has the items ``col[rowptr[u]:rowptr[u + 1]]``.
        col: Long ``[E]``, item indices, sorted within each user.
        num_items: Size of the catalogue.
        features: Per modality, float32 ``[I, F_m]``.
        has: Per modality, bool ``[I]``; False where an item lacks it.
        similar: Per modality, ``(edge_index [2, E_m], edge_weight [E_m])`` of the item-item
            graph.
    """

    rowptr: Tensor
    col: Tensor

    def __init__(
        self,
        rowptr: Tensor,
        col: Tensor,
        num_items: int,
        features: Mapping[str, Tensor] | None = None,
        has: Mapping[str, Tensor] | None = None,
        similar: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.num_items = num_items
        self.register_buffer("rowptr", rowptr)
        self.register_buffer("col", col)
        self.modalities = sorted(features or {})
        for name in self.modalities:
            self.register_buffer(f"x_{name}", features[name])  # type: ignore[index]
            self.register_buffer(f"has_{name}", has[name])  # type: ignore[index]
            if similar is not None:
                edge_index, edge_weight = similar[name]
                self.register_buffer(f"similar_{name}_index", edge_index)
                self.register_buffer(f"similar_{name}_weight", edge_weight)
        self._made: dict[tuple[str, torch.device], Any] = {}

    @classmethod
    def from_data(
        cls,
        data: HeteroData,
        content: bool = True,
        num_neighbors: int = 10,
        similarity: bool = True,
        weighted: bool = False,
    ) -> RecGraph:
        """Reads the training interactions and, with ``content``, features and, with ``similarity``
        too, modality graphs.

        A modality graph that ``data`` lacks is built with
        :class:`~graphdiff.transforms.ModalityGraph` and ``k=num_neighbors``. With ``weighted`` all
        are built, weighted by similarity, whatever graphs ``data`` has.
        """
        user, item = data[INTERACTS].edge_index
        num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
        order = torch.argsort(user * num_items + item)
        rowptr = torch.zeros(num_users + 1, dtype=torch.long)
        rowptr[1:] = torch.bincount(user, minlength=num_users).cumsum(0)
        names = modalities(data) if content else []
        compared = names if similarity else []
        present = [("item", f"similar_{name}", "item") in data.edge_types for name in compared]
        if compared and (weighted or not all(present)):
            from graphdiff.transforms import ModalityGraph

            data = ModalityGraph(num_neighbors, weighted)(data)
        edges = {name: data["item", f"similar_{name}", "item"] for name in compared}
        return cls(
            rowptr,
            item[order],
            num_items,
            {name: data["item"][f"x_{name}"] for name in names},
            {name: data["item"][f"has_{name}"] for name in names},
            {name: (store.edge_index, store.edge_weight) for name, store in edges.items()} or None,
        )

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], num_items: int) -> RecGraph:
        """The graph back from its own ``state_dict``.

        Raises:
            DataError: If these are no such tensors: indices out of range, or of other sizes.
        """
        _check_tensors(tensors, num_items)
        names = [key.removeprefix("x_") for key in tensors if key.startswith("x_")]
        compared = [name for name in names if f"similar_{name}_index" in tensors]
        return cls(
            tensors["rowptr"],
            tensors["col"],
            num_items,
            {name: tensors[f"x_{name}"] for name in names},
            {name: tensors[f"has_{name}"] for name in names},
            {
                name: (tensors[f"similar_{name}_index"], tensors[f"similar_{name}_weight"])
                for name in compared
            }
            or None,
        )

    def add_items(self, features: Mapping[str, Tensor], num: int, num_neighbors: int) -> None:
        """Adds items without interactions to the end of the catalogue.

        In each modality a new item has edges from its nearest items among those there were, which
        keep theirs.

        Args:
            features: Per modality ``[num, F_m]``, rows of NaN and modalities left out where an item
                lacks it.
            num: Number of items.
            num_neighbors: Most edges of an item in a modality.
        """
        first = self.num_items
        for name in self.modalities:
            x, has = self.features(name)
            new = features.get(name)
            new = x.new_full((num, x.size(1)), torch.nan) if new is None else new.to(x)
            there = new.isfinite().all(dim=1)
            new = torch.where(there.unsqueeze(1), new, 0)
            candidates = (has & (x.norm(dim=1) > 0)).nonzero().flatten()
            able = (there & (new.norm(dim=1) > 0)).nonzero().flatten()
            k = min(num_neighbors, candidates.numel())
            if able.numel() and k:
                unit = F.normalize(x[candidates].double(), dim=1)
                nearest = (F.normalize(new[able].double(), dim=1) @ unit.t()).topk(k, dim=1).indices
                source = candidates[nearest].flatten()
                edges = torch.stack([source, (first + able).repeat_interleave(k)])
                index, weight = self.similar(name)
                weights = weight.new_full((edges.size(1),), 1 / k)
                setattr(self, f"similar_{name}_index", torch.cat([index, edges], dim=1))
                setattr(self, f"similar_{name}_weight", torch.cat([weight, weights]))
            setattr(self, f"x_{name}", torch.cat([x, new]))
            setattr(self, f"has_{name}", torch.cat([has, there]))
        self.num_items += num
        self._made.clear()

    @property
    def num_users(self) -> int:
        """Number of training users."""
        return self.rowptr.numel() - 1

    @property
    def num_interactions(self) -> int:
        """Number of training interactions."""
        return self.col.numel()

    @property
    def user(self) -> Tensor:
        """User of each interaction, long ``[E]``, beside :attr:`col`."""
        index = torch.arange(self.num_users, device=self.rowptr.device)
        return index.repeat_interleave(self.user_degree(), output_size=self.num_interactions)

    def user_of(self, interaction: Tensor) -> Tensor:
        """Users of the given positions of :attr:`col`, long ``[B]``."""
        return torch.searchsorted(self.rowptr, interaction, right=True) - 1

    def user_degree(self) -> Tensor:
        """Number of items of each user, long ``[U]``."""
        return self.rowptr.diff()

    def item_degree(self) -> Tensor:
        """Number of users of each item, long ``[I]``."""
        return torch.bincount(self.col, minlength=self.num_items)

    def features(self, modality: str) -> tuple[Tensor, Tensor]:
        """``(x [I, F_m], has [I])`` of one modality."""
        return getattr(self, f"x_{modality}"), getattr(self, f"has_{modality}")

    def similar(self, modality: str) -> tuple[Tensor, Tensor]:
        """``(edge_index [2, E_m], edge_weight [E_m])`` of one modality's item-item graph."""
        return getattr(self, f"similar_{modality}_index"), getattr(
            self, f"similar_{modality}_weight"
        )

    def similarity_graph(self, shares: Mapping[str, float]) -> FixedGraph:
        """The item-item graphs of some modalities as one, the weights of each scaled by its share;
        messages go from neighbour to item."""
        graphs = [(share, *self.similar(name)) for name, share in shares.items()]
        return FixedGraph(
            torch.cat([edge_index for _, edge_index, _ in graphs], dim=1),
            torch.cat([share * weight for share, _, weight in graphs]),
            self.num_items,
            self.num_items,
        )

    def to_scipy(self) -> csr_matrix:
        """The interactions as a matrix of ones, float64 ``[U, I]``, on the CPU."""
        rowptr, col = self.rowptr.cpu().numpy(), self.col.cpu().numpy()
        return csr_matrix((np.ones(col.size), col, rowptr), (self.num_users, self.num_items))

    def strongest_similarity_graph(self) -> FixedGraph:
        """The union of all modalities' item-item graphs; of an edge in several, the largest
        weight counts."""
        graphs = [self.similar(name) for name in self.modalities]
        key = torch.cat([target * self.num_items + source for (source, target), _ in graphs])
        weight = torch.cat([weight for _, weight in graphs])
        key, edge = key.unique(return_inverse=True)
        largest = weight.new_zeros(key.numel()).scatter_reduce(
            0, edge, weight, "amax", include_self=False
        )
        edge_index = torch.stack([key % self.num_items, key // self.num_items])
        return FixedGraph(edge_index, largest, self.num_items, self.num_items)

    def rows(self, user_index: Tensor) -> Rows:
        """The items of a batch of users, ``user_index`` long ``[B]``, without a loop over users."""
        return self.located_rows(user_index)[0]

    def located_rows(self, user_index: Tensor) -> tuple[Rows, Tensor]:
        """:meth:`rows`, and where each of their items stands in :attr:`col`, long ``[nnz]``."""
        if user_index.numel() == 1:
            # One slice, for a request of one person.
            user = int(user_index)
            first, last = self.rowptr[user : user + 2].tolist()
            item = self.col[first:last]
            position = torch.arange(first, last, device=item.device)
            return Rows(torch.zeros_like(item), item, 1), position
        start = self.rowptr[user_index]
        length = self.rowptr[user_index + 1] - start
        row = torch.arange(user_index.numel(), device=length.device).repeat_interleave(length)
        offset = length.cumsum(0) - length
        position = torch.arange(row.numel(), device=row.device) - offset[row] + start[row]
        return Rows(row, self.col[position], user_index.numel()), position

    def homogeneous_graph(self, keep: Tensor | None = None) -> FixedGraph:
        r"""The user-item graph over ``U + I`` nodes, users first, with weights
        :math:`1/\sqrt{|N_u||N_i|}` in both directions.

        Args:
            keep: Long positions of the interactions to keep, all by default; degrees are those of
                what is kept.
        """
        user, item = self.user, self.col + self.num_users
        if keep is not None:
            user, item = user[keep], item[keep]
        source, target = torch.cat([user, item]), torch.cat([item, user])
        num_nodes = self.num_users + self.num_items
        weight = symmetric_norm(source, target, num_nodes, num_nodes)
        return FixedGraph(torch.stack([source, target]), weight, num_nodes, num_nodes)

    def whole_graph(self) -> FixedGraph:
        """:meth:`homogeneous_graph` of all interactions, made once."""
        return self.once("homogeneous", self.homogeneous_graph)

    def item_to_user_graph(self, normalized: bool = True) -> FixedGraph:
        r"""From items to their users, with weights :math:`1/\sqrt{|N_u||N_i|}`, or all one where
        not ``normalized``."""
        weight = (
            symmetric_norm(self.col, self.user, self.num_items, self.num_users)
            if normalized
            else torch.ones_like(self.col, dtype=torch.float32)
        )
        edge_index = torch.stack([self.col, self.user])
        return FixedGraph(edge_index, weight, self.num_items, self.num_users)

    def interactions(self, without: Tensor | None = None) -> FixedGraph:
        """:meth:`item_to_user_graph`, made once.

        Args:
            without: Interactions that are to be as if they had never been, long positions ``[n]``
                of :attr:`col` without repeats: others' weights know nothing of them.
        """
        whole = self.once("interactions", self.item_to_user_graph)
        if without is None:
            return whole
        user = self.once("user", lambda: self.user)
        weight = torch.ones_like(self.col, dtype=torch.float32).index_fill_(0, without, 0)
        for index, degree in ((user, self.user_degree()), (self.col, self.item_degree())):
            gone = torch.bincount(index[without], minlength=degree.numel())
            # An end without any other edge has no weight to give, and not an infinite one.
            weight *= (degree - gone).clamp(min=1).rsqrt()[index]
        return whole.reweighted((self.col, user), weight)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` returns, made once for each device and kept under ``name``."""
        key = (name, self.col.device)
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def sample_negatives(
        self, user_index: Tensor, generator: torch.Generator, untouched: bool = False
    ) -> Tensor:
        """One item per user, uniform over those the user has not interacted with, among the
        items that have a training interaction (:meth:`trained_items`).

        All models that learn from negatives draw them here. An item that nobody has touched says
        nothing of anybody's taste: as a negative it would only teach that new items are bad, and
        models that know them by their features would rank them last. (MMRec, the toolbox that
        most of the multimodal models are compared with, draws among the same items.)

        Args:
            user_index: Long ``[B]``; repeats are fine.
            generator: Source of randomness, on the graph's device.
            untouched: Draw among all items of the catalogue, also those without interactions.

        Returns:
            Long ``[B]``. A user who has all of these items gets any of them.
        """
        # CSR order makes the flat keys sorted already.
        pool, key = self._pool(untouched), self._pool_pairs(untouched)
        device, size = self.col.device, pool.numel()
        place = torch.randint(size, user_index.shape, generator=generator, device=device)
        open_ = torch.arange(user_index.numel(), device=device)
        open_ = open_[self.user_degree()[user_index] < size]
        for _ in range(REDRAWS):
            wanted = user_index[open_] * size + place[open_]
            found = torch.searchsorted(key, wanted).clamp(max=key.numel() - 1)
            open_ = open_[key[found] == wanted]
            if open_.numel() == 0:
                return pool[place]
            place[open_] = torch.randint(size, open_.shape, generator=generator, device=device)
        place[open_] = self._draw_rest(user_index[open_], generator, untouched)
        return pool[place]

    def _draw_rest(self, user_index: Tensor, generator: torch.Generator, untouched: bool) -> Tensor:
        """As :meth:`sample_negatives`, in one go, for users who have nearly every item: places in
        the pool."""
        device, size = self.col.device, self._pool(untouched).numel()
        # Before a user's n-th item (from 0), which is the p-th of the pool, lie p - n that the user
        # has not.
        number = torch.arange(self.num_interactions, device=device) - self.rowptr[self.user]
        key = self._pool_pairs(untouched) - number
        free = size - self.user_degree()[user_index]
        share = torch.rand(free.shape, generator=generator, device=device)
        rank = torch.minimum((share * free).long(), free - 1)
        wanted = user_index * size + rank
        return rank + torch.searchsorted(key, wanted, right=True) - self.rowptr[user_index]

    def _pool(self, untouched: bool) -> Tensor:
        """What negatives are drawn from, long, ascending."""
        if not untouched:
            return self.trained_items()
        return self.once("all_items", lambda: torch.arange(self.num_items, device=self.col.device))

    def _pool_pairs(self, untouched: bool) -> Tensor:
        """A number for each interaction, ascending: user times the size of the pool, and the
        item's place in it."""

        def make() -> Tensor:
            pool = self._pool(untouched)
            return self.user * pool.numel() + torch.searchsorted(pool, self.col)

        return self.once(f"pool_pairs_{untouched}", make)

    def trained_items(self) -> Tensor:
        """Items with at least one training interaction, long ``[C]``, ascending; found once."""
        return self.once("trained_items", lambda: self.item_degree().nonzero().flatten())

    def extra_repr(self) -> str:
        """Sizes for ``print(model)``."""
        return (
            f"{self.num_users} users, {self.num_items} items, "
            f"{self.num_interactions} interactions, modalities={self.modalities}"
        )


def _check_tensors(tensors: Mapping[str, Tensor], num_items: int) -> None:
    rowptr, col = tensors["rowptr"], tensors["col"]
    sane = (
        rowptr.dtype == col.dtype == torch.long
        and rowptr.dim() == col.dim() == 1
        and rowptr.numel() > 1
        and rowptr[0] == 0
        and rowptr[-1] == col.numel()
        and bool((rowptr.diff() >= 0).all())
        and _within(col, num_items)
    )
    for name in (key.removeprefix("x_") for key in tensors if key.startswith("x_")):
        x, has = tensors[f"x_{name}"], tensors[f"has_{name}"]
        sane = sane and (
            x.dim() == 2
            and x.size(0) == num_items
            and has.dtype == torch.bool
            and has.shape == (num_items,)
        )
        if f"similar_{name}_index" not in tensors:
            continue
        index, weight = tensors[f"similar_{name}_index"], tensors[f"similar_{name}_weight"]
        sane = sane and (
            index.dtype == torch.long
            and index.shape == (2, weight.numel())
            and weight.dim() == 1
            and _within(index, num_items)
        )
    if not sane:
        raise DataError("its graph does not add up: indices out of range, or sizes that differ")


def _within(index: Tensor, size: int) -> bool:
    return bool(((index >= 0) & (index < size)).all())
