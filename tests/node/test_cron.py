"""Housekeeping: periods, failing jobs, active expiry, idle clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster import clock
from cluster.keyspace.reclaim import RECLAIMER
from cluster.node.cron import Cron
from cluster.slots.hashing import key_slot
from tests.support.sessions import ServerBench
from tests.support.still_time import StillTime


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as server:
        server.server.migrate_connections = _NoConnections()  # type: ignore[assignment]
        yield server


def _fail() -> None:
    raise ZeroDivisionError


class _NoConnections:
    def close_idle(self, now_ms: int) -> None:
        pass


def _with_jobs(bench: ServerBench, *jobs: tuple[int, object]) -> Cron:
    cron = Cron(bench.server)
    cron._jobs = list(jobs)  # type: ignore[arg-type]
    cron._due_ms = [0] * len(jobs)
    return cron


def test_each_job_has_its_period(bench: ServerBench) -> None:
    runs: list[str] = []
    cron = _with_jobs(bench, (100, lambda: runs.append("often")), (1000, lambda: runs.append("seldom")))
    for now_ms in range(100_000, 103_000, 100):
        cron.run_due(now_ms)
    assert runs.count("often") == 30 and runs.count("seldom") == 3


def test_a_job_that_raises_is_counted_and_the_others_run(bench: ServerBench) -> None:
    runs: list[int] = []
    cron = _with_jobs(bench, (100, _fail), (100, lambda: runs.append(1)))
    cron.run_due(100_000)
    assert runs == [1] and bench.server.statistics.internal_errors == 1


def _store_expired(bench: ServerBench, count: int) -> None:
    database = bench.server.keyspace.databases[0]
    for number in range(count):
        key = b"%d" % number
        database.put(key, key_slot(key), b"v")
        database.set_expiry(key, 1)


def test_expired_keys_go_without_anybody_asking_each_replicated_by_itself(bench: ServerBench) -> None:
    units: list[list[tuple[int, list[bytes]]]] = []
    bench.server.replicate = units.append  # type: ignore[method-assign, assignment]
    bench.server.keyspace.followed = True
    _store_expired(bench, 3)
    cron = Cron(bench.server)
    cron.run_due(clock.monotonic_ms())
    assert len(bench.server.keyspace.databases[0]) == 0
    assert sorted(units) == [[(0, [b"DEL", b"%d" % number])] for number in range(3)]


@pytest.mark.parametrize("is_lazy", [False, True])
def test_what_a_large_value_leaves_is_freed_at_once_or_later(
    bench: ServerBench, still_time: StillTime, is_lazy: bool
) -> None:
    client = bench.connect()
    client.ask("CONFIG", "SET", "lazyfree-lazy-expire", "yes" if is_lazy else "no")
    for start in range(0, 60_000, 10_000):
        client.ask("SADD", "s", *(f"m{number}" for number in range(start, start + 10_000)))
    client.ask("PEXPIRE", "s", "1")
    still_time.pass_ms(2)
    cron = Cron(bench.server)
    cron._expire_slice()
    while client.ask("DBSIZE") != b":0\r\n":
        cron._expire_slice()
    assert bool(RECLAIMER) is is_lazy
    RECLAIMER.drain(60_000_000)


def test_a_large_value_is_freed_in_slices_before_its_key_goes(
    bench: ServerBench, still_time: StillTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them together are told as the expire-cycle, and there is an end to it."""
    noted: list[int] = []
    monkeypatch.setattr(bench.server.latency, "note", lambda event, duration_us: noted.append(duration_us))
    client = bench.connect()
    for start in range(0, 60_000, 10_000):
        client.ask("SADD", "s", *(f"m{number}" for number in range(start, start + 10_000)))
    client.ask("PEXPIRE", "s", "1")
    still_time.pass_ms(2)
    still_time.per_look_ms = 1
    noted.clear()
    cron = Cron(bench.server)
    slices = 0
    while len(bench.server.keyspace.databases[0]):
        assert not noted
        cron._expire_slice()
        slices += 1
    assert 4 <= slices <= 20
    assert len(noted) == 1 and noted[0] >= 20_000
    assert RECLAIMER  # Most of it is freed later, as after a DEL.
    still_time.per_look_ms = 0
    RECLAIMER.drain(60_000_000)


def test_a_key_that_is_made_anew_meanwhile_stays(bench: ServerBench, still_time: StillTime) -> None:
    client = bench.connect()
    client.ask("SADD", "s", *(f"m{number}" for number in range(10_000)))
    client.ask("PEXPIRE", "s", "1")
    still_time.pass_ms(2)
    cron = Cron(bench.server)
    cron._expire_slice()
    assert client.ask("DBSIZE") == b":1\r\n"
    assert client.ask("SADD", "s", "new") == b":1\r\n"
    for _ in range(4):
        cron._expire_slice()
    assert client.ask("SMEMBERS", "s") == b"*1\r\n$3\r\nnew\r\n"
    assert not RECLAIMER


@pytest.mark.parametrize("obstacle", ["paused", "switched off", "replica"])
def test_and_stay_while_they_must(bench: ServerBench, obstacle: str) -> None:
    server = bench.server
    _store_expired(bench, 3)
    if obstacle == "paused":
        server.pauses.pause(clock.monotonic_ms() + 60_000, writes_only=True)
    elif obstacle == "switched off":
        server.active_expire = False
    else:
        server.keyspace.is_replica = True
    Cron(server).run_due(clock.monotonic_ms())
    assert len(server.keyspace.databases[0]) == 3


def test_idle_clients_go_after_the_timeout_unless_they_wait(bench: ServerBench, still_time: StillTime) -> None:
    idle, waiting, busy, subscriber, watcher = clients = [bench.connect() for _ in range(5)]
    for client in clients:
        assert client.ask("PING") == b"+PONG\r\n"
    waiting.ask("WAIT", "1", "0")
    subscriber.ask("SUBSCRIBE", "channel")
    watcher.ask("MONITOR")
    bench.server.settings.timeout = 10
    now_ms = clock.monotonic_ms()
    for client in clients:
        client.session.last_active_ms = now_ms - 11_000
    busy.session.last_active_ms = now_ms - 9_000
    Cron(bench.server).run_due(now_ms)
    for client in clients:
        client.read()
    assert [client.closed for client in clients] == [True, False, False, False, False]
    assert idle.closed
