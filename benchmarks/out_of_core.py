"""Memory and time with a log that is larger than memory allows.

    python benchmarks/out_of_core.py --interactions 200000000 --items 5000000 --users 10000000 \
        --out out-of-core.json

Each phase runs in a process of its own:

* ``generate``: a log with power-law popularity of the items, as Parquet files, and features.
* ``convert``: ``graphdiff convert --to mapped``, with a split at two points in time.
* ``open``: the mapped folder.
* ``train``: LD4MRec's first three steps, from reading features to the optimizer, with propagation.
* ``evaluate``: all metrics over the whole catalogue, for a sample of the users.

For each phase: seconds, the peak of resident memory (with the libraries, and with the pages of
mapped files, which the system drops where memory is needed), and the peak of what belongs to no
file.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from graphdiff.experiments.machine import machine
from graphdiff.experiments.memory import SampledMemory, peak_bytes
from graphdiff.files import write_text

GIB = 2**30
#: Rows of a Parquet file of the log.
ROWS = 4_000_000
#: Rows beyond the interactions that are asked for: held out by the split, or drawn twice.
MARGIN = 1.04
RATIOS = (0.98, 0.01, 0.01)
#: Exponent of the items' popularity by rank, and width of their features.
EXPONENT, WIDTH = 0.8, 16
BATCH, STEPS, NEGATIVES = 1024, 3, 512


def main(given: list[str] | None = None) -> None:
    arguments = parse(given)
    if arguments.phase:
        found = run_phase(arguments)
        write_text(arguments.work / f"{arguments.phase}.json", json.dumps(found))
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    phases: dict[str, Any] = {}
    try:
        for phase in PHASES:
            phases[phase] = in_process(arguments, phase)
            print(f"{phase:9} {describe(phases[phase])}", flush=True)
    finally:
        if not arguments.keep:
            shutil.rmtree(arguments.work)
    size = {name: getattr(arguments, name) for name in ("interactions", "items", "users", "dim")}
    result = {"size": size, "machine": machine(), "phases": phases}
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    write_text(arguments.out.with_suffix(".md"), page(result))


def in_process(arguments: argparse.Namespace, phase: str) -> dict[str, Any]:
    """Run one phase in a new process and return its figures."""
    path = arguments.work / f"{phase}.json"
    if path.exists():  # From an earlier run with --keep.
        return json.loads(path.read_text())
    options = ["interactions", "items", "users", "dim", "held_out_users", "work"]
    given = [f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in options]
    subprocess.run([sys.executable, __file__, *given, "--phase", phase], check=True)
    return json.loads(path.read_text())


def run_phase(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a phase here, and return its figures with its seconds and its memory."""
    start = time.perf_counter()
    with SampledMemory() as memory:
        found = PHASES[arguments.phase](arguments)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_rss_bytes": peak_bytes(),
        "peak_anonymous_bytes": memory.peak,
        **found,
    }


def generate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the log: users of unequal activity, items with power-law popularity, in order of
    time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = arguments.work / "log"
    parts = folder / "interactions.parquet"
    parts.mkdir(parents=True)
    rng = np.random.default_rng(0)
    num_rows = int(arguments.interactions * MARGIN)
    for number, start in enumerate(range(0, num_rows, ROWS)):
        size = min(ROWS, num_rows - start)
        user = (arguments.users * rng.random(size) ** 1.25).astype(np.int64)
        columns = {
            "user": 1_000_003 + 7 * user,
            "item": raw_item(popular_items(rng, size, arguments.items), arguments.items),
            "timestamp": start + np.arange(size),
        }
        pq.write_table(pa.table(columns), parts / f"part-{number:05}.parquet")
    every = raw_item(np.arange(arguments.items), arguments.items)
    pq.write_table(pa.table({"item": every}), folder / "items.parquet")
    features = np.lib.format.open_memmap(
        folder / "features_image.npy", "w+", np.float32, (arguments.items, WIDTH)
    )
    for start in range(0, arguments.items, 2**18):
        stop = min(start + 2**18, arguments.items)
        features[start:stop] = rng.standard_normal((stop - start, WIDTH), dtype=np.float32)
    features.flush()
    return {"rows": num_rows, "disk_bytes": disk_bytes(folder)}


