"""Deadlines to the millisecond: one trio task that sleeps until the earliest one.

For what the 100 ms housekeeping is too coarse for: blocked clients' time-outs, the end of a pause, full-sync delays.
Units: monotonic ms (the clock of :mod:`cluster.clock`).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import trio

from cluster import clock


class Timers:
    """A heap of callbacks. A callback runs at most once, in the timer task, and must not block."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self._changed = trio.Event()

    def call_at(self, at_ms: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` at or just after the monotonic time ``at_ms``. It must check that it is still wanted."""
        heapq.heappush(self._heap, (at_ms, next(self._ticket), callback))
        if self._heap[0][0] == at_ms:
            self._changed.set()

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
            self._run_due()
            await trio.lowlevel.checkpoint()

    def _run_due(self) -> None:
        now_ms = clock.monotonic_ms()
        while self._heap and self._heap[0][0] <= now_ms:
            _at_ms, _ticket, callback = heapq.heappop(self._heap)
            callback()
