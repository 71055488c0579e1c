"""What a piece of work costs, counted instead of timed: the same figures on an idle machine and on a busy one.

    with counted_calls() as calls:
        value.slice(500_000, 500_600)
    assert calls.count < 50

A loop that calls nothing, and the inside of one call into C, are not seen by `counted_calls`; `allocated_bytes` sees
what is copied there.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import attrs


@attrs.define
class Calls:
    """Function calls, of Python's functions and of C's."""

    count: int = 0


class TooManyCalls(AssertionError):
    """The work was stopped: it had cost more than it may."""


@contextmanager
def counted_calls(at_most: int | None = None) -> Iterator[Calls]:
    """Count the calls in the block; with `at_most`, stop it by TooManyCalls rather than let it go on for ever."""
    calls = Calls()

    def note(_frame: FrameType, event: str, _argument: Any) -> None:
        if event in ("call", "c_call"):
            calls.count += 1
            if at_most is not None and calls.count > at_most:
                raise TooManyCalls(f"more than {at_most} calls")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def allocated_bytes(steps: Iterable[Callable[[], object]]) -> int:
    """The sum of what each step had allocated at its worst moment, beyond what it found.

    A step that copies everything it holds shows here, though it gives the old copy back; one that adds a little to a
    buffer with room to spare does not. The steps are made by the iterable, whose own work is not counted.
    """
    total = 0
    tracemalloc.start()
    try:
        for step in steps:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            step()
            total += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return total
