"""The append only file's decisions: what is written and made durable when, and what an error leads to."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import attrs
import pytest

from cluster import clock
from cluster.errors import ConfigError
from cluster.keyspace.database import Keyspace
from cluster.keyspace.effects import ReplicasOnly
from cluster.persistence.aof import AppendOnlyFile
from cluster.persistence.aof_host import AofState
from cluster.persistence.child import ChildExit, ChildKind, ChildProcess
from cluster.persistence.saver import Saver
from cluster.settings import Settings
from cluster.slots.hashing import key_slot
from tests.support.waiting import eventually
from tests.support.wire import encode

SELECT_0 = encode("SELECT", 0)


NOW_MS = 1_700_000_000_000


@pytest.fixture(autouse=True)
def _time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a test moves it on: a second that ends in between would begin an fsync, for which writes then wait."""
    monkeypatch.setattr(clock, "unix_ms", lambda: NOW_MS)


class Died(BaseException):
    """The process would have ended."""


@attrs.define(eq=False)
class Host:
    """An AofHost that keeps what it is asked for."""

    lines: list[str] = attrs.field(factory=list)
    child: bool = False
    in_transaction: bool = False
    syncs: list[Callable[[int], None]] = attrs.field(factory=list)
    refusals_changed: int = 0

    def log(self, level: str, text: str) -> None:
        self.lines.append(text)

    def child_is_active(self) -> bool:
        return self.child

    def is_in_transaction(self) -> bool:
        return self.in_transaction

    def sync_in_background(self, descriptor: int, done: Callable[[int], None]) -> None:
        os.close(descriptor)
        self.syncs.append(done)

    def in_background(self, work: Callable[[], None]) -> None:
        work()

    def note_latency(self, event: bytes, duration_us: int) -> None:
        pass

    def writes_refused_changed(self) -> None:
        self.refusals_changed += 1

    def watch_child(self) -> None:
        pass

    def die(self) -> NoReturn:
        raise Died

    def said(self, words: str) -> bool:
        return any(words in line for line in self.lines)


@attrs.define(eq=False)
class Bench:
    """An append only file in a folder of its own, at a time that the test decides."""

    folder: Path
    settings: Settings
    host: Host
    keyspace: Keyspace
    saver: Saver
    aof: AppendOnlyFile

    def feed(self, *commands: tuple[str, ...], database: int = 0) -> None:
        self.aof.feed([(database, [word.encode() for word in words]) for words in commands])

    def text(self, number: int = 1) -> bytes:
        return (self.folder / "appendonlydir" / f"appendonly.aof.{number}.incr.aof").read_bytes()

    def manifest(self) -> list[str]:
        path = self.folder / "appendonlydir" / "appendonly.aof.manifest"
        return [f"{line.split()[1]} {line.split()[5]}" for line in path.read_text().splitlines()]

    def kill_rewrite_from_outside(self) -> ChildExit:
        """The child is too slow to be ready before it is killed."""
        child = self.saver.child
        assert child is not None
        child.kill(9)
        return self.finish_rewrite()

    def slow_down(self, delay_us: int) -> None:
        """So long each key takes a child; there is one."""
        self.keyspace.databases[0].put(b"a", key_slot(b"a"), b"1")
        self.settings.rdb_key_save_delay = delay_us

    def finish_rewrite(self) -> ChildExit:
        child = self.saver.child
        assert child is not None
        ended = child.wait()
        self.saver.poll()
        self.host.child = False
        self.aof.rewrites.ended(child, ended)
        return ended


