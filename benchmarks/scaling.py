"""How a training step grows with the catalogue: the exact sparse step against dense rows.

    python benchmarks/scaling.py --items 10000 100000 1000000 --out scaling.json

For each size, on the same power-law interactions (20 per user) with two modalities:

* ``sparse``: LD4MRec's own step, optimizer and weight average included, with propagation over the
  graphs every 100 steps, which is timed apart;
* ``dense``: the same network, loss and optimizer on rows ``[batch, items]``;
* ``diffrec``: a step of DiffRec with its default layers.

Each runs in a process of its own, so that its peak memory is its own. At the smallest size the
dense loss is first asserted to equal the sparse one. What would not fit is skipped, and why is
said. The step's floor is what its products and memory traffic must cost on this machine, by a
matrix product and a copy timed in the same process.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from dense_reference import dense_losses
from rich.console import Console
from rich.table import Table

from graphdiff.experiments.machine import machine
from graphdiff.files import write_text
from graphdiff.graph.store import RecGraph
from graphdiff.models import get_model
from graphdiff.models.ld4mrec.model import LD4MRec

PER_USER, NUM_NEIGHBORS, MODALITIES = 20, 20, ("audio", "image")
KINDS = ("sparse", "dense", "diffrec")
GIB = 2**30
#: Dense tensors [batch, items] that a step holds at once, forward and backward.
DENSE_TENSORS = {"dense": 20, "diffrec": 8}


def main() -> None:
    arguments = parse()
    if arguments.worker:
        print(json.dumps(measure(arguments)))
        return
    console = Console()
    sizes = [measure_size(num, arguments, console) for num in sorted(arguments.items)]
    result: dict[str, Any] = {
        "batch": arguments.batch,
        "dim": arguments.dim,
        "interactions_per_user": PER_USER,
        "repeats": arguments.repeats,
        "machine": machine() | {"device": device_name(arguments.device)},
        "sizes": sizes,
        "slope": slope(sizes),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    plot(result, arguments.out.with_suffix(".svg"))
    console.print(table(sizes))
    if result["slope"] is not None:
        console.print(f"slope of the sparse step's time against items: {result['slope']:.3f}")
    if arguments.markdown:
        write_text(arguments.markdown, page(result, arguments))
    console.print(f"figures: {arguments.out}, {arguments.out.with_suffix('.svg')}")


def measure_size(num_items: int, arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    entry: dict[str, Any] = {"items": num_items}
    equal = num_items == min(arguments.items)
    for kind in KINDS:
        reason = does_not_fit(kind, num_items, arguments)
        if reason:
            console.print(f"{num_items:,} items, {kind}: skipped, {reason}")
            entry |= {f"{kind}_step_seconds": None, f"{kind}_skipped": reason}
            entry[f"{kind}_peak_rss_bytes"] = None
            continue
        found = run_worker(kind, num_items, arguments, assert_equal=equal and kind == "dense")
        console.print(
            f"{num_items:,} items, {kind}: {found['step_seconds']:.4f} s a step, "
            f"peak {peak_bytes(found) / GIB:.2f} GiB"
        )
        entry |= {f"{kind}_{name}": value for name, value in found.items()}
    for kind in KINDS[1:]:
        seconds = entry[f"{kind}_step_seconds"]
        ratio = seconds / entry["sparse_step_seconds"] if seconds else None
        entry[f"{kind}_over_sparse"] = ratio
    return entry


def does_not_fit(kind: str, num_items: int, arguments: argparse.Namespace) -> str | None:
    """Why a dense step is not tried; None where it is."""
    if kind == "sparse":
        return None
    needed = 4 * DENSE_TENSORS[kind] * arguments.batch * num_items
    if kind == "diffrec":
        width = get_model("diffrec").configure().hidden_channels  # type: ignore[attr-defined]
        # Two layers as wide as the catalogue, each with its gradient and Adam's two moments.
        needed += 4 * 2 * 4 * num_items * width
    available = memory(arguments.device)
    if needed < 0.8 * available:
        return None
    return (
        f"it would need about {needed / GIB:.0f} GiB, more than four fifths of the "
        f"{available / GIB:.0f} that are free"
    )


def memory(device: str) -> int:
    """Bytes of memory that the device has free."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def run_worker(
    kind: str, num_items: int, arguments: argparse.Namespace, assert_equal: bool
) -> dict[str, Any]:
    command = [
        sys.executable, __file__, "--worker", kind, "--items", str(num_items),
        "--batch", str(arguments.batch), "--dim", str(arguments.dim),
        "--device", arguments.device, "--repeats", str(arguments.repeats),
    ]  # fmt: skip
    if assert_equal:
        command.append("--assert-equal")
    if arguments.profile and kind == "sparse":
        command += ["--profile", str(arguments.profile)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"scaling.py: the {kind} step at {num_items:,} items failed")
    return json.loads(done.stdout)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One kind of step at one size, in this process."""
    device, num_items = torch.device(arguments.device), arguments.items[0]
    torch.manual_seed(0)
    name = "diffrec" if arguments.worker == "diffrec" else "ld4mrec"
    cls = get_model(name)
    settings = {"batch_size": arguments.batch}
    if name == "ld4mrec":
        # Said and not left to the defaults, which propagate in every step on small graphs and have
        # the heads and the negatives of a wider model.
        settings |= {
            "hidden_channels": arguments.dim,
            "num_heads": 2,
            "objective.num_negatives": 512,
            "propagation.every": 100,
        }
    graph = power_law_graph(num_items, modalities=name == "ld4mrec")
    model = cls(cls.configure(**settings), graph).to(device).train()
    model.reset_parameters()
    generator = torch.Generator(device).manual_seed(0)
    order = torch.randperm(model.num_users, generator=generator, device=device)
    batches = list(order.split(arguments.batch)[: arguments.repeats + 2])
    found: dict[str, Any] = {}
    if isinstance(model, LD4MRec):
        # The first call prepares the graphs.
        model.propagated()
        found["propagate_seconds"] = timed(lambda: model.tables().item[0, 0].item(), device, 1)
    if arguments.assert_equal:
        assert_equal(model, batches[0], generator)
    step = make_step(arguments.worker, model, generator)
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        step(batch)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    # The first steps allocate the optimizer's state.
    found["step_seconds"] = median(seconds[2:])
    if isinstance(model, LD4MRec) and arguments.worker == "sparse":
        found["step_seconds_with_propagation"] = found["step_seconds"] + found[
            "propagate_seconds"
        ] / model.messages.steps_between(model.graph)
    found["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type == "cuda":
        found["peak_device_bytes"] = torch.cuda.max_memory_allocated()
    if arguments.worker == "sparse":
        found |= floor(num_items, arguments.dim, arguments.batch, device)
        found["over_floor"] = found["step_seconds"] / found["floor_seconds"]
        if arguments.profile:
            profile(step, batches[0], arguments.profile)
    return found


def make_step(
    kind: str, model: Any, generator: torch.Generator
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A whole training step as :func:`graphdiff.fit` makes it."""
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
    """The sparse loss and its gradient are the dense ones, noise apart, which has the same law."""
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


