"""Turning SIGINT and SIGTERM into a request that the training loop sees between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal, after saving a checkpoint.

    Attributes:
        signal_number: SIGINT or SIGTERM; the exit status is 128 more.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class StopRequest:
    """Context in which the first signal is noted and a second one interrupts at once.

    A KeyboardInterrupt may fall between two parameters of an optimiser step; the loop therefore
    asks for ``received`` where its state is whole. Only the main thread can handle signals: in
    others nothing changes.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the former handlers back."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            # None: installed from outside Python, which signal.signal cannot put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former.clear()
