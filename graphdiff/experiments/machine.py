"""The machine that figures are measured on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

import graphdiff


def machine(jobs: int = 1) -> dict[str, Any]:
    """Return a description of this machine and the software on it.

    Args:
        jobs: Number of trainings that run side by side and share the threads.
    """
    return {
        "processor": _processor(),
        "threads": threads_each(jobs),
        **({"jobs": jobs} if jobs > 1 else {}),
        "device": device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "graphdiff": graphdiff.__version__,
    }


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or the type of another device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def describe(found: dict[str, Any]) -> str:
    """Return what :func:`machine` found as words for the foot of a page."""
    several = f", {found['jobs']} trainings side by side" if "jobs" in found else ""
    if found.get("in_process"):
        several += ", all trainings in one process"
    return (
        f"{found['processor']}, {found['threads']} thread(s){several}, {found['device']}; "
        f"torch {found['torch']}"
    )


def threads_each(jobs: int) -> int:
    """Return the number of threads for each of ``jobs`` trainings side by side."""
    return max(1, torch.get_num_threads() // jobs)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
