"""Reading CSV, TSV and Parquet into columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from graphdiff.datasets.io.folders import is_junk, table_suffix
from graphdiff.datasets.io.sizes import require_memory
from graphdiff.datasets.io.text import TextTable
from graphdiff.errors import DataError

# Estimated memory per value, with one copy of a column.
BYTES_PER_VALUE = 16
# Separators to suggest if a file seems to have a single column, as written in an option.
SEPARATORS = {";": '";"', "\t": '"\\t"', ",": '","', "|": '"|"', "::": '"::"'}
# Folder name of a missing value in Spark and Hive.
MISSING_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def is_text(path: Path) -> bool:
    """Return whether a table is a text file, in which integers are written as text."""
    return table_suffix(path) != ".parquet"


def column_names(
    path: Path, delimiter: str | None = None, names: Sequence[str] | None = None
) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        parts = _parts(path, delimiter, names)
        return list(dict.fromkeys(name for part in parts for name in part.names))
    except (OSError, pa.ArrowException, UnicodeError) as error:
        raise _unreadable(path, error) from None


def read_schema(path: Path) -> pa.Schema:
    """Return names and types of the columns of a Parquet file, or of the first part of a folder.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        return pq.read_schema(_files(path)[0][0])
    except (OSError, pa.ArrowException, UnicodeError) as error:
        raise _unreadable(path, error) from None


def read_table(
    path: Path,
    roles: Mapping[str, str] | None = None,
    needed: Sequence[str] = (),
    ids: Sequence[str] = (),
    delimiter: str | None = None,
    names: Sequence[str] | None = None,
) -> pa.Table:
    """Read columns of a CSV, TSV or Parquet file, or of a folder of them.

    A folder with the name of a file, such as ``interactions.parquet/``, is the output of Spark: its
    parts are concatenated, and a folder ``name=value`` in it is a column.

    Args:
        path: The file; its suffix says which it is. Text may be compressed, as ``.csv.gz``.
        roles: Names of the columns in the result, and in the file, such as
            ``{'user': 'customer_id'}``; no other column is read (default: all columns).
        needed: Roles that must be there; others are read if they are.
        ids: Roles that hold ids: in a text file they are read as text.
        delimiter: What separates columns of a text file; see
            :class:`~graphdiff.datasets.io.text.TextTable`.
        names: Names of the columns of a text file that has no header.

    Returns:
        The table, its columns named by role.

    Raises:
        DataError: If the file is missing, damaged, lacks a column that is needed, has two of one
            name, or would not fit into memory.
    """
    headed = names is None and is_text(path)
    try:
        parts = _parts(path, delimiter, names)
        there = list(dict.fromkeys(name for part in parts for name in part.names))
        roles = dict(roles) if roles is not None else {name: name for name in there}
        for part in parts:
            refuse_repeated(part.names, roles.values(), path.name, headed)
        lacking = [roles[role] for role in needed if roles[role] not in there]
        if lacking:
            raise _lacks(path.name, there, lacking, roles, headed)
        roles = {role: name for role, name in roles.items() if name in there}
        wanted = list(dict.fromkeys(roles.values()))
        if not is_text(path):
            _require_memory([part.path for part in parts], wanted, path)
        as_written = [roles[role] for role in ids if role in roles]
        table = concatenated([part.read(wanted, as_written) for part in parts], wanted)
    except (OSError, pa.ArrowException, UnicodeError) as error:
        raise _unreadable(path, error) from None
    return pa.table({role: table[name] for role, name in roles.items()})


def concatenated(tables: Sequence[pa.Table], names: Sequence[str]) -> pa.Table:
    """Return the rows of several tables as one.

    A column that a table lacks is null in its rows. If the types of a column differ, numbers become
    the wider type, and anything else text.
    """
    if len(tables) == 1:
        return tables[0]
    columns = {}
    for name in names:
        parts = [
            table[name] if name in table.column_names else pa.chunked_array([pa.nulls(len(table))])
            for table in tables
        ]
        columns[name] = _joined(parts)
    return pa.table(columns)


def refuse_repeated(there: Sequence[str], wanted: Any, source: str, headed: bool = False) -> None:
    """Refuse a table that has two columns of one name among those that are read.

    Args:
        there: Names of all columns.
        wanted: Names of the columns to read.
        source: The file or frame, for the message.
        headed: Whether the names come from the first line of a text file.

    Raises:
        DataError: Naming them.
    """
    times = Counter(there)
    repeated = [name for name in dict.fromkeys(wanted) if times[name] > 1]
    if repeated:
        hint = ", or give names=[…] if the file has no header" if headed else ""
        raise DataError(
            f"{source} has {times[repeated[0]]} columns called {repeated[0]!r}; give each a name "
            f"of its own{hint}"
        )


def refuse_absent(there: Collection[Any], named: Mapping[str, str], source: str) -> None:
    """Refuse a table without a column that an argument names.

    Args:
        there: Names of all columns.
        named: The column that each argument names.
        source: The file or frame, for the message.

    Raises:
        DataError: Naming the columns there are, and the one that is spelled much the same.
    """
    for argument, name in named.items():
        if name not in there:
            names = [str(one) for one in there]
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {argument}={near[0]}?" if near else "name one that is there"
            raise DataError(
                f"{source} has the columns {', '.join(names)}, but not {name}, which "
                f"{argument}={name} names; {hint}"
            )


