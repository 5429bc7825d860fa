"""What graphdiff raises when a person, a file or a folder is at fault.

Every message says what was found, what was expected and what to do. All of them
derive from :class:`GraphDiffError`, so that one ``except`` catches them and the
command line can print them on one line. ``docs/errors.md`` tells the cure of each.
"""

from __future__ import annotations

import signal


class GraphDiffError(Exception):
    """Base class of every error that graphdiff raises on purpose."""


class DataError(GraphDiffError, ValueError):
    """Data that does not fit the schema, or a file that does not hold what it should."""


class ConfigError(GraphDiffError, ValueError):
    """A setting that does not exist, or a value outside its range."""


class RunError(GraphDiffError):
    """A RUN folder that is missing, incomplete, or belongs to other data."""


class TrainingError(GraphDiffError, ArithmeticError):
    """A training that cannot go on, because a loss or a gradient is not a finite number."""


class StorageError(GraphDiffError, OSError):
    """A file or folder that cannot be written. What was there before is still whole.

    Raised like any :class:`OSError`, with ``errno``, ``strerror`` and ``filename``.
    """

    def __str__(self) -> str:
        return (
            f"{self.filename} cannot be written: {self.strerror}; what was there before is "
            "unchanged, so make room or give another folder"
        )


class Interrupted(KeyboardInterrupt):
    """A training stopped by Ctrl-C or by a request to end, after the batch at hand.

    It is no :class:`GraphDiffError`: who asks a program to stop does not want it to go on with the
    next training because errors are caught.

    Args:
        message: What was kept, and how to go on.
        signal: The signal's number.
    """

    def __init__(self, message: str, signal: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal = signal
