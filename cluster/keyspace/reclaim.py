"""Freeing what is large a piece at a time, so that nobody waits for it.

Role        The last reference to a table of a million members costs 100 ms in one go. Large containers are therefore
            buried here instead of dropped, by whoever has just replaced them (FLUSHALL) or by their own ``__del__``,
            which sees every way in which a value can end (DEL, SET over it, RENAME, expiry, a failed load); the node's
            housekeeping then calls :meth:`Reclaimer.drain` for a millisecond or so at a time.
Invariants  What is buried belongs to nobody else. One element at a time is let go: what it holds of large containers
            comes back here through its ``__del__``.
Not threads A thread would hold the interpreter's lock as long as it frees.        Units  µs; elements.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from cluster.clock import monotonic_us

LARGE: Final = 8192
"""From so many elements on a container is buried; fewer are freed in less than a millisecond."""
LAZY_EFFORT: Final = 64
"""A value of more elements counts as freed lazily when UNLINK asks for it (LAZYFREE_THRESHOLD)."""
_PIECE: Final = 256


class Reclaimer:
    """What is still to be freed, first come, first served."""

    def __init__(self) -> None:
        self._graves: deque[tuple[Any, int]] = deque()
        self.pending_objects = 0
        """Keys whose values are not free yet (INFO lazyfree_pending_objects)."""
        self.freed_objects = 0
        self.buried = 0
        """How many containers have been buried ever."""

    def bury(self, container: list[Any] | dict[Any, Any] | deque[Any], objects: int = 0) -> None:
        """Free the elements of ``container`` later. ``objects``: for how many keys it counts as lazily freed."""
        self._graves.append((container, objects))
        self.buried += 1
        self.pending_objects += objects

    def __bool__(self) -> bool:
        return bool(self._graves)

    def drain(self, budget_us: int) -> bool:
        """Free until nothing is left or the time is used up; True if something is left."""
        graves = self._graves
        deadline_us = monotonic_us() + budget_us
        while graves:
            container, objects = graves[0]
            if not container:
                graves.popleft()
                self.pending_objects -= objects
                self.freed_objects += objects
                continue
            self._free_piece(container)
            if monotonic_us() >= deadline_us:
                return bool(graves)
        return False

    def _free_piece(self, container: list[Any] | dict[Any, Any] | deque[Any]) -> None:
        count = min(_PIECE, len(container))
        if isinstance(container, dict):
            for _ in range(count):
                container.popitem()
            return
        freed = 0
        while container and freed < _PIECE:
            element = container.pop()
            if isinstance(element, (dict, list, deque)):
                if len(element) > LARGE:
                    self.bury(element)
                else:
                    freed += len(element)
            freed += 1


RECLAIMER: Final = Reclaimer()
"""The one of this process: a ``__del__`` has no other way to find it."""
