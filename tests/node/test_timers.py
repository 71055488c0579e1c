"""Timers: in order, once, cancelled without a trace, and unharmed by a callback that raises."""

from __future__ import annotations

import trio
import trio.testing

from cluster import clock
from cluster.node.timers import Timers


def _fail() -> None:
    raise ZeroDivisionError


def _unexpected() -> None:
    raise AssertionError("reported")


def test_they_are_called_back_in_the_order_of_their_times() -> None:
    timers = Timers(_unexpected)
    called: list[int] = []
    for at_ms in (30, 10, 20, 10):
        timers.call_at(at_ms, lambda at_ms=at_ms: called.append(at_ms))  # type: ignore[misc]
    timers.run_due(9)
    assert called == []
    timers.run_due(20)
    assert called == [10, 10, 20]
    timers.run_due(1000)
    assert called == [10, 10, 20, 30] and len(timers) == 0


def test_a_cancelled_timer_is_never_called_and_leaves_nothing() -> None:
    timers = Timers(_unexpected)
    called: list[str] = []
    kept = timers.call_at(10**12, lambda: called.append("kept"))
    for _ in range(100_000):
        timers.call_at(10**12, lambda: called.append("cancelled")).cancel()
    assert len(timers) < 200
    timers.run_due(10**12)
    assert called == ["kept"]
    kept.cancel()  # Too late, and no harm.
    assert not kept.is_pending


def test_an_exception_is_reported_and_the_others_go_on() -> None:
    reports: list[int] = []
    timers = Timers(lambda: reports.append(1))
    called: list[int] = []
    timers.call_at(1, _fail)
    timers.call_at(2, lambda: called.append(2))
    timers.run_due(5)
    assert reports == [1] and called == [2]


def test_a_callback_may_set_the_next_timer() -> None:
    timers = Timers(_unexpected)
    called: list[str] = []
    timers.call_at(1, lambda: timers.call_at(2, lambda: called.append("second")) and None)
    timers.run_due(5)
    assert called == ["second"]


def test_the_task_wakes_for_a_timer_that_is_due_before_the_one_it_sleeps_for() -> None:
    async def main() -> None:
        timers = Timers(_unexpected)
        early = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timers.run)
            timers.call_at(clock.monotonic_ms() + 3_600_000, _unexpected)
            await trio.testing.wait_all_tasks_blocked()
            timers.call_at(clock.monotonic_ms() + 5, early.set)
            await early.wait()  # The other one is due in an hour.
            nursery.cancel_scope.cancel()

    trio.run(main)
