"""One ``HeteroData`` as one safetensors file: no pickle, so reading it runs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.errors import DataError
from graphdiff.files import write_bytes

FORMAT = "graphdiff.heterodata.1"
# Everything that is not a tensor, as UTF-8 JSON: raw ids of a large catalogue would not fit into
# the metadata header of safetensors.
JSON = "json"


def save_graph(
    data: HeteroData, path: str | Path, source: str = "", files: str = "", notes: str = ""
) -> None:
    """Write a graph atomically.

    Args:
        data: The graph; its attributes are tensors or values of JSON.
        path: The file.
        source: Description of what the graph was made from; see :func:`read_metadata`.
        files: Description of the files among it.
        notes: What was noticed when they were read.

    Raises:
        DataError: If an attribute is neither a tensor nor a value of JSON.
        OSError: If the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    others: list[tuple[list[str], str, Any]] = []
    for store in data.stores:
        key = (
            []
            if store._key is None
            else [store._key]
            if isinstance(store._key, str)
            else store._key
        )
        for name, value in store.items():
            if isinstance(value, Tensor):
                # safetensors refuses tensors that share storage.
                tensors[json.dumps([*key, name])] = value.detach().cpu().clone().contiguous()
            else:
                others.append((list(key), name, value))
    try:
        text = json.dumps(others).encode()
    except TypeError as error:
        raise DataError(f"the graph holds what cannot be saved: {error}") from None
    tensors[JSON] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    metadata = {"format": FORMAT, "source": source, "files": files, "notes": notes}
    write_bytes(Path(path), save(tensors, metadata=metadata))


def load_graph(path: str | Path) -> HeteroData:
    """Read a graph that :func:`save_graph` wrote.

    Raises:
        DataError: If the file is missing, damaged, or something else.
    """
    data = HeteroData()
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("format") != FORMAT:
                raise DataError(f"{path} is not a graph written by this version of graphdiff")
            for key, name, value in json.loads(file.get_tensor(JSON).numpy().tobytes()):
                _store(data, key)[name] = value
            for entry in sorted(set(file.keys()) - {JSON}):
                *key, name = json.loads(entry)
                _store(data, key)[name] = file.get_tensor(entry)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as a graph ({error}); delete it") from None
    return data


def read_source(path: str | Path) -> str | None:
    """Return the ``source`` of a graph file; None if there is no valid file."""
    return read_metadata(path).get("source")


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of a graph file, ``source``, ``files`` and ``notes``; nothing if there is
    no valid file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return {}
    return metadata if metadata.get("format") == FORMAT else {}


def _store(data: HeteroData, key: list[str]) -> Any:
    if not key:
        return data._global_store
    return data[key[0]] if len(key) == 1 else data[tuple(key)]
