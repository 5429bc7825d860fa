"""Refusal of files that claim more content than this machine has memory."""

from __future__ import annotations

import os
from pathlib import Path

from graphdiff.errors import DataError


def require_memory(needed: int, path: str | Path) -> None:
    """Raise if the content of a file would not fit into this machine's memory.

    A column of one repeated value takes a few bytes on disk whatever its length, so the size of a
    file does not bound what it unpacks to; its header does.

    Args:
        needed: Bytes that the content takes at least.
        path: The file, for the message.

    Raises:
        DataError: If there is not that much memory in the machine.
    """
    total = physical_memory()
    if total is not None and needed > total:
        raise DataError(
            f"{path} claims content of {needed / 2**30:.1f} GiB, but this machine has "
            f"{total / 2**30:.1f} GiB of memory; the file is damaged, or needs a larger machine"
        )


def physical_memory() -> int | None:
    """Return the bytes of memory in this machine, or None if the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