def power_law_graph(num_items: int, modalities: bool) -> RecGraph:
    """As many users as items, each with about 20 different items of power-law popularity, and for
    each modality 20 random neighbours per item.

    Random neighbours cost what real ones do or more: they are nowhere near in memory.
    """
    generator = torch.Generator().manual_seed(0)
    num_users = num_items
    weight = torch.arange(1, num_items + 1, dtype=torch.float64).pow(-0.8)
    cumulative = weight[torch.randperm(num_items, generator=generator)].cumsum(0)
    cumulative /= cumulative[-1].clone()
    pieces = []
    for users in torch.arange(num_users).split(100_000):
        # A few more, as some come twice.
        uniform = torch.rand(len(users), PER_USER + 2, generator=generator, dtype=torch.float64)
        item = torch.searchsorted(cumulative, uniform).clamp(max=num_items - 1)
        pieces.append((users.unsqueeze(1) * num_items + item).unique())
    key = torch.cat(pieces)
    del pieces
    user, col = key // num_items, key % num_items
    rowptr = torch.zeros(num_users + 1, dtype=torch.long)
    rowptr[1:] = torch.bincount(user, minlength=num_users).cumsum(0)
    if not modalities:
        return RecGraph(rowptr, col, num_items)
    target = torch.arange(num_items).repeat_interleave(NUM_NEIGHBORS)
    similar = {}
    for name in MODALITIES:
        source = torch.randint(num_items, target.shape, generator=generator)
        similar[name] = (torch.stack([source, target]), torch.full(target.shape, 1 / NUM_NEIGHBORS))
    return RecGraph(
        rowptr,
        col,
        num_items,
        {name: torch.zeros(num_items, 1) for name in MODALITIES},
        {name: torch.ones(num_items, dtype=torch.bool) for name in MODALITIES},
        similar,
    )


