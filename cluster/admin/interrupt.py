"""Ctrl-C between two steps instead of in the middle of one.

Role        The first Ctrl-C asks long work to stop where that leaves nothing half done; the second stops it at once.
Invariants  The handler found on entry is back in place on exit.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from cluster.admin.console import Console


class StopAtNextStep:
    """While entered, ``is_requested`` tells whether the person has pressed Ctrl-C."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.is_requested = False
        self._previous: object = None
        self._is_installed = False

    def __enter__(self) -> StopAtNextStep:
        try:
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
            self._is_installed = True
        except ValueError:
            pass  # Not the main thread: whoever runs us there handles signals.
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._is_installed:
            signal.signal(signal.SIGINT, self._previous)  # type: ignore[arg-type]  # What signal() itself returned.

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True
        self._console.complain("\n*** Stopping after this slot. Press Ctrl-C again to stop at once.")
