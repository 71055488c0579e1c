"""Snapshots in files and children: what is on the disk, in the log and in the books afterwards."""

from __future__ import annotations

import os
import random
import select
import signal
from pathlib import Path

import attrs
import pytest
import trio

from cluster.errors import RdbError
from cluster.keyspace.database import Keyspace
from cluster.persistence.child import ChildKind, ChildProcess, ChildReporter, fork_child
from cluster.persistence.rdb_reader import LoadPolicy, RdbParser, RdbSink
from cluster.persistence.saver import Saver
from cluster.persistence.snapshot import KeyspaceSink, SnapshotOptions, load_file, save_file
from cluster.settings import SavePoint, Settings
from cluster.slots.hashing import key_slot
from tests.support.still_time import StillTime
from tests.support.waiting import eventually

Lines = list[tuple[str, str]]


@attrs.frozen
class Place:
    replid: str
    offset: int
    stream_database: int


def given_keyspace(count: int = 5) -> Keyspace:
    keyspace = Keyspace(16)
    for number in range(count):
        put(keyspace, 0, b"key:%d" % number, b"value-%d" % number)
    keyspace.dirty = 7
    return keyspace


def put(keyspace: Keyspace, index: int, key: bytes, value: object, expire_ms: int | None = None) -> None:
    database = keyspace.databases[index]
    database.put(key, key_slot(key), value)
    if expire_ms is not None:
        database.set_expiry(key, expire_ms)


def content(keyspace: Keyspace) -> dict[tuple[int, bytes], tuple[object, int | None]]:
    return {
        (database.index, key): (value, database.expires.get(key))
        for database in keyspace.databases
        for key, value in database.items()
    }


def load(path: Path, policy: LoadPolicy | None = None) -> tuple[Keyspace, RdbParser, Lines]:
    lines: Lines = []
    keyspace = Keyspace(16)
    sink = KeyspaceSink(keyspace, lambda level, text: lines.append((level, text)))
    parser = list(load_file(str(path), sink, policy or LoadPolicy(), None, slice_keys=2))[-1]
    return keyspace, parser, lines


def given_saver(tmp_path: Path, keyspace: Keyspace, place: Place | None = None) -> tuple[Saver, Lines]:
    lines: Lines = []
    saver = Saver(
        keyspace,
        Settings(dir=str(tmp_path)),
        lambda level, text: lines.append((level, text)),
        lambda _pid, level, text: lines.append((level, text)),
        lambda: 1024,
        lambda: place,
    )
    return saver, lines


def ended(saver: Saver) -> ChildProcess:
    result = eventually(saver.poll, 10, message="the child to end")
    assert result is not None
    return result[0]


def test_a_saved_file_comes_back_with_databases_and_expiries(tmp_path: Path) -> None:
    keyspace = given_keyspace()
    put(keyspace, 3, b"other", 12345678901, expire_ms=4_102_444_800_123)
    put(keyspace, 3, b"grown", bytearray(b"x" * 100_000))
    place = Place("a" * 40, 4711, 3)

    assert save_file(keyspace, str(tmp_path), "dump.rdb", SnapshotOptions(place=place), 1_700_000_000, print)

    loaded, parser, _lines = load(tmp_path / "dump.rdb")
    expected = content(keyspace)
    expected[3, b"other"] = (b"12345678901", 4_102_444_800_123)
    expected[3, b"grown"] = (b"x" * 100_000, None)
    assert content(loaded) == expected
    assert loaded.dirty == 0
    assert parser.aux[b"repl-id"] == b"a" * 40
    assert parser.aux[b"repl-offset"] == b"4711"
    assert parser.aux[b"repl-stream-db"] == b"3"
    assert parser.aux[b"aof-base"] == b"0"
    assert os.listdir(tmp_path) == ["dump.rdb"]


def test_a_master_drops_what_expired_and_a_replica_keeps_it(tmp_path: Path) -> None:
    keyspace = Keyspace(16)
    put(keyspace, 0, b"old", b"1", expire_ms=999)
    put(keyspace, 0, b"just", b"2", expire_ms=1000)
    save_file(keyspace, str(tmp_path), "dump.rdb", SnapshotOptions(), 0, print)

    master, parser, lines = load(tmp_path / "dump.rdb", LoadPolicy(drop_expired_before_ms=1000))
    replica, _parser, _lines = load(tmp_path / "dump.rdb")

    assert set(content(master)) == {(0, b"just")}
    assert parser.counts.keys_expired == 1
    assert ("notice", "Done loading RDB, keys loaded: 1, keys expired: 1.") in lines
    assert set(content(replica)) == {(0, b"old"), (0, b"just")}


