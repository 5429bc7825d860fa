"""Conversion of what callers hold (lists, NumPy, pandas, Polars, Arrow, PyTorch) to indices.

An argument's name says what it holds, never the type of its value: ``*_index`` arguments are
positions, all others are raw ids. Conversion is exact: a value that does not stand for exactly one
user or item is refused with a message that names the argument, the value and the remedy.

Raw ids are compared by their text, so 5 and ``"5"`` are the same id, and a float without a fraction
counts as an integer, as pandas turns integer columns with gaps into floats.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from graphdiff.errors import ConfigError, DataError

# From here on a float does not identify an integer.
MAX_FLOAT_INTEGER = 2**53
# Characters of a value that a message shows.
SHOWN = 60


def as_integer(value: Any, name: str) -> int:
    """Return a single whole number as an int.

    Args:
        value: An integer of any library, or a float without a fraction.
        name: Name of the argument, for messages.

    Raises:
        ConfigError: If it is anything else.
    """
    found = value if type(value) is int else _whole(_scalar(value))
    if found is None:
        raise ConfigError(f"{name} is {_show(value)}; expected a whole number")
    return found


def as_count(value: Any, name: str) -> int:
    """Return a whole number from 0 on as an int; see :func:`as_integer`."""
    count = as_integer(value, name)
    if count < 0:
        raise ConfigError(f"{name} = {count}; it must be 0 or more")
    return count


def as_flag(value: Any, name: str) -> bool:
    """Return a single truth value as a bool.

    Raises:
        ConfigError: If it is anything else, such as a mask.
    """
    flag = value if isinstance(value, bool) else _scalar(value)
    if isinstance(flag, bool):
        return flag
    raise ConfigError(f"{name} is {_show(value)}; expected True or False")


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
    return check_positions(as_flat(values, name, ordered), size, name)


def check_positions(values: list[Any], size: int, name: str) -> list[int]:
    """Return the entries of a list as positions; see :func:`as_positions`."""
    positions = as_integers(values, name)
    if positions and not (min(positions) >= 0 and max(positions) < size):
        wrong = next(one for one in positions if not 0 <= one < size)
        kind = _kind(name)
        raise ConfigError(
            f"{kind} index {wrong} is out of range; this model knows {kind}s 0 to {size - 1}"
        )
    return positions


def as_integers(values: list[Any], name: str) -> list[int]:
    """Return the entries of a list as ints.

    Raises:
        ConfigError: If an entry is no whole number.
    """
    if set(map(type, values)) <= {int}:
        return values
    return [_position(one, name) for one in values]


def find_ids(
    ids: list[Any], index: Mapping[str, int], name: str, unknown: Callable[[str], DataError]
) -> list[int]:
    """Return the position of each raw id of a list.

    Args:
        ids: Raw ids.
        index: Position by the text of an id.
        name: Name of the argument.
        unknown: Makes the error for an id that is not in ``index``, from the id as shown.

    Raises:
        ConfigError: If a value cannot be an id.
        DataError: If an id is not known.
    """
    found = []
    for one in ids:
        position = index.get(one if type(one) is str else id_text(one, name))
        if position is None:
            raise unknown(_show(one))
        found.append(position)
    return found


def id_text(value: Any, name: str) -> str:
    """Return the text by which a raw id is compared.

    Raises:
        ConfigError: If the value is missing, a truth value, a fraction, bytes or a collection.
    """
    if isinstance(value, str):
        return str.__str__(value)  # of an enumeration too, which has another str()
    one = _scalar(value)
    whole = _whole(one)
    if whole is not None:
        return str(whole)
    if isinstance(one, str):
        return str.__str__(one)
    if isinstance(one, (bool, float, complex, Collection, Tensor)) or _is_missing(one):
        hint = "; decode it" if isinstance(one, (bytes, bytearray)) else ""
        raise ConfigError(
            f"{name} holds {_show(value)}, which is no raw id; give text or integers{hint}"
        )
    return str(one)


def as_lists(values: Any, name: str) -> list[list[Any]]:
    """Return one list for each user.

    Args:
        values: The values of one user (a single value or a flat collection), or a collection with
            one collection for each user, such as a two-dimensional array. An empty collection is
            one user without values.
        name: Name of the argument, such as ``"history"``.

    Raises:
        ConfigError: If it is neither, or mixes single values and collections.
    """
    if type(values) is list and values and set(map(type, values)) == {list}:
        return values  # the usual request needs no conversion
    listed = as_list(values, name, max_dim=2)
    if not isinstance(listed, list):
        return [[listed]]
    if _dim(values) == 2:
        return listed
    nested = [_is_collection(one) for one in listed]
    if not any(nested):
        return [listed]
    if not all(nested):
        other = nested.index(not nested[0])
        raise ConfigError(
            f"{name} mixes single values and collections: entry 0 is {_show(listed[0])}, entry "
            f"{other} is {_show(listed[other])}; give the values of one user, or one list per user"
        )
    if isinstance(values, (set, frozenset)):
        raise ConfigError(_unordered(name))
    return [as_flat(one, f"{name}[{n}]") for n, one in enumerate(listed)]


def as_flat(values: Any, name: str, ordered: bool = False) -> list[Any]:
    """Return a single value or a collection of single values as a list; text is a single value.

    Raises:
        ConfigError: If it is something else.
    """
    listed = as_list(values, name, ordered)
    if not isinstance(listed, list):
        return [listed]
    if not set(map(type, listed)) <= {int, str}:
        for n, one in enumerate(listed):
            if _is_collection(one):
                raise ConfigError(f"{name} holds {_show(one)} at place {n}; give single values")
    return listed


def as_list(values: Any, name: str, ordered: bool = False, max_dim: int = 1) -> Any:
    """Return a collection of any library as a list, whose entries may be collections; return a
    single value as it is.

    Args:
        values: A single value or a collection.
        name: Name of the argument, for messages.
        ordered: Refuse sets, whose order is arbitrary.
        max_dim: Number of dimensions that an array may have.

    Raises:
        ConfigError: If it is a mapping, a table, sparse, or has more dimensions.
    """
    if type(values) is list:
        return values
    if hasattr(values, "as_py"):
        values = values.as_py()
    if isinstance(values, (tuple, range)):
        return list(values)
    if isinstance(values, Mapping) or hasattr(values, "columns") or hasattr(values, "column_names"):
        raise ConfigError(
            f"{name} is {_show(values)}; give a list, an array or one column of a table"
        )
    if not _is_collection(values):
        return _scalar(values)
    if _is_sparse(values):
        raise ConfigError(f"{name} is {_show(values)}; give a list or a dense array")
    if _dim(values) > max_dim:
        shape = "x".join(map(str, values.shape))
        users = ", or one list per user" if max_dim > 1 else ""
        raise ConfigError(f"{name} is an array {shape}; give one dimension{users}")
    if isinstance(values, (set, frozenset)) and ordered:
        raise ConfigError(_unordered(name))
    return _entries(values, name)


def as_mask(values: Any, size: int, name: str) -> Tensor | list[int]:
    """Return a bool mask ``[size]`` as a tensor, or positions as a list of ints.

    Raises:
        ConfigError: If a mask has another length, or a position is out of range.
    """
    if isinstance(values, Tensor) and values.dtype == torch.bool:
        mask = values
    else:
        listed = as_flat(values, name)
        if not listed or not all(isinstance(_scalar(one), bool) for one in listed):
            return check_positions(listed, size, name)
        mask = torch.tensor([bool(one) for one in listed])
    if mask.shape != (size,):
        raise ConfigError(
            f"{name} is a mask {list(mask.shape)}; expected [{size}], one truth value per "
            f"{_kind(name)}"
        )
    return mask


def _position(value: Any, name: str) -> int:
    one = _scalar(value)
    whole = _whole(one)
    if whole is not None:
        return whole
    hint = ""
    if isinstance(one, bool):
        hint = "; give the positions where a mask is True"
    elif isinstance(one, str):
        hint = f"; raw ids are given as {_id_name(name)}"
    raise ConfigError(f"{name} holds {_show(value)}; expected positions, whole numbers{hint}")


def _whole(value: Any) -> int | None:
    """Return an int, or a float without a fraction, as an int; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_FLOAT_INTEGER:
        return int(value)
    return None


