"""The most memory that a block of code holds at a time."""

from __future__ import annotations

import gc
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures a ``with`` block.

    On Linux the kernel's high-water mark of resident memory is put back to what is resident before
    the block. Elsewhere it is that of the whole process so far, so that only a process which has
    done nothing else before gives a fair figure. What libraries take is part of it:
    ``memory_before_bytes`` tells how much was there before the block.
    """

    def __enter__(self) -> Self:
        gc.collect()
        self.cuda = torch.cuda.is_available()
        if self.cuda:
            torch.cuda.init()
            torch.cuda.reset_peak_memory_stats()
        # Where it is not Linux, or /proc cannot be written, the mark stays where it is.
        with suppress(OSError):
            CLEAR.write_text("5")
        self._before = resident_bytes()
        self._peak: int | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._peak = peak_bytes()
        self._peak_cuda = torch.cuda.max_memory_allocated() if self.cuda else None

    def figures(self) -> dict[str, int]:
        """``peak_memory_bytes`` and ``memory_before_bytes`` of the process, where the system tells,
        and ``peak_cuda_bytes``, the most that tensors took, where there is CUDA."""
        found = {
            "peak_memory_bytes": self._peak,
            "memory_before_bytes": self._before,
            "peak_cuda_bytes": self._peak_cuda,
        }
        return {name: value for name, value in found.items() if value is not None}


def resident_bytes() -> int | None:
    """Memory of this process that is in RAM now; None where the system does not say."""
    return _status("VmRSS")


def peak_bytes() -> int | None:
    """The most memory of this process that was in RAM at a time; None where it is not known."""
    peak = _status("VmHWM")
    if peak is None and sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Kibibytes but for macOS, which counts bytes.
        peak *= 1 if sys.platform == "darwin" else 1024
    return peak


def _status(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) * 1024 if found else None
