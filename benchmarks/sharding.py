"""What a process holds and exchanges when the items of LD4MRec are divided.

    python benchmarks/sharding.py --items 200000 --processes 1 2 --out sharding.json

For each number of processes, on power-law interactions (20 per user, as many users as items) with
two modalities: the MiB that a process holds after some steps (parameters, buffers, gradients, the
moments of Adam, propagated tables), the memory of the process beyond that of its imports, the bytes
that it received over TCP in a step, and the median seconds of a step. The processes run on this
machine, connected by gloo.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from power_law import power_law_graph
from scaling_step import SETTINGS, Size
from sockets import received_bytes

from graphdiff.experiments.machine import machine
from graphdiff.experiments.memory import resident_bytes
from graphdiff.files import write_text
from graphdiff.models import LD4MRec
from graphdiff.models.ld4mrec.sharded import shard

MIB, STEPS = 2**20, 5


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(given)
    size = Size(arguments.items, arguments.batch, arguments.dim)
    found = {num: run(size, num) for num in arguments.processes}
    result = {"size": size._asdict(), "machine": machine(), "processes": found}
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    for num, figures in found.items():
        print(num, *(f"{name}: {value:.6g}" for name, value in figures.items()), sep="  ")


def run(size: Size, num: int) -> dict[str, float]:
    """Return the figures of the process that has most."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_measure, (size, num, Path(folder)), num)
        each = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    return {name: max(one[name] for one in each) for name in each[0]}


def _measure(rank: int, size: Size, num: int, folder: Path) -> None:
    torch.set_num_threads(1)
    imports = resident_bytes()
    if num > 1:
        store = f"file://{folder}/group"
        timeout = timedelta(minutes=10)
        dist.init_process_group("gloo", store, timeout, world_size=num, rank=rank)
    generator = torch.Generator().manual_seed(0)
    settings = {"hidden_channels": size.dim, **SETTINGS, "linear_path.enabled": False}
    graph = power_law_graph(size.items, modalities=True)
    model = shard(LD4MRec(LD4MRec.configure(**settings), graph), generator)
    del graph
    gc.collect()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    batches = torch.randperm(model.num_users, generator=generator).split(size.batch)
    seconds, received = [], []
    for batch in batches[: STEPS + 1]:
        before, start = received_bytes(), time.perf_counter()
        model.loss(batch, generator).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        received.append((received_bytes() or 0) - (before or 0))
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        optimizer.zero_grad()
    figures = {
        "held_mib": held_bytes(model, gradients, optimizer) / MIB,
        "memory_mib": (resident_bytes() - imports) / MIB,
        # The first step propagates.
        "propagation_mib": received[0] / MIB,
        "step_mib": median(received[1:]) / MIB,
        "step_seconds": median(seconds[1:]),
    }
    (folder / f"{rank}.json").write_text(json.dumps(figures))
    if num > 1:
        dist.barrier()
        dist.destroy_process_group()


def held_bytes(model: Any, gradients: list[torch.Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of all that a training keeps between two steps, and of its gradients."""
    moments = [x for state in optimizer.state.values() for x in state.values()]
    encoder, signal_tables, _ = model.messages._last
    tensors = [*model.state_dict().values(), *gradients, *moments, encoder, signal_tables]
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return sum(storages.values())


if __name__ == "__main__":
    main()
