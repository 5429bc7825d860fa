"""Refusing, before memory is taken, what a file claims to hold and no machine could."""

from __future__ import annotations

import os
from pathlib import Path

from graphdiff.errors import DataError


def require_memory(needed: int, path: str | Path) -> None:
    """Refuses a file whose content would not fit into this machine's memory.

    A column of one repeated value takes a few bytes on disk whatever its length, so the size of a
    file says nothing about what it unpacks to; what its header claims does.

    Args:
        needed: Bytes that the content will take at least.
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
    """Bytes of memory in this machine, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
