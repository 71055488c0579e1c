"""SAVE, BGSAVE and the save points: when snapshots are taken, by which process, and what INFO says about them.

Role        :class:`Saver` keeps the books that rdb.c keeps in ``server``: one per server. It starts children, polls
            them, and logs what Redis logs. Commands turn its answers into replies; the cron calls :meth:`Saver.poll`
            and :meth:`Saver.save_point_due`.
Invariants  At most one child runs, of whatever kind (an AOF rewrite registers itself by :meth:`Saver.adopt`).
            ``keyspace.dirty`` loses exactly the changes that a successful snapshot contains.
Units       ``*_unix_s`` seconds since 1970, as LASTSAVE and INFO report them; sizes in bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from cluster import clock
from cluster.keyspace.access import saved_usage
from cluster.keyspace.database import Keyspace
from cluster.persistence.child import ChildExit, ChildKind, ChildProcess, ChildReporter, fork_child
from cluster.persistence.snapshot import Log, SnapshotOptions, StreamPlace, remove_temp_file, save_file, write_snapshot
from cluster.settings import Settings

BGSAVE_RETRY_DELAY_S: Final = 5
"""After a failed snapshot the save points wait so long before the next attempt."""


@attrs.define
class Saver:
    """Everything about one server's snapshots."""

    keyspace: Keyspace
    settings: Settings
    log: Log
    child_log: Callable[[int, str, str], None]
    """``child_log(pid, level, text)``: a line that a child wants logged (role C)."""
    memory_bytes: Callable[[], int]
    """The memory in use, which a snapshot mentions."""
    place: Callable[[], StreamPlace | None]
    """Where in the replication stream the server is now; None: nowhere that a reader could use."""
    functions: Callable[[], Sequence[bytes]] = tuple
    """The sources of the function libraries, which belong to every snapshot."""

    child: ChildProcess | None = None
    last_save_unix_s: int = 0
    """LASTSAVE: the last success, or the start of the server."""
    last_bgsave_ok: bool = True
    last_bgsave_try_unix_s: int = 0
    bgsave_started_unix_s: int = -1
    last_bgsave_duration_s: int = -1
    dirty_before_bgsave: int = 0
    bgsave_scheduled: bool = False
    """BGSAVE SCHEDULE: as soon as no child runs."""
    saves: int = 0
    """Times SAVE or a child has been asked for; what FLUSHALL or SHUTDOWN saves does not count."""
    last_cow_bytes: int = 0
    last_aof_cow_bytes: int = 0
    last_fork_us: int = 0
    total_forks: int = 0

    @property
    def folder(self) -> str:
        """The server's ``dir``."""
        return self.settings.dir

    @property
    def rdb_child_is_running(self) -> bool:
        """A snapshot, to disk or to replicas, is being made."""
        return self.child is not None and self.child.kind is not ChildKind.AOF

    def options(self, place: StreamPlace | None, **changes: Any) -> SnapshotOptions:
        """How the settings want a snapshot, from ``place`` on."""
        settings = self.settings
        return attrs.evolve(
            SnapshotOptions(
                compress=settings.rdbcompression,
                checksum=settings.rdbchecksum,
                incremental_fsync=settings.rdb_save_incremental_fsync,
                key_save_delay_us=settings.rdb_key_save_delay,
                used_memory_bytes=self.memory_bytes(),
                place=place,
                functions=self.functions(),
                usage=saved_usage(settings.maxmemory_policy),
            ),
            **changes,
        )

    # Taking snapshots -------------------------------------------------------------------------------------------

    def save(self) -> bool:
        """SAVE: write the snapshot here and now, while nobody is served. False when it failed (it is logged)."""
        options = self.options(self.place())
        unix_s = clock.unix_ms() // 1000
        if not save_file(self.keyspace, self.folder, self.settings.dbfilename, options, unix_s, self.log):
            return False
        self.keyspace.dirty = self.dirty_before_bgsave = 0  # A child at work contains none of what comes now.
        self.last_save_unix_s = clock.unix_ms() // 1000
        self.last_bgsave_ok = True
        return True

    def start_background_save(self, place: StreamPlace | None = None) -> bool:
        """BGSAVE: fork a child that writes the snapshot. False when one runs already, or it failed (it is logged)."""
        if self.child is not None:
            return False
        self.saves += 1
        now_unix_s = clock.unix_ms() // 1000
        self.dirty_before_bgsave = self.keyspace.dirty
        self.last_bgsave_try_unix_s = now_unix_s
        options = self.options(place or self.place())
        keyspace, folder, filename = self.keyspace, self.folder, self.settings.dbfilename

        def work(reporter: ChildReporter) -> bool:
            return save_file(keyspace, folder, filename, options, now_unix_s, reporter.log, reporter.progress)

        child = self.start_child(ChildKind.RDB_DISK, work, "redis-rdb-bgsave")
        if child is None:
            self.last_bgsave_ok = False
            return False
        self.log("notice", f"Background saving started by pid {child.pid}")
        self.bgsave_started_unix_s = now_unix_s
        return True

    def start_stream(self, options: SnapshotOptions) -> ChildProcess | None:
        """Fork a child whose snapshot comes out of ``child.data_fd``, for replicas. None when that failed."""
        if self.child is not None:
            return None
        now_unix_s = clock.unix_ms() // 1000
        keyspace = self.keyspace
        read_end, write_end = os.pipe2(os.O_CLOEXEC)

        def write(chunk: bytes) -> None:
            view = memoryview(chunk)
            while view:
                view = view[os.write(write_end, view) :]

        def work(reporter: ChildReporter) -> bool:
            write_snapshot(keyspace, write, options, now_unix_s, reporter.progress)
            return True

        child = self.start_child(ChildKind.RDB_SOCKET, work, "redis-rdb-to-slaves", write_end)
        os.close(write_end)
        if child is None:
            os.close(read_end)
            return None
        os.set_blocking(read_end, False)
        child.data_fd = read_end
        self.log("notice", f"Background RDB transfer started by pid {child.pid}")
        self.bgsave_started_unix_s = now_unix_s
        return child

    def start_child(
        self, kind: ChildKind, work: Callable[[ChildReporter], bool], title: str, *keep: int
    ) -> ChildProcess | None:
        """Fork a child that does ``work``; None when that failed (it is logged). No other may be running."""
        keys_total = sum(map(len, self.keyspace.databases))
        label, purpose = ("AOF rewrite", "rewrite append only file") if kind is ChildKind.AOF else ("RDB", "save")
        try:
            child = fork_child(kind, work, label=label, title=title, keep_descriptors=keep, keys_total=keys_total)
        except OSError as problem:
            self.log("warning", f"Can't {purpose} in background: fork: {problem.strerror}")
            return None
        self.adopt(child)
        return child

    def adopt(self, child: ChildProcess) -> None:
        """Make ``child`` the one that runs."""
        self.child = child
        self.last_fork_us = child.fork_us
        self.total_forks += 1

    def kill_child(self) -> None:
        """End the running child because nobody needs it any more; :meth:`poll` will report its end."""
        if self.child is not None:
            self.child.kill()

    # Afterwards -------------------------------------------------------------------------------------------------

    def poll(self) -> tuple[ChildProcess, ChildExit] | None:
        """Look after the child; when it has ended, close its books and return it. Call it often; it never waits."""
        child = self.child
        if child is None:
            return None
        ended = child.poll()
        for level, text in child.log_lines():
            self.child_log(child.pid, level, text)
        if ended is None:
            return None
        self.child = None
        if child.kind is ChildKind.AOF:
            if ended.success:
                self.last_aof_cow_bytes = child.cow_peak_bytes
            return child, ended
        if child.kind is ChildKind.RDB_DISK:
            self._disk_child_ended(child, ended)
        else:
            self._stream_child_ended(ended)
        if ended.success:
            self.last_cow_bytes = child.cow_peak_bytes
        self.last_bgsave_duration_s = clock.unix_ms() // 1000 - self.bgsave_started_unix_s
        self.bgsave_started_unix_s = -1
        return child, ended

    def _disk_child_ended(self, child: ChildProcess, ended: ChildExit) -> None:
        if ended.success:
            self.log("notice", "Background saving terminated with success")
            self.keyspace.dirty -= self.dirty_before_bgsave
            self.last_save_unix_s = clock.unix_ms() // 1000
            self.last_bgsave_ok = True
        elif ended.signal:
            self.log("warning", f"Background saving terminated by signal {ended.signal}")
            remove_temp_file(self.folder, child.pid)
            if not ended.was_killed_on_purpose:
                self.last_bgsave_ok = False
        else:
            self.log("warning", "Background saving error")
            self.last_bgsave_ok = False

    def _stream_child_ended(self, ended: ChildExit) -> None:
        if ended.success:
            self.log("notice", "Background RDB transfer terminated with success")
        elif ended.signal:
            self.log("warning", f"Background transfer terminated by signal {ended.signal}")
        else:
            self.log("warning", "Background transfer error")

    # Save points ------------------------------------------------------------------------------------------------

    def save_point_due(self, now_unix_s: int) -> bool:
        """Whether a save point asks for a snapshot now (it is logged); nothing is started."""
        if self.child is not None:
            return False
        retry = self.last_bgsave_ok or now_unix_s - self.last_bgsave_try_unix_s > BGSAVE_RETRY_DELAY_S
        for point in self.settings.save:
            enough = self.keyspace.dirty >= point.changes
            if enough and retry and now_unix_s - self.last_save_unix_s > point.seconds:
                self.log("notice", f"{point.changes} changes in {point.seconds} seconds. Saving...")
                return True
        return False

    def scheduled_save_due(self, now_unix_s: int) -> bool:
        """Whether a BGSAVE that had to wait can start now; the caller starts it and clears ``bgsave_scheduled``."""
        if self.child is not None or not self.bgsave_scheduled:
            return False
        return self.last_bgsave_ok or now_unix_s - self.last_bgsave_try_unix_s > BGSAVE_RETRY_DELAY_S

    @property
    def writes_must_be_refused(self) -> bool:
        """stop-writes-on-bgsave-error: snapshots are wanted and the last one failed (MISCONF)."""
        return self.settings.stop_writes_on_bgsave_error and bool(self.settings.save) and not self.last_bgsave_ok
