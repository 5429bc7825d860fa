"""Names of models, for the command line, benchmarks and saved folders.

A model is registered by being written: a file in ``graphdiff/models`` that defines a subclass of
:class:`~graphdiff.models.base.Recommender` is found by itself.
"""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

from graphdiff.errors import ConfigError
from graphdiff.models.base import Recommender


def _find() -> dict[str, type[Recommender]]:
    package = __name__.rpartition(".")[0]
    found: dict[str, type[Recommender]] = {}
    for file in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if file.name in ("base", "registry", "storage"):
            continue
        for value in vars(import_module(f"{package}.{file.name}")).values():
            if (
                inspect.isclass(value)
                and issubclass(value, Recommender)
                and not inspect.isabstract(value)
                and value.__module__.startswith(package)
            ):
                found[value.__name__.lower()] = value
    return dict(sorted(found.items()))


#: All models, by the name they go by on the command line: the class's, in lower case.
MODELS: dict[str, type[Recommender]] = _find()


def get_model(name: str) -> type[Recommender]:
    """The class of a model by its name, in any case.

    Raises:
        ConfigError: If there is no such model.
    """
    try:
        return MODELS[name.lower()]
    except KeyError:
        raise ConfigError(f"no model {name!r}; there are {', '.join(MODELS)}") from None
