"""The open registry of datasets: classes that register themselves, entry points, and cards.

A dataset can be loaded by name if

* a subclass of :class:`~graphdiff.datasets.RecDataset` with this ``name`` has been defined, here,
  in another package or in a notebook;
* an installed distribution declares it in the entry-point group ``graphdiff.datasets``; or
* it has a card that names a ``layout``: then it needs no class.

``package.module:Class`` names a class that is imported when the user asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NamedTuple

from graphdiff.datasets.arguments import known_arguments, read_texts, takes_any
from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.cards import Card, card_names, cards, read_card
from graphdiff.datasets.registration import (
    explain_missing,
    is_built_in,
    missing_methods,
    registered,
    unfinished,
)
from graphdiff.errors import ConfigError, DataError
from graphdiff.plugins import declared, find_object, load_declared

#: The entry-point group in which other distributions declare their datasets.
GROUP = "graphdiff.datasets"


class Found(NamedTuple):
    """A dataset's class and the arguments that its name stands for.

    Attributes:
        cls: The class that reads the dataset.
        arguments: Arguments that the name fixes.
        defaults: Arguments that may be given otherwise.
    """

    cls: type[RecDataset]
    arguments: dict[str, Any]
    defaults: dict[str, Any]


def load(
    name: str, /, root: str | Path | None = None, *, import_module: bool = True, **kwargs: Any
) -> RecDataset:
    """Open a dataset by name.

    Args:
        name: A name of :data:`DATASETS`, in any case; or ``package.module:Class``.
        root: Folder of the dataset; one that is generated rather than read needs none.
        import_module: Import the module of ``package.module:Class``. Turn it off for a name that
            comes from a file and not from the user.
        **kwargs: Further arguments of the dataset's class, such as ``transform``.

    Returns:
        The dataset; its graph is ``load(name)[0]``.

    Raises:
        ConfigError: If there is no such dataset, or it does not take an argument or its value.
        DataError: If ``root`` is needed and missing, or what is there cannot be read.
    """
    dataset, fixed, defaults = get_dataset(name, import_module)
    if dataset.needs_root and root is None:
        raise DataError(
            f"the dataset {name!r} is read from files; give the folder that holds them (root, or "
            "--root on the command line)"
        )
    known = set(known_arguments(dataset)) - set(fixed)
    for argument in kwargs:
        if argument not in known and not takes_any(dataset):
            expected = ", ".join(sorted(known - {"root"}))
            raise ConfigError(
                f"the dataset {name!r} takes no argument {argument!r}; it takes {expected}"
            )
    return dataset(root=root, **{**defaults, **fixed, **kwargs})


def get_dataset(name: str, import_module: bool = False) -> Found:
    """Return the class that a name stands for, and the arguments that go with it.

    Args:
        name: As for :func:`load`.
        import_module: Import the module of ``package.module:Class``. Only for a name that the user
            has given; otherwise the module must have been imported already.

    Raises:
        ConfigError: If there is no such dataset.
    """
    if ":" in name:
        return Found(_checked(find_object(name, "dataset", import_module), name), {}, {})
    key = name.lower()
    if key in registered and not is_built_in(registered[key]):
        return Found(registered[key], {}, {})
    card = _card(key)
    reader = str(card.get("reader") or card.get("layout") or key)
    if reader in registered:
        return Found(registered[reader], card.get("arguments", {}), card.get("defaults", {}))
    if key in unfinished:
        raise ConfigError(explain_missing(unfinished[key]))
    point = _entry_points().get(key)
    if point is not None:
        return Found(_load_entry_point(point), {}, {})
    raise ConfigError(
        f"there is no dataset {name!r}; there are {', '.join(DATASETS)}. A class of your own is "
        "found once its module is imported, or as package.module:Class"
    )


def parse_options(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return arguments of a dataset that were written as text, as on a command line.

    Args:
        name: As for :func:`load`; a module that it names is imported.
        texts: The text of each argument. An argument that expects text takes it as it is; every
            other one is read as YAML.

    Raises:
        ConfigError: If there is no such dataset, or a text cannot be read.
    """
    if "root" in texts:
        raise ConfigError("root is no option of a dataset; give the folder with --root DIR")
    return read_texts(get_dataset(name, import_module=True).cls, texts)


def list_cards() -> list[Card]:
    """Return a card for every dataset: graphdiff's own, and those that other distributions declare.

    Raises:
        DataError: If a card is missing or damaged.
    """
    listed = cards()
    known = {card.name for card in listed}
    for name, point in sorted(_entry_points().items()):
        if name not in known:
            owner = point.dist.name if point.dist is not None else point.value
            command = f"graphdiff train --dataset {name} --root DIR --out RUN"
            listed.append(Card(name, f"declared by {owner}", point.value, "see there", command, {}))
    return listed


class _Datasets(Mapping[str, type[RecDataset]]):
    """A live view of the registry: the class of each dataset by its name."""

    def __getitem__(self, name: str) -> type[RecDataset]:
        try:
            return get_dataset(name).cls
        except ConfigError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*registered, *card_names(), *_entry_points()}))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"<datasets: {', '.join(self)}>"


#: Every dataset that can be loaded by name, with its class.
DATASETS: Mapping[str, type[RecDataset]] = _Datasets()


def _card(name: str) -> dict[str, Any]:
    return read_card(name).content if name in card_names() else {}


def _entry_points() -> dict[str, EntryPoint]:
    return declared(GROUP)


def _load_entry_point(point: EntryPoint) -> type[RecDataset]:
    return _checked(load_declared(point, "dataset"), point.value)


def _checked(found: Any, place: str) -> type[RecDataset]:
    if not (isinstance(found, type) and issubclass(found, RecDataset)):
        raise ConfigError(f"{place} is {found!r}; expected a subclass of graphdiff's RecDataset")
    if missing_methods(found):
        raise ConfigError(explain_missing(found))
    return found
