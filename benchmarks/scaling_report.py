"""The figures of the scaling benchmark: a page, a plot and a table for the terminal."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from power_law import PER_USER
from rich.table import Table
from roofline import Rates, step_work
from scaling_step import GIB, KINDS, SETTINGS, Size, make_model, step_memory

from graphdiff.figures import new_figure, write_figure


def slope(sizes: list[dict[str, Any]]) -> float | None:
    """Return the slope of log time against log items, by least squares; None for a single size."""
    if len(sizes) < 2:
        return None
    x = [math.log(size["items"]) for size in sizes]
    y = [math.log(size["sparse_step_seconds"]) for size in sizes]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum(
        (a - mean_x) ** 2 for a in x
    )


def over_floor(result: dict[str, Any], size: dict[str, Any]) -> float:
    """Return the time of the sparse step at one size over its floor.

    The work is counted now, from the settings; the rates are those that were measured.
    """
    # No size of the network depends on the number of items.
    model = make_model("sparse", Size(50, result["batch"], result["dim"]))
    rates = Rates(size["sparse_matmul_flops_per_second"], size["sparse_bandwidth_bytes_per_second"])
    work = step_work(model, result["batch"], size["items"])
    return size["sparse_step_seconds"] / rates.seconds(work)


def table(sizes: list[dict[str, Any]]) -> Table:
    """Return the figures for the terminal."""
    out = Table("items", *(f"{kind} s" for kind in KINDS), "dense/sparse", "GiB", "step/floor")
    for size in sizes:
        seconds = [size[f"{kind}_step_seconds"] for kind in KINDS]
        ratio = size["dense_over_sparse"]
        out.add_row(
            f"{size['items']:,}",
            *("-" if s is None else f"{s:.4f}" for s in seconds),
            "-" if ratio is None else f"{ratio:.1f}",
            _or_dash(step_memory(size, "sparse_"), GIB, ".2f"),
            f"{size['sparse_over_floor']:.2f}",
        )
    return out


def page(result: dict[str, Any], profiled: Path | None) -> str:
    """Return the figures as Markdown, with the sparse step's operators where they are in a file."""
    sizes, found = result["sizes"], result["machine"]
    lines = [
        "# Scaling",
        "",
        f"Median {'CPU ' if result.get('cpu_seconds') else ''}seconds of a training step of "
        f"{result['batch']:,} users, d = {result['dim']}, "
        f"{SETTINGS['num_heads']} heads, {SETTINGS['objective.num_negatives']} negatives, two "
        f"modalities, as many users as items with {PER_USER} interactions each. `sparse` is "
        "LD4MRec's step; `dense` the same network and loss on rows [batch, items]"
        f"{_comparison(sizes[0])}; `with propagation` adds a hundredth of a "
        "propagation over the graphs, which is done every 100 steps. The floor is the least time "
        "of the step's products and memory traffic at the rates that this machine reached in the "
        f"run. GiB: the peak memory {memory_of(sizes)}.",
        "",
        "| items | sparse | with propagation | dense | DiffRec | dense / sparse | sparse GiB | "
        "dense GiB | DiffRec GiB | step / floor |",
        "| ---: |" + " ---: |" * 9,
    ]
    ratios = [over_floor(result, size) for size in sizes]
    for size, ratio in zip(sizes, ratios, strict=True):
        cells = [
            f"{size['items']:,}",
            f"{size['sparse_step_seconds']:.4f}",
            f"{size['sparse_step_seconds_with_propagation']:.4f}",
            _or_dash(size["dense_step_seconds"], 1, ".4f"),
            _or_dash(size["diffrec_step_seconds"], 1, ".4f"),
            _or_dash(size["dense_over_sparse"], 1, ".1f"),
            *(_or_dash(step_memory(size, f"{kind}_"), GIB, ".2f") for kind in KINDS),
            f"{ratio:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for size in sizes:
        for kind in KINDS:
            if f"{kind}_skipped" in size:
                lines += ["", f"{kind} at {size['items']:,} items: {size[f'{kind}_skipped']}."]
    if result["slope"] is not None:
        lines += ["", f"Slope of log time against log items: {result['slope']:.3f}."]
    measured = [size["sparse_over_floor"] for size in sizes]
    if any(not math.isclose(*pair, rel_tol=1e-6) for pair in zip(ratios, measured, strict=True)):
        lines += [
            "",
            "The formula of the floor has changed since these figures were measured: it counted "
            "1,024 negatives and products between heads. `step / floor` is computed from the "
            "measured times and rates with the work that the step does now; see "
            "`benchmarks/roofline.py`. The ratios in the JSON file are the earlier ones.",
        ]
    lines += [
        "",
        f"Measured on {found['processor']}, {found['threads']} "
        f"thread{'' if found['threads'] == 1 else 's'}, {found['device']}; torch {found['torch']}.",
    ]
    if profiled is not None and profiled.exists():
        largest = f"{sizes[-1]['items']:,}"
        lines += ["", f"Operators of three sparse steps at {largest} items:", "", "```"]
        lines += [line[:175].rstrip() for line in profiled.read_text().splitlines()]
        lines += ["```"]
    return "\n".join(lines) + "\n"


def memory_of(sizes: list[dict[str, Any]]) -> str:
    """Return what the memory of the table belongs to."""
    if any("sparse_peak_device_bytes" in size for size in sizes):
        return "of tensors on the device"
    return "of the process, libraries included"


def _comparison(smallest: dict[str, Any]) -> str:
    if smallest["dense_step_seconds"] is None:
        return ""
    return f", asserted to be equal at {smallest['items']:,} items"


def _or_dash(value: float | None, unit: float, form: str) -> str:
    return "–" if value is None else format(value / unit, form)


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw time and memory against the number of items."""
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    marks = {"sparse": "o-", "dense": "s--", "diffrec": "^:"}
    names = {"sparse": "LD4MRec, sparse", "dense": "LD4MRec, dense rows", "diffrec": "DiffRec"}
    for axes, of_size, scale, label in (
        (left, lambda size, kind: size[f"{kind}step_seconds"], 1, "seconds per step"),
        (right, step_memory, GIB, "peak memory, GiB"),
    ):
        for kind in KINDS:
            points = [
                (size["items"], value / scale)
                for size in result["sizes"]
                if (value := of_size(size, f"{kind}_")) is not None
            ]
            if points:
                axes.loglog(*zip(*points, strict=True), marks[kind], label=names[kind])
        axes.set(xlabel="items", ylabel=label)
        axes.grid(alpha=0.3, which="both")
    left.legend()
    figure.suptitle(f"batch {result['batch']}, d = {result['dim']}, {result['machine']['device']}")
    write_figure(figure, path)
