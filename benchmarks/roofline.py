"""The least time that a training step of LD4MRec can take on a machine.

A step must do its matrix products, at the rate of a large matrix product on this machine, and its
memory traffic, at the bandwidth of a large copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import torch

from graphdiff.models.ld4mrec.model import LD4MRec


class Work(NamedTuple):
    """The minimum work of a step.

    Attributes:
        flops: Floating-point operations of matrix products; a multiply-add is two.
        traffic_bytes: Bytes that are read from and written to item tables.
    """

    flops: int
    traffic_bytes: int


def step_work(model: LD4MRec, batch: int, num_items: int | None = None) -> Work:
    """Return the work of a training step between two propagations, from the model's own settings.

    Products, as multiply-adds, of I items, B users, width d, H heads, n negatives and R principal
    directions of content:

    - the item table's sums, forward and backward :math:`I (d^2 / H + d)` each, because products
      between heads are not computed;
    - embeddings that are linear in content and the gradient of their map, :math:`2 I R d`;
    - scores of the negatives, forward and twice backward, :math:`3 B n d`, and the gradient of
      their biases, :math:`B n H`;
    - C-Net's matrices with W entries, forward and twice backward, :math:`3 B W`, without the
      gradient by the signals, which are constants between propagations;
    - the quadratic form of the reconstruction with its gradients, :math:`B (2 d^2 / H + d)`, and
      the noise, :math:`2 B d^2 / H`, with the gradient by its factor, :math:`d^3 / H^2`.

    Traffic, in tables ``[I, d]``: two reads forward and two backward, of E and Δ, since Z is not
    stored; the gradient is written; Adam reads four and writes three; the moving average of the
    weights reads two and writes one.

    Args:
        model: The model.
        batch: B.
        num_items: I (default: that of the model; no other size depends on it).
    """
    items = model.num_items if num_items is None else num_items
    config = model.config
    d, heads = config.hidden_channels, config.num_heads
    content = sum(model.items.content.ranks) if model.items.content is not None else 0
    network = sum(w.numel() for w in model.cnet.blocks.parameters() if w.size(-2) > 1)
    # Rows of the matrices that take signals: all but those of the time embedding.
    signals = sum(
        w[:, d // heads :].numel()
        for name, w in model.cnet.blocks.named_parameters()
        if name.endswith("modulate.weight")
    )
    square = d * d // heads
    per_item = 2 * square + 2 * d + 2 * content * d
    negatives = config.objective.num_negatives * (3 * d + heads)
    per_user = negatives + 3 * network - signals + 4 * square + d
    flops = 2 * (items * per_item + batch * per_user + square * d // heads)
    tables = 2 + 2 + 1 + 7 + (3 if config.ema_decay else 0)
    size = model.items.weight.element_size()
    return Work(flops, tables * size * items * d)


class Rates(NamedTuple):
    """The rates that a machine reaches.

    Attributes:
        flops_per_second: In a large matrix product.
        bytes_per_second: In a large copy.
    """

    flops_per_second: float
    bytes_per_second: float

    def seconds(self, work: Work) -> float:
        """Return the least time of some work, its products and its traffic one after another."""
        return work.flops / self.flops_per_second + work.traffic_bytes / self.bytes_per_second


def measure_rates(device: torch.device) -> Rates:
    """Measure the rates of a device."""
    a = torch.randn(2048, 2048, device=device)
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    return Rates(
        2 * 2048**3 / timed(lambda: a @ a, device),
        2 * 4 * 2**26 / timed(lambda: target.copy_(source), device),
    )


def timed(call: Callable[[], Any], device: torch.device, repeats: int = 5) -> float:
    """Return the median seconds of a call, after one to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        start = clock(device)
        call()
        synchronize(device)
        seconds.append(clock(device) - start)
    return median(seconds[1:])


def counts_processor(device: torch.device) -> bool:
    """Return whether time is the processor's: where one thread computes on a CPU, so that the work
    of other processes does not count."""
    return device.type == "cpu" and torch.get_num_threads() == 1


def clock(device: torch.device) -> float:
    """Return the seconds of a clock; see :func:`counts_processor`."""
    return time.process_time() if counts_processor(device) else time.perf_counter()


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
