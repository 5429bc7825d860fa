"""Stop requests by signals, to be acted on between two batches."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class StopRequest:
    """Context in which Ctrl-C (SIGINT) and SIGTERM only set :attr:`signal`.

    A second Ctrl-C raises :class:`KeyboardInterrupt` at once, as usual. Python delivers signals to
    the main thread alone; in another thread nothing is changed.
    """

    #: Number of the signal received; None until then.
    signal: int | None = None

    def __enter__(self) -> Self:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # A handler that was not set from Python comes as None and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