def popular_items(rng: np.random.Generator, size: int, num_items: int) -> np.ndarray:
    """Draw items by rank, with probability proportional to rank to the power of -0.8."""
    power = 1 - EXPONENT
    drawn = (rng.random(size) * (num_items**power - 1) + 1) ** (1 / power) - 1
    return np.minimum(drawn.astype(np.int64), num_items - 1)


def raw_item(rank: np.ndarray, num_items: int) -> np.ndarray:
    """Return ids in another order than that of popularity."""
    step = next(n for n in range(num_items * 61 // 100 + 1, 10**9) if math.gcd(n, num_items) == 1)
    return 10_000_000 + 3 * (rank * step % num_items)


def convert_log(arguments: argparse.Namespace) -> dict[str, Any]:
    from graphdiff.datasets.convert import convert

    folder = arguments.work / "mapped"
    split = {"split": "global_time", "ratios": list(RATIOS)}
    manifest = convert(arguments.work / "log", folder, "parquet", "mapped", **split)
    sizes = {name: manifest[name] for name in ("users", "items", "training", "validation", "test")}
    return {**sizes, "disk_bytes": disk_bytes(folder)}


def open_data(arguments: argparse.Namespace) -> dict[str, Any]:
    from graphdiff.datasets import MappedDataset

    start = time.perf_counter()
    data = MappedDataset(arguments.work / "mapped")[0]
    return {"open_seconds": time.perf_counter() - start, "items": data["item"].num_nodes}


def build(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Return the data, with a sample of the users to test on, and an untrained model."""
    from graphdiff.datasets import load
    from graphdiff.models import LD4MRec
    from graphdiff.schema import INTERACTS
    from graphdiff.transforms import SampleUsers

    data = load("mapped", arguments.work / "mapped")[0]
    # Of users with validation pairs alone, no sample is needed.
    interactions = data[INTERACTS]
    interactions.val_edge_label_index = interactions.val_edge_label_index[:, :0]
    data = SampleUsers(arguments.held_out_users)(data)
    settings = {
        "hidden_channels": arguments.dim,
        "num_heads": 2,
        "batch_size": BATCH,
        "objective.num_negatives": NEGATIVES,
        # Features enter by their linear map alone: the nearest items of each are another subject.
        "propagation.num_item_layers": 0,
        # As on the largest catalogues by default.
        "linear_path.enabled": False,
    }
    return data, LD4MRec.from_data(data, **settings)


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch
    from safetensors.torch import save_file
    from scaling_step import make_step

    start = time.perf_counter()
    _, model = build(arguments)
    built = time.perf_counter()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model.reset_parameters()
    model.train()
    model.start_epoch(generator)
    started = time.perf_counter()
    step, losses, seconds = make_step("sparse", model, generator), [], []
    for batch in torch.randperm(model.num_users, generator=generator).split(BATCH)[:STEPS]:
        before = time.perf_counter()
        losses.append(step(batch).item())
        seconds.append(time.perf_counter() - before)
    state = {n: t for n, t in model.state_dict().items() if not n.startswith("graph.")}
    save_file(state, arguments.work / "model.safetensors")
    return {
        "build_seconds": built - start,
        "start_seconds": started - built,
        # The first step propagates over all interactions, which happens every 100 steps.
        "step_seconds": seconds,
        "losses": losses,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def evaluate_model(arguments: argparse.Namespace) -> dict[str, Any]:
    from safetensors.torch import load_file

    from graphdiff.evaluation import evaluate
    from graphdiff.schema import INTERACTS

    start = time.perf_counter()
    data, model = build(arguments)
    state = load_file(arguments.work / "model.safetensors")
    model.load_state_dict(state, strict=False)
    del state
    built = time.perf_counter()
    metrics = evaluate(model.eval(), data, "test")
    return {
        "build_seconds": built - start,
        "evaluate_seconds": time.perf_counter() - built,
        "users": data[INTERACTS].test_edge_label_index[0].unique().numel(),
        "metrics": metrics,
    }


PHASES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "generate": generate,
    "convert": convert_log,
    "open": open_data,
    "train": train,
    "evaluate": evaluate_model,
}


def disk_bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def describe(figures: dict[str, Any]) -> str:
    """Return seconds and memory as text."""
    anonymous = figures["peak_anonymous_bytes"]
    return (
        f"{figures['seconds']:.1f} s ({figures['cpu_seconds']:.1f} s of CPU), "
        f"resident {figures['peak_rss_bytes'] / GIB:.2f} GiB"
        + (f", without files {anonymous / GIB:.2f} GiB" if anonymous is not None else "")
    )


def page(result: dict[str, Any]) -> str:
    """Return the figures as a Markdown page."""
    size, phases = result["size"], result["phases"]
    converted, trained = phases["convert"], phases["train"]
    lines = [
        "# Data larger than memory",
        "",
        f"{phases['generate']['rows']:,} rows, of which {converted['training']:,} are training "
        f"interactions of {converted['users']:,} users with {converted['items']:,} items, which "
        f"have {WIDTH} features each; LD4MRec of width {size['dim']}, {BATCH:,} users per step, "
        f"{NEGATIVES} negatives. Each phase is a process of its own. Resident memory is the peak "
        "with libraries and with the pages of mapped files, which the system drops where memory "
        "is needed; beside it the peak of what belongs to no file.",
        "",
        "| phase | seconds | CPU seconds | resident GiB | without files, GiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, figures in phases.items():
        anonymous = figures["peak_anonymous_bytes"]
        lines.append(
            f"| {name} | {figures['seconds']:.1f} | {figures['cpu_seconds']:.1f} | "
            f"{figures['peak_rss_bytes'] / GIB:.2f} | "
            + ("– |" if anonymous is None else f"{anonymous / GIB:.2f} |")
        )
    first, *others = trained["step_seconds"]
    lines += [
        "",
        f"- The log takes {phases['generate']['disk_bytes'] / GIB:.2f} GiB as Parquet and "
        f"{converted['disk_bytes'] / GIB:.2f} GiB as a mapped folder, which opens in "
        f"{1000 * phases['open']['open_seconds']:.0f} ms.",
        f"- The first step propagates over all interactions and takes {first:.1f} s, the others "
        f"{median(others):.2f} s. Reading features and their agreement with the interactions, "
        f"once per training, takes {trained['start_seconds']:.1f} s.",
        f"- Evaluation of {phases['evaluate']['users']:,} users over the whole catalogue takes "
        f"{phases['evaluate']['evaluate_seconds']:.1f} s.",
        "",
        "The machine ran other work at the same time."
        if phases["train"]["cpu_seconds"] < 0.8 * phases["train"]["seconds"]
        else "",
        "Measured on {processor}, {threads} threads; torch {torch}.".format(**result["machine"]),
    ]
    return "\n".join(line for n, line in enumerate(lines) if line or lines[n - 1]) + "\n"


def parse(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--interactions", type=int, default=2_000_000, help="for training")
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=32, help="width of LD4MRec")
    parser.add_argument("--held-out-users", type=int, default=10_000, help="users to evaluate")
    parser.add_argument("--work", type=Path, default=Path("out-of-core"), help="folder for files")
    parser.add_argument("--keep", action="store_true", help="keep files, and phases that are done")
    parser.add_argument("--out", type=Path, help="JSON file to write, with a page beside it")
    parser.add_argument("--phase", choices=[*PHASES], help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.out is None and arguments.phase is None:
        parser.error("give --out FILE.json")
    return arguments


if __name__ == "__main__":
    main()
