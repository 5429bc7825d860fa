"""The store of dataset classes: each subclass of ``RecDataset`` registers itself here."""

from __future__ import annotations

from graphdiff.datasets.cards import card_names
from graphdiff.errors import ConfigError

#: Classes by name.
registered: dict[str, type] = {}
#: Classes that lack a method, by the name that they would have.
unfinished: dict[str, type] = {}


def register(cls: type) -> None:
    """Register a class under its ``name``, or else under its class name in lower case.

    Defining a class again replaces it, as in a notebook. The names of graphdiff's own datasets
    cannot be taken. A class whose name begins with an underscore is not registered.

    Raises:
        ConfigError: If the name is not text, or is one of graphdiff's own.
    """
    if cls.__name__.startswith("_"):
        return
    declared = vars(cls).get("name")
    name = (declared if isinstance(declared, str) and declared else cls.__name__).lower()
    if ":" in name or name != name.strip():
        raise ConfigError(f"{cls.__name__} declares the name {name!r}; give one without a colon")
    if not is_built_in(cls) and name in built_in_names():
        raise ConfigError(
            f"{cls.__module__}.{cls.__qualname__} would be registered as {name!r}, which is a "
            f"dataset of graphdiff; declare another name, such as name = 'my-{name}'"
        )
    (unfinished if missing_methods(cls) else registered)[name] = cls


def missing_methods(cls: type) -> list[str]:
    """Return the names of the abstract methods that a class does not define."""
    return sorted(n for n in dir(cls) if getattr(getattr(cls, n, None), "__isabstractmethod__", 0))


def explain_missing(cls: type) -> str:
    """Return what a class lacks to be a dataset, in words."""
    methods = ", ".join(f"{name}()" for name in missing_methods(cls))
    return f"{cls.__name__} does not define {methods}, so it is no dataset yet; define it"


def is_built_in(cls: type) -> bool:
    """Return whether a class is one of graphdiff's own."""
    return cls.__module__.startswith("graphdiff.")


def built_in_names() -> set[str]:
    """Return the names of graphdiff's own datasets: those with a class, and those with a card."""
    return {name for name, cls in registered.items() if is_built_in(cls)} | card_names()
