"""The software watchdog: what stands still too long is told in the log, with its place."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from cluster import clock
from cluster.node.cron import Cron
from tests.support.servers import OurNode
from tests.support.sessions import ServerBench
from tests.support.waiting import eventually

REPORT = "--- WATCHDOG TIMER EXPIRED ---"


@pytest.fixture
def node() -> Iterator[OurNode]:
    """A node whose housekeeping has begun."""
    with OurNode() as node:
        eventually(lambda: "Ready to accept connections" in node.log_text())
        yield node


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """What the alarm clock of this process would have been set to: after how many seconds, and how often again."""
    settings: list[tuple[float, float]] = []
    monkeypatch.setattr(signal, "setitimer", lambda _timer, after, every=0.0: settings.append((after, every)))
    monkeypatch.setattr(signal, "signal", lambda _number, _handler: None)
    return settings


def test_a_loop_that_stands_still_is_reported_with_its_place(node: OurNode) -> None:
    assert node.call("CONFIG", "SET", "watchdog-period", 300) == b"OK"
    node.call("DEBUG", "SLEEP", 1)
    log = node.log_text()
    assert REPORT in log
    assert "stand_still" in log


def test_an_alarm_goes_off_once_and_is_put_off_whenever_the_loop_comes_round(alarms: list[tuple[float, float]]) -> None:
    with ServerBench() as bench:
        bench.server.settings.watchdog_period = 1500
        bench.server.watchdog.settings_changed()
        assert alarms == [(1.5, 0.0)]
        cron = Cron(bench.server)
        cron.run_due(clock.monotonic_ms())
        assert alarms == 2 * [(1.5, 0.0)]
        bench.server.settings.watchdog_period = 0
        bench.server.watchdog.settings_changed()
        cron.run_due(clock.monotonic_ms())
        assert alarms[2:] == [(0.0, 0.0)]


def test_the_alarm_is_set_anew_once_the_loop_comes_round(node: OurNode) -> None:
    node.call("CONFIG", "SET", "watchdog-period", 300)

    def is_reported_again() -> bool:
        node.call("DEBUG", "SLEEP", 0.5)
        return node.log_text().count(REPORT) >= 2

    eventually(is_reported_again)


def test_a_data_set_being_loaded_counts_as_standing_still() -> None:
    with OurNode(watchdog_period=300, key_load_delay=20_000) as node:
        node.call("DEBUG", "POPULATE", 50)
        node.call("DEBUG", "RELOAD")
        assert REPORT in node.log_text()


def test_without_a_period_there_is_no_alarm() -> None:
    with OurNode(watchdog_period=300) as node:
        assert node.call("CONFIG", "SET", "watchdog-period", 0) == b"OK"
        before = node.log_text().count(REPORT)  # A busy machine may have let it stand still.
        node.call("DEBUG", "SLEEP", 0.6)
        assert node.log_text().count(REPORT) == before


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
