"""Overview of models and of their settings, as plain values."""

from __future__ import annotations

import inspect
import re
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from graphdiff.models.base import Recommender
from graphdiff.models.config import setting_names
from graphdiff.models.registry import find_model, model_names

# "Title" <link>, as docstrings cite a paper.
_PAPER = re.compile(r'`"(?P<title>[^"]+)"\s+<(?P<link>[^>]+)>`_')
_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def describe_models() -> list[dict[str, Any]]:
    """Describe all models that can be named, also with a preset.

    Returns:
        One row per model: ``name``, ``kind`` (see :func:`kind_of`), ``features`` (whether it reads
        item features), ``unseen_users`` (whether it serves users by their history), ``paper`` and
        ``link`` (empty where the docstring names none).
    """
    rows = []
    for name in model_names():
        cls = find_model(name).model
        paper = _PAPER.search(inspect.getdoc(cls) or "")
        rows.append(
            {
                "name": name,
                "kind": kind_of(cls),
                "features": cls.uses_content,
                "unseen_users": cls.folds_in,
                "paper": " ".join(paper["title"].split()) if paper else "",
                "link": paper["link"] if paper else "",
            }
        )
    return rows


def kind_of(cls: type[Recommender]) -> str:
    """Return the kind of a model: ``"closed form"`` (computed in one step), ``"diffusion"`` (it has
    diffusion steps), ``"multimodal"`` (it reads features) or ``"collaborative"``.
    """
    if cls.batch_over == "nothing":
        return "closed form"
    if any(name.rpartition(".")[2] == "num_steps" for name in setting_names(cls.Config)):
        return "diffusion"
    return "multimodal" if cls.uses_content else "collaborative"


def describe_settings(model: str) -> list[dict[str, Any]]:
    """Describe the settings of a model.

    Args:
        model: Its name; see :func:`~graphdiff.models.get_model`. It may be that of a preset.

    Returns:
        One row per setting: ``name`` (dotted in groups), ``type`` with its limits, ``default`` (the
        preset's, if there is one) and ``description``.

    Raises:
        ConfigError: If there is no such model.

    Example:
        >>> describe_settings("ease")[0]["name"], describe_settings("ease")[0]["type"]
        ('regularization', 'float > 0')
    """
    found = find_model(model)
    default = found.settings({})
    return [row | {"default": default[row["name"]]} for row in _settings(found.model.Config)]


def _settings(config: type[BaseModel], prefix: str = "") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, field in config.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            rows += _settings(group, f"{prefix}{name}.")
            continue
        rows.append(
            {
                "name": prefix + name,
                "type": _type(field),
                "default": field.get_default(call_default_factory=True),
                "description": field.description or "",
            }
        )
    return rows


def _type(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(one, name)}"
        for one in field.metadata
        for name, sign in _LIMITS.items()
        if getattr(one, name, None) is not None
    ]
    return " ".join([_words(field.annotation), ", ".join(limits)]).strip()


def _words(annotation: Any) -> str:
    """Return a type as text: ``int | None``, ``'FAC' | 'FD'``."""
    if annotation is type(None):
        return "None"
    if get_origin(annotation) is Literal:
        return " | ".join(map(repr, get_args(annotation)))
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        return " | ".join(_words(one) for one in get_args(annotation))
    if get_args(annotation):
        inner = ", ".join(_words(one) for one in get_args(annotation))
        return f"{get_origin(annotation).__name__}[{inner}]"
    return getattr(annotation, "__name__", str(annotation))