def test_a_key_that_comes_twice_is_refused_unless_allowed(tmp_path: Path) -> None:
    save_file(given_keyspace(1), str(tmp_path), "dump.rdb", SnapshotOptions(), 0, print)
    keyspace = given_keyspace(1)
    path = str(tmp_path / "dump.rdb")

    with pytest.raises(RdbError, match="RDB has duplicated key 'key:0' in DB 0"):
        list(load_file(path, KeyspaceSink(keyspace, print), LoadPolicy(), None))

    list(load_file(path, KeyspaceSink(keyspace, print, allow_duplicates=True), LoadPolicy(), None))
    assert content(keyspace) == content(given_keyspace(1))


def test_save_counts_and_logs_as_redis_does(tmp_path: Path, still_time: StillTime) -> None:
    keyspace = given_keyspace()
    saver, lines = given_saver(tmp_path, keyspace)

    assert saver.save()

    assert keyspace.dirty == 0
    assert saver.last_save_unix_s == still_time.unix_ms // 1000
    assert lines == [("notice", "DB saved on disk")]
    assert saver.saves == 0, "only what was asked for counts"


@pytest.mark.parametrize("background", [False, True])
def test_a_folder_that_is_not_there_fails_and_says_so(tmp_path: Path, background: bool) -> None:
    keyspace = given_keyspace()
    saver, lines = given_saver(tmp_path / "missing", keyspace)

    if background:
        assert saver.start_background_save()
        pid = ended(saver).pid
        assert not saver.last_bgsave_ok
        assert lines[-1] == ("warning", "Background saving error")
        assert saver.writes_must_be_refused
    else:
        assert not saver.save()
        pid = os.getpid()

    expected = (
        f"Failed opening the temp RDB file temp-{pid}.rdb (in server root dir {tmp_path / 'missing'}) "
        "for saving: No such file or directory"
    )
    assert ("warning", expected) in lines
    assert keyspace.dirty == 7


