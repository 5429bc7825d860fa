"""How the time of a training step grows with the catalogue: the exact sparse step and dense rows.

    python benchmarks/scaling.py --items 10000 100000 1000000 --out scaling.json

For each size, on the same power-law interactions (20 per user) with two modalities:

* ``sparse``: LD4MRec's own step, optimizer and moving average included, with propagation over the
  graphs every 100 steps, which is timed separately;
* ``dense``: the same network, loss and optimizer on rows ``[batch, items]``;
* ``diffrec``: a step of DiffRec with its default layers.

Each runs in a process of its own, so that its peak memory is its own. At the smallest size the
dense loss is first asserted to equal the sparse one. What would not fit in memory is skipped, with
the reason. The floor of a step is the least time of its products and memory traffic on this
machine; see roofline.py.

    python benchmarks/scaling.py --render scaling.json --markdown scaling.md

writes the page of figures that were measured earlier.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from dense_reference import dense_losses
from power_law import PER_USER, power_law_graph
from rich.console import Console
from rich.table import Table
from roofline import Rates, measure_rates, step_work, synchronize, timed

from graphdiff.errors import GraphDiffError
from graphdiff.experiments.machine import machine
from graphdiff.experiments.memory import peak_bytes
from graphdiff.experiments.workers import in_own_process
from graphdiff.figures import new_figure, write_figure
from graphdiff.files import make_folder, write_text
from graphdiff.models import get_model
from graphdiff.models.ld4mrec.model import LD4MRec

KINDS = ("sparse", "dense", "diffrec")
GIB = 2**30
#: Number of dense tensors [batch, items] that a step holds at once, forward and backward.
DENSE_TENSORS = {"dense": 20, "diffrec": 8}
#: Settings of LD4MRec besides its width. The defaults propagate in every step on small graphs.
SETTINGS = {"num_heads": 2, "objective.num_negatives": 512, "propagation.every": 100}


class Size(NamedTuple):
    """The size of a training step.

    Attributes:
        items: Number of items, and of users.
        batch: Users per step.
        dim: Width of LD4MRec.
    """

    items: int
    batch: int
    dim: int


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
    """Measure all sizes, and write the figures and the plot."""
    sizes = [measure_size(num, arguments, console) for num in sorted(arguments.items)]
    result: dict[str, Any] = {
        "batch": arguments.batch,
        "dim": arguments.dim,
        "settings": SETTINGS,
        "interactions_per_user": PER_USER,
        "repeats": arguments.repeats,
        "machine": machine() | {"device": device_name(arguments.device)},
        "sizes": sizes,
        "slope": slope(sizes),
    }
    make_folder(arguments.out.parent)
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    plot(result, arguments.out.with_suffix(".svg"))
    console.print(table(sizes))
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


def make_model(kind: str, size: Size) -> Any:
    """Return the model of a kind of step, on a power-law graph, with its parameters drawn."""
    name = "diffrec" if kind == "diffrec" else "ld4mrec"
    settings: dict[str, Any] = {"batch_size": size.batch}
    if name == "ld4mrec":
        settings |= {"hidden_channels": size.dim, **SETTINGS}
    cls = get_model(name)
    graph = power_law_graph(size.items, modalities=name == "ld4mrec")
    model = cls(cls.configure(**settings), graph).train()
    model.reset_parameters()
    return model


def measure(
    kind: str,
    size: Size,
    device_name: str = "cpu",
    repeats: int = 7,
    compare: bool = False,
    profile_to: Path | None = None,
) -> dict[str, Any]:
    """Return the figures of one kind of step at one size.

    Args:
        kind: One of :data:`KINDS`.
        size: The size.
        device_name: ``"cpu"`` or ``"cuda"``.
        repeats: Number of steps that the median is of.
        compare: Assert that the dense loss equals the sparse one.
        profile_to: Text file for the operators of the step.
    """
    device = torch.device(device_name)
    torch.manual_seed(0)
    model = make_model(kind, size).to(device)
    generator = torch.Generator(device).manual_seed(0)
    order = torch.randperm(model.num_users, generator=generator, device=device)
    batches = list(order.split(size.batch)[: repeats + 2])
    found: dict[str, Any] = {}
    if isinstance(model, LD4MRec):
        # The first call prepares the graphs.
        model.propagated()
        found["propagate_seconds"] = timed(lambda: model.tables().item[0, 0].item(), device, 1)
    if compare:
        assert_equal(model, batches[0], generator)
    step = make_step(kind, model, generator)
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        step(batch)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    # The first steps allocate the optimizer's state.
    found["step_seconds"] = median(seconds[2:])
    if kind == "sparse":
        found["step_seconds_with_propagation"] = found["step_seconds"] + found[
            "propagate_seconds"
        ] / model.messages.steps_between(model.graph)
    found["peak_rss_bytes"] = peak_bytes()
    if device.type == "cuda":
        found["peak_device_bytes"] = torch.cuda.max_memory_allocated()
    if kind == "sparse":
        work, rates = step_work(model, size.batch), measure_rates(device)
        found |= {
            "flops": work.flops,
            "traffic_bytes": work.traffic_bytes,
            "matmul_flops_per_second": rates.flops_per_second,
            "bandwidth_bytes_per_second": rates.bytes_per_second,
            "floor_seconds": rates.seconds(work),
            "over_floor": found["step_seconds"] / rates.seconds(work),
        }
        if profile_to is not None:
            profile(step, batches[0], profile_to)
    return found


def make_step(
    kind: str, model: Any, generator: torch.Generator
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a training step as :func:`graphdiff.fit` makes it: a function of a batch of users."""
    fused = generator.device.type in ("cpu", "cuda")
    optimizer = torch.optim.Adam(model.parameters(), lr=model.config.lr, fused=fused)
    average = [p.detach().clone() for p in model.parameters()] if model.config.ema_decay else []

    def step(batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        if kind == "dense":
            rows = model.graph.rows(batch)
            draw = model.draw(rows, generator)
            losses = dense_losses(model, rows, draw, noise=generator)
            loss = (draw.step_weight * losses).mean()
        else:
            loss = model.loss(batch, generator)
        loss.backward()
        optimizer.step()
        if average:
            with torch.no_grad():
                decay = 1 - model.config.ema_decay
                torch._foreach_lerp_(average, list(model.parameters()), decay)
        return loss

    return step


def assert_equal(model: LD4MRec, batch: torch.Tensor, generator: torch.Generator) -> None:
    """Assert that the sparse loss and its gradient equal the dense ones.

    Both are without noise, which has the same distribution in both.
    """
    variance = model.schedule.variance.clone()
    model.schedule.variance.zero_()
    rows = model.graph.rows(batch)
    draw = model.draw(rows, generator)
    gradients = []
    losses = []
    for make in (model.row_losses, lambda *a: dense_losses(model, *a)):
        model.zero_grad()
        losses.append(make(rows, draw))
        losses[-1].mean().backward()
        gradients.append(model.items.weight.grad.clone())
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-3)
    scale = gradients[1].abs().max().item()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-3 * scale)
    model.zero_grad()
    model.schedule.variance.copy_(variance)