def make(folder: Path, **settings: object) -> Bench:
    values = Settings()
    values.dir = str(folder)
    for name, value in settings.items():
        setattr(values, name, value)
    host = Host()
    keyspace = Keyspace(16)
    saver = Saver(keyspace, values, host.log, lambda _pid, _level, text: host.log("", text), lambda: 0, lambda: None)
    aof = AppendOnlyFile(keyspace, values, saver, host)
    return Bench(folder, values, host, keyspace, saver, aof)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The time in seconds, to be set by the test."""
    time = [1_000_000]
    monkeypatch.setattr(clock, "unix_ms", lambda: time[0] * 1000)
    yield time


def opened(folder: Path, **settings: object) -> Bench:
    bench = make(folder, appendonly=True, **settings)
    bench.aof.folder.load()
    bench.aof.open_at_start()
    return bench


def test_a_new_file_has_a_base_and_an_incr_part(tmp_path: Path) -> None:
    bench = opened(tmp_path)

    assert bench.manifest() == ["appendonly.aof.1.base.rdb b", "appendonly.aof.1.incr.aof i"]
    assert bench.text() == b""


def test_units_are_framed_for_who_reads_them_back(tmp_path: Path) -> None:
    bench = opened(tmp_path)
    bench.feed(("SET", "a", "1"))
    bench.feed(("SET", "b", "2"), ("INCR", "b"))
    bench.feed(("SET", "c", "3"), database=7)
    bench.aof.feed([(7, ReplicasOnly([b"PUBLISH", b"x", b"y"]))])
    assert bench.text() == b""  # Not before the flush.

    bench.aof.flush()

    assert bench.text() == b"".join(
        [
            SELECT_0 + encode("SET", "a", 1),
            encode("MULTI") + encode("SET", "b", 2) + encode("INCR", "b") + encode("EXEC"),
            encode("SELECT", 7) + encode("SET", "c", 3),
        ]
    )
    assert bench.aof.current_size == bench.aof.incr_size == len(bench.text())
    assert bench.aof.buffer_bytes == 0


def test_requests_of_one_pass_are_taken_together(tmp_path: Path) -> None:
    """A unit each, and a SELECT wherever the database changes."""
    bench = opened(tmp_path)
    words = [encode("INCR", "a"), encode("INCR", "b")]
    bench.aof.feed_requests([(0, [b"INCR", b"a"]), (0, [b"INCR", b"b"])])
    bench.aof.feed_requests([(0, [b"INCR", b"a"]), (2, [b"INCR", b"b"]), (2, [b"INCR", b"a"])])
    bench.aof.feed_requests([(2, [b"INCR", b"b"])])
    bench.aof.flush()

    assert bench.text() == b"".join([SELECT_0, *words, words[0], encode("SELECT", 2), words[1], words[0], words[1]])


def test_timestamps_stand_before_what_came_then(tmp_path: Path) -> None:
    bench = opened(tmp_path, aof_timestamp_enabled=True)
    for second in (5, 5, 7):
        bench.keyspace.now_ms = second * 1000 + 999
        bench.feed(("INCR", "a"))
    bench.aof.flush()

    incr = encode("INCR", "a")
    assert bench.text() == b"#TS:5\r\n" + SELECT_0 + incr + incr + b"#TS:7\r\n" + incr


def test_always_makes_a_whole_pass_durable_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = opened(tmp_path, appendfsync="always")
    events: list[str] = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: (events.append("write"), write(fd, data))[1])
    monkeypatch.setattr(os, "fdatasync", lambda fd: events.append("sync"))
    for number in range(100):
        bench.feed(("SET", "a", str(number)))
    bench.aof.flush()
    bench.aof.flush()

    assert events == ["write", "sync"]


def test_everysec_syncs_in_the_background_once_a_second(tmp_path: Path, now: list[int]) -> None:
    bench = opened(tmp_path)
    for _ in range(3):
        bench.feed(("INCR", "a"))
        bench.aof.flush()
    assert bench.host.syncs == []
    now[0] += 1
    bench.aof.flush()  # Also if nothing is new.
    assert len(bench.host.syncs) == 1
    bench.host.syncs.pop()(0)
    now[0] += 5
    bench.aof.flush()
    assert bench.host.syncs == []  # It is all safe.


def test_everysec_postpones_writes_while_the_disk_is_busy(tmp_path: Path, now: list[int]) -> None:
    bench = opened(tmp_path)
    now[0] += 1
    bench.feed(("INCR", "a"))
    bench.aof.flush()
    written = bench.text()
    assert bench.aof.sync_in_progress
    bench.feed(("INCR", "b"))
    bench.aof.flush()
    now[0] += 1
    bench.aof.flush()
    assert bench.text() == written
    now[0] += 1
    bench.aof.flush()
    assert bench.text() == written + encode("INCR", "b")
    assert bench.aof.delayed_syncs == 1
    assert bench.host.said("Asynchronous AOF fsync is taking too long")


def test_a_failed_sync_refuses_writes_until_one_succeeds(tmp_path: Path, now: list[int]) -> None:
    bench = opened(tmp_path)
    now[0] += 1
    bench.feed(("INCR", "a"))
    bench.aof.flush()
    bench.host.syncs.pop()(errno.EIO)
    assert bench.aof.write_error == errno.EIO
    assert bench.host.said("Fail to fsync the AOF file: Input/output error")
    now[0] += 1
    bench.aof.flush()
    bench.host.syncs.pop()(0)
    assert not bench.aof.write_error
    assert bench.host.refusals_changed == 2


def given_a_full_disk(monkeypatch: pytest.MonkeyPatch, room: int) -> list[int]:
    """Writes take ``room`` bytes, then fail; the room can be changed."""
    left = [room]
    write = os.write

    def limited(fd: int, data: bytes) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(fd, bytes(data)[: left[0]])
        left[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", limited)
    return left


@pytest.mark.parametrize("room", [0, 10])
def test_a_full_disk_refuses_writes_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: list[int], room: int
) -> None:
    bench = opened(tmp_path, appendfsync="no")
    bench.feed(("SET", "a", "1"))
    bench.aof.flush()
    before = bench.text()
    left = given_a_full_disk(monkeypatch, room)
    bench.feed(("SET", "b", "2"))
    bench.aof.flush()

    assert bench.text() == before  # Nothing half-written stays.
    assert bench.aof.write_error == errno.ENOSPC
    assert bench.host.said("Short write while writing to the AOF file: (nwritten=10" if room else "Error writing to")
    bench.aof.retry_write()
    assert bench.aof.write_error
    left[0] = 1 << 20
    bench.feed(("SET", "c", "3"))
    bench.aof.retry_write()
    assert not bench.aof.write_error
    assert bench.text() == before + encode("SET", "b", 2) + encode("SET", "c", 3)
    assert bench.host.said("AOF write error looks solved, Redis can write again.")


def test_a_short_write_that_cannot_be_undone_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: list[int]
) -> None:
    bench = opened(tmp_path, appendfsync="no")
    left = given_a_full_disk(monkeypatch, 10)

    def refuse(_fd: int, _size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "ftruncate", refuse)
    bench.feed(("SET", "b", "2"))
    bench.aof.flush()
    assert len(bench.text()) == bench.aof.incr_size == 10
    left[0] = 1 << 20
    bench.aof.retry_write()
    assert bench.text() == SELECT_0 + encode("SET", "b", 2)
    assert bench.aof.incr_size == len(bench.text())


def test_always_ends_the_process_rather_than_break_its_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = opened(tmp_path, appendfsync="always")
    given_a_full_disk(monkeypatch, 0)
    bench.feed(("SET", "b", "2"))
    with pytest.raises(Died):
        bench.aof.flush()
    assert bench.host.said("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...")


def test_always_ends_the_process_when_it_cannot_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = opened(tmp_path, appendfsync="always")

    def refuse(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", refuse)
    bench.feed(("SET", "b", "2"))
    with pytest.raises(Died):
        bench.aof.flush()
    assert bench.host.said("Can't persist AOF for fsync error")


def test_no_sync_while_a_child_writes_if_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = opened(tmp_path, appendfsync="always", no_appendfsync_on_rewrite=True)
    syncs: list[int] = []
    monkeypatch.setattr(os, "fdatasync", syncs.append)
    bench.host.child = True
    bench.feed(("SET", "b", "2"))
    bench.aof.flush()
    assert not syncs
    bench.host.child = False
    bench.aof.flush()
    assert len(syncs) == 1


# Rewriting ------------------------------------------------------------------------------------------------------


def test_a_rewrite_replaces_all_files(tmp_path: Path) -> None:
    bench = opened(tmp_path)
    database = bench.keyspace.databases[0]
    database.put(b"a", key_slot(b"a"), b"1")
    bench.feed(("SET", "a", "1"))
    assert bench.aof.rewrites.start()
    bench.feed(("SET", "b", "2"))
    bench.aof.flush()
    assert bench.finish_rewrite().success

    assert bench.manifest() == ["appendonly.aof.2.base.rdb b", "appendonly.aof.2.incr.aof i"]
    assert bench.text(2) == SELECT_0 + encode("SET", "b", 2)
    assert sorted(path.name for path in (tmp_path / "appendonlydir").iterdir()) == [
        "appendonly.aof.2.base.rdb",
        "appendonly.aof.2.incr.aof",
        "appendonly.aof.manifest",
    ]
    base_size = (tmp_path / "appendonlydir" / "appendonly.aof.2.base.rdb").stat().st_size
    assert bench.aof.current_size == bench.aof.rewrite_base_size == base_size + len(bench.text(2))
    assert bench.aof.rewrites.last_ok


def test_failures_leave_everything_in_place_and_slow_down(tmp_path: Path, now: list[int]) -> None:
    bench = opened(tmp_path, auto_aof_rewrite_min_size=0)
    bench.slow_down(10_000_000)
    bench.feed(("SET", "a", "1"))
    bench.aof.flush()
    for _ in range(3):
        assert bench.aof.rewrites.start()
        assert bench.kill_rewrite_from_outside().signal == 9
    assert bench.manifest() == [
        "appendonly.aof.1.base.rdb b",
        *(f"appendonly.aof.{n}.incr.aof i" for n in (1, 2, 3, 4)),
    ]
    assert bench.aof.rewrites.consecutive_failures == 3

    for minutes in (1, 2, 4):
        bench.host.lines.clear()
        bench.aof.cron()
        assert bench.host.said(f"will retry in {minutes} minutes")
        now[0] += minutes * 60 - 1
        bench.aof.cron()
        assert bench.saver.child is None
        now[0] += 1
        bench.aof.cron()
        bench.kill_rewrite_from_outside()


def test_growth_starts_a_rewrite(tmp_path: Path) -> None:
    bench = opened(tmp_path, auto_aof_rewrite_min_size=2000, auto_aof_rewrite_percentage=100)
    bench.aof.loaded(1500, 1000)
    bench.aof.cron()
    assert bench.saver.child is None
    bench.feed(("SET", "a", "x" * 600))
    bench.aof.flush()
    bench.aof.cron()
    assert bench.host.said("Starting automatic rewriting of AOF on")
    assert bench.finish_rewrite().success


def test_switched_on_while_running_it_counts_from_the_end_of_its_first_rewrite(tmp_path: Path) -> None:
    bench = make(tmp_path)
    bench.slow_down(10_000_000)
    bench.feed(("SET", "a", "0"))  # Nobody wants it.
    assert bench.aof.start()
    assert bench.aof.state is AofState.WAIT_REWRITE
    bench.feed(("SET", "b", "2"))
    bench.aof.flush()
    assert not (tmp_path / "appendonlydir" / "appendonly.aof.manifest").exists()
    bench.kill_rewrite_from_outside()
    bench.slow_down(0)
    assert bench.host.said("Removing the temp incr aof file")
    assert bench.aof.rewrites.scheduled
    bench.feed(("SET", "c", "3"))  # The next rewrite finds it in the data set.
    bench.aof.cron()
    bench.feed(("SET", "d", "4"))
    bench.aof.flush()
    assert bench.finish_rewrite().success
    assert bench.aof.state is AofState.ON
    assert bench.manifest() == ["appendonly.aof.1.base.rdb b", "appendonly.aof.1.incr.aof i"]
    assert bench.text() == SELECT_0 + encode("SET", "d", 4)


@pytest.mark.parametrize("reason", ["child", "in_transaction"])
def test_switched_on_at_a_bad_time_it_waits(tmp_path: Path, reason: str) -> None:
    bench = make(tmp_path)
    setattr(bench.host, reason, True)
    assert bench.aof.start()
    assert bench.aof.rewrites.scheduled
    assert bench.saver.child is None
    setattr(bench.host, reason, False)
    bench.aof.cron()
    assert bench.finish_rewrite().success


def test_switched_off_it_is_complete_and_the_child_goes(tmp_path: Path) -> None:
    bench = opened(tmp_path, rdb_key_save_delay=60_000_000)
    bench.keyspace.databases[0].put(b"a", key_slot(b"a"), b"1")
    bench.feed(("SET", "a", "1"))
    assert bench.aof.rewrites.start()
    pid = bench.saver.child.pid if bench.saver.child else 0
    bench.aof.stop()
    assert bench.aof.state is AofState.OFF
    assert bench.saver.child is None
    assert bench.host.said(f"Killing running AOF rewrite child: {pid}")
    assert bench.text() == SELECT_0 + encode("SET", "a", 1)
    assert not list(tmp_path.glob("temp-*"))


def test_a_manifest_that_cannot_be_written_is_no_rewrite(tmp_path: Path) -> None:
    bench = opened(tmp_path)
    (tmp_path / "appendonlydir" / "temp-appendonly.aof.manifest").mkdir()
    assert not bench.aof.rewrites.start()
    assert bench.host.said("Can't open the AOF manifest file temp-appendonly.aof.manifest: Is a directory")
    assert not bench.aof.rewrites.last_ok
    bench.feed(("SET", "a", "1"))
    bench.aof.flush()
    assert bench.text() == SELECT_0 + encode("SET", "a", 1)


def test_a_folder_that_is_none_is_no_start(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("")
    bench = make(tmp_path, appendonly=True)
    with pytest.raises(ConfigError, match="Can't open or create append-only dir appendonlydir: File exists"):
        bench.aof.open_at_start()


def test_the_child_is_not_left_behind(tmp_path: Path) -> None:
    bench = opened(tmp_path, rdb_key_save_delay=60_000_000)
    for number in range(20):
        key = b"%d" % number
        bench.keyspace.databases[0].put(key, key_slot(key), b"1")
    assert bench.aof.rewrites.start()
    child = bench.saver.child
    assert isinstance(child, ChildProcess)
    assert child.kind is ChildKind.AOF
    eventually(lambda: list(tmp_path.glob(f"temp-rewriteaof-{child.pid}.aof")))
    bench.aof.rewrites.kill()
    assert not list(tmp_path.glob("temp-*"))
