"""The users and items of a model: raw ids, indices, and which items may be recommended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphdiff.errors import ConfigError, DataError
from graphdiff.graph.recency import ages, last_places
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models import conversion
from graphdiff.schema.details import ItemDetails
from graphdiff.schema.features import as_features, check_features


class Catalogue(torch.nn.Module):
    """Users and items of a model, by index and by raw id.

    Raw ids are text or integers and are compared by their text: 5 and ``"5"`` are the same id.
    Without raw ids the id of item 5 is 5.

    Args:
        num_users: Number of training users U.
        num_items: Number of items I.
        user_ids: Raw ids of the users, all different; None where there are none.
        item_ids: Raw ids of the items, likewise.

    Attributes:
        available: Bool ``[I]``; False for removed items. A buffer, so that it moves and is saved
            with the model.
        details: Titles, categories and image addresses of the items, where there are any.
    """

    available: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        user_ids: Sequence[Any] | None = None,
        item_ids: Sequence[Any] | None = None,
    ) -> None:
        super().__init__()
        self.num_users = num_users
        self.register_buffer("available", torch.ones(num_items, dtype=torch.bool))
        self._all_available: tuple[Tensor, int, bool] | None = None
        self._index: dict[str, dict[str, int]] = {}
        self.user_ids = user_ids
        self.item_ids = item_ids
        self.details = ItemDetails(num_items)

    @property
    def num_items(self) -> int:
        """Number of items, removed ones included."""
        return self.available.numel()

    @property
    def user_ids(self) -> list[Any] | None:
        """Raw ids of the users, or None."""
        return self._user_ids

    @user_ids.setter
    def user_ids(self, ids: Sequence[Any] | Tensor | None) -> None:
        self._user_ids = _checked_ids(ids, "user", self.num_users)
        self._index.pop("user", None)

    @property
    def item_ids(self) -> list[Any] | None:
        """Raw ids of the items, or None."""
        return self._item_ids

    @item_ids.setter
    def item_ids(self, ids: Sequence[Any] | Tensor | None) -> None:
        self._item_ids = _checked_ids(ids, "item", self.num_items)
        self._index.pop("item", None)

    def user_id(self, index: int) -> Any:
        """Return the raw id of a user index."""
        return index if self._user_ids is None else self._user_ids[index]

    def item_id(self, index: int) -> Any:
        """Return the raw id of an item index."""
        return index if self._item_ids is None else self._item_ids[index]

    def user_index(self, user_id: Any) -> Tensor:
        """Return the indices of users, long ``[n]``.

        Args:
            user_id: One raw id, or a collection of raw ids.

        Raises:
            ConfigError: If a value cannot be a raw id.
            DataError: If the model does not know a user.
        """
        return self._tensor(self._find(conversion.as_flat(user_id, "user_id", True), "user_id"))

    def item_index(self, item_id: Any) -> Tensor:
        """Return the indices of items, long ``[n]``; see :meth:`user_index`."""
        return self._tensor(self._find(conversion.as_flat(item_id, "item_id", True), "item_id"))

    def users(self, user_index: Any = None, user_id: Any = None) -> Tensor:
        """Return users given by index or by raw id as indices, long ``[B]``."""
        if user_id is not None:
            return self.user_index(user_id)
        is_long = isinstance(user_index, Tensor) and user_index.dtype == torch.long
        if is_long and user_index.layout == torch.strided:
            index = torch.atleast_1d(user_index.to(self.available.device))
            if index.dim() == 1:
                low, high = _bounds(index)
                if low < 0 or high >= self.num_users:
                    conversion.check_positions([low, high], self.num_users, "user_index")
                return index
        return self._tensor(
            conversion.as_positions(user_index, self.num_users, "user_index", ordered=True)
        )

    def items(self, item_index: Any = None, item_id: Any = None, ordered: bool = True) -> Tensor:
        """Return items given by index or by raw id, exactly one of them, as indices, long ``[n]``.

        Raises:
            ConfigError: If both or neither are given, or an index is out of range.
            DataError: If an id is not known.
        """
        if (item_index is None) == (item_id is None):
            raise ConfigError("give either item_index or item_id")
        if item_id is not None:
            found = self._find(conversion.as_flat(item_id, "item_id", ordered), "item_id")
        else:
            found = conversion.as_positions(item_index, self.num_items, "item_index", ordered)
        return self._tensor(found)

    def rows(self, history: Any = None, history_index: Any = None, ordered: bool = True) -> Rows:
        """Return histories, given as raw ids or as indices, as rows without repeats. If they are
        ``ordered``, by time with the latest last, so are the rows; of repeats the latest counts."""
        if history is not None:
            lists = conversion.as_lists(history, "history")
            indices = [self._find(one, "history") for one in lists]
        else:
            lists = conversion.as_lists(history_index, "history_index")
            check, num = conversion.check_positions, self.num_items
            indices = [check(one, num, "history_index") for one in lists]
        # All lists at once: a tensor for each would cost more than the answer.
        length = torch.tensor([len(one) for one in indices], dtype=torch.long)
        item = torch.tensor([index for one in indices for index in one], dtype=torch.long)
        row = torch.arange(len(indices)).repeat_interleave(length, output_size=item.numel())
        key = row * self.num_items + item
        key, place = last_places(key) if ordered else (key.unique(), None)
        row, item, device = key // self.num_items, key % self.num_items, self.available.device
        age = None if place is None else ages(row, place).to(device)
        return Rows(row.to(device), item.to(device), len(indices), age)

    def pairs(
        self, num_rows: int, exclude: Any = None, exclude_index: Any = None
    ) -> tuple[Tensor, Tensor] | None:
        """Return the pairs ``(row, item)`` to exclude, long ``[P]`` each; None for none.

        Args:
            num_rows: Number of users B of the request.
            exclude: Raw ids, one list per user; for one user also a flat list.
            exclude_index: ``(row, item)``, positions in the request and item indices.

        Raises:
            ConfigError: If both are given, the lengths do not fit or an index is out of range.
            DataError: If an id is not known.
        """
        if exclude is None and exclude_index is None:
            return None
        if exclude is not None and exclude_index is not None:
            raise ConfigError("give either exclude or exclude_index")
        if exclude is not None:
            lists = conversion.as_lists(exclude, "exclude")
            if lists == [[]]:
                return None
            if len(lists) != num_rows:
                raise ConfigError(
                    f"exclude holds {len(lists)} lists for {num_rows} users; give one list of raw "
                    "ids per user"
                )
            found = [self._find(one, "exclude") for one in lists]
            rows = [n for n, one in enumerate(found) for _ in one]
            return self._tensor(rows), self._tensor([item for one in found for item in one])
        return self._index_pairs(num_rows, exclude_index)

    def _index_pairs(self, num_rows: int, pairs: Any) -> tuple[Tensor, Tensor]:
        try:
            if isinstance(pairs, (set, frozenset, Mapping)):
                raise TypeError
            row, item = pairs
        except (TypeError, ValueError):
            raise ConfigError(
                "exclude_index is not a pair; give (row, item), two equally long vectors"
            ) from None
        found: list[Tensor] = []
        index: Tensor | list[int]
        for what, values, size in (("row", row, num_rows), ("item", item, self.num_items)):
            if isinstance(values, Tensor) and values.dtype == torch.long and values.dim() == 1:
                index = values.to(self.available.device)
            else:
                listed = conversion.as_flat(values, "exclude_index", ordered=True)
                index = conversion.as_integers(listed, "exclude_index")
            low, high = _bounds(index)
            if low < 0 or high >= size:
                raise ConfigError(
                    f"exclude_index holds {what} {low if low < 0 else high}; expected 0 to "
                    f"{size - 1}"
                )
            found.append(index if isinstance(index, Tensor) else self._tensor(index))
        if found[0].shape != found[1].shape:
            raise ConfigError(
                f"exclude_index holds {found[0].numel()} rows and {found[1].numel()} items; give "
                "two equally long vectors"
            )
        return found[0], found[1]

    def mask(self, candidates: Any = None, candidate_index: Any = None) -> Tensor | None:
        """Return which items may be recommended, bool ``[I]``; None for all.

        Args:
            candidates: Raw ids of the only items that may be recommended.
            candidate_index: The same as indices, or as a bool mask ``[I]``.

        Raises:
            ConfigError: If both are given or an index is out of range.
            DataError: If an id is not known.
        """
        if candidates is None and candidate_index is None:
            return None if self.all_available() else self.available
        if candidates is not None and candidate_index is not None:
            raise ConfigError("give either candidates or candidate_index")
        if candidates is not None:
            allowed = self._mask_of(
                self._find(conversion.as_flat(candidates, "candidates"), "candidates")
            )
        else:
            found = conversion.as_mask(candidate_index, self.num_items, "candidate_index")
            device = self.available.device
            allowed = found.to(device) if isinstance(found, Tensor) else self._mask_of(found)
        return allowed if self.all_available() else self.available & allowed

    def all_available(self) -> bool:
        """Return whether no item was removed."""
        seen, available = self._all_available, self.available
        if seen is None or seen[0] is not available or seen[1] != available._version:
            seen = (available, available._version, bool(available.all()))
            self._all_available = seen
        return seen[2]

    def remove(self, item_index: Tensor) -> None:
        """Mark items as removed; indices stay as they are."""
        self.available[item_index] = False

    def grow(
        self,
        num: int,
        item_id: Sequence[Any] | None,
        details: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Append ``num`` available items with the raw ids ``item_id``, where there are ids, and
        their ``details``; see :class:`~graphdiff.schema.ItemDetails`."""
        self.details = self.details.grown(num, details)
        self.available = torch.cat([self.available, self.available.new_ones(num)])
        if self._item_ids is not None and item_id is not None:
            self.item_ids = [*self._item_ids, *item_id]
        self._index.pop("item", None)

    def grow_users(self, user_id: Sequence[Any]) -> None:
        """Append users with the raw ids ``user_id``."""
        ids = self._named("user")
        self.num_users += len(user_id)
        self.user_ids = [*ids, *user_id]

    def name_items(self) -> None:
        """Make the indices of the items their raw ids, where there are none."""
        self.item_ids = self._named("item")

    def keep(self, users: Tensor, items: Tensor) -> None:
        """Leave out all users and items but those of the masks, bool ``[U]`` and ``[I]``. What has
        no raw ids gets its indices as ids."""
        user_ids, item_ids = self._named("user"), self._named("item")
        self.num_users, self.available = int(users.sum()), self.available[items]
        self.user_ids = [user_ids[n] for n in users.nonzero().flatten().tolist()]
        there = items.nonzero().flatten().tolist()
        self.item_ids, self.details = [item_ids[n] for n in there], self.details.kept(there)

    def positions(self, node: str) -> Mapping[str, int]:
        """Return the index of each user or item by its raw id as text."""
        if node not in self._index:
            self._index[node] = {str(one): n for n, one in enumerate(self._named(node))}
        return self._index[node]

    def _named(self, node: str) -> list[Any]:
        ids = self._user_ids if node == "user" else self._item_ids
        size = self.num_users if node == "user" else self.num_items
        return list(range(size)) if ids is None else ids

    def check_new_ids(self, num: int, item_id: Any) -> list[Any] | None:
        """Return raw ids for ``num`` new items as a list, None where the model has no ids.

        Raises:
            DataError: If ids are missing, repeated, known already or not expected.
        """
        if (item_id is None) != (self._item_ids is None):
            raise DataError(
                "the model has raw item ids: give one for each new item in item_id"
                if item_id is None
                else "the model has no raw item ids, so new items get none; leave out item_id"
            )
        if item_id is None:
            return None
        ids = conversion.as_flat(item_id, "item_id", ordered=True)
        texts, known = [conversion.id_text(one, "item_id") for one in ids], self.positions("item")
        twice = [one for one, text in zip(ids, texts, strict=True) if text in known]
        if len(ids) != num or len(set(texts)) != num or twice:
            raise DataError(
                f"{len(ids)} ids for {num} new items"
                + (f", of which {twice[0]!r} is known already" if twice else "")
                + "; give a new id for each"
            )
        return ids

    def _find(self, ids: list[Any], name: str) -> list[int]:
        node = "user" if name == "user_id" else "item"
        size = self.num_users if node == "user" else self.num_items

        def unknown(shown: str) -> DataError:
            return DataError(f"no {node} {shown} among the {size} {node}s that this model knows")

        return conversion.find_ids(ids, self.positions(node), name, unknown)

    def _tensor(self, index: list[int]) -> Tensor:
        return torch.tensor(index, dtype=torch.long, device=self.available.device)

    def _mask_of(self, index: list[int]) -> Tensor:
        mask = torch.zeros(self.num_items, dtype=torch.bool, device=self.available.device)
        mask[self._tensor(index)] = True
        return mask