class _Part:
    """One file of a table, with the columns in the names of its folders."""

    def __init__(
        self,
        path: Path,
        delimiter: str | None,
        names: Sequence[str] | None,
        partition: Mapping[str, str | None],
    ) -> None:
        self.path = path
        self.text = TextTable(path, delimiter, names) if is_text(path) else None
        self.own = self.text.names() if self.text is not None else pq.read_schema(path).names
        self.partition = {n: value for n, value in partition.items() if n not in self.own}

    @property
    def names(self) -> list[str]:
        """All columns."""
        return [*self.own, *self.partition]

    def read(self, wanted: Sequence[str], ids: Sequence[str]) -> pa.Table:
        """Return the wanted columns that the file or its folders have."""
        own = [name for name in wanted if name in self.own]
        if self.text is not None:
            table = self.text.read(own, [name for name in ids if name in own])
        else:
            schema = pq.read_schema(self.path)
            # Strings are read as dictionary codes.
            codes = [n for n in ids if n in own and _is_string(schema.field(n).type)]
            file = pq.ParquetFile(self.path, read_dictionary=codes)
            table = file.read(columns=own).select(own)
        for name in set(wanted) & set(self.partition):
            value = pa.array([self.partition[name]], pa.string())
            column = value.take(pa.array([0] * len(table), pa.int32()))
            table = table.append_column(name, column)
        return table


def _parts(path: Path, delimiter: str | None, names: Sequence[str] | None) -> list[_Part]:
    """Return the file, or the files of a folder."""
    return [_Part(file, delimiter, names, partition) for file, partition in _files(path)]


def table_files(path: Path) -> list[Path]:
    """Return the file of a table, or those of a folder of parts, in order."""
    return [file for file, _ in _files(path)]


def _files(path: Path) -> list[tuple[Path, dict[str, str | None]]]:
    """Return the file, or the files of a folder, each with the columns in the names of folders."""
    if not path.is_dir():
        return [(path, {})]
    found = []
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        inner = file.relative_to(path)
        if is_junk(inner) or inner.name.startswith("_") or table_suffix(file) != table_suffix(path):
            continue
        pairs = [part.partition("=") for part in inner.parts[:-1] if "=" in part]
        partition = {
            unquote(name): None if value == MISSING_PARTITION else unquote(value)
            for name, _, value in pairs
        }
        found.append((file, partition))
    if not found:
        raise DataError(f"{path} is a folder without any {table_suffix(path)} file in it")
    return found


def _joined(parts: list[Any]) -> Any:
    """Join the parts of a column, of any types."""
    kinds = {part.type for part in parts}
    if len(kinds) > 1:
        parts = [_decoded(part) for part in parts]
        kinds = {part.type for part in parts if not pa.types.is_null(part.type)}
        if len(kinds) == 1:
            parts = [part.cast(kinds.copy().pop()) for part in parts]
        elif kinds and all(pa.types.is_integer(kind) for kind in kinds):
            parts = [part.cast(pa.int64()) for part in parts]
        elif kinds and all(pa.types.is_integer(k) or pa.types.is_floating(k) for k in kinds):
            parts = [part.cast(pa.float64(), safe=False) for part in parts]
        elif kinds:
            parts = [part.cast(pa.string()) for part in parts]
    chunks = [chunk for part in parts for chunk in part.chunks]
    return pa.chunked_array(chunks, parts[0].type)


def _decoded(column: Any) -> Any:
    if not pa.types.is_dictionary(column.type):
        return column
    return column.cast(column.type.value_type)


def _require_memory(files: Sequence[Path], wanted: list[str], path: Path) -> None:
    """Compare the claimed sizes with the machine's memory, before anything is unpacked."""
    values = size = 0
    for file in files:
        metadata = pq.ParquetFile(file).metadata
        for group in range(metadata.num_row_groups):
            for column in range(metadata.num_columns):
                chunk = metadata.row_group(group).column(column)
                name = chunk.path_in_schema
                if name in wanted or name.partition(".")[0] in wanted:
                    values += chunk.num_values
                    size += chunk.total_uncompressed_size
    require_memory(max(values * BYTES_PER_VALUE, size), path)


def _is_string(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_binary(kind)


def _lacks(
    source: str, there: list[str], lacking: list[str], roles: Mapping[str, str], headed: bool
) -> DataError:
    """Return the error for a table without the columns that are needed."""
    text = f"{source} has the columns {', '.join(there)}, but not {', '.join(lacking)}"
    if headed and len(there) == 1:
        for separator, written in SEPARATORS.items():
            if separator in there[0]:
                return DataError(
                    f"{source} has the one column {there[0]!r}; say what separates its columns, "
                    f"such as delimiter={written}"
                )
    role = next(role for role, name in roles.items() if name in lacking)
    hint = f"say what they are called, such as {role}=NAME"
    if headed:
        hint += ", or give names=[…] if the file has no header"
    return DataError(f"{text}; {hint}")


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    expected = "a table of text with a header" if is_text(path) else "a Parquet file"
    first = " ".join(str(error).split())[:300]
    if "UTF8" in first or "UTF-8" in first:
        first += "; save it as UTF-8"
    if "Expected 1 columns, got" in first:
        first += '; say what separates its columns, such as delimiter=";"'
    return DataError(f"{path} cannot be read as {expected}: {first}")
