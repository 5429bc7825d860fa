"""How the time of a training step grows with the catalogue: the exact sparse step and dense rows.

    python benchmarks/scaling.py --items 10000 100000 1000000 --out scaling.json

For each size, on the same power-law interactions (20 per user) with two modalities:

* ``sparse``: LD4MRec's own step, optimizer and moving average included, with propagation over the
  graphs every 100 steps, which is timed separately;
* ``dense``: the same network, loss and optimizer on rows ``[batch, items]``;
* ``diffrec``: a step of DiffRec with its default layers.

Each runs in a process of its own, so that its peak memory is its own. At the smallest size the
dense loss is first asserted to equal the sparse one. What would not fit in memory is skipped, with
the reason. With one thread (OMP_NUM_THREADS=1) on a CPU, seconds are the processor's, so that other
processes do not count. The floor of a step is the least time of its products and memory traffic on
this machine; see roofline.py.

    python benchmarks/scaling.py --render scaling.json --markdown scaling.md

writes the page of figures that were measured earlier.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from power_law import PER_USER
from rich.console import Console
from roofline import counts_processor
from scaling_report import page, plot, slope, table
from scaling_step import GIB, KINDS, SETTINGS, Size, measure, step_memory

from graphdiff.errors import GraphDiffError
from graphdiff.experiments.machine import device_name, machine
from graphdiff.experiments.workers import in_own_process
from graphdiff.files import make_folder, write_text
from graphdiff.models import get_model

#: Number of dense tensors [batch, items] that a step holds at once, forward and backward.
DENSE_TENSORS = {"dense": 20, "diffrec": 8}


def main(given: list[str] | None = None) -> None:
    arguments = parse(given)
    if arguments.render is not None:
        result = json.loads(arguments.render.read_text())
    else:
        try:
            result = run(arguments, Console())
        except GraphDiffError as error:
            sys.exit(f"scaling.py: {error}")
    if arguments.markdown:
        write_text(arguments.markdown, page(result, arguments.profile))


def run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure all sizes, and write the figures and the plot after each."""
    make_folder(arguments.out.parent)
    result: dict[str, Any] = {
        "batch": arguments.batch,
        "dim": arguments.dim,
        "settings": SETTINGS,
        "interactions_per_user": PER_USER,
        "repeats": arguments.repeats,
        "cpu_seconds": counts_processor(torch.device(arguments.device)),
        "machine": machine() | {"device": device_name(torch.device(arguments.device))},
        "sizes": [],
    }
    for num in sorted(arguments.items):
        result["sizes"].append(measure_size(num, arguments, console))
        result["slope"] = slope(result["sizes"])
        write_text(arguments.out, json.dumps(result, indent=1) + "\n")
        plot(result, arguments.out.with_suffix(".svg"))
    console.print(table(result["sizes"]))
    if result["slope"] is not None:
        console.print(f"slope of the sparse step's time against items: {result['slope']:.3f}")
    console.print(f"figures: {arguments.out}, {arguments.out.with_suffix('.svg')}")
    return result


def measure_size(num_items: int, arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure all kinds of steps at one size, each in a process of its own."""
    entry: dict[str, Any] = {"items": num_items}
    size = Size(num_items, arguments.batch, arguments.dim)
    for kind in KINDS:
        reason = does_not_fit(kind, size, arguments.device)
        if reason:
            console.print(f"{num_items:,} items, {kind}: skipped, {reason}")
            entry |= {f"{kind}_step_seconds": None, f"{kind}_skipped": reason}
            entry[f"{kind}_peak_rss_bytes"] = None
            continue
        found = in_own_process(
            measure,
            kind,
            size,
            arguments.device,
            arguments.repeats,
            compare=kind == "dense" and num_items == min(arguments.items),
            profile_to=arguments.profile if kind == "sparse" else None,
        )
        console.print(
            f"{num_items:,} items, {kind}: {found['step_seconds']:.4f} s a step, "
            f"peak {step_memory(found) / GIB:.2f} GiB"
        )
        entry |= {f"{kind}_{name}": value for name, value in found.items()}
    for kind in KINDS[1:]:
        seconds = entry[f"{kind}_step_seconds"]
        ratio = seconds / entry["sparse_step_seconds"] if seconds else None
        entry[f"{kind}_over_sparse"] = ratio
    return entry


def does_not_fit(kind: str, size: Size, device: str) -> str | None:
    """Return why a dense step is not tried; None where it is."""
    if kind == "sparse":
        return None
    needed = 4 * DENSE_TENSORS[kind] * size.batch * size.items
    if kind == "diffrec":
        width = get_model("diffrec").configure().hidden_channels  # type: ignore[attr-defined]
        # Two layers as wide as the catalogue, each with its gradient and Adam's two moments.
        needed += 4 * 2 * 4 * size.items * width
    available = free_memory(device)
    if needed < 0.8 * available:
        return None
    return (
        f"it would need about {needed / GIB:.0f} GiB, more than four fifths of the "
        f"{available / GIB:.0f} that are free"
    )


def free_memory(device: str) -> int:
    """Return the free memory of the device in bytes."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def parse(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batch", type=int, default=1024, help="users per step")
    parser.add_argument("--dim", type=int, default=64, help="width of LD4MRec")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=7, help="steps to take the median of")
    parser.add_argument("--out", type=Path, help="JSON file to write, with a plot beside it")
    parser.add_argument("--render", type=Path, metavar="JSON", help="measure nothing, write a page")
    parser.add_argument("--markdown", type=Path, help="Markdown page to write")
    parser.add_argument("--profile", type=Path, help="text file for the sparse step's operators")
    arguments = parser.parse_args(given)
    if (arguments.out is None) == (arguments.render is None):
        parser.error("give --out FILE.json to measure, or --render FILE.json to write its page")
    return arguments


if __name__ == "__main__":
    main()
