"""Errors that graphdiff raises about a request, a file, a folder or data.

Every message states what was found, what was expected and what to do. All of them derive from
:class:`GraphDiffError`, so that one ``except`` catches them and the command line can print them on
one line. ``docs/errors.md`` lists the remedy of each.
"""

from __future__ import annotations

import signal


class GraphDiffError(Exception):
    """Base class of every error that graphdiff raises on purpose."""


class DataError(GraphDiffError, ValueError):
    """Data that does not fit the schema, or a file without the expected content."""


class ConfigError(GraphDiffError, ValueError):
    """A setting that does not exist, or a value outside its range."""


class RunError(GraphDiffError):
    """A RUN folder that is missing, incomplete, or belongs to other data."""


class TrainingError(GraphDiffError, ArithmeticError):
    """A training that cannot continue, because a loss or a gradient is not finite."""


class StorageError(GraphDiffError, OSError):
    """A file or folder that cannot be written. Files that were there are unchanged.

    Raised like any :class:`OSError`, with ``errno``, ``strerror`` and ``filename``.
    """

    def __str__(self) -> str:
        return (
            f"{self.filename} cannot be written: {self.strerror}; what was there before is "
            "unchanged, so make room or give another folder"
        )


class Interrupted(KeyboardInterrupt):
    """A training stopped by Ctrl-C or SIGTERM, after the current batch.

    It is not a :class:`GraphDiffError`, so that a loop that catches errors does not continue with
    its next training after a request to stop.

    Args:
        message: What was saved, and how to resume.
        signal: Number of the signal.
    """

    def __init__(self, message: str, signal: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal = signal
