"""A request to stop that waits for a good moment."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class StopRequest:
    """Within its block, Ctrl-C (SIGINT) and SIGTERM only leave a note in :attr:`signal`.

    A second Ctrl-C raises :class:`KeyboardInterrupt` at once, as ever. Only the main thread can
    listen to signals; in another thread nothing is changed.
    """

    #: Number of the signal that came; None as long as none has.
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
            # A handler that Python has not set comes as None and cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
