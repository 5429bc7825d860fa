"""Notices when a RUN folder holds another model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from graphdiff.models.storage import CONFIG

#: What identifies the configuration of a RUN, whose replacement is the commit of a new model.
Seen = tuple[int, int, int] | None


async def model_changes(run: Callable[[], Path | None], seconds: float) -> AsyncIterator[None]:
    """Yield whenever ``config.yaml`` of a RUN folder was replaced.

    Args:
        run: Returns the folder; None for a model from no folder, which never changes.
        seconds: Time between two looks.
    """
    folder = run()
    last = _seen(folder)
    while True:
        await asyncio.sleep(seconds)
        found = run(), _seen(run())
        if found[0] == folder and found[1] not in (None, last):
            yield
        folder, last = found


def _seen(folder: Path | None) -> Seen:
    if folder is None:
        return None
    try:
        status = (folder / CONFIG).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
