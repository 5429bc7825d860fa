"""Reading of an interaction log in pieces, with its ids numbered, by Polars."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graphdiff.datasets.columns import (
    read_labels,
    read_ratings,
    read_times,
    read_training_times,
    refuse_ratings,
    refuse_times,
    time_kind,
)
from graphdiff.datasets.faults import NOWHERE, Where, refuse_infinite_in, refuse_missing_in
from graphdiff.datasets.ids import INFINITE_HINTS, as_ids, places, plain, show
from graphdiff.datasets.io.tables import column_names, is_text, refuse_repeated, table_files
from graphdiff.datasets.io.text import DELIMITERS
from graphdiff.datasets.mapped.columns import ROWS, Column
from graphdiff.datasets.splits import TRAINING
from graphdiff.errors import ConfigError, DataError

if TYPE_CHECKING:
    import polars as pl

    from graphdiff.datasets.layouts.log_settings import LogSettings


class Log(NamedTuple):
    """A log in row order, without what is rated too low.

    Attributes:
        user: Number of each row's user, int32.
        item: Number of each row's item, int32.
        user_ids: Raw ids in the order of their numbers.
        item_ids: Likewise.
        time: Times, if they are used.
        label: Labels of the split, if they are used.
    """

    user: Column
    item: Column
    user_ids: pa.Array
    item_ids: pa.Array
    time: Column | None
    label: Column | None


def scan(
    path: Path, settings: LogSettings, delimiter: str | None, names: Sequence[str] | None
) -> pl.LazyFrame:
    """Return a table of interactions that is read when it is needed, its columns named by role.

    Args:
        path: A CSV, TSV or Parquet file, or a folder of them.
        settings: Names of the columns.
        delimiter: What separates columns of a text file: one byte.
        names: Names of the columns of a text file without a header.

    Raises:
        DataError: If a column is missing, or Polars cannot read the file.
        ConfigError: If Polars is not installed, or the delimiter has several bytes.
    """
    pl = import_polars()
    there = column_names(path, delimiter, names)
    roles = settings.roles_among(there, path.name)
    refuse_repeated(there, roles.values(), path.name, is_text(path) and names is None)
    files = table_files(path)
    if is_text(path):
        separator = delimiter or DELIMITERS.get(files[0].suffix.lower(), ",")
        if len(separator.encode()) != 1:
            raise ConfigError(
                f"delimiter={separator!r} has several bytes, and a mapped folder is made in a "
                "single pass; convert to parquet first"
            )
        frame = pl.scan_csv(
            files,
            separator=separator,
            has_header=names is None,
            new_columns=list(names) if names is not None else None,
            # A tab separates values that may hold quotes, as in the reader of whole tables.
            quote_char=None if separator == "\t" else '"',
            infer_schema=False,
        )
    else:
        frame = pl.scan_parquet(files, hive_partitioning=False)
    return frame.select(**{role: pl.col(name) for role, name in roles.items()})


def import_polars() -> Any:
    """Return Polars.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import polars
    except ImportError:
        raise ConfigError(
            "a log is streamed to a mapped folder by Polars, which is not installed: pip install "
            "'graphdiff-rec[large]'"
        ) from None
    return polars


def read_log(
    frame: pl.LazyFrame,
    settings: LogSettings,
    place: Path,
    known: dict[str, pa.Array | None],
    text: bool,
) -> Log:
    """Number the users and items of a log, and write its columns to files in ``place``.

    Args:
        frame: From :func:`scan`.
        settings: Which columns are used.
        place: A folder for the files.
        known: All ids of users and of items in the order of their numbers; None for those of the
            log, sorted.
        text: Whether the log is a text file, where integers look like text.

    Raises:
        DataError: If a column holds something else, or an id is not among those given.
    """
    roles = [role for role in frame.collect_schema().names() if role not in ("user", "item")]
    if settings.min_rating is None:
        roles = [role for role in roles if role != "rating"]
    ids: dict[str, pa.Array] = {}
    numbers = frame.select("user", "item", *roles)
    for node in ("user", "item"):
        name = settings.roles[node]
        mapping, ids[node] = _numbered(frame, node, known[node], text, name)
        numbers = numbers.join(mapping.lazy(), on=node, how="left", maintain_order="left")
    readers = _readers(frame, roles, settings.used_roles(roles), settings.roles)
    columns = _written(numbers.drop("user", "item"), readers, place, settings.min_rating)
    if "user" not in columns:
        raise DataError("the log holds no interactions")
    if len(columns["user"]) == 0:
        raise DataError(f"no interaction is rated {settings.min_rating} or above")
    return Log(
        columns["user"],
        columns["item"],
        ids["user"],
        ids["item"],
        columns.get("timestamp"),
        columns.get("split"),
    )


#: From a table to a column of numbers.
Reader = Callable[[pa.Table], np.ndarray]


