"""Conversion of what callers hold (lists, NumPy, pandas, Polars, Arrow, PyTorch) to indices.

An argument's name says what it holds, never the type of its value: ``*_index`` arguments are
positions, all others are raw ids. Conversion is exact: a value that does not stand for exactly one
user or item is refused with a message that names the argument, the value and the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from graphdiff.errors import ConfigError, DataError

# From here on a float does not identify an integer.
MAX_FLOAT_INTEGER = 2**53


def as_integer(value: Any, name: str) -> int:
    """Return a single whole number as an int.

    Args:
        value: An integer of any library, or a float without a fraction.
        name: Name of the argument, for messages.

    Raises:
        ConfigError: If it is anything else.
    """
    if type(value) is int:
        return value
    value = _scalar(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_FLOAT_INTEGER:
        return int(value)
    raise ConfigError(f"{name} is {_show(value)}; expected a whole number")


def as_positions(values: Any, size: int, name: str, ordered: bool = False) -> list[int]:
    """Return positions as a list of ints.

    Args:
        values: One position or a one-dimensional collection of positions.
        size: Number of users or items; positions are 0 to ``size - 1``.
        name: Name of the argument, such as ``"item_index"``.
        ordered: Whether the answer follows the order of the values, so that a set is refused.

    Raises:
        ConfigError: If a value is not a whole number in this range.
    """
    listed = as_list(values, name, ordered)
    positions = listed if isinstance(listed, list) else [listed]
    return check_positions(positions, size, name)


def check_positions(positions: list[Any], size: int, name: str) -> list[int]:
    """Return a flat list of positions as ints; see :func:`as_positions`."""
    positions = as_integers(positions, name)
    if positions and not (min(positions) >= 0 and max(positions) < size):
        wrong = next(one for one in positions if not 0 <= one < size)
        raise ConfigError(
            f"{_noun(name)} index {wrong} is out of range; this model knows {_noun(name)}s 0 to "
            f"{size - 1}"
        )
    return positions


def as_integers(values: list[Any], name: str) -> list[int]:
    """Return a flat list of whole numbers as ints.

    Raises:
        ConfigError: If an entry is anything else.
    """
    if set(map(type, values)) <= {int}:
        return values
    return [_integer(one, name) for one in values]


def as_ids(values: Any, name: str, ordered: bool = False) -> list[Any]:
    """Return raw ids as a flat list; a single id, text included, becomes a list of one.

    Raises:
        ConfigError: If ``values`` is no collection of ids.
    """
    listed = as_list(values, name, ordered)
    return listed if isinstance(listed, list) else [listed]


def find_ids(
    ids: list[Any], index: Mapping[str, int], name: str, unknown: Callable[[Any], DataError]
) -> list[int]:
    """Return the position of each raw id.

    Args:
        ids: A flat list. Ids are compared by their text, so 5 and ``"5"`` are the same id.
        index: Position by the text of an id.
        name: Name of the argument.
        unknown: Makes the error for an id that is not in ``index``.

    Raises:
        ConfigError: If a value cannot be an id.
        DataError: If an id is not known.
    """
    found = []
    for one in ids:
        position = index.get(one if type(one) is str else id_text(one, name))
        if position is None:
            raise unknown(one)
        found.append(position)
    return found


def id_text(value: Any, name: str) -> str:
    """Return the text by which a raw id is compared.

    Raises:
        ConfigError: If the value is missing, a truth value, a fraction, bytes or a collection.
    """
    if isinstance(value, str):
        return str(value)
    value = _scalar(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_FLOAT_INTEGER:
        return str(int(value))
    if isinstance(value, (bool, float, complex, bytes, bytearray)) or _is_missing(value):
        raise ConfigError(
            f"{name} holds {_show(value)}, which is not a raw id; give text or integers"
        )
    if isinstance(value, (Collection, Tensor)) and not isinstance(value, str):
        raise ConfigError(f"{name} holds {_show(value)} among ids; give raw ids only")
    return str(value)


def as_lists(values: Any, name: str) -> list[list[Any]]:
    """Return one list for each user.

    Args:
        values: The values of one user (a single value or a flat collection), or a collection with
            one such collection for each user. An empty collection is one user without values.
        name: Name of the argument, such as ``"history"``.

    Raises:
        ConfigError: If it is neither, or if single values and collections are mixed.
    """
    if type(values) is list and values and set(map(type, values)) == {list}:
        # The common case of a request: no conversion.
        inner = values
    else:
        if (isinstance(values, Tensor) or _is_array(values)) and _dim(values) == 2:
            return [list(one) for one in _tolist(values)]
        listed = as_list(values, name, nested=True)
        if not isinstance(listed, list):
            return [[listed]]
        several = [_is_collection(one) for one in listed]
        if not any(several):
            return [listed]
        if not all(several):
            at = several.index(not several[0])
            raise ConfigError(
                f"{name} mixes single values and collections: entry 0 is {_show(listed[0])}, entry "
                f"{at} is {_show(listed[at])}; give the values of one user, or one list per user"
            )
        inner = [as_list(one, f"{name}[{n}]") for n, one in enumerate(listed)]
    return inner


def as_list(values: Any, name: str, ordered: bool = False, nested: bool = False) -> Any:
    """Return a collection of any library as a list; return anything else as it is.

    Args:
        values: A scalar or a collection.
        name: Name of the argument, for messages.
        ordered: Refuse sets, whose order is arbitrary.
        nested: Leave collections within the collection to the caller instead of refusing them.

    Raises:
        ConfigError: If the collection is a mapping, a table, sparse or has several dimensions.
    """
    if type(values) is list or isinstance(values, (list, tuple, range)):
        listed = list(values) if type(values) is not list else values
    elif isinstance(values, Tensor) or _is_array(values):
        if _dim(values) > 1 and not (nested and _dim(values) == 2):
            raise ConfigError(
                f"{name} has shape {list(values.shape)}; give one dimension"
                + (", or a list for each user" if nested else "")
            )
        listed = _tolist(values)
    elif isinstance(values, Mapping) or _is_table(values):
        raise ConfigError(
            f"{name} is {_show(values)}; give a list, an array or one column of a table"
        )
    elif isinstance(values, (set, frozenset)):
        if ordered:
            raise ConfigError(
                f"{name} is a set, whose order is arbitrary; give a list, since the answer has one "
                "row for each entry"
            )
        listed = list(values)
    elif isinstance(values, (str, bytes, bytearray)) or not isinstance(values, Iterable):
        return _scalar(values)
    else:
        listed = _listed(values, name)
    if not nested and not set(map(type, listed)) <= {int, str}:
        for n, one in enumerate(listed):
            if _is_collection(one):
                raise ConfigError(f"{name} holds {_show(one)} at place {n}; give single values")
    return listed


def as_mask(values: Any, size: int, name: str) -> Tensor | list[int]:
    """Return a bool mask ``[size]`` as a tensor, or positions as a list of ints.

    Raises:
        ConfigError: If a mask has another length, or a position is out of range.
    """
    if isinstance(values, Tensor) and values.dtype == torch.bool:
        mask = values
    else:
        listed = as_ids(values, name)
        if not listed or not all(isinstance(_scalar(one), bool) for one in listed):
            return check_positions(listed, size, name)
        mask = torch.tensor([bool(one) for one in listed])
    if mask.shape != (size,):
        raise ConfigError(
            f"{name} is a mask of shape {list(mask.shape)}; expected [{size}], one truth value per "
            f"{_noun(name)}"
        )
    return mask


def _integer(value: Any, name: str) -> int:
    value = _scalar(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_FLOAT_INTEGER:
        return int(value)
    hint = ""
    if isinstance(value, bool):
        hint = "; give the positions where a mask is True"
    elif isinstance(value, str):
        hint = f"; raw ids are given as {_id_name(name)}"
    raise ConfigError(f"{name} holds {_show(value)}; expected positions, whole numbers{hint}")


def _scalar(value: Any) -> Any:
    """Return a zero-dimensional tensor or a NumPy or Arrow scalar as a Python value."""
    if isinstance(value, (int, float, str)):
        return value.item() if hasattr(value, "item") else value
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 and value.dim() == 0 else value
    if hasattr(value, "as_py"):
        return value.as_py()
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return value.item()
    return value


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _is_array(values: Any) -> bool:
    """Return whether a value is a NumPy array, or one column of pandas."""
    return (
        hasattr(values, "tolist")
        and hasattr(values, "shape")
        and isinstance(values.shape, tuple)
        and not hasattr(values, "columns")
        and not isinstance(values, (int, float, str, bytes))
    )


def _is_table(values: Any) -> bool:
    return hasattr(values, "columns") or hasattr(values, "column_names")


def _is_collection(value: Any) -> bool:
    if isinstance(value, (str, bytes, bytearray, int, float)):
        return False
    if isinstance(value, Tensor) or _is_array(value):
        return _dim(value) > 0
    return isinstance(value, Iterable)


def _dim(values: Any) -> int:
    return len(values.shape)


def _tolist(values: Any) -> Any:
    if isinstance(values, Tensor) and (values.layout != torch.strided or values.is_complex()):
        kind = str(values.layout).removeprefix("torch.")
        raise ConfigError(
            f"found a {kind} tensor of {values.dtype}; give a dense tensor of integers"
        )
    return values.tolist()


def _listed(values: Iterable[Any], name: str) -> list[Any]:
    for method in ("to_pylist", "to_list"):  # Arrow, Polars
        if hasattr(values, method):
            return list(getattr(values, method)())
    try:
        return list(values)
    except TypeError as error:
        raise ConfigError(f"{name} is {_show(values)}, which cannot be listed: {error}") from None


def _noun(name: str) -> str:
    return "user" if name.startswith("user") else "item"


def _id_name(name: str) -> str:
    return {"candidate_index": "candidates", "exclude_index": "exclude"}.get(
        name, name.replace("history_index", "history").replace("_index", "_id")
    )


def _show(value: Any) -> str:
    text = repr(value) if not isinstance(value, Tensor) else f"a tensor {list(value.shape)}"
    text = " ".join(text.split())
    text = text if len(text) <= 60 else text[:57] + "..."
    return text if isinstance(value, (str, int, float)) else f"{text} ({type(value).__name__})"
