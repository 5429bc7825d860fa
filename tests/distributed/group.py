"""Groups of processes on this machine, connected by gloo."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

NUM = 2


def run_group(function: Callable[..., None], folder: Path, *args: Any) -> None:
    """Call ``function(folder, *args)`` in two processes; an error in one of them is raised."""
    torch.multiprocessing.spawn(_join, (function, folder, args), NUM)


def _join(rank: int, function: Callable[..., None], folder: Path, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    # As torchrun sets them.
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(NUM)}
    # A file instead of a port, which another test may take first.
    dist.init_process_group(
        "gloo", f"file://{folder}/group", timedelta(seconds=60), world_size=NUM, rank=rank
    )
    function(folder, *args)
    dist.destroy_process_group()
