"""Digests of what a processed dataset was made from: contents of its files and arguments.

Names, sizes and times of files are not enough, nor is the ``repr`` of an argument: two encoders
with the same ``repr`` may differ, and a file may be replaced by another of the same size and time.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import hashlib
import os
import secrets
import time
import types
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Distributions whose code users do not edit.
_LIBRARIES = {"builtins", "torch", "torch_geometric", "numpy", "abc", "typing", "pydantic", "enum"}
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
# Nanoseconds within which a file may change twice without a change of its ctime.
_TICK = 2 * 10**9

#: Size, time of content, time of any change, inode, when it was hashed, and SHA-256 of a file.
FileRecord = tuple[int, int, int, int, int, str]


def identity(value: Any) -> str:
    """Return a digest of a value, equal for equal contents, in any process.

    It covers the attributes of objects, the contents of arrays and tensors, and the code, defaults
    and closures of functions and methods; no memory addresses. A value whose contents are not
    accessible gets a new digest every time.
    """
    digest = hashlib.sha256()
    _Walk(digest).add(value)
    return digest.hexdigest()


def file_records(
    folder: Path, names: Iterable[str], known: Mapping[str, Any]
) -> dict[str, FileRecord]:
    """Return a record of each existing file, by its name relative to a folder.

    The name of a folder stands for all files in it. A file is hashed unless its record is known and
    its size, times and inode are unchanged.

    Args:
        folder: The folder.
        names: The names, relative to it.
        known: Earlier records.
    """
    found: dict[str, FileRecord] = {}
    for name in names:
        path = folder / name
        inner = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in inner:
            if file.exists():
                key = file.relative_to(folder).as_posix()
                found[key] = _record(file, known.get(key))
    return found


def files_identity(records: Mapping[str, FileRecord]) -> str:
    """Return a digest of names, sizes, times and contents of files."""
    lines = [[name, size, mtime, sha] for name, (size, mtime, *_, sha) in records.items()]
    return identity(sorted(lines))


def _record(path: Path, known: Any) -> FileRecord:
    status = path.stat()
    now = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    # Only POSIX has a time of change that programs cannot set.
    if os.name == "posix" and isinstance(known, (list, tuple)) and len(known) == 6:
        settled = isinstance(known[4], int) and status.st_ctime_ns < known[4] - _TICK
        if settled and tuple(known[:4]) == now and isinstance(known[5], str):
            return (*now, known[4], known[5])
    hashed_at = time.time_ns()
    with open(path, "rb") as file:
        return (*now, hashed_at, hashlib.file_digest(file, "sha256").hexdigest())


class _Walk:
    """A walk through a value that feeds a digest."""

    def __init__(self, digest: Any) -> None:
        self.digest = digest
        self.seen: dict[int, int] = {}
        self.kept: list[Any] = []  # References, so that no address is reused.

    def add(self, value: Any) -> None:
        """Feed one value."""
        if isinstance(value, _PLAIN) and type(value) in _PLAIN:
            self._feed(type(value).__name__, repr(value).encode("utf-8", "surrogatepass"))
            return
        if id(value) in self.seen:
            self._feed("seen", str(self.seen[id(value)]).encode())
            return
        self.seen[id(value)] = len(self.seen)
        self.kept.append(value)
        self._add_other(value)

    def _add_other(self, value: Any) -> None:
        match value:
            case PurePath():
                self._feed("path", str(value).encode("utf-8", "surrogateescape"))
            case enum.Enum():
                self._parts("enum", type(value).__qualname__, value.name)
            case np.generic():
                self._parts("number", value.dtype.str, value.item())
            case np.ndarray() if value.dtype.kind == "O":
                self._parts("objects", value.shape, value.tolist())
            case np.ndarray():
                content = np.ascontiguousarray(value).tobytes()
                self._parts("array", value.dtype.str, value.shape, content)
            case Tensor():
                self._add_tensor(value)
            case torch.Generator():
                self._parts("generator", value.get_state())
            case Mapping():
                pairs = [[identity(key), identity(entry)] for key, entry in value.items()]
                self._parts("mapping", *sorted(pairs))
            case list() | tuple():
                self._parts(type(value).__name__, *value)
            case set() | frozenset():
                self._parts("set", *sorted(identity(entry) for entry in value))
            case functools.partial():
                self._parts("partial", value.func, value.args, value.keywords)
            case types.MethodType():
                self._parts("method", value.__func__, value.__self__)
            case types.FunctionType():
                self._add_function(value)
            case types.CodeType():
                self._parts("code", value.co_code, value.co_consts, value.co_names)
            case types.ModuleType():
                self._parts("module", value.__name__)
            case types.BuiltinFunctionType():
                self._parts("builtin", value.__module__, value.__qualname__)
            case property():
                self._parts("property", value.fget, value.fset)
            case staticmethod() | classmethod():
                self._parts("wrapper", value.__func__)
            case type():
                self._add_class(value)
            case _:
                self._add_object(value)

    def _add_tensor(self, value: Tensor) -> None:
        if value.layout != torch.strided:
            coalesced = value.detach().to_sparse_coo().coalesce()
            self._parts("sparse", list(value.shape), coalesced.indices(), coalesced.values())
            return
        dense = value.detach().cpu().contiguous()
        content = dense.reshape(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""
        self._parts("tensor", str(value.dtype), list(value.shape), content)

    def _add_function(self, function: types.FunctionType) -> None:
        cells = []
        for cell in function.__closure__ or ():
            try:
                cells.append(cell.cell_contents)
            except ValueError:  # An empty cell: the function refers to itself.
                cells.append(None)
        defaults = (function.__defaults__, function.__kwdefaults__)
        name = (function.__module__, function.__qualname__)
        self._parts("function", name, function.__code__, defaults, cells)
        # Constants and functions of its own module that it uses; a notebook may change them.
        if not _is_of_a_library(function.__module__):
            for used in function.__code__.co_names:
                other = function.__globals__.get(used)
                own = getattr(other, "__module__", None) == function.__module__
                if type(other) in _PLAIN or (isinstance(other, types.FunctionType) and own):
                    self._parts("uses", used, other)

    def _add_class(self, cls: type) -> None:
        self._parts("class", cls.__module__, cls.__qualname__)
        for base in cls.__mro__:
            if _is_of_a_library(base.__module__):
                continue
            kinds = (types.FunctionType, property, staticmethod, classmethod, *_PLAIN)
            for name, member in sorted(vars(base).items()):
                # Docstrings have no effect, and that of __init__ is in the object's state.
                if type(member) in kinds and name not in ("__doc__", "__init__"):
                    self._parts("member", name, member)

    def _add_object(self, value: Any) -> None:
        """Feed the class and the state that pickle would store."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception:  # An object that cannot be pickled may raise anything.
            self._feed("unseen", secrets.token_bytes(16))
            return
        parts = [reduced] if isinstance(reduced, str) else map(_listed, reduced)
        self._parts("object", type(value), *parts)

    def _parts(self, kind: str, *parts: Any) -> None:
        self._feed(kind, str(len(parts)).encode())
        for part in parts:
            self.add(part)

    def _feed(self, kind: str, content: bytes) -> None:
        # The length separates neighbouring entries.
        self.digest.update(f"{kind}:{len(content)}:".encode())
        self.digest.update(content)


def _is_of_a_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _LIBRARIES


def _listed(part: Any) -> Any:
    return list(part) if hasattr(part, "__next__") else part
