"""The peak memory of a block of code."""

from __future__ import annotations

import gc
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """The peak memory of a ``with`` block.

    On Linux the kernel's high-water mark of resident memory is reset before the block. Elsewhere
    the mark is that of the whole process so far, so that the figure is fair only in a process that
    has done nothing else. Memory of libraries is included: ``memory_before_bytes`` is what was
    resident before the block.
    """

    def __enter__(self) -> Self:
        gc.collect()
        self.cuda = torch.cuda.is_available()
        if self.cuda:
            torch.cuda.init()
            torch.cuda.reset_peak_memory_stats()
        # Outside Linux, or where /proc is read-only, the mark is not reset.
        with suppress(OSError):
            CLEAR.write_text("5")
        self._before = resident_bytes()
        self._peak: int | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._peak = peak_bytes()
        if self._peak is not None and self._before is not None:
            # The kernel counts pages in batches, so that its mark may miss the latest of them.
            self._peak = max(self._peak, self._before)
        self._peak_cuda = torch.cuda.max_memory_allocated() if self.cuda else None

    def figures(self) -> dict[str, int]:
        """Return ``peak_memory_bytes`` and ``memory_before_bytes`` of the process, where the
        system reports them, and with CUDA ``peak_cuda_bytes``, the peak of all tensors."""
        found = {
            "peak_memory_bytes": self._peak,
            "memory_before_bytes": self._before,
            "peak_cuda_bytes": self._peak_cuda,
        }
        return {name: value for name, value in found.items() if value is not None}


class SampledMemory:
    """The largest resident memory that belongs to no file, sampled during a ``with`` block.

    Pages of mapped files count as resident as long as nothing else needs their memory, and the
    system drops them otherwise. What remains is the memory that a process cannot do without; the
    kernel keeps no high-water mark of it. Only on Linux; elsewhere ``peak`` stays None.

    Args:
        interval: Seconds between two samples.

    Attributes:
        peak: Bytes.
    """

    def __init__(self, interval: float = 0.02) -> None:
        self.interval = interval
        self.peak: int | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            done = self._done.wait(self.interval)
            found = _status("RssAnon")
            if found is not None:
                self.peak = max(found, self.peak or 0)
            if done:
                return


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None where the system does not report it."""
    return _status("VmRSS")


def peak_bytes() -> int | None:
    """Return the peak resident memory of this process; None where it is not known."""
    peak = _status("VmHWM")
    if peak is None and sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Kibibytes, except on macOS, which counts bytes.
        peak *= 1 if sys.platform == "darwin" else 1024
    return peak


def _status(name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) * 1024 if found else None
