"""Settings of models and how they are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from graphdiff.errors import ConfigError


class BaseConfig(BaseModel):
    """Base of the settings of all models; it has no fields of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Read scalars of NumPy and PyTorch, and refuse a truth value where a number belongs."""
        if hasattr(value, "item") and getattr(value, "shape", None) == ():
            value = value.item()
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and not _takes_bool(field.annotation):
            raise ValueError("Input should not be a truth value")
        return value


class ModelConfig(BaseConfig):
    """Settings of every model that is trained by gradient."""

    hidden_channels: int = Field(64, ge=1, description="Width d of the embeddings.")
    lr: float = Field(1e-3, gt=0, description="Learning rate of Adam.")
    lr_decay: float = Field(
        1.0, gt=0, le=1, description="Factor on the learning rate after each epoch."
    )
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of Adam.")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="Decay of the moving average of the weights; 0 for no average."
    )
    batch_size: int = Field(2048, ge=1, description="Users or interactions per training step.")


def _takes_bool(annotation: Any) -> bool:
    parts = (annotation, *get_args(annotation))
    return any(part in (bool, Any) or isinstance(part, bool) for part in parts)


C = TypeVar("C", bound=BaseModel)


def configure(config_class: type[C], settings: dict[str, Any], owner: str) -> C:
    """Return checked settings.

    Args:
        config_class: The pydantic model of the settings. A field that is itself a pydantic model
            is a group.
        settings: Values by name. A value of a group is a dictionary, or is given by a dotted
            name, such as ``"diffusion.num_steps"``.
        owner: Name of the model, for messages.

    Raises:
        ConfigError: If a setting does not exist, is given twice or has a value that is not allowed.
    """
    grouped = _group(settings, owner)
    _refuse_unknown(config_class, grouped, owner)
    try:
        return config_class(**grouped)
    except ValidationError as error:
        found = "; ".join(_in_words(one) for one in error.errors())
        raise ConfigError(f"{owner} does not accept these settings: {found}") from None


def _in_words(error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:  # It concerns several settings, which the message names.
        return message
    return f"{'.'.join(map(str, error['loc']))}={error['input']!r}: {message}"


def combined(settings: Mapping[str, Any], changes: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return settings with changes, both in any form that :func:`configure` takes, with groups as
    dictionaries.

    Example:
        >>> combined({"lr": 0.1, "diffusion.num_steps": 5}, {"diffusion": {"enabled": False}}, "")
        {'lr': 0.1, 'diffusion': {'num_steps': 5, 'enabled': False}}
    """
    return _merged(_group(settings, owner), _group(changes, owner))


def _merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for name, value in changes.items():
        known: Any = merged.get(name)
        both = isinstance(known, dict) and isinstance(value, dict)
        merged[name] = _merged(known, value) if both else value
    return merged


def setting_names(config_class: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the names of all settings; those of groups are dotted."""
    names: list[str] = []
    for name, field in config_class.model_fields.items():
        group = _as_group(field.annotation)
        names += [prefix + name] if group is None else setting_names(group, f"{prefix}{name}.")
    return names


def flat_settings(config: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return all values by name; those of groups have dotted names.

    Example:
        >>> from graphdiff.models import LD4MRec
        >>> flat_settings(LD4MRec.configure(diffusion={"num_steps": 5}))["diffusion.num_steps"]
        5
    """
    values: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        inner = isinstance(value, BaseModel)
        values |= flat_settings(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return values


def _as_group(annotation: Any) -> type[BaseModel] | None:
    is_group = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_group else None


def _group(settings: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Replace dotted names by nested dictionaries."""
    grouped: dict[str, Any] = {}
    # Whole groups first, so that a dotted name refines a group whatever the order.
    for name, value in sorted(settings.items(), key=lambda one: str(one[0]).count(".")):
        *path, last = str(name).split(".")
        inner = grouped
        for depth, part in enumerate(path):
            found = inner.get(part, {})
            if isinstance(found, BaseModel):
                found = found.model_dump(exclude_unset=True)
            if not isinstance(found, dict):
                group = ".".join(path[: depth + 1])
                raise ConfigError(
                    f"{owner}: {name} is given, but {group} is {found!r}; give {group} as a "
                    "dictionary or by dotted names"
                )
            inner[part] = inner = dict(found)
        if last in inner and path:
            raise ConfigError(f"{owner}: the setting {name} is given twice; give it once")
        inner[last] = value
    return grouped


def _refuse_unknown(config_class: type[BaseModel], settings: dict[str, Any], owner: str) -> None:
    unknown = sorted(_unknown(config_class, settings, ""))
    if unknown:
        raise ConfigError(
            f"{owner} has no setting {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(setting_names(config_class)) or 'none'}"
        )


def _unknown(config_class: type[BaseModel], settings: dict[str, Any], prefix: str) -> list[str]:
    unknown = []
    for name, value in settings.items():
        field = config_class.model_fields.get(name)
        if field is None:
            parts = list(value) if isinstance(value, dict) else []
            unknown += [f"{prefix}{name}.{part}" for part in parts] or [prefix + name]
        elif isinstance(value, dict) and (group := _as_group(field.annotation)) is not None:
            unknown += _unknown(group, value, f"{prefix}{name}.")
    return unknown


def reads_similarity(config: BaseConfig) -> bool:
    """Return whether a model with these settings reads item-item graphs; settings say so by a
    property ``reads_similarity``."""
    return bool(getattr(config, "reads_similarity", True))
