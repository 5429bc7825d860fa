"""The items of a served model: raw ids as text, what people see of them, and search."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Any

import numpy as np

from graphdiff.errors import ConfigError, DataError
from graphdiff.models.base import Recommender
from graphdiff.serving.messages import ItemCard, ScoredItem

#: Titles that a search looks at; a word that more titles have is not searched to the end.
MOST_LOOKED_AT = 20_000
_SEPARATORS = re.compile(r"[\W_]+")


class ItemIds:
    """The raw ids of a catalogue as text, which never changes.

    Args:
        ids: The raw id of each item, of any type.

    Raises:
        ConfigError: If two ids are the same text, or an id cannot be sent as JSON.
    """

    def __init__(self, ids: Iterable[Any]) -> None:
        self.text = [str(one) for one in ids]
        self._index = {one: index for index, one in enumerate(self.text)}
        if len(self._index) < len(self.text):
            twice = next(one for n, one in enumerate(self.text) if self._index[one] != n)
            raise ConfigError(
                f"two items have the raw id {twice!r} as text; a service knows items by their ids "
                "as text, so each must have one of its own"
            )
        try:
            "".join(self.text).encode()
        except UnicodeEncodeError:
            raise ConfigError(
                "a raw id of an item is not valid Unicode (it has a lone surrogate), so no answer "
                "could carry it; give such items other ids"
            ) from None
        self._sorted = sorted(self.text)

    def __len__(self) -> int:
        return len(self.text)

    def __contains__(self, item_id: str) -> bool:
        """Whether there is such an item."""
        return item_id in self._index

    def index(self, item_id: str) -> int:
        """Return the index of a raw id.

        Raises:
            DataError: If there is no such item.
        """
        index = self._index.get(item_id)
        if index is None:
            raise DataError(f"no item {item_id!r} among the {len(self)} items of this model")
        return index

    def checked(self, item_index: int) -> int:
        """Return an index that is in range.

        Raises:
            DataError: If it is not.
        """
        if not 0 <= item_index < len(self):
            raise DataError(
                f"item index {item_index} is out of range; this model has items 0 to "
                f"{len(self) - 1}"
            )
        return item_index

    def starting_with(self, prefix: str, limit: int) -> list[str]:
        """Return at most ``limit`` ids that start with a prefix, in the order of text; with an
        empty prefix, the first ids of the catalogue."""
        if not prefix:
            return self.text[:limit]
        first = bisect_left(self._sorted, prefix)
        found = islice(self._sorted, first, first + limit)
        return [one for one in found if one.startswith(prefix)]


class TitleSearch:
    """Search for words in titles, without regard to case and accents.

    Args:
        titles: The title of each item, possibly empty.

    Example:
        >>> search = TitleSearch(["Blue mug", "Red mug", "Mugwort tea", "Café au lait"])
        >>> search.find("mug", 10)
        [2, 0, 1]
        >>> search.find("mu re", 10), search.find("CAFE", 10), search.find("ug", 10)
        ([1], [3], [])
    """

    def __init__(self, titles: Sequence[str]) -> None:
        # One text, in which a search costs no step per title. Every word follows a space.
        plain = [" " + _plain(one) for one in titles]
        self._text = "\n".join(["", *plain, ""])
        self._starts = [1, *accumulate((len(one) + 1 for one in plain), initial=1)][1:]

    def find(self, query: str, limit: int) -> list[int]:
        """Return at most ``limit`` items whose title has a word that starts with each word of a
        query; titles that start with the query come first."""
        words = _plain(query).split()
        if not words:
            return []
        found = dict.fromkeys(islice(self._lines("\n " + " ".join(words)), limit))
        rare = " " + max(words, key=len)
        others = [" " + one for one in words]
        for item in islice(self._lines(rare), MOST_LOOKED_AT):
            if len(found) >= limit:
                break
            if all(one in self._line(item) for one in others):
                found[item] = None
        return list(found)

    def _line(self, item: int) -> str:
        start = self._starts[item]
        return self._text[start : self._text.index("\n", start)]

    def _lines(self, part: str) -> Iterator[int]:
        """Yield the items in whose line a text occurs."""
        place = self._text.find(part)
        while place >= 0:
            item = bisect_right(self._starts, place + part.startswith("\n")) - 1
            yield item
            place = self._text.find(part, self._text.index("\n", place + 1))


def _plain(text: str) -> str:
    """Return the words of a text in lower case, without accents, with single spaces between."""
    if not text.isascii():
        split = unicodedata.normalize("NFKD", text)
        text = "".join(one for one in split if not unicodedata.combining(one))
    return " ".join(_SEPARATORS.sub(" ", text.casefold()).split())


class ServedItems:
    """The items of a model that does not change, as cards.

    Args:
        model: The model.

    Raises:
        ConfigError: If the raw ids cannot be served; see :class:`ItemIds`.
    """

    def __init__(self, model: Recommender) -> None:
        catalogue = model.catalogue
        self.ids = ItemIds(
            range(model.num_items) if catalogue.item_ids is None else catalogue.item_ids
        )
        self.details = catalogue.details
        self._search = TitleSearch(self.details.columns.get("title", ()))
        self._degree = model.graph.item_degree().cpu().numpy()
        self._available = catalogue.available.cpu().numpy()
        self._popular: np.ndarray | None = None

    def card(self, index: int) -> ItemCard:
        """Return what people see of an item."""
        return ItemCard(
            item=self.ids.text[index],
            item_index=index,
            **self.details.of(index),
            new=not self._degree[index],
        )

    def scored(self, index: int, score: float) -> ScoredItem:
        """Return what people see of an item, with a score."""
        return ScoredItem(**dict(self.card(index)), score=score)

    def find(self, query: str, limit: int) -> list[ItemCard]:
        """Return at most ``limit`` items whose id starts with a text or whose title has its words;
        without a text, the items with the most training users. Removed items are left out."""
        if query.strip():
            most = limit + int(np.count_nonzero(~self._available))
            by_id = map(self.ids.index, self.ids.starting_with(query, most))
            found = iter(dict.fromkeys([*by_id, *self._search.find(query, most)]))
        else:
            if self._popular is None:
                self._popular = np.argsort(-self._degree, kind="stable")
            found = map(int, self._popular)
        available = (index for index in found if self._available[index])
        return [self.card(index) for index in islice(available, limit)]
