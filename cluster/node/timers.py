"""Deadlines to the millisecond: one trio task that sleeps until the earliest one.

For what the 100 ms housekeeping is too coarse for: blocked clients' time-outs, the end of a pause, full-sync delays.
A cancelled timer lets go of its callback at once and of its place soon: clients that wait with long time-outs and are
served early leave nothing behind. Units: monotonic ms (the clock of :mod:`cluster.clock`).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import attrs
import trio

from cluster import clock

_CANCELLED_MAX = 64
"""Cancelled timers that may lie in the heap whatever its size; beyond, half of it."""


@attrs.define(eq=False)
class Timer:
    """One callback that is due at some time."""

    _timers: Timers
    _callback: Callable[[], None] | None

    def cancel(self) -> None:
        """Never call back. Does nothing when that has happened already."""
        if self._callback is not None:
            self._callback = None
            self._timers.note_cancelled()

    def take(self) -> Callable[[], None] | None:
        """The callback, the first time; None when it was cancelled."""
        callback, self._callback = self._callback, None
        return callback

    @property
    def is_pending(self) -> bool:
        """False once it was called back or cancelled."""
        return self._callback is not None


class Timers:
    """A heap of timers. A callback runs at most once, in the timer task, and must not block.

    ``report`` is called while an exception of a callback is being handled: the other timers go on.
    """

    def __init__(self, report: Callable[[], None]) -> None:
        self._report = report
        self._heap: list[tuple[int, int, Timer]] = []
        self._ticket = itertools.count()
        self._cancelled = 0
        self._changed = trio.Event()

    def call_at(self, at_ms: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at or just after the monotonic time ``at_ms``, unless the timer is cancelled before."""
        timer = Timer(self, callback)
        heapq.heappush(self._heap, (at_ms, next(self._ticket), timer))
        if self._heap[0][2] is timer:
            self._changed.set()
        return timer

    def note_cancelled(self) -> None:
        """A timer in the heap will not be called; many of them are swept out."""
        self._cancelled += 1
        if self._cancelled > max(_CANCELLED_MAX, len(self._heap) // 2):
            self._heap = [entry for entry in self._heap if entry[2].is_pending]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def __len__(self) -> int:
        """Places taken, by cancelled timers too."""
        return len(self._heap)

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            self._changed = trio.Event()
            wait_ms = self._heap[0][0] - clock.monotonic_ms() if self._heap else None
            if wait_ms is None:
                await self._changed.wait()
            elif wait_ms > 0:
                with trio.move_on_after(wait_ms / 1000):
                    await self._changed.wait()
            self.run_due(clock.monotonic_ms())
            await trio.lowlevel.checkpoint()

    def run_due(self, now_ms: int) -> None:
        """Call back whoever is due."""
        while self._heap and self._heap[0][0] <= now_ms:
            _at_ms, _ticket, timer = heapq.heappop(self._heap)
            callback = timer.take()
            if callback is None:
                self._cancelled = max(self._cancelled - 1, 0)
                continue
            try:
                callback()
            except Exception:
                self._report()