def _readers(
    frame: pl.LazyFrame, roles: Sequence[str], used: set[str], called: Mapping[str, str]
) -> dict[str, Reader]:
    """Return what reads each column; one that is not used and cannot be read is left out, with a
    warning."""
    found: dict[str, Reader] = {}
    for role in roles:
        try:
            if role == "timestamp":
                by_column = "split" in {*roles} & used
                found[role] = _time_reader(frame, role in used, by_column, called[role])
            elif role == "split":
                unique = frame.select(pl_col(role).unique()).collect(engine="streaming")
                labels = plain(unique[role].to_arrow())
                if labels.null_count:
                    refuse_missing_in(_pieces(frame, role, called[role]), role)
                read_labels(labels)
                found[role] = lambda table: read_labels(table["split"])
            else:
                found[role] = partial(_read_ratings, frame, called[role])
        except DataError as error:
            if role in used:
                raise
            warnings.warn(
                f"the column of {role}s is ignored, because it is not used here and cannot be "
                f"read: {error}",
                stacklevel=2,
            )
    return found


def _read_ratings(frame: pl.LazyFrame, name: str, table: pa.Table) -> np.ndarray:
    try:
        return read_ratings(table["rating"])
    except DataError:
        refuse_ratings(_pieces(frame, "rating", name))
        raise


def _pieces(
    frame: pl.LazyFrame, role: str, name: str, only_training: bool = False
) -> Iterator[tuple[Any, Where]]:
    """Yield a column in pieces with the numbers of their rows, for messages."""
    first = 1
    for table in _batches(frame.select([role, "split"] if only_training else [role])):
        rows = np.arange(first, first + len(table))
        first += len(table)
        if only_training:
            rows = rows[read_labels(table["split"]) == TRAINING]
            table = _training(table)
        yield plain(table[role]), Where(name, rows)


def _time_reader(frame: pl.LazyFrame, used: bool, by_column: bool, name: str) -> Reader:
    """Return what reads the times.

    Args:
        frame: The log.
        used: Whether times are needed.
        by_column: Whether the split is a column.
        name: What the file calls the column.

    Raises:
        DataError: If they cannot be read; where they are needed, reading them may raise it as well.
    """
    by_column = by_column and not used
    part = frame.select(["timestamp", "split"] if by_column else ["timestamp"])

    def explain() -> None:
        # The message is that of the column as a whole, not of the piece that failed.
        refuse_times(lambda: _pieces(frame, "timestamp", name, by_column))

    try:
        kind = time_kind(_training(table) if by_column else table for table in _batches(part))
    except DataError:
        explain()
        raise
    cast = partial(_cast_times, kind)

    def read(table: pa.Table) -> np.ndarray:
        try:
            if by_column:
                labels = read_labels(table["split"])
                return read_training_times(table["timestamp"], NOWHERE, labels, cast)
            return cast(table["timestamp"])
        except DataError:
            explain()
            raise

    if not used:
        for table in _batches(part):
            read(table)
    return read


def _training(table: pa.Table) -> pa.Table:
    return table.filter(pa.array(read_labels(table["split"]) == TRAINING))


def _cast_times(kind: pa.DataType | None, column: Any, where: Where = NOWHERE) -> np.ndarray:
    return read_times(column if kind is None else column.cast(kind))


def _written(
    frame: pl.LazyFrame, readers: dict[str, Reader], place: Path, least: float | None
) -> dict[str, Column]:
    """Write the columns to files, without rows that are rated too low."""
    columns: dict[str, Column] = {}
    for table in _batches(frame):
        values = {node: table[f"{node}_number"].to_numpy() for node in ("user", "item")}
        values |= {role: read(table) for role, read in readers.items()}
        rating = values.pop("rating", None)
        for name, column in values.items():
            if name not in columns:
                columns[name] = Column(place / name, column.dtype)
            columns[name].append(column if rating is None else column[rating >= least])
    for column in columns.values():
        column.close()
    return columns


def pl_col(name: str) -> pl.Expr:
    """Return a column of a Polars frame."""
    return import_polars().col(name)


def _numbered(
    frame: pl.LazyFrame, node: str, known: pa.Array | None, text: bool, name: str
) -> tuple[pl.DataFrame, pa.Array]:
    """Return the number of each raw id as it is written in the log, and the ids in order."""
    pl = import_polars()
    written = frame.select(pl_col(node).unique()).collect(engine="streaming")[node]
    column = written.to_arrow()
    if pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    if plain(column).null_count:
        refuse_missing_in(_pieces(frame, node, name), node)
    if pa.types.is_floating(column.type) and pc.any(pc.is_inf(column)).as_py():
        refuse_infinite_in(_pieces(frame, node, name), node, INFINITE_HINTS)
    found = as_ids(column, node, text)
    if known is None:
        known = pc.unique(found)
        known = known.take(pc.sort_indices(known))
    number = places(found, known)
    if (number < 0).any():
        raise DataError(
            f"{int((number < 0).sum())} {node}s of the interactions are not in the list of all "
            f"{node}s: {show(found.filter(pa.array(number < 0)))}"
        )
    return pl.DataFrame({node: written, f"{node}_number": number.astype(np.int32)}), known


def _batches(frame: pl.LazyFrame) -> Iterator[pa.Table]:
    """Yield the rows in order, in pieces."""
    for batch in frame.collect_batches(chunk_size=ROWS, maintain_order=True, engine="streaming"):
        if len(batch):
            yield batch.to_arrow()
