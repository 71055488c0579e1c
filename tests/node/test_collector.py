"""When cycles are collected, and that data is not looked at."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from cluster.keyspace.database import Keyspace
from cluster.node.collector import FULL_EVERY_TICKS, FULL_PAUSE_NS, Collector


class Knot:
    """An object in a cycle of its own."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector() -> Iterator[Collector]:
    was_enabled, thresholds = gc.isenabled(), gc.get_threshold()
    collector = Collector(Keyspace(1))
    collector.start()
    yield collector
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    if was_enabled:
        gc.enable()


def test_nothing_is_collected_by_itself(collector: Collector) -> None:
    knot = weakref.ref(Knot())
    kept = [[] for _ in range(200_000)]
    assert knot() is not None
    assert kept


def test_a_little_that_is_new_is_collected(collector: Collector) -> None:
    knot = weakref.ref(Knot())
    collector.tick()
    assert knot() is None


def test_much_that_is_new_is_data_and_frozen(collector: Collector) -> None:
    frozen = gc.get_freeze_count()
    knot = weakref.ref(Knot())
    kept = [[] for _ in range(50_000)]
    collector.tick()
    assert knot() is not None
    assert gc.get_freeze_count() >= frozen + 50_000
    collector._full_ns = FULL_PAUSE_NS
    for _ in range(2 * FULL_EVERY_TICKS):  # All of it would take too long.
        collector.tick()
    assert knot() is not None
    collector.collect_all()
    assert knot() is None
    assert kept


def test_everything_is_looked_at_now_and_then_while_that_is_short(collector: Collector) -> None:
    knot = Knot()
    collector.tick()  # Frozen while it was alive.
    gone = weakref.ref(knot)
    del knot
    collector.tick()
    assert gone() is not None
    collector._full_ns = 0
    for _ in range(FULL_EVERY_TICKS):
        collector.tick()
    assert gone() is None
