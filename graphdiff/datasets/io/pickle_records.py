"""A pickle as inert records: its instructions are read, and nothing that they name is run.

A pickle is a program for a small stack machine, and its instructions can call any function. Rather
than let Python run it with some functions forbidden, this module reads the instructions (with the
standard library's ``pickletools``, which executes nothing) and interprets the few that a sparse
matrix is written with. What the program calls ``numpy.ndarray`` or ``scipy.sparse.coo_matrix`` is
here a record of its arguments and state; no object is constructed and nothing is imported because
a file asks for it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from graphdiff.errors import DataError

# A matrix takes about 150 instructions; the bound limits the work of a hostile file.
MAX_INSTRUCTIONS = 5_000
NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"}


class Record:
    """A stand-in for an object of the program.

    Args:
        name: What it is: ``'coo'``, ``'csr'``, ``'csc'``, ``'array'`` or ``'dtype'``.
        code: Of a dtype, its code, such as ``'f8'``.
    """

    def __init__(self, name: str, code: str = "") -> None:
        self.name = name
        self.code = code
        self.state: Any = None


class _Name:
    """A stand-in for a class or function that the program refers to."""

    def __init__(self, name: str) -> None:
        self.name = name


def _admitted() -> dict[tuple[str, str], str]:
    table = {
        ("numpy", "dtype"): "dtype",
        ("numpy", "ndarray"): "ndarray",
        ("_codecs", "encode"): "encode",
        ("copy_reg", "_reconstructor"): "reconstructor",
        ("copyreg", "_reconstructor"): "reconstructor",
        ("__builtin__", "object"): "object",
        ("builtins", "object"): "object",
        ("__builtin__", "bytes"): "bytes",
        ("builtins", "bytes"): "bytes",
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = "reconstruct"
        table[f"{core}.multiarray", "scalar"] = "scalar"
        table[f"{core}.numeric", "_frombuffer"] = "frombuffer"
    for kind in ("coo", "csr", "csc"):
        for module in (kind, f"_{kind}", "_arrays"):
            for shape in ("matrix", "array"):
                table[f"scipy.sparse.{module}", f"{kind}_{shape}"] = kind
    return table


ADMITTED = _admitted()


def _refer(module: Any, name: Any) -> _Name:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise DataError("it refers to something without a name")
    if (module, name) not in ADMITTED:
        raise DataError(f"it refers to {clip(f'{module}.{name}')}, which is refused")
    return _Name(ADMITTED[module, name])


def _call(function: Any, arguments: Any) -> Any:
    """Return the record that stands for the result of a call in the program."""
    name = function.name if isinstance(function, _Name) else None
    match name, arguments:
        case "dtype", (str() as code, *_):
            return Record("dtype", code)
        case "bytes", ():  # How protocols 0 to 2 write no bytes at all.
            return b""
        case "encode", (str() as text, str() as coding) if coding in ("latin1", "latin-1"):
            return latin1(text)
        case "reconstruct", (_Name(name="ndarray"), *_):
            return Record("array")
        case "frombuffer", (bytes() | bytearray() as buffer, dtype, shape, str()):
            record = Record("array")
            record.state = (1, shape, dtype, False, buffer)
            return record
        case "scalar", (dtype, content):
            return _scalar(dtype, content)
        case "reconstructor", (
            _Name(name="coo" | "csr" | "csc") as kind,
            _Name(name="object"),
            None,
        ):
            return Record(kind.name)
        case "coo" | "csr" | "csc", ():
            return Record(str(name))
    raise DataError("it makes a call that a sparse matrix does not need, which is refused")


class _Mark:
    """The marker at which a run of values begins on the stack."""


MARK = _Mark()
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: MARK,
}
LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
SIZED_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _instructions(content: bytes) -> Iterable[tuple[str, Any]]:
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if count == MAX_INSTRUCTIONS:
                raise DataError(f"it has more than {MAX_INSTRUCTIONS} instructions")
            yield opcode.name, argument
    except (ValueError, IndexError, UnicodeError, OverflowError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"it is damaged ({clip(str(error))})") from None


def interpret(content: bytes) -> Any:
    """Run the program on inert records and return its result."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for name, argument in _instructions(content):
            if name == "STOP":
                return stack.pop()
            _step(name, argument, stack, memo)
    except (IndexError, KeyError):
        raise DataError("it is damaged (an instruction finds nothing to work on)") from None
    raise DataError("it is damaged (it does not end)")


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in LITERALS:
        stack.append(argument)
    elif name in CONSTANTS:
        stack.append(CONSTANTS[name]())
    elif name in SIZED_TUPLES:
        stack.append(tuple(_pop(stack, SIZED_TUPLES[name])))
    elif name in ("TUPLE", "LIST", "DICT"):
        values = _pop_to_mark(stack)
        stack.append(
            tuple(values) if name == "TUPLE" else values if name == "LIST" else _pairs(values)
        )
    elif name in ("APPEND", "APPENDS"):
        values = _pop(stack, 1) if name == "APPEND" else _pop_to_mark(stack)
        _expect(stack[-1], list).extend(values)
    elif name in ("SETITEM", "SETITEMS"):
        values = _pop(stack, 2) if name == "SETITEM" else _pop_to_mark(stack)
        _expect(stack[-1], dict).update(_pairs(values))
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "GLOBAL":
        stack.append(_refer(*argument.split(" ", 1)))
    elif name == "STACK_GLOBAL":
        stack.append(_refer(*_pop(stack, 2)))
    elif name in ("REDUCE", "NEWOBJ"):
        stack.append(_call(*_pop(stack, 2)))
    elif name == "BUILD":
        (state,) = _pop(stack, 1)
        _expect(stack[-1], Record).state = state
    elif name not in ("PROTO", "FRAME"):
        raise DataError(f"it uses the instruction {name}, which is refused")


