"""The software watchdog: what stands still too long is told in the log, with its place."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.servers import OurNode
from tests.support.waiting import eventually

REPORT = "--- WATCHDOG TIMER EXPIRED ---"


@pytest.fixture
def node() -> Iterator[OurNode]:
    """A node whose housekeeping has begun."""
    with OurNode() as node:
        eventually(lambda: "Ready to accept connections" in node.log_text())
        yield node


def test_a_loop_that_stands_still_is_reported_once_with_its_place(node: OurNode) -> None:
    assert node.call("CONFIG", "SET", "watchdog-period", 300) == b"OK"
    node.call("DEBUG", "SLEEP", 1)
    log = node.log_text()
    assert log.count(REPORT) == 1
    assert "stand_still" in log


def test_the_alarm_is_set_anew_once_the_loop_comes_round(node: OurNode) -> None:
    node.call("CONFIG", "SET", "watchdog-period", 300)

    def is_reported_again() -> bool:
        node.call("DEBUG", "SLEEP", 0.5)
        return node.log_text().count(REPORT) >= 2

    eventually(is_reported_again)


def test_a_loop_that_comes_round_is_not_reported(node: OurNode) -> None:
    node.call("CONFIG", "SET", "watchdog-period", 1500)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        assert node.call("PING") == b"PONG"
        time.sleep(0.01)
    assert REPORT not in node.log_text()


def test_a_data_set_being_loaded_counts_as_standing_still() -> None:
    with OurNode(watchdog_period=300, key_load_delay=20_000) as node:
        node.call("DEBUG", "POPULATE", 50)
        node.call("DEBUG", "RELOAD")
        assert REPORT in node.log_text()


def test_without_a_period_there_is_no_alarm() -> None:
    with OurNode(watchdog_period=300) as node:
        assert node.call("CONFIG", "SET", "watchdog-period", 0) == b"OK"
        node.call("DEBUG", "SLEEP", 0.6)
        assert REPORT not in node.log_text()


def test_a_period_that_housekeeping_cannot_keep_is_lengthened() -> None:
    with OurNode(hz=10) as node:
        assert node.call("CONFIG", "SET", "watchdog-period", 1) == b"OK"
        assert node.call("CONFIG", "GET", "watchdog-period") == [b"watchdog-period", b"200"]


def test_a_restart_takes_no_alarm_along() -> None:
    with OurNode() as node:
        run_id = node.info("server")["run_id"]
        node.call("CONFIG", "SET", "watchdog-period", 200)
        with node.raw() as client:
            client.send("DEBUG", "CRASH-AND-RECOVER", 300)  # Longer than the alarm has left.
            assert client.recv_until_closed() == b""
        eventually(lambda: node.info("server")["run_id"] != run_id, 20)
        assert node.running