def test_a_target_that_cannot_be_replaced_leaves_no_temp_file(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").mkdir()
    saver, lines = given_saver(tmp_path, given_keyspace())

    assert not saver.save()

    assert lines[0][1].startswith(f"Error moving temp DB file temp-{os.getpid()}.rdb on the final destination dump.rdb")
    assert os.listdir(tmp_path) == ["dump.rdb"]


def test_a_full_disk_leaves_the_old_snapshot(tmp_path: Path) -> None:
    """/dev/full refuses every byte."""
    (tmp_path / "dump.rdb").write_bytes(b"old")
    (tmp_path / f"temp-{os.getpid()}.rdb").symlink_to("/dev/full")
    saver, lines = given_saver(tmp_path, given_keyspace(1000))

    assert not saver.save()

    assert lines[0][0] == "warning"
    assert lines[0][1].startswith("Write error saving DB on disk(")
    assert lines[0][1].endswith("No space left on device")
    assert os.listdir(tmp_path) == ["dump.rdb"]
    assert (tmp_path / "dump.rdb").read_bytes() == b"old"


def test_bgsave_saves_the_moment_of_the_fork(tmp_path: Path) -> None:
    keyspace = given_keyspace()
    before = content(keyspace)
    saver, lines = given_saver(tmp_path, keyspace, Place("b" * 40, 1, 0))

    assert saver.start_background_save()
    assert not saver.start_background_save()
    pid = saver.child.pid if saver.child else 0
    put(keyspace, 0, b"later", b"not in the file")
    child = ended(saver)

    loaded, parser, _lines = load(tmp_path / "dump.rdb")
    assert content(loaded) == before
    assert parser.aux[b"repl-id"] == b"b" * 40
    assert keyspace.dirty == 1
    assert saver.last_bgsave_ok
    assert saver.last_bgsave_duration_s >= 0
    assert saver.last_cow_bytes == child.cow_peak_bytes > 0
    texts = [text for _level, text in lines]
    assert texts[0] == f"Background saving started by pid {pid}"
    assert texts[1] == "DB saved on disk"
    assert texts[2].startswith("Fork CoW for RDB: current ")
    assert texts[3] == "Background saving terminated with success"
    assert os.listdir(tmp_path) == ["dump.rdb"]


def test_what_is_saved_while_a_child_is_at_work_is_subtracted_once(tmp_path: Path) -> None:
    keyspace = given_keyspace()
    saver, _lines = given_saver(tmp_path, keyspace)
    keyspace.dirty = 5
    assert saver.start_background_save()
    assert saver.save()
    keyspace.dirty = 2
    eventually(saver.poll)
    assert keyspace.dirty == 2


@pytest.mark.parametrize(("number", "counts_as_failure"), [(signal.SIGUSR1, False), (signal.SIGKILL, True)])
def test_a_killed_child_leaves_nothing_behind(tmp_path: Path, number: int, counts_as_failure: bool) -> None:
    keyspace = given_keyspace(100_000)
    saver, lines = given_saver(tmp_path, keyspace)
    saver.settings.rdb_key_save_delay = 10_000
    assert saver.start_background_save()
    assert saver.child is not None
    eventually(lambda: list(tmp_path.glob("temp-*.rdb")), 10, message="the child to open its file")

    saver.child.kill(number)
    ended(saver)

    assert lines[-1] == ("warning", f"Background saving terminated by signal {number}")
    assert os.listdir(tmp_path) == []
    assert saver.last_bgsave_ok is not counts_as_failure
    assert keyspace.dirty == 7


def test_a_stream_child_sends_the_snapshot_through_a_pipe(tmp_path: Path) -> None:
    keyspace = given_keyspace(2000)
    put(keyspace, 0, b"big", random.Random(1).randbytes(1_000_000))
    saver, lines = given_saver(tmp_path, keyspace)

    child = saver.start_stream(saver.options(None))
    assert child is not None
    received = bytearray()

    def read() -> bool:
        while True:
            try:
                chunk = os.read(child.data_fd, 65536)
            except BlockingIOError:
                return False
            if not chunk:
                return True
            received.extend(chunk)

    eventually(read, 10, message="the end of the stream")
    os.close(child.data_fd)
    assert ended(saver).exit is not None

    loaded = Keyspace(16)
    parser = RdbParser(KeyspaceSink(loaded, lambda *_: None))
    parser.feed(bytes(received))
    parser.feed_end()
    parser.parse()
    assert parser.done
    assert content(loaded) == content(keyspace)
    assert lines[-1] == ("notice", "Background RDB transfer terminated with success")


def test_a_reader_that_goes_away_ends_the_stream_child(tmp_path: Path) -> None:
    keyspace = given_keyspace(1)
    put(keyspace, 0, b"big", random.Random(1).randbytes(5_000_000))
    saver, lines = given_saver(tmp_path, keyspace)
    child = saver.start_stream(saver.options(None))
    assert child is not None

    os.close(child.data_fd)
    ended(saver)

    assert lines[-1] == ("warning", "Background transfer error")


def test_a_child_holds_none_of_the_parents_descriptors() -> None:
    read_end, write_end = os.pipe()
    result_read, result_write = os.pipe()

    def work(_reporter: ChildReporter) -> bool:
        os.write(result_write, " ".join(sorted(os.listdir("/proc/self/fd"), key=int)).encode())
        return True

    child = fork_child(ChildKind.AOF, work, label="AOF rewrite", title="test", keep_descriptors=[result_write])
    ended_by = child.wait()
    os.close(result_write)
    held = {int(number) for number in os.read(result_read, 4096).split()}
    for descriptor in (read_end, write_end, result_read):
        os.close(descriptor)

    assert ended_by.success
    assert result_write in held
    assert not {read_end, write_end, result_read} & held
    assert len(held - {0, 1, 2}) <= 3  # Its result, its line to the parent, and the listing itself.


def test_an_exception_in_a_child_stays_there() -> None:
    def work(_reporter: ChildReporter) -> bool:
        raise KeyboardInterrupt("in the child")

    child = fork_child(ChildKind.AOF, work, label="AOF rewrite", title="test")
    assert child.wait().code == 1
    assert child.log_lines() == [("warning", "Child failed: KeyboardInterrupt: in the child")]


def test_a_child_survives_the_terminals_interrupt() -> None:
    def work(reporter: ChildReporter) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        reporter.log("notice", "still here")
        return True

    child = fork_child(ChildKind.AOF, work, label="AOF rewrite", title="test")
    assert child.wait().success
    assert ("notice", "still here") in child.log_lines()


def test_fork_leaves_the_parents_signal_mask_alone() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child = fork_child(ChildKind.AOF, lambda _reporter: True, label="AOF rewrite", title="test")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert child.wait().success


def test_save_points(tmp_path: Path) -> None:
    keyspace = given_keyspace()
    saver, lines = given_saver(tmp_path, keyspace)
    saver.settings.save = [SavePoint(seconds=60, changes=7)]
    saver.last_save_unix_s = 1000

    assert not saver.save_point_due(1060)
    assert saver.save_point_due(1061)
    assert lines == [("notice", "7 changes in 60 seconds. Saving...")]
    keyspace.dirty = 6
    assert not saver.save_point_due(1061)

    keyspace.dirty = 7
    saver.last_bgsave_ok = False
    saver.last_bgsave_try_unix_s = 1061
    assert not saver.save_point_due(1066)
    assert saver.save_point_due(1067)


def test_a_function_library_is_handed_on_or_mentioned(tmp_path: Path) -> None:
    options = SnapshotOptions(functions=[b"#!lua name=l\n"], include_keys=False)
    save_file(given_keyspace(), str(tmp_path), "dump.rdb", options, 0, print)

    sources: list[bytes] = []
    keyspace = Keyspace(16)
    path = str(tmp_path / "dump.rdb")
    list(load_file(path, KeyspaceSink(keyspace, lambda *_: None, on_function=sources.append), LoadPolicy(), None))
    _keyspace, parser, lines = load(tmp_path / "dump.rdb")

    assert sources == [b"#!lua name=l\n"]
    assert content(keyspace) == {}
    assert parser.counts.functions == 1
    assert any("function library" in text for _level, text in lines)


def test_key_usage_goes_into_the_file_and_comes_back(tmp_path: Path) -> None:
    seen: dict[bytes, tuple[int | None, int | None]] = {}

    class Collect(RdbSink):
        def key(
            self,
            database: int,
            key: bytes,
            value: object,
            expire_ms: int | None,
            idle_s: int | None,
            frequency: int | None,
        ) -> None:
            seen[key] = (idle_s, frequency)

        def log(self, level: str, text: str) -> None:
            pass

    usage = {b"key:0": (100_000, None), b"key:1": (None, 255)}
    options = SnapshotOptions(usage=lambda _database, key: usage[key])
    save_file(given_keyspace(2), str(tmp_path), "dump.rdb", options, 0, print)
    list(load_file(str(tmp_path / "dump.rdb"), Collect(), LoadPolicy(), None))

    assert seen == usage


def test_the_report_descriptor_stays_open_until_the_end_is_told() -> None:
    """A loop that waits for it must be woken by the end, whoever polled in between."""
    release_read, release_write = os.pipe()

    def work(reporter: ChildReporter) -> bool:
        os.close(reporter._descriptor)  # The parent sees the end of the reports while the child still runs.
        os.read(release_read, 1)
        os._exit(0)

    child = fork_child(ChildKind.AOF, work, label="AOF rewrite", title="test", keep_descriptors=[release_read])
    eventually(lambda: select.select([child.report_fd], [], [], 0)[0], 10)
    assert child.poll() is None
    assert child.report_fd >= 0
    os.write(release_write, b"x")
    ended_by = eventually(child.poll, 10)
    assert ended_by is not None
    assert ended_by.success
    assert child.report_fd == -1
    os.close(release_read)
    os.close(release_write)


def test_forking_inside_trio_leaves_the_loop_as_it_was(tmp_path: Path) -> None:
    """The child is forked from a task, in the middle of a nursery, and neither side notices the other's loop."""
    keyspace = given_keyspace(2000)
    saver, lines = given_saver(tmp_path, keyspace)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await trio.sleep(0.001)

    async def main() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tick)
                await trio.to_thread.run_sync(lambda: None)
                for _ in range(3):
                    before = ticks
                    assert saver.start_background_save()
                    assert saver.child is not None
                    while saver.poll() is None:
                        await trio.lowlevel.wait_readable(saver.child.report_fd)
                        await trio.sleep(0.001)
                    assert saver.last_bgsave_ok
                    assert ticks > before
                nursery.cancel_scope.cancel()

    trio.run(main)

    assert [text for _level, text in lines].count("Background saving terminated with success") == 3
    assert content(load(tmp_path / "dump.rdb")[0]) == content(keyspace)
