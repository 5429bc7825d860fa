"""Text tables: CSV, TSV and similar, read into columns.

pyarrow parses them. This module adds delimiters of several bytes and rows longer than a block, and
refuses files that pyarrow would misread silently.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from graphdiff.datasets.io.folders import COMPRESSIONS, table_suffix
from graphdiff.errors import DataError

#: How columns are separated in a text file, by its suffix.
DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".inter": "\t", ".item": "\t"}
QUOTE = '"'

#: Ids are read as they are written, each distinct one once.
ID = pa.dictionary(pa.int32(), pa.string())

# pyarrow parses blocks of this many bytes in parallel; a row has to fit into one.
BLOCK = 2**22
LARGEST_BLOCK = 2**30
# Bytes at the end of a file that are searched for its last line.
TAIL = 2**16
# Bytes that text rarely holds, as replacements of a delimiter of several bytes.
STAND_INS = [bytes([code]) for code in (0x1F, 0x1E, 0x1D, 0x1C, 0x01, 0x02, 0x03)]

# First bytes of other formats.
_MAGIC = {
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"PAR1": "a Parquet file; call it .parquet",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
    b"\x1f\x8b": "compressed with gzip; call it .gz",
    b"BZh": "compressed with bzip2; call it .bz2",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; call it .zst",
}


class _Scan(NamedTuple):
    """Properties of a text file that need no parsing."""

    size: int
    quotes: int
    breaks: bool  # Whether there are carriage returns.
    tail: bytes


class TextTable:
    """A text file with columns.

    If a single character separates columns, values may be quoted, and a quoted value may hold
    delimiters and line breaks. If a tab or several characters do, quotes are part of a value, as is
    usual in research data.

    Args:
        path: The file, compressed or not.
        delimiter: What separates columns: one or more characters (default: by the suffix of the
            file, a comma in ``.csv``, a tab in ``.tsv``, ``.txt``, ``.inter`` and ``.item``).
        names: Names of the columns of a file without a header.

    Raises:
        DataError: If the file is in another format.
    """

    def __init__(
        self, path: Path, delimiter: str | None = None, names: Sequence[str] | None = None
    ) -> None:
        self.path = path
        self.delimiter = delimiter or DELIMITERS.get(table_suffix(path), ",")
        self.given_names = list(names) if names is not None else None
        self.quoted = len(self.delimiter) == 1 and self.delimiter != "\t"
        self._refuse_other_formats()

    def names(self) -> list[str]:
        """Return the names of the columns."""
        if self.given_names is not None:
            return self.given_names

        def header(source: Any, separator: str, block: int) -> list[str]:
            with pyarrow.csv.open_csv(source, **self._options(separator, block, {}, [])) as file:
                return file.schema.names

        return self._parsed(header, parse_first_line=True)

    def read(self, columns: list[str], ids: Sequence[str] = ()) -> pa.Table:
        """Return columns of the table.

        Args:
            columns: Their names.
            ids: Those among them that hold ids, to be read as they are written.
        """
        types = dict.fromkeys(ids, ID)
        separators = {}

        def table(source: Any, separator: str, block: int) -> pa.Table:
            separators["used"] = separator
            options = self._options(separator, block, types, columns)
            return pyarrow.csv.read_csv(source, **options)

        found = self._parsed(table)
        if self.quoted and separators["used"] != self.delimiter:
            found = _restored(found, separators["used"], self.delimiter)
        if self.quoted:
            self._refuse_open_quotes(found, ids)
        return found

    def _options(
        self, separator: str, block: int, types: Mapping[str, Any], columns: list[str]
    ) -> dict[str, Any]:
        return {
            "read_options": pyarrow.csv.ReadOptions(
                column_names=self.given_names, block_size=block
            ),
            "parse_options": pyarrow.csv.ParseOptions(
                delimiter=separator,
                quote_char=QUOTE if self.quoted else False,
                newlines_in_values=self.quoted,
            ),
            "convert_options": pyarrow.csv.ConvertOptions(
                column_types=dict(types),
                include_columns=columns,
                # NA may be an id; only an empty value is missing.
                null_values=[""],
                strings_can_be_null=True,
            ),
        }

    def _parsed(self, parse: Callable[[Any, str, int], Any], parse_first_line: bool = False) -> Any:
        """Parse with blocks that are large enough for the longest row."""
        block = BLOCK
        if self.quoted and not parse_first_line and self._scanned.breaks and self._scanned.quotes:
            # At the edge of a block pyarrow loses the \n of a quoted \r\n.
            block = min(max(self._scanned.size, BLOCK), LARGEST_BLOCK)
        while True:
            try:
                with self._open() as source:
                    if len(self.delimiter.encode()) == 1:
                        return parse(source, self.delimiter, block)
                    content = source.read()
                    if parse_first_line and not self.quoted:
                        content = content.partition(b"\n")[0] + b"\n"
                    content, separator = self._replaced(content)
                    return parse(pa.BufferReader(content), separator, block)
            except pa.ArrowInvalid as error:
                too_small = any(words in str(error) for words in ("straddling", "or block"))
                if not too_small or block >= LARGEST_BLOCK:
                    raise
                block *= 4

    def _open(self) -> Any:
        return pa.input_stream(str(self.path))  # Decompresses by suffix.

    def _replaced(self, content: bytes) -> tuple[bytes, str]:
        """Return the content with a delimiter of several bytes replaced by one, and that byte."""
        for stand_in in STAND_INS:
            if stand_in not in content:
                return content.replace(self.delimiter.encode(), stand_in), stand_in.decode()
        raise DataError(
            f"{self.path} holds control characters, so it cannot be split at {self.delimiter!r}"
        )

    @functools.cached_property
    def _scanned(self) -> _Scan:
        """Properties that decide how the file is read, from one pass over its bytes."""
        size, quotes, breaks, tail = 0, 0, False, b""
        with self._open() as source:
            for block in iter(lambda: source.read(2**24), b""):
                size += len(block)
                quotes += block.count(b'"')
                breaks = breaks or b"\r" in block
                tail = (tail + block[-TAIL:])[-TAIL:]
        return _Scan(size, quotes, breaks, tail)

    def _refuse_other_formats(self) -> None:
        with open(self.path, "rb") as file:
            start = file.read(4)
        compressed = self.path.suffix.lower() in COMPRESSIONS
        for magic, what in _MAGIC.items():
            if start.startswith(magic) and not compressed:
                raise DataError(f"{self.path} is no table of text but {what}")

    def _refuse_open_quotes(self, table: pa.Table, ids: Sequence[str]) -> None:
        """Refuse a file that ends inside quotes: the rest of it would be one value."""
        quotes, tail = self._scanned.quotes, self._scanned.tail
        # Quotes come in pairs, around a value or within it, and the last line is the last row.
        # Only if that does not hold, every quote is examined.
        if quotes == 0 or (quotes % 2 == 0 and self._ends_with_its_last_row(table, ids, tail)):
            return
        with self._open() as source:
            content = source.read()
        place = open_quote(content, self.delimiter.encode())
        if place is not None:
            line = content.count(b"\n", 0, place) + 1
            raise DataError(
                f"{self.path} line {line} opens a quote that is never closed; close it, or double "
                "the quotes that belong to the value"
            )

    def _ends_with_its_last_row(self, table: pa.Table, ids: Sequence[str], tail: bytes) -> bool:
        """Return whether the last line of the file is the last row that was read, by its ids."""
        line = tail.rstrip(b"\r\n").rpartition(b"\n")[2].decode(errors="replace")
        values = next(csv.reader([line], delimiter=self.delimiter), [])
        names = self.names()
        if not ids or not len(table) or len(values) != len(names):
            return False
        row = dict(zip(names, values, strict=True))
        return all(table[name][-1].as_py() == (row[name] or None) for name in ids)


def open_quote(content: bytes, delimiter: bytes) -> int | None:
    """Return where the quote that is never closed opens; None if all are closed.

    A quote opens a value at its beginning; a doubled one within a quoted value is part of it; any
    other is an ordinary character.
    """
    opened = None
    place = content.find(b'"')
    while place >= 0:
        step = 1
        if opened is None:
            before = content[max(0, place - 8) : place]
            if place == 0 or before.endswith((b"\n", b"\r", delimiter)):
                opened = place
        elif content[place + 1 : place + 2] == b'"':
            step = 2
        else:
            opened = None
        place = content.find(b'"', place + step)
    return opened


def _restored(table: pa.Table, stand_in: str, delimiter: str) -> pa.Table:
    """Restore the delimiter within quoted values."""
    columns = []
    for column in table.columns:
        if pa.types.is_string(column.type):
            column = pc.replace_substring(column, stand_in, delimiter)
        elif pa.types.is_dictionary(column.type):
            chunks = [
                pa.DictionaryArray.from_arrays(
                    chunk.indices,
                    pc.replace_substring(chunk.dictionary, stand_in, delimiter),
                )
                for chunk in column.chunks
            ]
            column = pa.chunked_array(chunks, column.type)
        columns.append(column)
    return pa.table(columns, names=table.column_names)
