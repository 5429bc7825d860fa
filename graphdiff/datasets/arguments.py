"""Typed arguments of datasets: checked when given, and read from the command line.

A dataset declares its arguments by annotating ``__init__``. Its base class checks every argument
against its annotation with pydantic, so that a wrong value is refused by name before a file is
read, from Python and from the command line alike.
"""

from __future__ import annotations

import functools
import inspect
import operator
import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic.errors import PydanticSchemaGenerationError

from graphdiff.errors import ConfigError


def _whole(value: Any) -> Any:
    """Return an integer of any type as ``int``, and everything else as it is."""
    if isinstance(value, (bool, str, bytes, float)):
        return value
    try:
        return operator.index(value)
    except TypeError:
        return value


def _real(value: Any) -> Any:
    """Return a number of any type as ``float``, and everything else as it is."""
    number = hasattr(value, "__float__") and not isinstance(value, bool)
    return float(value) if number and getattr(value, "ndim", 0) == 0 else value


def _delimiter(value: str) -> str:
    """Return a delimiter, what is written as an escape as the character that it stands for."""
    written = re.sub(r"\\(t|x[0-9a-fA-F]{2})", lambda match: _escaped(match[1]), value)
    if not written or any(character in written for character in '"\r\n\0'):
        raise ValueError("one or more characters, but no quote and no line break")
    return written


def _escaped(name: str) -> str:
    return "\t" if name == "t" else chr(int(name[1:], 16))


#: An integer of any type (NumPy's included); neither text nor a bool.
Integer = Annotated[int, BeforeValidator(_whole), Field(strict=True)]
#: An integer that is at least 0, of any size: a seed.
NonNegative = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=0)]
#: A finite number of any type; neither text nor a bool.
Number = Annotated[float, BeforeValidator(_real), Field(strict=True, allow_inf_nan=False)]

#: What separates columns of a text file: one or more characters; ``\\t`` is a tab.
Delimiter = Annotated[str, AfterValidator(_delimiter)]

#: Descriptions of the expected value, by pydantic's type of error.
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "callable_type": "a function or an object that can be called, which only Python can give",
    "dict_type": "name: value pairs, such as {text: FILE}",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_type": "an integer",
    "list_type": "a list, such as [a, b]",
    "mapping_type": "name: value pairs, such as {text: FILE}",
    "missing": "a value for each place",
    "string_type": "text",
    "tuple_type": "a list, such as [a, b]",
}


def check_arguments(init: Callable[..., None]) -> Callable[..., None]:
    """Return an ``__init__`` that checks its arguments against their annotations.

    Arguments without an annotation, and those with one that pydantic cannot check, are passed on.

    Raises:
        ConfigError: From the returned function, naming the argument, what was found and what was
            expected.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        adapters, owner = _adapters(init), type(self).__name__
        for name in adapters.keys() & bound.arguments.keys():
            try:
                found = adapters[name].validate_python(bound.arguments[name])
            except ValidationError as error:
                raise ConfigError(f"{owner} cannot take {explain(error, name)}") from None
            bound.arguments[name] = found
        # The outermost class receives the user's arguments, its bases only what it passes on.
        bound.apply_defaults()
        given = {name: value for name, value in bound.arguments.items() if value is not self}
        self.__dict__.setdefault("given_arguments", given)
        init(*bound.args, **bound.kwargs)

    return checked


@functools.cache
def _adapters(init: Callable[..., None]) -> dict[str, TypeAdapter]:
    """Return what checks each annotated argument."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = {n for n, p in inspect.signature(init).parameters.items() if p.kind not in kinds}
    found = {}
    for name, hint in _hints(init).items():
        if name in named:
            try:
                config = None if _is_model(hint) else ConfigDict(arbitrary_types_allowed=True)
                found[name] = TypeAdapter(hint, config=config)
            except (PydanticUserError, PydanticSchemaGenerationError, NameError):
                continue
    return found


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