@dataclass(frozen=True)
class NewItems:
    """Items that are to be added, checked.

    Attributes:
        num: Number of items.
        features: Per modality, float32 ``[num, F_m]``; a row is all NaN where an item lacks it.
        item_id: Their raw ids; None where the model has none.
        details: Their titles, categories and image addresses, each ``num`` texts.
    """

    num: int
    features: dict[str, Tensor]
    item_id: list[Any] | None
    details: dict[str, list[str]]


def check_new_items(
    graph: RecGraph,
    catalogue: Catalogue,
    features: Mapping[str, Any],
    item_id: Any,
    details: Mapping[str, Sequence[Any]] | None,
) -> NewItems:
    """Convert and check items that are to be added; features and details are read as by
    :func:`graphdiff.schema.build_data`.

    Raises:
        DataError: If features do not fit the model's modalities, or ids or details do not fit.
    """
    if not isinstance(features, Mapping):
        raise DataError(
            f"features are of type {type(features).__name__}; give a dictionary with the rows of "
            "each modality"
        )
    unknown = sorted(str(name) for name in features if name not in graph.modalities)
    if unknown or not features:
        raise DataError(
            f"features are of {unknown or 'no modality'}; the model knows "
            f"{', '.join(graph.modalities) or 'none'}"
        )
    tensors = {name: as_features(values, name) for name, values in features.items()}
    first, num = next((name, len(x) if x.dim() else 1) for name, x in tensors.items())
    for name, x in tensors.items():
        expected = [num, graph.features(name)[0].size(1)]
        if x.dim() == 2 and x.size(0) == num and list(x.shape) != expected:
            raise DataError(f"features of {name} are {list(x.shape)}; expected {expected}")
        check_features(x, name, f"x_{first} has {num}", num, lambda index: index)
    ids = catalogue.check_new_ids(num, item_id)
    return NewItems(num, tensors, ids, ItemDetails(num, details).columns)


