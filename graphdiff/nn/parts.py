"""Replaceable parts of a model, and their description in a saved model."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch

from graphdiff.errors import ConfigError


class Part(torch.nn.Module):
    """Base of modules that a saved model can rebuild without being given them again.

    A subclass is registered under its qualified name when it is defined. An instance records the
    arguments of its constructor. Both are written to the saved model as plain values (see
    :func:`describe_part`), and :func:`build_part` makes the part from them. A saved model never
    causes an import: the class must have been defined or imported before.

    The base is optional. A model takes any :class:`torch.nn.Module` with the right methods as a
    part; a part without this base must be given again when the model is loaded.

    Example:
        >>> class Scale(Part):
        ...     def __init__(self, factor: float) -> None:
        ...         super().__init__()
        ...         self.factor = factor
        >>> description = describe_part(Scale(2.0))
        >>> description["arguments"]
        {'factor': 2.0}
        >>> build_part(description).factor
        2.0
    """

    #: Part classes by qualified name.
    registry: ClassVar[dict[str, type[Part]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Part.registry[qualified_name(cls)] = cls
        if not hasattr(cls.__init__, "_records"):
            cls.__init__ = _recorded(cls.__init__)  # type: ignore[method-assign]


def qualified_name(cls: type) -> str:
    """Return the name that a class is registered under: its module and its qualified name."""
    return f"{cls.__module__}.{cls.__qualname__}"


def describe_part(part: torch.nn.Module) -> dict[str, Any]:
    """Return a description of a part as plain values.

    Args:
        part: Any module.

    Returns:
        ``class``, the qualified name of its class, and ``arguments``, the arguments of its
        constructor by name. The arguments are None where the part cannot be rebuilt from plain
        values: it is no :class:`Part`, or was given a tensor, a module or another object.
    """
    recorded = vars(part).get("_arguments")
    try:
        arguments = None if recorded is None else {n: _plain(v) for n, v in recorded.items()}
    except TypeError:
        arguments = None
    return {"class": qualified_name(type(part)), "arguments": arguments}


def build_part(description: Mapping[str, Any]) -> Part:
    """Make a part from its description.

    Args:
        description: From :func:`describe_part`.

    Raises:
        ConfigError: If the description is incomplete, no such class has been defined, or its
            constructor refuses the arguments.
    """
    if not isinstance(description, Mapping):
        raise ConfigError(f"a part is described as {description!r}; expected class and arguments")
    name, arguments = description.get("class"), description.get("arguments")
    if not isinstance(name, str):
        raise ConfigError(f"a part has the class {name!r}; expected its qualified name")
    if not isinstance(arguments, Mapping):
        raise ConfigError(
            f"a {name} cannot be rebuilt: it is no graphdiff.nn.Part, or one of its arguments is "
            "no plain value; give the part again"
        )
    cls = Part.registry.get(name)
    if cls is None:
        raise ConfigError(
            f"no part class {name!r} has been defined; import {name.rpartition('.')[0]} first, or "
            "give the part again"
        )
    bound = inspect.signature(cls).bind_partial()
    unknown = sorted(set(arguments) - set(bound.signature.parameters))
    if unknown:
        known = ", ".join(bound.signature.parameters) or "none"
        raise ConfigError(f"{name} has no argument {', '.join(unknown)}; it has {known}")
    bound.arguments.update(arguments)
    try:
        return cls(*bound.args, **bound.kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} cannot be made with {dict(arguments)}: {error}") from None


def _recorded(init: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that records its arguments; of nested constructors, the outermost."""

    @functools.wraps(init)
    def recording(self: Part, *args: Any, **kwargs: Any) -> None:
        if "_arguments" not in vars(self):
            try:
                bound = inspect.signature(init).bind(self, *args, **kwargs)
            except TypeError:
                pass  # the constructor raises it below, with its own name
            else:
                arguments = dict(list(bound.arguments.items())[1:])
                object.__setattr__(self, "_arguments", arguments)
        init(self, *args, **kwargs)

    recording._records = True  # type: ignore[attr-defined]
    return recording


def _plain(value: Any) -> Any:
    """Return a copy of a plain value, with tuples as lists.

    Raises:
        TypeError: If it is of another kind.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _plain(one) for name, one in value.items()}
    raise TypeError(f"{type(value).__name__} is no plain value")
