"""Writing of a dataset that is in memory as a mapped folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.datasets.mapped.folder import (
    TIMES,
    describe_files,
    open_folder,
    pairs_file,
    time_type,
    write_manifest,
    write_texts,
)
from graphdiff.files import new_folder
from graphdiff.schema import (
    INTERACTS,
    ITEM,
    SPLITS,
    USER,
    ItemDetails,
    fingerprint,
    modalities,
    similar,
    validate,
)
from graphdiff.schema.names import TIME, pair_keys
from graphdiff.schema.pairs import is_ascending


def to_mapped(data: HeteroData, folder: str | Path, name: str = "") -> dict[str, Any]:
    """Write a dataset as a folder of arrays, completely or not at all.

    =====================================  =======================================================
    ``train.npy``, ``val.npy``,            int64 ``[2, P]``, pairs of user and item in ascending
    ``test.npy``                           order
    ``train_time.npy``                     int32, int64 or float64 ``[P]``, when each training pair
                                           happened, if the data has times
    ``x_<modality>.npy``,                  float32 ``[I, F]`` and bool ``[I]``
    ``has_<modality>.npy``
    ``similar_<modality>_index.npy``,      int64 ``[2, E]`` and float32 ``[E]``: the item-item
    ``similar_<modality>_weight.npy``      graph, if the data has it
    ``user_ids.npy``, ``item_ids.npy``     int64, raw ids that are integers; other ids are texts in
                                           ``user_ids.arrow`` and ``item_ids.arrow``
    ``items.arrow``                        titles, categories and image addresses, if there are any
    ``manifest.json``                      sizes, fingerprint, and the bytes and SHA-256 digest of
                                           each file
    =====================================  =======================================================

    :class:`~graphdiff.datasets.MappedDataset` opens it in milliseconds; its arrays stay on disk.
    Attributes that the schema does not list are left out.

    Args:
        data: A graph that fits the schema.
        folder: The folder to write; it must be empty or not exist.
        name: Name of the dataset, for the manifest.

    Returns:
        The manifest.

    Raises:
        DataError: If the folder is not empty.
        OSError: If it cannot be written.
    """
    with new_folder(Path(folder)) as place:
        for split, attribute in SPLITS.items():
            pairs = data[INTERACTS][attribute].cpu()
            time = data[INTERACTS].get(TIME) if split == "training" else None
            if not is_ascending(pairs):
                order = pair_keys(data, pairs).argsort()
                pairs = pairs[:, order]
                time = None if time is None else time.cpu()[order]
            _save(place / pairs_file(split), pairs, np.int64)
            if time is not None:
                whole = time_type(int(time.min()), int(time.max())) if time.numel() else np.int64
                _save(place / TIMES, time, np.float64 if time.is_floating_point() else whole)
        for node in (USER, ITEM):
            write_ids(place, node, data[node].get("raw_id"))
        for modality in modalities(data):
            _save(place / f"x_{modality}.npy", data[ITEM][f"x_{modality}"], np.float32)
            _save(place / f"has_{modality}.npy", data[ITEM][f"has_{modality}"], np.bool_)
            if similar(modality) in data.edge_types:
                store = data[similar(modality)]
                _save(place / f"similar_{modality}_index.npy", store.edge_index, np.int64)
                _save(place / f"similar_{modality}_weight.npy", store.edge_weight, np.float32)
        if details := ItemDetails.from_data(data).columns:
            write_texts(place / "items.arrow", details)
        return finish(place, name, data)


def write_ids(folder: Path, node: str, ids: Tensor | Sequence[str] | pa.Array | None) -> None:
    """Write the raw ids of users or items, if there are any."""
    if isinstance(ids, pa.Array) and pa.types.is_integer(ids.type):
        ids = torch.from_numpy(ids.to_numpy(zero_copy_only=False).copy())
    if isinstance(ids, Tensor):
        _save(folder / f"{node}_ids.npy", ids, np.int64)
    elif ids is not None:
        write_texts(folder / f"{node}_ids.arrow", {"id": ids})


def finish(folder: Path, name: str, data: HeteroData | None = None, **more: Any) -> dict[str, Any]:
    """Write the manifest of a folder whose arrays are complete.

    Args:
        folder: The folder.
        name: Name of the dataset.
        data: Its graph; by default it is mapped from the folder, of which ``more`` has the sizes.
        **more: ``users``, ``items`` and ``channels``.

    Returns:
        The manifest.
    """
    files = describe_files(folder)
    if data is None:
        write_manifest(folder, more, files)
        data = open_folder(folder)
    validate(data)
    meta = {
        "name": name,
        "users": data[USER].num_nodes,
        "items": data[ITEM].num_nodes,
        **{split: data[INTERACTS][SPLITS[split]].size(1) for split in SPLITS},
        "channels": {m: data[ITEM][f"x_{m}"].size(1) for m in modalities(data)},
        "fingerprint": fingerprint(data),
    }
    return write_manifest(folder, meta, files)


def _save(path: Path, values: Tensor, kind: Any) -> None:
    array = values.detach().to(torch.device("cpu")).numpy()
    np.save(path, np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<")))
