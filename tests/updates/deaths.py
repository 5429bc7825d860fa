"""Deaths of a process, simulated within it, at each step that changes a file or folder."""

import os
import sys
from contextlib import contextmanager

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Death(BaseException):
    """The end of the process; nothing that follows can change a file."""


class _Steps:
    """Counts steps, and from one of them on lets none happen: not those that clean up either."""

    def __init__(self):
        self.active, self.count, self.last = False, 0, None

    def __call__(self, event, arguments):
        if not self.active:
            return
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if opens or event in CHANGES:
            self.count += 1
            if self.last is not None and self.count >= self.last:
                raise Death


_STEPS = _Steps()


@contextmanager
def dying_at(step=None):
    """Let this process die at a step, from 1 on; yield the counter of steps."""
    if not hasattr(_STEPS, "installed"):
        sys.addaudithook(_STEPS)  # It cannot be removed.
        _STEPS.installed = True
    _STEPS.active, _STEPS.count, _STEPS.last = True, 0, step
    try:
        yield _STEPS
    finally:
        _STEPS.active = False