def _pop(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count or any(value is MARK for value in stack[-count:]):
        raise IndexError
    values = stack[-count:]
    del stack[-count:]
    return values


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    values = []
    while (value := stack.pop()) is not MARK:
        values.append(value)
    return values[::-1]


def _pairs(values: list[Any]) -> dict[str, Any]:
    keys = values[::2]
    # Other keys would have to be hashed, and a nested tuple can take forever to hash.
    if len(values) % 2 or not all(isinstance(key, str) for key in keys):
        raise DataError("it holds a dictionary whose keys are not names")
    return dict(zip(keys, values[1::2], strict=True))


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise DataError("it is damaged (an instruction finds a value of the wrong kind)")
    return value


def read_dtype(record: Any) -> np.dtype:
    """Return the dtype of plain numbers that a record stands for, byte order included."""
    if not (isinstance(record, Record) and record.name == "dtype"):
        raise DataError("an array has no dtype")
    code = record.code
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "="
    if code not in NUMBERS or order not in ("<", ">", "|", "="):
        raise DataError(f"an array holds {clip(code)!r}, not plain numbers, which is refused")
    return np.dtype(f"{order}{code}")


def _scalar(dtype: Any, content: Any) -> int:
    """Return a numpy integer, which newer versions store in a shape."""
    number = read_dtype(dtype)
    content = latin1(content) if isinstance(content, str) else content
    if number.kind not in "iu" or not isinstance(content, bytes) or len(content) != number.itemsize:
        raise DataError("it holds a number that is not a plain integer")
    return int(np.frombuffer(content, number)[0])


def latin1(text: str) -> bytes:
    """Return the bytes that older pickles store as text."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise DataError("it is damaged (text where bytes are expected)") from None


def clip(text: str) -> str:
    """Shorten and escape text from the file for a message."""
    text = text[:80].encode("unicode_escape").decode()
    return text if len(text) <= 80 else text[:77] + "…"
