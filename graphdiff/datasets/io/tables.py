"""Reading CSV, TSV and Parquet into columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from graphdiff.datasets.io.sizes import require_memory
from graphdiff.errors import DataError

#: How columns are separated in a text file, by its suffix.
DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".inter": "\t", ".item": "\t"}
SUFFIXES = (".parquet", ".csv", ".tsv", ".txt")

# In memory a value takes about this, and a column is copied once on its way.
BYTES_PER_VALUE = 16


def is_text(path: Path) -> bool:
    """Whether a table is a text file, in which integers look like strings."""
    return path.suffix.lower() != ".parquet"


def column_names(
    path: Path, delimiter: str | None = None, names: Sequence[str] | None = None
) -> list[str]:
    """The names of a table's columns.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        if not is_text(path):
            return pq.read_schema(path).names
        if names is not None:
            return list(names)
        with pyarrow.csv.open_csv(path, **_csv_options(path, delimiter, None, {}, [])) as file:
            return file.schema.names
    except (OSError, pa.ArrowException, UnicodeError) as error:
        raise _unreadable(path, error) from None


def read_schema(path: Path) -> pa.Schema:
    """Names and types of the columns of a Parquet file.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        return pq.read_schema(path)
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
    """Reads columns of a CSV, TSV or Parquet file.

    Args:
        path: The file; its suffix says which it is.
        roles: What to call the columns, and what the file calls them, such as
            ``{'user': 'customer_id'}``; of other columns nothing is read (default: all columns, by
            their own names).
        needed: Roles without which there is nothing to do; others are read where they are there.
        ids: Roles that hold ids: in a text file they are read as they are written.
        delimiter: What separates columns of a text file (default: a comma in ``.csv``, a tab
            otherwise).
        names: Names of the columns of a text file that has no header.

    Returns:
        The table, its columns named by role.

    Raises:
        DataError: If the file is missing, damaged, lacks a column that is needed, or would not fit
            into memory.
    """
    there = column_names(path, delimiter, names)
    roles = dict(roles) if roles is not None else {name: name for name in there}
    lacking = [roles[role] for role in needed if roles[role] not in there]
    if lacking:
        raise DataError(
            f"{path.name} has the columns {', '.join(there)}, but not {', '.join(lacking)}; say "
            "what they are called, such as user=customer_id"
        )
    roles = {role: name for role, name in roles.items() if name in there}
    wanted = list(dict.fromkeys(roles.values()))
    as_written = [roles[role] for role in ids if role in roles]
    try:
        if is_text(path):
            options = _csv_options(path, delimiter, names, dict.fromkeys(as_written, ID), wanted)
            table = pyarrow.csv.read_csv(path, **options)
        else:
            _require_memory(path, wanted)
            table = pq.read_table(path, columns=wanted, read_dictionary=_strings(path, as_written))
    except (OSError, pa.ArrowException, UnicodeError) as error:
        raise _unreadable(path, error) from None
    return pa.table({role: table[name] for role, name in roles.items()})


ID = pa.dictionary(pa.int32(), pa.string())


def _csv_options(
    path: Path,
    delimiter: str | None,
    names: Sequence[str] | None,
    types: Mapping[str, Any],
    wanted: list[str],
) -> dict[str, Any]:
    delimiter = delimiter or DELIMITERS.get(path.suffix.lower(), ",")
    # Quotes are part of a value where tabs separate, as everywhere in research data.
    quote = False if delimiter == "\t" else '"'
    return {
        "read_options": pyarrow.csv.ReadOptions(column_names=names),
        "parse_options": pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=quote),
        "convert_options": pyarrow.csv.ConvertOptions(
            column_types=dict(types),
            include_columns=wanted,
            # An id may well be called NA; only nothing at all is nothing.
            null_values=[""],
            strings_can_be_null=True,
        ),
    }


def _require_memory(path: Path, wanted: list[str]) -> None:
    """Looks at what the file says of itself before anything is unpacked."""
    metadata = pq.ParquetFile(path).metadata
    values = size = 0
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            if chunk.path_in_schema.partition(".")[0] in wanted or chunk.path_in_schema in wanted:
                values += chunk.num_values
                size += chunk.total_uncompressed_size
    require_memory(max(values * BYTES_PER_VALUE, size), path)


def _strings(path: Path, columns: list[str]) -> list[str]:
    """Which columns are strings: they are read as codes, each string once."""
    schema = pq.read_schema(path)
    kinds = {name: schema.field(name).type for name in columns}
    return [n for n, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_binary(kind)]


def _unreadable(path: Path, error: Exception) -> DataError:
    expected = "a table of text with a header" if is_text(path) else "a Parquet file"
    first = str(error).splitlines()[0][:300]
    return DataError(f"{path} cannot be read as {expected}: {first}")
