"""Options written as ``name=value``, on the command line and in benchmark scripts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from graphdiff.errors import ConfigError

# YAML 1.1 reads 1e-3 as text, since it expects a decimal point before the exponent.
_SCIENTIFIC = re.compile(r"[+-]?\d+[eE][+-]?\d+")


def split_options(texts: Iterable[str], flag: str) -> dict[str, str]:
    """Split ``name=value`` texts at their first equals sign.

    Args:
        texts: The texts; of two with the same name the later one counts.
        flag: Option of the command line that they were given with, for messages: ``"--set"``.

    Raises:
        ConfigError: If a text is not ``name=value``.
    """
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"{flag} {text!r} is not name=value")
        pairs[name] = value
    return pairs


def parse_options(texts: Iterable[str], flag: str) -> dict[str, Any]:
    """Parse ``name=value`` texts, with values as in YAML.

    Args:
        texts: The texts; of two with the same name the later one counts.
        flag: Option of the command line that they were given with, for messages: ``"--set"``.

    Raises:
        ConfigError: If a text is not ``name=value``, or a value is not readable YAML.
    """
    return {
        name: parse_value(f"{flag} {name}", value)
        for name, value in split_options(texts, flag).items()
    }


def override(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` with ``changes``, where a setting in a group may have a dotted name.

    Example:
        >>> override({"lr": 0.1, "diffusion": {"num_steps": 5}}, {"diffusion.num_steps": 10})
        {'lr': 0.1, 'diffusion': {'num_steps': 10}}
    """
    result = dict(settings)
    for name, value in changes.items():
        for dotted in [known for known in result if known.startswith(f"{name}.")]:
            del result[dotted]
        group, dot, rest = name.partition(".")
        if dot and isinstance(result.get(group), Mapping):
            result[group] = override(result[group], {rest: value})
        else:
            result[name] = value
    return result


def dataset_options(
    dataset: str, features: Iterable[str] | None = None, options: Iterable[str] | None = None
) -> dict[str, Any]:
    """Parse the ``--features`` and ``--option`` texts of a dataset.

    The dataset's class declares the type of each argument: text is taken as it is, so that a column
    may be called ``1`` or ``no``, and every other value is read as YAML.

    Args:
        dataset: Name of the dataset.
        features: The file of each modality, as ``name=file``.
        options: Further arguments of the dataset's class, as ``name=value``.

    Raises:
        ConfigError: If there is no such dataset, a text is not ``name=value``, or a value cannot
            be read.
    """
    from graphdiff.datasets import parse_options as parse_arguments  # Imports PyTorch.

    found = parse_arguments(dataset, split_options(options or (), "--option"))
    if features:
        found["features"] = split_options(features, "--features")
    return found


def parse_value(source: str, text: str | bytes) -> Any:
    """Parse a value written in YAML: a number, text, a list, a mapping, ``true`` or ``null``.

    Args:
        source: Where the text is from, for messages: ``"--set lr"`` or the name of a file.
        text: The text; bytes are UTF-8.

    Raises:
        ConfigError: If the text is not readable YAML.
    """
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{source} is not readable YAML: {reason}") from None
    if isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        return float(value)
    return value