def floor(num_items: int, dim: int, batch: int, device: torch.device) -> dict[str, float]:
    """What a step must cost: its products at this machine's rate plus its traffic at its bandwidth.

    Products: the Gram matrix forward (I d² multiply-adds) and its gradient (as many), and scores
    of the shared negatives forward and backward. Traffic in float32 tables ``[I, d]``: 3 for
    Z = E + Δ, 1 and 2 for the Gram's two passes, 7 for Adam, 3 for the average.
    """
    flops = 2 * 2 * num_items * dim**2 + 3 * 2 * batch * 1024 * dim
    traffic = (3 + 1 + 2 + 7 + 3) * 4 * num_items * dim
    a = torch.randn(2048, 2048, device=device)
    rate = 2 * 2048**3 / timed(lambda: a @ a, device)
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    bandwidth = 2 * 4 * 2**26 / timed(lambda: target.copy_(source), device)
    return {
        "flops": flops,
        "traffic_bytes": traffic,
        "matmul_flops_per_second": rate,
        "bandwidth_bytes_per_second": bandwidth,
        "floor_seconds": flops / rate + traffic / bandwidth,
    }


def timed(call: Callable[[], Any], device: torch.device, repeats: int = 5) -> float:
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def profile(step: Callable[[torch.Tensor], Any], batch: torch.Tensor, path: Path) -> None:
    """Writes the operators that a step spends its time in."""
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


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


def slope(sizes: list[dict[str, Any]]) -> float | None:
    """Of log time against log items, by least squares; None for a single size."""
    if len(sizes) < 2:
        return None
    x = [math.log(size["items"]) for size in sizes]
    y = [math.log(size["sparse_step_seconds"]) for size in sizes]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum(
        (a - mean_x) ** 2 for a in x
    )


def table(sizes: list[dict[str, Any]]) -> Table:
    out = Table("items", *(f"{kind} s" for kind in KINDS), "dense/sparse", "GiB", "step/floor")
    for size in sizes:
        seconds = [size[f"{kind}_step_seconds"] for kind in KINDS]
        ratio = size["dense_over_sparse"]
        out.add_row(
            f"{size['items']:,}",
            *("-" if s is None else f"{s:.4f}" for s in seconds),
            "-" if ratio is None else f"{ratio:.1f}",
            _or_dash(peak_bytes(size, "sparse_"), GIB, ".2f"),
            f"{size['sparse_over_floor']:.2f}",
        )
    return out


def peak_bytes(found: dict[str, Any], kind: str = "") -> int | None:
    """The most memory that a step took: on the device, or of the process where there is none."""
    return found.get(f"{kind}peak_device_bytes", found[f"{kind}peak_rss_bytes"])