def profile(step: Callable[[torch.Tensor], Any], batch: torch.Tensor, path: Path) -> None:
    """Write the operators that a step spends its time in."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    activities = [ProfilerActivity.CPU]
    key = "self_cpu_time_total"
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
        key = "self_cuda_time_total"
    with torch_profile(activities=activities) as profiler:
        for _ in range(3):
            step(batch)
    text = profiler.key_averages().table(sort_by=key, row_limit=20, max_name_column_width=50)
    write_text(path, text + "\n")


def device_name(device: str) -> str:
    """Return the name of the GPU, or the device's own."""
    return torch.cuda.get_device_name() if device == "cuda" else device


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


def step_memory(found: dict[str, Any], kind: str = "") -> Any:
    """Return the peak memory of a step: of tensors on a GPU, of the process elsewhere."""
    return found.get(f"{kind}peak_device_bytes", found[f"{kind}peak_rss_bytes"])


def page(result: dict[str, Any], profiled: Path | None) -> str:
    """Return the figures as Markdown, with the sparse step's operators where they are in a file."""
    sizes, found = result["sizes"], result["machine"]
    lines = [
        "# Scaling",
        "",
        f"Median seconds of a training step of {result['batch']:,} users, d = {result['dim']}, "
        f"{SETTINGS['num_heads']} heads, {SETTINGS['objective.num_negatives']} negatives, two "
        f"modalities, as many users as items with {PER_USER} interactions each. `sparse` is "
        "LD4MRec's step; `dense` the same network and loss on rows [batch, items], asserted to be "
        f"equal at {sizes[0]['items']:,} items; `with propagation` adds a hundredth of a "
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
        f"Measured on {found['processor']}, {found['threads']} threads, {found['device']}; torch "
        f"{found['torch']}.",
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
