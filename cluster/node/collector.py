"""Python's garbage collector, kept from stopping the loop.

Role        Memory is freed by reference counts; the collector is there for cycles only, of which a request makes none.
            But a collection follows every reference of every container that it looks at, some 50 ns each, and a dict
            that holds one hash among a thousand strings is followed all through: collections that come by themselves
            are pauses of a second while a million keys are stored.
How         Nothing is collected by itself. Once a second :meth:`Collector.tick` decides: if few containers were made
            since the last time, so that they are not data, it collects those; then it *freezes* everything there is
            (moves it, at no cost, to where no collection looks). So no container is looked at twice, and data not at
            all. Frozen objects are freed by their reference counts like all others. Now and then, if it can be
            expected to be short, everything is looked at.
Price       Cycles that have been frozen and then become garbage stay until then, or until MEMORY PURGE, which takes
            the time it needs. The tests see to it that closed connections leave no cycles behind.
"""

from __future__ import annotations

import gc
import time
from typing import Final

from cluster.keyspace.database import SLOT_COUNT, Keyspace

YOUNG_REFERENCES: Final = 100_000
"""A collection of what is new must not have more to follow: about 5 ms."""
FULL_PAUSE_NS: Final = 30_000_000
"""A full collection must not be expected to take longer."""
FULL_EVERY_TICKS: Final = 300
_REFERENCE_NS: Final = 50
_OWN_REFERENCES: Final = 8
"""Of a container that is no dict of a slot."""


class Collector:
    """Decides when this process looks for cycles."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._ticks = 0
        self._full_ns = 0
        """What the last full collection took."""
        self._frozen_references = 0
        """What has been frozen since, at most."""

    def start(self) -> None:
        """The program is loaded: it will never be garbage."""
        gc.disable()
        self.collect_all()

    def tick(self) -> None:
        """Once a second: collect what is new if that is little, and freeze it."""
        self._ticks += 1
        made = gc.get_count()[0]
        if made:
            # Any of them may be a value that made its slot's dict one that collections look at.
            references = made * (_OWN_REFERENCES + 2 * sum(map(len, self._keyspace.databases)) // SLOT_COUNT)
            if references <= YOUNG_REFERENCES:
                gc.collect(0)
            self._frozen_references += references
            gc.freeze()
        expected_ns = self._full_ns + self._frozen_references * _REFERENCE_NS
        if self._ticks % FULL_EVERY_TICKS == 0 and expected_ns <= FULL_PAUSE_NS:
            self.collect_all()

    def collect_all(self) -> None:
        """Look at everything, frozen or not, whatever it takes (MEMORY PURGE)."""
        began_ns = time.perf_counter_ns()
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._full_ns = time.perf_counter_ns() - began_ns
        self._frozen_references = 0
