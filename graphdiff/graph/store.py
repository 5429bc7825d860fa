"""The graph that a model carries: training interactions as CSR rows, and item content."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from torch import Tensor

from graphdiff.autocast import without_autocast
from graphdiff.graph.checks import check_tensors
from graphdiff.graph.item_similarity import nearest_candidates, similar_items
from graphdiff.graph.recency import ages
from graphdiff.graph.rows import Rows
from graphdiff.schema import INTERACTS, ITEM, USER, complete_masks, modalities, similar
from graphdiff.schema.pairs import is_ascending

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

#: Largest number of sorted interactions that a graph copies from its data.
SHARED = 2**24

T = TypeVar("T")
P = ParamSpec("P")


class RecGraph(torch.nn.Module):
    """Training interactions and item content as buffers, which move and save with a model.

    Message graphs are built by the functions of :mod:`graphdiff.graph.message_graphs`, negatives
    are drawn by :func:`graphdiff.graph.negatives.sample_negatives`; what is derived from the
    buffers is kept by :meth:`cached`.

    Args:
        rowptr: Long ``[U + 1]``; user ``u`` has the items ``col[rowptr[u]:rowptr[u + 1]]``.
        col: Long ``[E]``, item indices, sorted within each user.
        num_items: Size of the catalogue.
        features: Per modality, float32 ``[I, F_m]``.
        has: Per modality, bool ``[I]``; False where an item lacks it.
        similar: Per modality, ``(edge_index [2, E_m], edge_weight [E_m])`` of the item-item
            graph. Indices are kept as int32, the largest part of a large graph in half the memory.
        age: How many later interactions the user of each interaction has, floating ``[E]``,
            parallel to ``col``; see :func:`graphdiff.graph.recency.ages`. None where the order is
            unknown.

    Example:
        >>> import torch
        >>> RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)
        RecGraph(2 users, 2 items, 3 interactions, modalities=[])
    """

    rowptr: Tensor
    col: Tensor
    age: Tensor | None

    def __init__(
        self,
        rowptr: Tensor,
        col: Tensor,
        num_items: int,
        features: Mapping[str, Tensor] | None = None,
        has: Mapping[str, Tensor] | None = None,
        similar: Mapping[str, tuple[Tensor, Tensor]] | None = None,
        age: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.num_items = num_items
        self.register_buffer("rowptr", rowptr)
        self.register_buffer("col", col)
        self.register_buffer("age", age)
        self.modalities = sorted(features or {})
        for name in self.modalities:
            self.register_buffer(f"x_{name}", features[name])  # type: ignore[index]
            self.register_buffer(f"has_{name}", has[name])  # type: ignore[index]
            if similar is not None:
                edge_index, edge_weight = similar[name]
                self.register_buffer(f"similar_{name}_index", edge_index.int())
                self.register_buffer(f"similar_{name}_weight", edge_weight)
        self._memo: dict[tuple[Any, ...], Any] = {}

    @classmethod
    def from_data(
        cls,
        data: HeteroData,
        content: bool = True,
        num_neighbors: int = 10,
        similarity: bool = True,
        weighted: bool = False,
    ) -> RecGraph:
        """Read the training interactions and, on demand, item content from a dataset.

        Args:
            data: A graph that fits the schema.
            content: Read item features.
            num_neighbors: Neighbours per item in the modality graphs built here.
            similarity: With ``content``, read the modality graphs too, or build them all as
                :class:`~graphdiff.transforms.ModalityGraph` does where ``data`` lacks one.
            weighted: Build all modality graphs, weighted by similarity, whatever graphs ``data``
                has.
        """
        user, item = data[INTERACTS].edge_index
        num_users, num_items = data[USER].num_nodes, data[ITEM].num_nodes
        time = data[INTERACTS].get("time")
        age = None if time is None else ages(user, time)
        if is_ascending(data[INTERACTS].edge_index):
            # Many interactions are shared with the data, as they may be in a file.
            col = item if item.numel() > SHARED else item.clone()
        else:
            order = torch.argsort(user * num_items + item)
            col, age = item[order], None if age is None else age[order]
        rowptr = torch.zeros(num_users + 1, dtype=torch.long)
        rowptr[1:] = torch.bincount(user, minlength=num_users).cumsum(0)
        names = modalities(data) if content else []
        edges = _similarity_edges(data, names, num_neighbors, weighted) if similarity else {}
        return cls(
            rowptr,
            col,
            num_items,
            {name: data[ITEM][f"x_{name}"] for name in names},
            {name: data[ITEM][f"has_{name}"] for name in names},
            edges or None,
            age,
        )

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], num_items: int) -> RecGraph:
        """Rebuild the graph from its ``state_dict``.

        Raises:
            DataError: If the tensors do not fit: indices out of range, or sizes that differ.
        """
        check_tensors(tensors, num_items)
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
            tensors.get("age"),
        )

    def with_items(self, features: Mapping[str, Tensor], num: int, num_neighbors: int) -> RecGraph:
        """Return a graph with items without interactions appended to the catalogue.

        In each modality a new item gets edges from its nearest items among the existing ones, whose
        own edges stay as they are. This graph, which other models may share, does not change.

        Args:
            features: Per modality ``[num, F_m]``; rows of NaN, and modalities left out, where an
                item lacks it.
            num: Number of items.
            num_neighbors: Largest number of edges of an item in a modality.
        """
        xs, masks, edges = {}, {}, {}
        for name in self.modalities:
            x, has = self.features(name)
            new = features.get(name)
            new = x.new_full((num, x.size(1)), torch.nan) if new is None else new.to(x)
            present = new.isfinite().all(dim=1)
            new = torch.where(present.unsqueeze(1), new, 0)
            xs[name], masks[name] = torch.cat([x, new]), torch.cat([has, present])
            if f"similar_{name}_index" in self._buffers:
                edges[name] = self._extended(name, new, num_neighbors)
        num_items = self.num_items + num
        return type(self)(self.rowptr, self.col, num_items, xs, masks, edges or None, self.age)

    def _extended(self, modality: str, new: Tensor, num_neighbors: int) -> tuple[Tensor, Tensor]:
        """Return a modality's edges and those to new items with features ``new`` ``[n, F_m]``; a
        zero row gets none."""
        x, has = self.features(modality)
        index, weight = self.similar(modality)
        candidates = (has & x.any(dim=1)).nonzero().flatten()
        able = new.any(dim=1).nonzero().flatten()
        k = min(num_neighbors, candidates.numel())
        if not (able.numel() and k):
            return index, weight
        source = nearest_candidates(x, candidates, new[able], k).flatten()
        added = torch.stack([source, (self.num_items + able).repeat_interleave(k)])
        return torch.cat([index, added], dim=1), torch.cat(
            [weight, weight.new_full(source.shape, 1 / k)]
        )

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
        """User of each interaction, long ``[E]``, parallel to :attr:`col`."""
        index = torch.arange(self.num_users, device=self.rowptr.device)
        return index.repeat_interleave(self.user_degree(), output_size=self.num_interactions)

    def user_of(self, interaction: Tensor) -> Tensor:
        """Return the users at the given positions of :attr:`col`, long ``[B]``."""
        return torch.searchsorted(self.rowptr, interaction, right=True) - 1

    def contains(self, user: Tensor, item: Tensor) -> Tensor:
        """Return which pairs of a user and an item are training interactions, bool ``[P]``.

        Args:
            user: Users, long ``[P]``.
            item: An item for each, long ``[P]``; one that is not in the catalogue is in no row.
        """
        if self.num_interactions == 0:
            return torch.zeros_like(user, dtype=torch.bool)
        # By bisection of the users' rows, which are not copied: there may be many.
        low, end, last = self.rowptr[user], self.rowptr[user + 1], self.num_interactions - 1
        high = end
        while bool((low < high).any()):
            middle = (low + high) // 2
            before = (low < high) & (self.col[middle.clamp(max=last)] < item)
            low, high = torch.where(before, middle + 1, low), torch.where(before, high, middle)
        return (low < end) & (self.col[low.clamp(max=last)] == item)

    def user_degree(self) -> Tensor:
        """Return the number of items of each user, long ``[U]``."""
        return self.rowptr.diff()

    def item_degree(self) -> Tensor:
        """Return the number of users of each item, long ``[I]``."""
        return torch.bincount(self.col, minlength=self.num_items)

    def trained_items(self) -> Tensor:
        """Return the items with a training interaction, long ``[C]``, ascending; cached."""
        return self.cached(_trained_items)

    def features(self, modality: str) -> tuple[Tensor, Tensor]:
        """Return ``(x [I, F_m], has [I])`` of one modality."""
        return getattr(self, f"x_{modality}"), getattr(self, f"has_{modality}")

    def similar(self, modality: str) -> tuple[Tensor, Tensor]:
        """Return ``(edge_index [2, E_m], edge_weight [E_m])``, int32 and float32, of one modality's
        item-item graph; it has no edges where it was not read. Products of indices exceed int32:
        compute them with ``edge_index.long()``."""
        if f"similar_{modality}_index" not in self._buffers:
            empty = self.col.new_empty(2, 0, dtype=torch.int32)
            return empty, empty.new_empty(0, dtype=torch.float32)
        return getattr(self, f"similar_{modality}_index"), getattr(
            self, f"similar_{modality}_weight"
        )

    def rows(self, user_index: Tensor) -> Rows:
        """Return the items of a batch of users, ``user_index`` long ``[B]``."""
        return self.located_rows(user_index)[0]

    def located_rows(self, user_index: Tensor) -> tuple[Rows, Tensor]:
        """Return :meth:`rows` and the position of each of their items in :attr:`col`, long
        ``[nnz]``."""
        if user_index.numel() == 1:
            # Serving answers one user at a time: one slice is enough.
            user = int(user_index)
            first, last = self.rowptr[user : user + 2].tolist()
            item = self.col[first:last]
            position = torch.arange(first, last, device=item.device)
            age = None if self.age is None else self.age[first:last]
            return Rows(torch.zeros_like(item), item, 1, age), position
        stop = self.rowptr[1:].index_select(0, user_index)
        length = self.cached(_user_degree).index_select(0, user_index)
        end = length.cumsum(0)
        num = int(end[-1]) if end.numel() else 0
        row = torch.repeat_interleave(length, output_size=num)
        position = torch.arange(num, device=row.device) + (stop - end).index_select(0, row)
        item = self.col.index_select(0, position)
        age = None if self.age is None else self.age.index_select(0, position)
        return Rows(row, item, user_index.numel(), age), position

    def to_scipy(self) -> csr_matrix:
        """Return the interactions as a matrix of ones, float64 ``[U, I]``, on the CPU."""
        rowptr, col = self.rowptr.cpu().numpy(), self.col.cpu().numpy()
        return csr_matrix((np.ones(col.size), col, rowptr), (self.num_users, self.num_items))

    def to_normalized_scipy(self) -> csr_matrix:
        r"""Return :meth:`to_scipy` with each entry divided by :math:`\sqrt{|N_u||N_i|}`."""
        user, item = (
            diags(degree.clamp(min=1).double().rsqrt().cpu().numpy())
            for degree in (self.user_degree(), self.item_degree())
        )
        return (user @ self.to_scipy() @ item).tocsr()

    def cached(
        self, build: Callable[Concatenate[RecGraph, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return ``build(graph, *args)``, computed once per function, arguments and device.

        Results are shared by all models that share this graph, so everything that they depend on
        must be among the arguments. They are dropped when the graph grows, moves or loads a state,
        and neither copied nor pickled with it.

        Args:
            build: A function of a module or class; its result must not be changed.
            *args: Hashable values, or mappings of them.
            **kwargs: Likewise.

        Raises:
            TypeError: If ``build`` is a bound method or refers to variables of an enclosing
                function, which the key would not contain.
        """
        named = ((name, _frozen(kwargs[name])) for name in sorted(kwargs))
        key = (build, self.col.device, *map(_frozen, args), *named)
        if key not in self._memo:
            if inspect.ismethod(build) or getattr(build, "__closure__", None):
                raise TypeError(
                    f"{build.__qualname__} depends on more than its arguments; give a function "
                    "without enclosing variables, and all that it needs as arguments"
                )
            with without_autocast():
                self._memo[key] = build(self, *args, **kwargs)
        return self._memo[key]

    def clear_cache(self) -> None:
        """Drop all cached results, for instance to free their memory."""
        self._memo.clear()

    def extra_repr(self) -> str:
        """Return the sizes for ``print(model)``."""
        return (
            f"{self.num_users} users, {self.num_items} items, "
            f"{self.num_interactions} interactions, modalities={self.modalities}"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Used by copy, deepcopy and pickle. Cached results may be large, belong to one process,
        # and sparse tensors cannot be copied at all.
        return {**self.__dict__, "_memo": {}}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._memo.clear()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._memo.clear()
        super()._load_from_state_dict(*args, **kwargs)


def _similarity_edges(
    data: HeteroData, names: list[str], num_neighbors: int, weighted: bool
) -> dict[str, tuple[Tensor, Tensor]]:
    if not weighted and all(similar(name) in data.edge_types for name in names):
        stores = {name: data[similar(name)] for name in names}
        return {name: (store.edge_index, store.edge_weight) for name, store in stores.items()}
    item = complete_masks(data)[ITEM]
    built = {
        name: similar_items(item[f"x_{name}"], item[f"has_{name}"], num_neighbors, weighted)
        for name in names
    }
    return {name: (edges.edge_index, edges.edge_weight) for name, edges in built.items()}


def _trained_items(graph: RecGraph) -> Tensor:
    return graph.item_degree().nonzero().flatten()


def _user_degree(graph: RecGraph) -> Tensor:
    return graph.user_degree()


def _frozen(arg: Any) -> Any:
    """Return a hashable form of an argument."""
    return tuple(arg.items()) if isinstance(arg, Mapping) else arg
