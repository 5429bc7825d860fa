"""Detection of side effects of a reader."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType
from typing import Any, Self

# Events that only code from a file would cause: see Python's table of audit events.
FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.kill"),
    *("subprocess.Popen", "pty.spawn", "ctypes.dlopen", "socket.connect", "pickle.find_class"),
    *("os.symlink", "os.putenv", "shutil.rmtree"),
)
# Events of a change to a file, and how many of their arguments are paths.
CHANGING = {
    "os.remove": 1,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.chmod": 1,
    "os.truncate": 1,
    "os.rename": 2,
    "os.link": 2,
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class ExecutionWatch:
    """A recorder of every audit event in its block that runs code or changes files.

    Python cannot remove the hook; outside the block it does nothing.

    Args:
        folder: Folder in which files may be changed.

    Attributes:
        seen: Descriptions of the events.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.seen: list[str] = []
        self._active = False
        sys.addaudithook(self._hook)

    def __enter__(self) -> Self:
        self._active = True
        return self

    def __exit__(self, *error: object) -> None:
        self._active = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._active and self._runs_or_changes(event, arguments):
            self.seen.append(f"{event} {str(arguments)[:200]}")

    def _runs_or_changes(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "exec":
            # Modules of libraries are run when they are first imported; they come from files.
            code = arguments[0]
            return not (
                isinstance(code, CodeType) and code.co_filename.startswith(("/", "<frozen"))
            )
        if event == "open":
            path, mode, flags = arguments
            changes = bool(flags & WRITING) if isinstance(flags, int) else mode not in (None, "r")
            return changes and self._is_outside(path)
        if event in CHANGING:
            return any(self._is_outside(path) for path in arguments[: CHANGING[event]])
        return event in FORBIDDEN

    def _is_outside(self, path: Any) -> bool:
        if isinstance(path, int):
            return False  # A file that is open already was seen when it was opened.
        # The null device stores nothing, so that it can serve as a cache.
        return not os.path.abspath(os.fsdecode(path)).startswith((self.folder, os.devnull))