@functools.cache
def _hints(init: Callable[..., None]) -> dict[str, Any]:
    try:
        return get_type_hints(init, include_extras=True)
    except (NameError, TypeError, AttributeError):  # A name known only to the type checker.
        return {}


def explain(error: ValidationError, argument: str = "") -> str:
    """Return what was found and what was expected, as ``name=value: expected …``.

    Args:
        error: What pydantic raised.
        argument: The argument that was checked (default: the places in the error name it).
    """
    found: dict[str, str] = {}
    for entry in error.errors():
        place = ".".join(map(str, entry["loc"]))
        # Of the alternatives of a union, the first says enough.
        name = argument or place
        message = entry["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        expected = _EXPECTED.get(entry["type"], message)
        found.setdefault(name, f"{name}={entry['input']!r}: expected {expected}")
    return "; ".join(found.values())


def known_arguments(dataset: type) -> dict[str, Any]:
    """Return the annotation of each argument that a dataset takes, ``Any`` where it has none.

    A dataset that takes settings as ``**kwargs`` names their pydantic model as ``settings_type``.
    """
    init = dataset.__init__  # type: ignore[misc]
    hints = _hints(inspect.unwrap(init))
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    known = {
        name: hints.get(name, Any)
        for name, parameter in inspect.signature(init).parameters.items()
        if name != "self" and parameter.kind not in kinds
    }
    settings = getattr(dataset, "settings_type", None)
    fields = settings.model_fields.items() if settings is not None else ()
    return known | {name: field.annotation for name, field in fields}


def takes_any(dataset: type) -> bool:
    """Return whether a dataset takes arguments that it does not list."""
    parameters = inspect.signature(dataset.__init__).parameters.values()  # type: ignore[misc]
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return open_ended and getattr(dataset, "settings_type", None) is None


def read_texts(dataset: type, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return arguments of a dataset that were written as text, as on a command line.

    An argument whose annotation is text is taken as it is, so that a column may be called ``1`` or
    ``yes``; everything else is read as YAML. Where a list is expected and no mapping, ``0.8,0.2``
    stands for ``[0.8,0.2]``, and the values of a list of texts are taken as they are.

    Raises:
        ConfigError: If a value is not readable YAML, naming the argument.
    """
    known = known_arguments(dataset)
    return {
        name: text if _is_text(known.get(name, Any)) else _read_value(name, text, known.get(name))
        for name, text in texts.items()
    }


def _read_value(name: str, text: str, hint: Any) -> Any:
    """Return the value of an argument that expects something else than text."""
    values = _values_of_list(hint)
    if not values or "," not in text or re.search(r"[][{}\"'#]", text):
        return _read_yaml(name, text)
    if all(map(_is_text, values)):
        return [value.strip() for value in text.split(",")]
    return _read_yaml(name, f"[{text}]")


def _values_of_list(hint: Any) -> list[Any]:
    """Return the annotations of the values of a list or tuple; none if it admits anything else."""
    if get_origin(hint) is Annotated:
        return _values_of_list(get_args(hint)[0])
    if get_origin(hint) in (list, tuple):
        return [value for value in get_args(hint) if value is not Ellipsis]
    if get_origin(hint) not in (Union, UnionType):
        return []
    alternatives = [_values_of_list(kind) for kind in get_args(hint) if kind is not type(None)]
    return alternatives[0] if len(alternatives) == 1 else []


def _is_text(hint: Any) -> bool:
    """Return whether an annotation admits text and, beside None, nothing else."""
    if get_origin(hint) is Annotated:
        return _is_text(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return all(isinstance(value, str) for value in get_args(hint))
    alternatives = [kind for kind in get_args(hint) if kind is not type(None)]
    optional = len(alternatives) < len(get_args(hint))
    return hint is str or (optional and all(map(_is_text, alternatives)))


def _read_yaml(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{name}={text!r} is not readable as a value ({reason}); write a list as [a, b], "
            "name: value pairs as {a: b}, and text with a special character in quotes"
        ) from None