def page(result: dict[str, Any], arguments: argparse.Namespace) -> str:
    """The figures as Markdown, with the sparse step's operators where they were profiled."""
    sizes, found = result["sizes"], result["machine"]
    lines = [
        "# Scaling",
        "",
        f"Median seconds of a training step of {result['batch']:,} users, d = {result['dim']}, two "
        f"modalities, as many users as items with {PER_USER} interactions each. `sparse` is "
        "LD4MRec's step; `dense` the same network and loss on rows [batch, items], asserted to be "
        f"equal at {sizes[0]['items']:,} items; `with propagation` adds a hundredth of a "
        "propagation over the graphs, which is done every 100 steps. The floor is what the step's "
        "products and memory traffic must cost at the rates that this machine reached in the run. "
        "GiB: the most memory that " + memory_meant(sizes),
        "",
        "| items | sparse | with propagation | dense | DiffRec | dense / sparse | sparse GiB | "
        "dense GiB | DiffRec GiB | step / floor |",
        "| ---: |" + " ---: |" * 9,
    ]
    for size in sizes:
        cells = [
            f"{size['items']:,}",
            f"{size['sparse_step_seconds']:.4f}",
            f"{size['sparse_step_seconds_with_propagation']:.4f}",
            _or_dash(size["dense_step_seconds"], 1, ".4f"),
            _or_dash(size["diffrec_step_seconds"], 1, ".4f"),
            _or_dash(size["dense_over_sparse"], 1, ".1f"),
            *(_or_dash(peak_bytes(size, f"{kind}_"), GIB, ".2f") for kind in KINDS),
            f"{size['sparse_over_floor']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for size in sizes:
        for kind in KINDS:
            if f"{kind}_skipped" in size:
                lines += ["", f"{kind} at {size['items']:,} items: {size[f'{kind}_skipped']}."]
    if result["slope"] is not None:
        lines += ["", f"Slope of log time against log items: {result['slope']:.3f}."]
    lines += [
        "",
        f"Measured on {found['processor']}, {found['threads']} threads, {found['device']}; torch "
        f"{found['torch']}.",
    ]
    if arguments.profile and arguments.profile.exists():
        largest = f"{sizes[-1]['items']:,}"
        lines += ["", f"Operators of three sparse steps at {largest} items:", "", "```"]
        lines += [line[:175].rstrip() for line in arguments.profile.read_text().splitlines()]
        lines += ["```"]
    return "\n".join(lines) + "\n"


def memory_meant(sizes: list[dict[str, Any]]) -> str:
    if any("sparse_peak_device_bytes" in size for size in sizes):
        return "tensors took on the device."
    return "the process took, libraries included."


def _or_dash(value: float | None, unit: float, form: str) -> str:
    return "–" if value is None else format(value / unit, form)


def plot(result: dict[str, Any], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    marks = {"sparse": "o-", "dense": "s--", "diffrec": "^:"}
    names = {"sparse": "LD4MRec, sparse", "dense": "LD4MRec, dense rows", "diffrec": "DiffRec"}
    for axes, of_size, scale, label in (
        (left, lambda size, kind: size[f"{kind}step_seconds"], 1, "seconds per step"),
        (right, peak_bytes, GIB, "peak memory, GiB"),
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
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batch", type=int, default=1024, help="users per step")
    parser.add_argument("--dim", type=int, default=64, help="width of LD4MRec")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=7, help="steps to take the median of")
    parser.add_argument("--out", type=Path, help="JSON file to write; a plot is put beside it")
    parser.add_argument("--markdown", type=Path, help="Markdown page to write")
    parser.add_argument("--profile", type=Path, help="text file for the sparse step's operators")
    parser.add_argument("--worker", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--assert-equal", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.worker and arguments.out is None:
        parser.error("--out is needed")
    return arguments


if __name__ == "__main__":
    main()
