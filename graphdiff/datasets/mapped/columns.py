"""Columns of numbers in files, written and read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

#: Rows that are held at a time.
ROWS = 2**22


class Column:
    """A column of numbers in a file of its own.

    It is read and written explicitly, not mapped, so that a process never holds more of it than it
    asks for.

    Args:
        path: The file.
        dtype: Type of the numbers.
    """

    def __init__(self, path: Path, dtype: Any) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        self._file: Any = None

    def __len__(self) -> int:
        self._flush()
        size = self.path.stat().st_size if self.path.exists() else 0
        return size // self.dtype.itemsize

    def append(self, values: np.ndarray) -> Self:
        """Write values at the end."""
        if self._file is None:
            self._file = self.path.open("ab")
        self._file.write(np.ascontiguousarray(values, self.dtype).data)
        return self

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return the values of rows ``start, ..., stop - 1``."""
        count = (len(self) if stop is None else stop) - start
        if count == 0:
            return np.empty(0, self.dtype)
        self._flush()
        return np.fromfile(self.path, self.dtype, count, offset=start * self.dtype.itemsize)

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Return the values of ascending rows, which lie close to each other."""
        found = np.empty(len(rows), self.dtype)
        first = 0
        while first < len(rows):
            start = int(rows[first])
            last = int(np.searchsorted(rows, start + ROWS))
            block = self.read(start, int(rows[last - 1]) + 1)
            found[first:last] = block[rows[first:last] - start]
            first = last
        return found

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all values in pieces of at most :data:`ROWS`."""
        size = len(self)
        for start in range(0, size, ROWS):
            yield self.read(start, min(start + ROWS, size))

    def close(self) -> None:
        """Write what is still in memory."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._file is not None:
            self._file.flush()


class ArrayFile:
    """An ``.npy`` file of one or two rows of equal length, each written piece by piece.

    Args:
        path: The file; created with its final size.
        dtype: Type of the numbers.
        shape: Its shape.
    """

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.length = shape[-1]
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        self._file = path.open("wb")
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()
        self._file.truncate(self._start + int(np.prod(shape)) * self.dtype.itemsize)

    def write(self, values: np.ndarray, start: int, row: int = 0) -> None:
        """Write values from the position ``start`` of a row on."""
        place = (row * self.length + start) * self.dtype.itemsize
        self._file.seek(self._start + place)
        self._file.write(np.ascontiguousarray(values, self.dtype).data)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
