"""Messages of pydantic's validation errors: what was found, what was expected, what to give."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from graphdiff.errors import GraphDiffError

M = TypeVar("M", bound=BaseModel)

_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "name: value entries",
    "model_type": "name: value entries",
    "list_type": "a list",
    "finite_number": "a finite number",
}


def validated(cls: type[M], values: Any, error: type[GraphDiffError], source: str = "") -> M:
    """Return ``cls`` made of ``values``.

    Args:
        cls: A pydantic model.
        values: Its fields, usually a dictionary.
        error: Class of the error to raise.
        source: Where the values are from, such as a file, for the message.

    Raises:
        GraphDiffError: Of class ``error``, naming each field that does not fit, what was found and
            what to give.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as found:
        raise error((f"{source}: " if source else "") + explain(cls, found)) from None


def explain(cls: type[BaseModel], error: ValidationError) -> str:
    """Return a validation error of ``cls`` as one line."""
    return "; ".join(_explain(cls, dict(detail)) for detail in error.errors(include_url=False))


def _explain(cls: type[BaseModel], detail: dict[str, Any]) -> str:
    location = [str(part) for part in detail["loc"]]
    name, found, kind = ".".join(location), detail["input"], detail["type"]
    context = detail.get("ctx") or {}
    if kind == "extra_forbidden":
        known = ", ".join(_fields(cls, location[:-1]))
        return f"no setting {name!r}; there are {known}"
    if kind == "missing":
        return f"{name} is missing"
    if kind == "value_error":  # A validator of ours, whose message is complete.
        return str(context["error"])
    if kind == "greater_than_equal":
        return f"{name} is {found!r}; give at least {context['ge']}"
    if kind == "less_than_equal":
        return f"{name} is {found!r}; give at most {context['le']}"
    if kind == "literal_error":
        return f"{name} is {found!r}; give {context['expected']}"
    if kind == "string_too_short":
        return f"{name} is {found!r}; give text that is not empty"
    if kind in _EXPECTED:
        return f"{name} is {found!r}; give {_EXPECTED[kind]}"
    return f"{name} is {found!r}: {detail['msg']}"


def _fields(cls: type[BaseModel], location: list[str]) -> list[str]:
    """Return the names of the fields of the model at a location within ``cls``."""
    for part in location:
        annotation = cls.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        cls = annotation
    return list(cls.model_fields)
