"""A training step of LD4MRec or DiffRec, and its figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from dense_reference import dense_losses
from power_law import power_law_graph
from roofline import clock, measure_rates, step_work, synchronize, timed

from graphdiff.experiments.memory import peak_bytes
from graphdiff.files import write_text
from graphdiff.models import get_model
from graphdiff.models.ld4mrec.model import LD4MRec
from graphdiff.training.adam import adam

KINDS = ("sparse", "dense", "diffrec")
GIB = 2**30
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


def make_model(kind: str, size: Size) -> Any:
    """Return the model of a kind of step, on a power-law graph, with its parameters drawn."""
    name = "diffrec" if kind == "diffrec" else "ld4mrec"
    settings: dict[str, Any] = {"batch_size": size.batch}
    if name == "ld4mrec":
        # As on the largest of these graphs, where the linear path is off by default.
        settings |= {"hidden_channels": size.dim, **SETTINGS, "linear_path.enabled": False}
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
        start = clock(device)
        step(batch)
        synchronize(device)
        seconds.append(clock(device) - start)
    # The first steps allocate the optimizer's state.
    found["step_seconds"] = median(seconds[2:])
    if kind == "sparse":
        found["step_seconds_with_propagation"] = found["step_seconds"] + found[
            "propagate_seconds"
        ] / model.messages.steps_between(model.graph)
    if kind == "sparse":
        # The largest memory of a training: a propagation beside the optimizer's state.
        model.messages.invalidate()
        step(batches[-1])
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
    optimizer = adam(model.parameters(), model.config.lr, 0.0, generator.device)
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


def step_memory(found: dict[str, Any], kind: str = "") -> Any:
    """Return the peak memory of a step: of tensors on a GPU, of the process elsewhere."""
    return found.get(f"{kind}peak_device_bytes", found[f"{kind}peak_rss_bytes"])