def _scalar(value: Any) -> Any:
    """Return a scalar of NumPy, PyTorch or Arrow as a Python value, and others as they are."""
    if hasattr(value, "as_py"):
        return value.as_py()
    is_date = getattr(getattr(value, "dtype", None), "kind", "") in ("M", "m")
    if hasattr(value, "item") and getattr(value, "shape", None) == () and not is_date:
        return value.item()
    return value


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _is_collection(value: Any) -> bool:
    if isinstance(value, (str, bytes, bytearray, int, float)) or getattr(value, "shape", 0) == ():
        return False
    return isinstance(value, (Iterable, Tensor)) and not hasattr(value, "as_py")


def _is_sparse(values: Any) -> bool:
    if isinstance(values, Tensor):
        return values.layout != torch.strided
    return hasattr(values, "tocsr")


def _dim(values: Any) -> int:
    shape = getattr(values, "shape", None)
    return len(shape) if isinstance(shape, tuple) else 1


def _entries(values: Any, name: str) -> list[Any]:
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    if kind in ("M", "m", "V", "c") or (isinstance(values, Tensor) and values.is_complex()):
        raise ConfigError(f"{name} is {_show(values)} of {values.dtype}; give integers or text")
    # Of NumPy, pandas and PyTorch; of Arrow; of Polars.
    for method in ("tolist", "to_pylist", "to_list"):
        if hasattr(values, method):
            return list(getattr(values, method)())
    return list(values)


def _unordered(name: str) -> str:
    return (
        f"{name} is a set, whose order is arbitrary; give a list, since the answer has one row for "
        "each entry"
    )


def _kind(name: str) -> str:
    return "user" if name.startswith("user") else "item"


def _id_name(name: str) -> str:
    known = {"candidate_index": "candidates", "exclude_index": "exclude"}
    if name.startswith("history_index"):
        return "history"
    return known.get(name, name.replace("_index", "_id"))


def _show(value: Any) -> str:
    """Return a value in short, with its type where that is not plain to see."""
    if isinstance(value, (str, bool, int, float)) and type(value).__module__ == "builtins":
        return _shortened(repr(value))
    name = type(value).__name__
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"a {name} [{', '.join(map(str, shape))}]"
    return "None" if value is None else f"{_shortened(repr(value))} ({name})"


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
