"""What people see of an item: title, category and the address of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from graphdiff.errors import DataError
from graphdiff.schema.names import ITEM
from graphdiff.schema.words import kind

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

#: The columns, in the order in which they are shown.
DETAILS = ("title", "category", "image")


class ItemDetails:
    """Title, category and image address of items, for display. No model computes with them.

    A text is empty where an item lacks it. Columns that no item has are absent.

    Args:
        num_items: Number of items I.
        columns: Any of ``title``, ``category`` and ``image``, each with I texts, in a mapping or a
            pandas DataFrame; None is an empty text. An image is a URL or a path; graphdiff does not
            open it.

    Raises:
        DataError: If a column is unknown, has another length, or holds something else than text.

    Example:
        >>> details = ItemDetails(2, {"title": ["Blue mug", "Red mug"], "category": ["mugs", ""]})
        >>> details.title(1), details.of(0), details.of(1)
        ('Red mug', {'title': 'Blue mug', 'category': 'mugs'}, {'title': 'Red mug'})
    """

    def __init__(self, num_items: int, columns: Mapping[str, Sequence[Any]] | None = None) -> None:
        self.num_items = num_items
        self.columns = {
            name: texts
            for name, values in _in_order({} if columns is None else columns).items()
            if any(texts := checked_texts(values, name, num_items))
        }

    @classmethod
    def from_data(cls, data: HeteroData) -> Self:
        """Return the details that a graph holds, possibly none."""
        found = {name: data[ITEM][name] for name in details_in(data)}
        return cls(data[ITEM].num_nodes, found)

    def __bool__(self) -> bool:
        """Whether any item has a detail."""
        return bool(self.columns)

    def __eq__(self, other: object) -> bool:
        """Whether two catalogues show the same."""
        if not isinstance(other, ItemDetails):
            return NotImplemented
        return (self.num_items, self.columns) == (other.num_items, other.columns)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Name the columns."""
        return f"ItemDetails({self.num_items}, {', '.join(self.columns) or 'none'})"

    def of(self, index: int) -> dict[str, str]:
        """Return the details of the item with this index; those that it lacks are left out."""
        return {name: texts[index] for name, texts in self.columns.items() if texts[index]}

    def title(self, index: int) -> str:
        """Return the title of the item with this index, or an empty text."""
        return self.columns["title"][index] if "title" in self.columns else ""

    def kept(self, index: Sequence[int]) -> Self:
        """Return the details of the items with these indices alone, in this order."""
        columns = {name: [texts[n] for n in index] for name, texts in self.columns.items()}
        return type(self)(len(index), columns)

    def grown(self, num: int, columns: Mapping[str, Sequence[Any]] | None = None) -> Self:
        """Return the details with ``num`` further items.

        Args:
            num: Number of further items.
            columns: Their details, as for the class (default: none).

        Raises:
            DataError: As for the class.
        """
        new = type(self)(num, columns)
        names = _in_order({**self.columns, **new.columns})
        joined = {
            name: [
                *self.columns.get(name, [""] * self.num_items),
                *new.columns.get(name, [""] * num),
            ]
            for name in names
        }
        return type(self)(self.num_items + num, joined)


def details_in(data: HeteroData) -> list[str]:
    """Return the names of the details that the items of a graph have.

    An attribute of the same name that is no list, such as a tensor of category numbers, is another
    attribute and does not count.
    """
    return [name for name in DETAILS if isinstance(data[ITEM].get(name), list)]


def checked_texts(values: Any, name: str, num_items: int) -> list[str]:
    """Return one text per item, "" for None.

    Raises:
        DataError: If there are not ``num_items`` texts.
    """
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise DataError(f"the {name}s of items are {kind(values)}; give a list of texts")
    texts = ["" if value is None else value for value in values]
    if len(texts) != num_items:
        raise DataError(f"there are {len(texts)} {name}s but {num_items} items; give one each")
    for text in texts:
        if not isinstance(text, str):
            raise DataError(
                f"a {name} of an item is {kind(text)} ({text!r}); give text, or None where an item "
                "has none"
            )
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise DataError(f"the {name} {text!r} of an item is not valid Unicode; give other text")
    return texts


def _in_order(columns: Any) -> dict[str, Any]:
    if not hasattr(columns, "keys"):
        raise DataError(
            f"the details of items are {kind(columns)}; give a dictionary with texts of any of "
            f"{', '.join(DETAILS)}"
        )
    unknown = sorted(str(name) for name in columns if name not in DETAILS)
    if unknown:
        raise DataError(f"items have no {', '.join(unknown)}; give {', '.join(DETAILS)}")
    return {name: columns[name] for name in DETAILS if name in columns}