def _bounds(index: Tensor | list[int]) -> tuple[int, int]:
    """Return the least and the greatest index; zeros where there is none."""
    if isinstance(index, Tensor):
        return (int(index.min()), int(index.max())) if index.numel() else (0, 0)
    return (min(index), max(index)) if index else (0, 0)


def _checked_ids(ids: Sequence[Any] | Tensor | None, node: str, size: int) -> list[Any] | None:
    if ids is None:
        return None
    listed: list[Any] = ids.tolist() if isinstance(ids, Tensor) else list(ids)
    if (
        isinstance(ids, Tensor)
        and ids.dtype == torch.long
        and ids.shape == (size,)
        and ids.unique().numel() == size
    ):
        # Without the texts of millions of ids.
        return listed
    listed = [one.item() if hasattr(one, "item") else one for one in listed]
    if len(listed) != size:
        raise DataError(f"there are {len(listed)} raw {node} ids but {size} {node}s; give one each")
    odd = [one for one in listed if isinstance(one, bool) or not isinstance(one, (int, str))]
    if odd:
        raise DataError(f"raw {node} ids must be text or integers; found {odd[0]!r} among them")
    if len(set(map(str, listed))) != size:
        seen: set[str] = set()
        repeated = next(one for one in listed if str(one) in seen or seen.add(str(one)))  # type: ignore[func-returns-value]
        raise DataError(f"the raw {node} id {repeated!r} is given more than once; ids must differ")
    return listed
