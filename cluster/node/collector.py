"""Python's garbage collector, kept from stopping the loop.

Role        Memory is freed by reference counts; the collector is there for cycles only, of which a request makes none
            and a connection or an exception few. But a full collection looks at every container there is, some 90 ns
            each: a million hashes are a pause of 100 ms, again and again as they become more.
How         Young objects are collected automatically, in portions that take less than YOUNG_PAUSE. The old generation
            is never collected by itself. Once a second :meth:`Collector.tick` decides: while a full collection can be
            expected to be short it does one; beyond that, what has grown old is taken for data and *frozen* (moved
            where no collection looks, at no cost). Frozen objects are still freed by their reference counts.
Price       Cycles that grow old before they are frozen and then become garbage stay until MEMORY PURGE, which looks
            at everything and takes its time. The tests see to it that closed connections leave none.
"""

from __future__ import annotations

import gc
import time
from typing import Final

YOUNG_OBJECTS: Final = 10_000
MIDDLE_ROUNDS: Final = 8
"""Collections of the middle generation, 80,000 objects at most: about 5 ms."""
NEVER: Final = 1_000_000_000
FULL_PAUSE_NS: Final = 10_000_000
"""A full collection must not be expected to take longer."""
_OBJECT_NS: Final = 90


class Collector:
    """Decides when this process looks for cycles."""

    def __init__(self) -> None:
        self._full_ns = 0
        """What the last full collection took."""

    def start(self) -> None:
        """The program is loaded: it will never be garbage."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, MIDDLE_ROUNDS, NEVER)

    def tick(self) -> None:
        """Once a second: a full collection if it is short, or freeze what has grown old."""
        rounds = gc.get_count()[2]
        if not rounds:
            return  # Nothing has grown old since.
        expected_ns = self._full_ns + rounds * YOUNG_OBJECTS * MIDDLE_ROUNDS * _OBJECT_NS
        if expected_ns > FULL_PAUSE_NS:
            gc.freeze()
            self._full_ns = 0
            return
        self._collect()

    def _collect(self) -> None:
        began_ns = time.perf_counter_ns()
        gc.collect()
        self._full_ns = time.perf_counter_ns() - began_ns

    def collect_all(self) -> None:
        """Look at everything, frozen or not, whatever it takes (MEMORY PURGE)."""
        gc.unfreeze()
        self._collect()
        gc.freeze()
        self._full_ns = 0
