"""The open registry of models: classes register themselves, distributions declare theirs.

A model can be named, on the command line or in :func:`get_model`, if

* a concrete subclass of :class:`~graphdiff.models.base.Recommender` with this class name, in any
  case, has been defined: here, in another package or in a notebook; or
* an installed distribution declares it in the entry-point group ``graphdiff.models``.

``package.module:Class`` names a class whose module is imported when the user asks for it. Loading a
saved model imports no module that a file names: see :func:`saved_class`.

``<model>-<preset>`` names a model with settings that its class gives that name: see
:func:`find_model` and :mod:`graphdiff.models.presets`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphdiff.errors import ConfigError
from graphdiff.models.presets import NamedModel
from graphdiff.plugins import declared, find_object, load_declared

if TYPE_CHECKING:
    from graphdiff.models.base import Recommender

#: The entry-point group in which other distributions declare their models.
GROUP = "graphdiff.models"

_PACKAGE = "graphdiff.models"
#: Classes by module and name; abstract ones are among them, to explain what they lack.
_registered: dict[tuple[str, str], type[Recommender]] = {}


def register(cls: type[Recommender]) -> None:
    """Register a class under its name. Defining it again in the same module replaces it, as in a
    notebook; a class whose name begins with an underscore is not registered.

    Raises:
        ConfigError: If graphdiff itself has a model of that name.
    """
    if cls.__name__.startswith("_"):
        return
    if not _is_built_in(cls.__module__) and cls.__name__.lower() in _built_in_names():
        raise ConfigError(
            f"{cls.__module__}.{cls.__qualname__} would be registered as {cls.__name__.lower()!r}, "
            "which is a model of graphdiff; give the class another name"
        )
    _registered[_key(cls)] = cls


def get_model(name: str, import_module: bool = True) -> type[Recommender]:
    """Return the class of a model.

    Args:
        name: Name of a registered class, in any case, name of an entry point, or
            ``package.module:Class``.
        import_module: Import the module of ``package.module:Class``, searched for in the working
            directory too. Turn it off for a name that comes from a file and not from the user:
            then the module must have been imported already.

    Raises:
        ConfigError: If there is no such model, the name is ambiguous or that of a preset, or the
            class is abstract.
    """
    found = find_model(name, import_module)
    if found.preset is not None:
        raise ConfigError(
            f"{name!r} is {found.model.__name__} with the preset {found.preset!r}; build it with "
            f"{found.model.__name__}.from_data(data, preset={found.preset!r})"
        )
    return found.model


def find_model(name: str, import_module: bool = True) -> NamedModel:
    """Return a model as a name stands for it: its class, and the preset if there is one.

    Args:
        name: A name as for :func:`get_model`, or such a name with a preset after a hyphen.
        import_module: As for :func:`get_model`.

    Raises:
        ConfigError: As :func:`get_model` does, or if the class has no such preset.
    """
    start = name.find(":") + 1
    # Names of entry points may contain hyphens: the whole name comes first.
    ends = [len(name), *(n for n in range(start, len(name)) if name[n] == "-")]
    for end in (ends[1:2] or ends) if start else ends:
        cls = _class_named(name[:end], import_module)
        if cls is not None and end == len(name):
            return NamedModel(cls)
        if cls is not None:
            preset = name[end + 1 :].lower()
            cls.preset_settings(preset)
            return NamedModel(cls, preset)
    for cls in _registered.values():
        if cls.__name__.lower() == name.lower():
            raise ConfigError(explain_abstract(cls))
    raise ConfigError(
        f"no model {name!r}; there are {', '.join(model_names())}. A class of your own is found "
        "once its module is imported, or as package.module:Class"
    )


def model_names() -> list[str]:
    """Return the names of all models, each followed by those of its presets."""
    names = []
    for name in MODELS:
        names.append(name)
        # Presets of a distribution's model are known once it is loaded.
        presets = () if name in _entry_points() else MODELS[name].presets
        names += [f"{name}-{preset}" for preset in presets]
    return names


def _class_named(name: str, import_module: bool) -> type[Recommender] | None:
    """Return the class that a name without a preset stands for, None for none."""
    if ":" in name:
        return _class_at(name, import_module)
    found = [cls for cls in _concrete() if cls.__name__.lower() == name.lower()]
    if len(found) > 1:
        places = " and ".join(":".join(_key(cls)) for cls in found)
        raise ConfigError(f"two models are named {name!r}: {places}; give one in full")
    if found:
        return found[0]
    point = _entry_points().get(name.lower())
    return None if point is None else _load_entry_point(point)


def saved_class(
    name: str, module: str | None, expected: type[Recommender] | None = None
) -> type[Recommender]:
    """Return the class of a saved model, without importing a module that the file names.

    Args:
        name: Class name in the file.
        module: Module in the file; None for a model of graphdiff.
        expected: The class that the caller loads with; taken if it has this name.

    Raises:
        ConfigError: If no registered class and no installed entry point is that class.
    """
    if expected is not None and expected.__name__ == name and not inspect.isabstract(expected):
        return expected
    if module is None or _is_built_in(module):
        for cls in _concrete():
            if cls.__name__ == name and _is_built_in(cls.__module__):
                return cls
        built_in = [cls.__name__ for cls in _concrete() if _is_built_in(cls.__module__)]
        raise ConfigError(f"no model {name!r}; there are {', '.join(sorted(built_in))}")
    candidates = list(_concrete())
    for point in _entry_points().values():
        if name.lower() == point.name.lower() or name == point.attr.rpartition(".")[2]:
            candidates.append(_load_entry_point(point))
    named = [c for c in candidates if c.__name__ == name and not _is_built_in(c.__module__)]
    for cls in named:
        # A script's classes are defined in __main__, whatever module they come from later.
        if cls.__module__ == module or "__main__" in (cls.__module__, module):
            return cls
    raise ConfigError(
        f"the model {name} is defined in {module}, which is not imported, and no installed "
        f"distribution declares it as a model; import {module} first, or on the command line give "
        f"--model {module}:{name}"
    )


def explain_abstract(cls: type) -> str:
    """Return what a class lacks to be a model, in words."""
    methods = ", ".join(f"{name}()" for name in sorted(getattr(cls, "__abstractmethods__", ())))
    return f"{cls.__name__} is no complete model: it does not define {methods}; define it"


class _Models(Mapping[str, "type[Recommender]"]):
    """A live view of the registry: the class of each model by its name."""

    def __getitem__(self, name: str) -> type[Recommender]:
        if name not in set(self):
            raise KeyError(name)
        return get_model(name, import_module=False)

    def __iter__(self) -> Iterator[str]:
        names: dict[str, list[str]] = {}
        for cls in _concrete():
            names.setdefault(cls.__name__.lower(), []).append(":".join(_key(cls)))
        # Classes that share a name are listed in full.
        listed = {n for name, places in names.items() for n in ((places[1:] and places) or [name])}
        return iter(sorted(listed | set(_entry_points())))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"<models: {', '.join(self)}>"


#: Every model that can be named, with its class.
MODELS: Mapping[str, type[Recommender]] = _Models()


def _key(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__.rpartition("<locals>.")[2]


def _concrete() -> list[type[Recommender]]:
    _import_built_in()
    return [cls for cls in _registered.values() if not inspect.isabstract(cls)]


@cache
def _import_built_in() -> None:
    folder = str(Path(__file__).parent)
    for module in pkgutil.walk_packages([folder], f"{_PACKAGE}."):
        importlib.import_module(module.name)


def _built_in_names() -> set[str]:
    _import_built_in()
    return {cls.__name__.lower() for cls in _registered.values() if _is_built_in(cls.__module__)}


def _is_built_in(module: str) -> bool:
    return module.startswith("graphdiff.")


def _entry_points() -> dict[str, EntryPoint]:
    return declared(GROUP)


def _load_entry_point(point: EntryPoint) -> type[Recommender]:
    return _checked(load_declared(point, "model"), point.value)


def _class_at(place: str, import_module: bool) -> type[Recommender]:
    module, _, path = place.partition(":")
    # A registered class may be local to a function, where no import finds it.
    found: Any = _registered.get((module, path))
    return _checked(found or find_object(place, "model", import_module), place)


def _checked(found: Any, place: str) -> type[Recommender]:
    from graphdiff.models.base import Recommender

    if not (isinstance(found, type) and issubclass(found, Recommender)):
        raise ConfigError(f"{place} is {found!r}; expected a subclass of graphdiff's Recommender")
    if inspect.isabstract(found):
        raise ConfigError(explain_abstract(found))
    return found


def reads_times(name: str) -> bool:
    """Return whether a model of this name, which may be that of a preset, may read the times of
    interactions; one that is not registered may."""
    model = _without_preset(name)
    return model is None or model.reads_times


def reads_content(name: str) -> bool:
    """Return whether a model of this name, which may be that of a preset, may read the features of
    items; one that is not registered may."""
    model = _without_preset(name)
    return model is None or model.uses_content


def _without_preset(name: str) -> type[Recommender] | None:
    return MODELS.get(name.partition("-")[0])
