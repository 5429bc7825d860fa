"""From a table of interactions to a graph ready for training, at the size of a real catalogue.

    python benchmarks/loading.py --out loading.json

Makes a Parquet log of 50 million power-law interactions and 128 clustered features per item, and
measures three phases, each in a process of its own so that its peak memory is its own:

* ``load``: Parquet to a checked ``HeteroData``;
* ``neighbors``: the item-item graph of the features, approximate above a size, with the share of
  the true neighbours that it finds;
* ``svd``: a truncated SVD of the interaction matrix.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.progress import track
from torch_geometric.data import HeteroData

from graphdiff import datasets
from graphdiff.experiments.machine import machine
from graphdiff.experiments.memory import peak_bytes
from graphdiff.experiments.workers import in_own_process
from graphdiff.files import make_folder, write_text
from graphdiff.nn.spectral import right_singular_vectors
from graphdiff.schema import INTERACTS, similar
from graphdiff.transforms import ModalityGraph

GIB, PIECE = 2**30, 5_000_000


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        make_log(folder / "log", arguments)
        phases = {
            phase: in_own_process(measure, phase, folder, argument)
            for phase, argument in (
                ("load", None),
                ("neighbors", arguments.neighbors),
                ("svd", arguments.rank),
            )
        }
    result = {
        "interactions": arguments.interactions,
        "users": arguments.users,
        "items": arguments.items,
        "features": arguments.features,
        "machine": machine(),
        "phases": phases,
    }
    make_folder(arguments.out.parent)
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    for name, found in phases.items():
        shown = ", ".join(f"{k} {v:,.4g}" for k, v in found.items() if k != "peak_rss_bytes")
        print(f"{name}: {shown}, peak {found['peak_rss_bytes'] / GIB:.2f} GiB")
    print(f"figures: {arguments.out}")


def make_log(folder: Path, arguments: argparse.Namespace) -> None:
    """Write ``interactions.parquet``, ``items.parquet`` and ``features_image.npy``."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    cumulative = np.arange(1, arguments.items + 1, dtype=np.float64) ** -0.8
    cumulative = rng.permutation(cumulative).cumsum()
    cumulative /= cumulative[-1]
    schema = pa.schema([("user", pa.int64()), ("item", pa.int64())])
    pieces = range(0, arguments.interactions, PIECE)
    with pq.ParquetWriter(folder / "interactions.parquet", schema) as writer:
        for start in track(pieces, "Writing interactions", console=Console(stderr=True)):
            num = min(PIECE, arguments.interactions - start)
            user = rng.integers(arguments.users, size=num)
            item = np.searchsorted(cumulative, rng.random(num)).clip(max=arguments.items - 1)
            writer.write_table(pa.table({"user": user, "item": item}, schema=schema))
    # All items, in the order of the rows of the features.
    pq.write_table(pa.table({"item": np.arange(arguments.items)}), folder / "items.parquet")
    centres = rng.standard_normal((1000, arguments.features), dtype=np.float32)
    table = np.lib.format.open_memmap(
        folder / "features_image.npy", "w+", np.float32, (arguments.items, arguments.features)
    )
    for start in range(0, arguments.items, 100_000):
        part = slice(start, min(start + 100_000, arguments.items))
        kind = rng.integers(1000, size=part.stop - start)
        noise = rng.standard_normal((part.stop - start, arguments.features), dtype=np.float32)
        table[part] = centres[kind] + noise
    table.flush()


def measure(phase: str, folder: Path, argument: int | None) -> dict[str, Any]:
    """Return the figures of a phase, and the peak memory of this process.

    Args:
        phase: ``"load"``, ``"neighbors"`` or ``"svd"``.
        folder: Where the log is; processed files go there too.
        argument: Neighbours per item, or the rank of the SVD.
    """
    torch.manual_seed(0)
    os.environ["GRAPHDIFF_CACHE"] = str(folder / "cache")
    start = time.perf_counter()
    data = datasets.load("parquet", folder / "log")[0]
    if phase == "load":
        found = {
            "seconds": time.perf_counter() - start,
            "interactions_read": int(data[INTERACTS].edge_index.size(1)),
        }
    elif phase == "neighbors":
        found = neighbors(data, argument)
    else:
        found = svd(data, argument)
    return found | {"peak_rss_bytes": peak_bytes()}


def neighbors(data: HeteroData, k: int) -> dict[str, Any]:
    """Measure the item-item graph with ``k`` neighbours per item."""
    start = time.perf_counter()
    data = ModalityGraph(k=k)(data)
    store = data[similar("image")]
    return {
        "seconds": time.perf_counter() - start,
        "edges": int(store.edge_index.size(1)),
        "recall": store.get("recall", 1.0),
    }


def svd(data: HeteroData, rank: int) -> dict[str, Any]:
    """Measure the truncated SVD of the interactions."""
    from scipy.sparse import csr_matrix

    user, item = data[INTERACTS].edge_index.numpy()
    shape = (data["user"].num_nodes, data["item"].num_nodes)
    matrix = csr_matrix((np.ones(len(user), dtype=np.float32), (user, item)), shape)
    start = time.perf_counter()
    directions = right_singular_vectors(matrix, rank)
    return {"seconds": time.perf_counter() - start, "rank": int(directions.size(1))}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--interactions", type=int, default=50_000_000)
    parser.add_argument("--users", type=int, default=2_500_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=128, help="width of the features")
    parser.add_argument("--neighbors", type=int, default=20)
    parser.add_argument("--rank", type=int, default=64, help="of the SVD")
    parser.add_argument("--folder", type=Path, help="where the log is kept meanwhile")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
