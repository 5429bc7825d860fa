"""From a table of interactions to a graph ready for training, at the size of a real catalogue.

    python benchmarks/loading.py --out loading.json

Makes a Parquet log of 50 million power-law interactions and 128 clustered features per item, and
measures, each in a process of its own so that its peak memory is its own:

* ``load``: Parquet to ``HeteroData``, checked;
* ``neighbors``: the item-item graph of the features, approximate above a size, with the share of
  the true neighbours that is found;
* ``svd``: a truncated SVD of the interaction matrix.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
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

from graphdiff import datasets
from graphdiff.experiments.machine import machine
from graphdiff.files import write_text
from graphdiff.nn.spectral import right_singular_vectors
from graphdiff.schema import INTERACTS, similar
from graphdiff.transforms import ModalityGraph

PHASES = ("load", "neighbors", "svd")
GIB, PIECE = 2**30, 5_000_000


def main() -> None:
    arguments = parse()
    if arguments.worker:
        print(json.dumps(PHASE[arguments.worker](arguments)))
        return
    console = Console()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        arguments.folder = Path(folder)
        make_log(arguments)
        phases = {name: run_worker(name, arguments) for name in PHASES}
    result = {
        "interactions": arguments.interactions,
        "users": arguments.users,
        "items": arguments.items,
        "features": arguments.features,
        "machine": machine(),
        "phases": phases,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    for name, found in phases.items():
        shown = ", ".join(f"{k} {v:,.4g}" for k, v in found.items() if k != "peak_rss_bytes")
        console.print(f"{name}: {shown}, peak {found['peak_rss_bytes'] / GIB:.2f} GiB")
    console.print(f"figures: {arguments.out}")


def make_log(arguments: argparse.Namespace) -> None:
    """Writes ``log/interactions.parquet`` and ``log/features_image.npy``."""
    rng, folder = np.random.default_rng(0), arguments.folder / "log"
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
    # All items in the catalogue's order, so that the features' rows are theirs.
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


def load(arguments: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    dataset = datasets.load("parquet", arguments.folder / "log")
    seconds = time.perf_counter() - start
    data = dataset[0]
    return {
        "seconds": seconds,
        "interactions_read": int(data[INTERACTS].edge_index.size(1)),
        **peak(),
    }


def neighbors(arguments: argparse.Namespace) -> dict[str, Any]:
    data = datasets.load("parquet", arguments.folder / "log")[0]
    start = time.perf_counter()
    data = ModalityGraph(k=arguments.neighbors)(data)
    store = data[similar("image")]
    return {
        "seconds": time.perf_counter() - start,
        "edges": int(store.edge_index.size(1)),
        "recall": store.get("recall", 1.0),
        **peak(),
    }


def svd(arguments: argparse.Namespace) -> dict[str, Any]:
    from scipy.sparse import csr_matrix

    data = datasets.load("parquet", arguments.folder / "log")[0]
    user, item = data[INTERACTS].edge_index.numpy()
    shape = (data["user"].num_nodes, data["item"].num_nodes)
    matrix = csr_matrix((np.ones(len(user), dtype=np.float32), (user, item)), shape)
    start = time.perf_counter()
    directions = right_singular_vectors(matrix, arguments.rank)
    return {
        "seconds": time.perf_counter() - start,
        "rank": int(directions.size(1)),
        **peak(),
    }


def peak() -> dict[str, int]:
    return {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


PHASE = {"load": load, "neighbors": neighbors, "svd": svd}


def run_worker(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", name, "--folder", str(arguments.folder)]
    for option in ("interactions", "users", "items", "features", "neighbors", "rank"):
        command += [f"--{option}", str(getattr(arguments, option))]
    environment = os.environ | {"GRAPHDIFF_CACHE": str(arguments.folder / "cache")}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        sys.exit(f"loading.py: the phase {name} failed")
    return json.loads(done.stdout)


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
    parser.add_argument("--folder", type=Path, help="where the log is put for a while")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--worker", choices=PHASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.worker and arguments.out is None:
        parser.error("--out is needed")
    return arguments


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
