"""The folder of a mapped dataset: a manifest and one file for each array."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch_geometric.data import HeteroData

from graphdiff.errors import DataError
from graphdiff.schema import DETAILS, INTERACTS, ITEM, SPLITS, USER, similar
from graphdiff.schema.features import check_modality
from graphdiff.schema.names import NAMES, TIME

FORMAT = "graphdiff.mapped.1"
MANIFEST = "manifest.json"
#: Times of training pairs, int32, int64 or float64 ``[E]``.
TIMES = "train_time.npy"
#: Largest manifest that is read.
LARGEST_MANIFEST = 2**22
#: Largest number of users and of items.
MAX_NODES = 2**31 - 1


def pairs_file(split: str) -> str:
    """Return the name of the file of a split's pairs, int64 ``[2, P]``."""
    return f"{NAMES[split]}.npy"


def time_type(low: float, high: float) -> type[np.int32] | type[np.int64]:
    """Return the narrowest type for whole times from ``low`` to ``high``: a training reads all of
    them, and seconds since 1970 fit into 32 bits."""
    most = np.iinfo(np.int32).max
    return np.int32 if -most <= low and high <= most else np.int64


def array_files(
    channels: Mapping[str, int], with_edges: Mapping[str, bool], numbered: Mapping[str, bool]
) -> dict[str, str]:
    """Return the type of each ``.npy`` file of a dataset.

    Args:
        channels: Modalities, with the width of their features.
        with_edges: Whether there is an item-item graph of each modality.
        numbered: Whether users and items have integers as raw ids.
    """
    found = {pairs_file(split): "<i8" for split in SPLITS}
    found |= {f"{node}_ids.npy": "<i8" for node, yes in numbered.items() if yes}
    for name in channels:
        found |= {f"x_{name}.npy": "<f4", f"has_{name}.npy": "|b1"}
        if with_edges[name]:
            found |= {f"similar_{name}_index.npy": "<i8", f"similar_{name}_weight.npy": "<f4"}
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a mapped dataset, with the fields that are read checked.

    Raises:
        DataError: If there is none, or it is damaged.
    """
    path = folder / MANIFEST
    try:
        if not path.is_file():
            raise DataError(
                f"{folder} is no mapped dataset: it has no {MANIFEST}; give a folder that "
                "`graphdiff convert --to mapped` wrote"
            )
        if path.stat().st_size > LARGEST_MANIFEST:
            raise DataError(f"{path} is larger than {LARGEST_MANIFEST} bytes; it is no manifest")
        manifest = json.loads(path.read_bytes())
        _check_manifest(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} is no manifest of a mapped dataset ({type(error).__name__}: {error}); convert "
            "the data again"
        ) from None
    return manifest


def _check_manifest(manifest: Any) -> None:
    if manifest["format"] != FORMAT:
        raise DataError(
            f"the folder's format is {manifest['format']!r}; this version of graphdiff reads "
            f"{FORMAT!r}: convert the data again"
        )
    for name in ("users", "items"):
        size = manifest[name]
        if type(size) is not int or not 1 <= size <= MAX_NODES:
            raise DataError(f"the manifest claims {size!r} {name}; expected 1 to {MAX_NODES}")
    for name in manifest["channels"]:
        check_modality(name)
    for name, entry in manifest["files"].items():
        digest, size = entry["sha256"], entry["bytes"]
        # Names lead nowhere else, and what they hold follows from the rest of the manifest.
        if Path(name).name != name or len(digest) != 64 or type(size) is not int or size < 0:
            raise DataError(f"the manifest has an entry {name!r}: {entry!r}, which is no file")


def open_folder(folder: Path) -> HeteroData:
    """Return the graph of a mapped dataset, whose arrays are read from disk as they are needed.

    Files are compared with the sizes and types in the manifest, not with its checksums; see
    :func:`verify`. Only texts (raw ids that are no integers, titles) are read.

    Raises:
        DataError: If a file is missing or does not fit the manifest.
    """
    manifest = read_manifest(folder)
    data, files = HeteroData(), set(manifest["files"])
    sizes = {USER: manifest["users"], ITEM: manifest["items"]}
    numbered = {node: f"{node}_ids.npy" in files for node in sizes}
    with_edges = {name: f"similar_{name}_index.npy" in files for name in manifest["channels"]}
    types = array_files(manifest["channels"], with_edges, numbered)
    arrays = {
        name: _map(folder / name, kind, manifest["files"].get(name)) for name, kind in types.items()
    }

    def take(name: str, shape: tuple[int | None, ...]) -> torch.Tensor:
        array = arrays[name]
        fits = array.ndim == len(shape) and all(
            size in (None, found) for size, found in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise DataError(
                f"{folder / name} has the shape {list(array.shape)}; expected "
                f"{['*' if size is None else size for size in shape]}; convert the data again"
            )
        return torch.from_numpy(array)

    for node, size in sizes.items():
        data[node].num_nodes = size
        if numbered[node]:
            data[node].raw_id = take(f"{node}_ids.npy", (size,))
        elif f"{node}_ids.arrow" in files:
            data[node].raw_id = _texts(folder, f"{node}_ids.arrow", ["id"], size, manifest)["id"]
    for split, attribute in SPLITS.items():
        data[INTERACTS][attribute] = take(pairs_file(split), (2, None))
    if TIMES in files:
        arrays[TIMES] = _map(folder / TIMES, "<i4 or <i8 or <f8", manifest["files"][TIMES])
        data[INTERACTS][TIME] = take(TIMES, (data[INTERACTS][SPLITS["training"]].size(1),))
    for name, width in manifest["channels"].items():
        data[ITEM][f"x_{name}"] = take(f"x_{name}.npy", (sizes[ITEM], width))
        data[ITEM][f"has_{name}"] = take(f"has_{name}.npy", (sizes[ITEM],))
        if with_edges[name]:
            weight = take(f"similar_{name}_weight.npy", (None,))
            index = take(f"similar_{name}_index.npy", (2, weight.numel()))
            data[similar(name)].edge_index, data[similar(name)].edge_weight = index, weight
    if "items.arrow" in files:
        data[ITEM].update(_texts(folder, "items.arrow", list(DETAILS), sizes[ITEM], manifest))
    return data


def _map(path: Path, kind: str, entry: Any) -> np.ndarray:
    """Return an array in a file, mapped privately: what is written to it stays in memory."""
    _check_size(path, entry)
    try:
        with np.errstate(over="ignore"):
            array = np.lib.format.open_memmap(path, mode="c")
    except Exception as error:  # A parser may fail in any way on a hostile file.
        raise DataError(f"{path} cannot be read as an .npy file of numbers: {error}") from None
    if array.dtype.str not in kind.split(" or ") or not array.flags.c_contiguous:
        order = "" if array.flags.c_contiguous else " in Fortran order"
        raise DataError(f"{path} holds {array.dtype.str}{order}; expected {kind}, in C order")
    return array


def _check_size(path: Path, entry: Any) -> None:
    if entry is None:
        raise DataError(f"{path.parent / MANIFEST} lists no {path.name}; convert the data again")
    found = path.stat().st_size if path.is_file() else None
    if found != entry["bytes"]:
        state = "is missing" if found is None else f"has {found} bytes"
        raise DataError(
            f"{path} {state}, but the manifest lists {entry['bytes']} bytes; copy the whole folder "
            "again"
        )


def _texts(
    folder: Path, name: str, columns: list[str], size: int, manifest: dict[str, Any]
) -> dict[str, list[str]]:
    """Return the columns of texts in an Arrow file, of the given ones those that it has."""
    path = folder / name
    _check_size(path, manifest["files"].get(name))
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            table.validate(full=True)
            found = {one: table[one].to_pylist() for one in columns if one in table.column_names}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an Arrow file: {error}") from None
    for one, values in found.items():
        if len(values) != size or not all(isinstance(value, str) for value in values):
            raise DataError(f"{path} does not hold {size} texts in its column {one!r}")
    if not found:
        raise DataError(f"{path} has the columns {table.column_names}; expected {columns}")
    return found


def write_texts(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns of texts as an Arrow file."""
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the size and the digest of each file of a folder."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(folder.iterdir())
    }


def write_manifest(
    folder: Path, meta: Mapping[str, Any], files: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the manifest of a folder whose other files are complete, and return it.

    Args:
        folder: The folder.
        meta: What the manifest says beside its files.
        files: From :func:`describe_files`.
    """
    manifest = {"format": FORMAT, **meta, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def verify(folder: Path) -> None:
    """Compare the content of all files with the checksums in the manifest.

    Raises:
        DataError: If one differs.
    """
    for name, entry in read_manifest(folder)["files"].items():
        path = folder / name
        _check_size(path, entry)
        if _digest(path) != entry["sha256"]:
            raise DataError(
                f"{path} is damaged: its SHA-256 digest is not that in {MANIFEST}; copy or convert "
                "the data again"
            )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
