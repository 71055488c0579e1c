"""The append only file of one server: what is written to it, when it is safe, and how it is rewritten.

Role        :class:`AppendOnlyFile` is given the effects of each unit of execution, writes them before the replies of a
            pass leave (:meth:`AppendOnlyFile.flush`), and keeps the books of rewrites, which forked children do.
Invariants  With ``appendfsync always`` whatever was fed before a flush is on the disk after it, or the process has
            ended: one fsync stands for all commands of a pass. The files that the manifest names are, at any moment,
            a complete data set: a new base and its manifest take the place of the old ones in one rename. A short
            write is undone, or its rest is what is written next.
States      OFF; ON; WAIT_REWRITE: switched on while running, and what is there already is still being written by the
            first rewrite, with what comes meanwhile in a temporary file that belongs to it.
Spec        flushAppendOnlyFile, startAppendOnly, stopAppendOnly, rewriteAppendOnlyFileBackground,
            backgroundRewriteDoneHandler, aofRewriteLimited in aof.c, and serverCron; log texts are Redis's.
Units       bytes; ``*_unix_s`` seconds since 1970; ``*_us`` microseconds.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NoReturn, Protocol

import attrs

from cluster import clock
from cluster.errors import ConfigError
from cluster.keyspace.database import Keyspace, ReplicasOnly
from cluster.persistence.aof_folder import AofFolder
from cluster.persistence.aof_manifest import temporary_incr_name
from cluster.persistence.child import ChildExit, ChildKind, ChildProcess, ChildReporter
from cluster.persistence.saver import Saver
from cluster.replication.unit_encoding import NO_DATABASE, encode_requests, encode_unit
from cluster.settings import Settings

WRITE_ERROR_LOG_INTERVAL_S: Final = 30
POSTPONE_S: Final = 2
"""For so long a write may wait for an fsync that is under way (everysec)."""
FAILURES_BEFORE_LIMIT: Final = 3
LIMIT_MINUTES_MAX: Final = 60
_OPEN_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class AofState(enum.Enum):
    """Whether commands are logged."""

    OFF = "off"
    ON = "on"
    WAIT_REWRITE = "wait for the first rewrite"


class AofHost(Protocol):
    """What an append only file needs of its server."""

    def log(self, level: str, text: str) -> None:
        """A line for the log."""

    def child_is_active(self) -> bool:
        """A child of any kind runs."""

    def is_in_transaction(self) -> bool:
        """A transaction or a script is running, and its effects are not complete."""

    def sync_in_background(self, descriptor: int, done: Callable[[int], None]) -> None:
        """fdatasync ``descriptor`` in a thread, then call ``done`` in the loop with the error's number, or 0."""

    def in_background(self, work: Callable[[], None]) -> None:
        """Do in a thread what may take long and matters to nobody."""

    def note_latency(self, event: bytes, duration_us: int) -> None:
        """LATENCY."""

    def writes_refused_changed(self) -> None:
        """:attr:`AppendOnlyFile.write_error` or ``state`` has changed."""

    def watch_child(self) -> None:
        """A rewrite has been forked."""

    def die(self) -> NoReturn:
        """End the process at once; nothing may be said to anybody any more."""


@attrs.define(eq=False)
class RewriteBooks:
    """What INFO says of rewrites, and what decides about the next."""

    scheduled: bool = False
    started_unix_s: int = -1
    last_duration_s: int = -1
    last_ok: bool = True
    count: int = 0
    consecutive_failures: int = 0
    limit_minutes: int = 0
    limited_until_unix_s: int = 0

    def failed(self) -> None:
        """A rewrite came to nothing."""
        self.last_ok = False
        self.consecutive_failures += 1


class AppendOnlyFile:
    """One server's append only file."""

    def __init__(self, keyspace: Keyspace, settings: Settings, saver: Saver, host: AofHost) -> None:
        self._keyspace = keyspace
        self._settings = settings
        self._saver = saver
        self._host = host
        self.folder = AofFolder(settings, host.log)
        self.wants_effects = False
        """Whether effects are to be collected for us, and :meth:`flush` is to be called."""
        self.state = AofState.ON if settings.appendonly else AofState.OFF
        self.rewrites = RewriteBooks()
        self.descriptor = -1
        self._buffer: list[bytes] = []
        self.buffer_bytes = 0
        self._selected_database = NO_DATABASE
        self._timestamp_unix_s = 0
        self.current_size = 0
        """Base and incr files together."""
        self.rewrite_base_size = 0
        """``current_size`` after the last rewrite, or the base's size at start."""
        self.incr_size = 0
        """Of the file being written."""
        self._synced_size = 0
        """So much of it is safe, or will be once the fsync that is under way has ended."""
        self.sync_in_progress = False
        self._last_sync_unix_s = clock.unix_ms() // 1000
        self._postponed_since_unix_s = 0
        self.delayed_syncs = 0
        self._write_errno = 0
        self._sync_errno = 0
        self._last_error_log_unix_s = 0
        self._rewrite_as_rdb = True
        """What the child that runs, or ran last, writes."""
        self.flush_sleep_us = 0
        """DEBUG AOF-FLUSH-SLEEP."""

    # What others ask --------------------------------------------------------------------------------------------

    @property
    def state(self) -> AofState:
        """Whether commands are logged."""
        return self._state

    @state.setter
    def state(self, state: AofState) -> None:
        self._state = state
        self.wants_effects = state is not AofState.OFF

    @property
    def write_error(self) -> int:
        """The number of the error for which writes are refused (MISCONF), or 0."""
        if self.state is AofState.OFF:
            return 0
        return self._write_errno or self._sync_errno

    @property
    def last_write_ok(self) -> bool:
        """INFO aof_last_write_status."""
        return not self._write_errno and not self._sync_errno

    @property
    def rewrite_is_running(self) -> bool:
        """A child is rewriting."""
        child = self._saver.child
        return child is not None and child.kind is ChildKind.AOF

    # Writing ----------------------------------------------------------------------------------------------------

    def feed(self, effects: Sequence[tuple[int, list[bytes]]]) -> None:
        """Take the effects of one unit, as (database, command) pairs; written with the next flush."""
        if not self._takes_effects() or not effects:
            return
        if len(effects) > 1:
            effects = [effect for effect in effects if type(effect[1]) is not ReplicasOnly]
            if not effects:
                return
        elif type(effects[0][1]) is ReplicasOnly:
            return
        self._take(encode_unit(effects, self._selected_database))
        self._selected_database = effects[-1][0]

    def feed_requests(self, requests: Sequence[tuple[int, list[bytes]]]) -> None:
        """The same for requests that are units of their own."""
        if self._takes_effects():
            self._take(encode_requests(requests, self._selected_database))
            self._selected_database = requests[-1][0]

    def _takes_effects(self) -> bool:
        # Before the first rewrite begins, nothing is logged: it will find everything in the data set.
        return self._state is AofState.ON or (self._state is AofState.WAIT_REWRITE and self.rewrite_is_running)

    def _take(self, data: bytes) -> None:
        if self._settings.aof_timestamp_enabled:
            unix_s = self._keyspace.now_ms // 1000
            if unix_s > self._timestamp_unix_s:
                self._timestamp_unix_s = unix_s
                data = b"#TS:%d\r\n%b" % (unix_s, data)
        self._buffer.append(data)
        self.buffer_bytes += len(data)

    def flush(self, *, force: bool = False) -> None:
        """Before replies leave: write what was fed, and make it durable as appendfsync says.

        With ``force`` nothing is postponed because of an fsync that is under way.
        """
        if not self._buffer:
            if self._synced_size == self.incr_size:
                return
            policy = self._settings.appendfsync
            if policy == "everysec":
                if not self.sync_in_progress and clock.unix_ms() // 1000 > self._last_sync_unix_s:
                    self._sync()
            elif policy == "always":  # It was something else when the rest was written.
                self._sync()
            return
        if self._settings.appendfsync == "everysec" and self.sync_in_progress and not force:
            if self._may_postpone():
                return
            self.delayed_syncs += 1
            self._host.log(
                "notice",
                "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for "
                "fsync to complete, this may slow down Redis.",
            )
        if self._write():
            self._sync()

    def _may_postpone(self) -> bool:
        """A write would wait for the fsync inside the kernel: better to let it be, for a while."""
        unix_s = clock.unix_ms() // 1000
        if not self._postponed_since_unix_s:
            self._postponed_since_unix_s = unix_s
            return True
        return unix_s - self._postponed_since_unix_s < POSTPONE_S

    def _write(self) -> bool:
        """Write the buffer; False when not all of it could be written, and then the rest is still in the buffer."""
        if self.flush_sleep_us:
            clock.stand_still(self.flush_sleep_us / 1e6)
        data = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        began_us = clock.monotonic_us()
        written = 0
        problem = 0
        try:
            view = memoryview(data)
            while written < len(data):
                written += os.write(self.descriptor, view[written:])
        except OSError as failure:
            problem = failure.errno or errno.EIO
        elapsed_us = clock.monotonic_us() - began_us
        self._host.note_latency(self._write_event(), elapsed_us)
        self._host.note_latency(b"aof-write", elapsed_us)
        self._postponed_since_unix_s = 0
        if written != len(data):
            self._write_failed(data, written, problem)
            return False
        self._buffer.clear()
        self.buffer_bytes = 0
        if self._write_errno:
            self._host.log("warning", "AOF write error looks solved, Redis can write again.")
            self._write_errno = 0
            self._host.writes_refused_changed()
        self.current_size += written
        self.incr_size += written
        return True

    def _write_event(self) -> bytes:
        if self.sync_in_progress:
            return b"aof-write-pending-fsync"
        return b"aof-write-active-child" if self._host.child_is_active() else b"aof-write-alone"

    def _write_failed(self, data: bytes, written: int, problem: int) -> None:
        unix_s = clock.unix_ms() // 1000
        log: Callable[[str, str], object] = self._host.log
        if unix_s - self._last_error_log_unix_s > WRITE_ERROR_LOG_INTERVAL_S:
            self._last_error_log_unix_s = unix_s
        else:
            log = lambda _level, _text: None  # noqa: E731  # Said already.
        if not written:
            log("warning", f"Error writing to the AOF file: {os.strerror(problem)}")
        else:
            log("warning", f"Short write while writing to the AOF file: (nwritten={written}, expected={len(data)})")
            problem = errno.ENOSPC
            try:
                os.ftruncate(self.descriptor, self.incr_size)
                written = 0
            except OSError as failure:
                log(
                    "warning",
                    "Could not remove short write from the append-only file.  Redis may refuse to load the AOF the "
                    f"next time it starts.  ftruncate: {failure.strerror}",
                )
        if self._settings.appendfsync == "always":
            # Replies to what is in the buffer are ready to leave, and what it did cannot be undone.
            self._host.log(
                "warning",
                "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...",
            )
            self._host.die()
        self.current_size += written
        self.incr_size += written
        self._buffer[:] = [data[written:]]
        self.buffer_bytes = len(data) - written
        self._write_errno = problem
        self._host.writes_refused_changed()

    def _sync(self) -> None:
        """Make what was written durable, as the policy says."""
        policy = self._settings.appendfsync
        if self._settings.no_appendfsync_on_rewrite and self._host.child_is_active():
            return
        if policy == "always":
            began_us = clock.monotonic_us()
            try:
                os.fdatasync(self.descriptor)
            except OSError as failure:
                self._host.log(
                    "warning",
                    "Can't persist AOF for fsync error when the AOF fsync policy is 'always': "
                    f"{failure.strerror}. Exiting...",
                )
                self._host.die()
            self._host.note_latency(b"aof-fsync-always", clock.monotonic_us() - began_us)
            self._synced_size = self.incr_size
            self._last_sync_unix_s = clock.unix_ms() // 1000
        elif policy == "everysec":
            unix_s = clock.unix_ms() // 1000
            if unix_s > self._last_sync_unix_s:
                if not self.sync_in_progress:
                    self.sync_in_progress = True
                    self._synced_size = self.incr_size
                    # A descriptor of its own: ours may be closed, and its number be another file's, any moment.
                    self._host.sync_in_background(os.dup(self.descriptor), self._synced)
                self._last_sync_unix_s = unix_s

    def _synced(self, problem: int) -> None:
        """The fsync in the background has ended."""
        self.sync_in_progress = False
        if problem:
            self._synced_size = -1  # To be tried again, although writes are refused meanwhile and nothing is new.
            if not self._sync_errno:
                self._host.log("warning", f"Fail to fsync the AOF file: {os.strerror(problem)}")
        if problem != self._sync_errno:
            self._sync_errno = problem
            self._host.writes_refused_changed()

    # On and off -------------------------------------------------------------------------------------------------

    def open_at_start(self) -> None:
        """The data is loaded: open the file that goes on. Raises ConfigError when the server must not start."""
        if self.state is not AofState.ON:
            return
        folder = self.folder
        filename = self._settings.appendfilename
        try:
            folder.create()
        except OSError as failure:
            raise ConfigError(f"Can't open or create append-only dir {folder.name}: {failure.strerror}") from None
        manifest = folder.manifest
        has_incrs = bool(manifest.incrs)
        if manifest.base is None and not has_incrs:
            as_rdb = self._settings.aof_use_rdb_preamble
            manifest = manifest.with_base(filename, as_rdb=as_rdb)
            assert manifest.base is not None
            if not self._write_base(folder.path(manifest.base.name), self._host.log, as_rdb=as_rdb):
                raise ConfigError("The append only file could not be created")
            self._host.log("notice", f"Creating AOF base file {manifest.base.name} on server start")
        if not has_incrs:
            manifest = manifest.with_incr(filename)
        name = manifest.incrs[-1].name
        try:
            self.descriptor = os.open(folder.path(name), _OPEN_FLAGS, 0o644)
        except OSError as failure:
            raise ConfigError(f"Can't open the append-only file {name}: {failure.strerror}") from None
        if not folder.save(manifest):
            raise ConfigError("The manifest of the append only file could not be written")
        self.incr_size = self._synced_size = folder.size(name)
        verb = "Opening" if has_incrs else "Creating"
        self._host.log("notice", f"{verb} AOF incr file {name} on server start")

    def start(self) -> bool:
        """CONFIG SET appendonly yes, or the end of a full synchronisation. False when that is impossible."""
        assert self.state is AofState.OFF
        self.state = AofState.WAIT_REWRITE
        log = self._host.log
        if self._host.child_is_active() and not self.rewrite_is_running:
            self.rewrites.scheduled = True
            log(
                "warning",
                "AOF was enabled but there is already another background operation. An AOF background was scheduled "
                "to start when possible.",
            )
        elif self._host.is_in_transaction():
            self.rewrites.scheduled = True
            log(
                "warning",
                "AOF was enabled during a transaction. An AOF background was scheduled to start when possible.",
            )
        else:
            if self.rewrite_is_running:
                log(
                    "warning",
                    "AOF was enabled but there is already an AOF rewriting in background. Stopping background AOF and "
                    "starting a rewrite now.",
                )
                self.kill_rewrite()
            if not self.start_rewrite():
                self.state = AofState.OFF
                log(
                    "warning",
                    "Redis needs to enable the AOF but can't trigger a background AOF rewrite operation. Check the "
                    "above logs for more info about the error.",
                )
                return False
        self._last_sync_unix_s = clock.unix_ms() // 1000
        if self._sync_errno:
            log("warning", "AOF reopen, just ignore the AOF fsync error in bio job")
            self._sync_errno = 0
        if self._write_errno:
            log("warning", "AOF reopen, just ignore the last error.")
            self._write_errno = 0
        self._host.writes_refused_changed()
        return True

    def stop(self) -> None:
        """CONFIG SET appendonly no, or the beginning of a full synchronisation."""
        assert self.state is not AofState.OFF
        self.make_durable()
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1
        self._selected_database = NO_DATABASE
        self.state = AofState.OFF
        self.rewrites.scheduled = False
        self.incr_size = self._synced_size = 0
        self.kill_rewrite()
        self._drop_buffer()
        self._host.writes_refused_changed()

    def make_durable(self) -> None:
        """Write and fsync everything now, whatever the policy."""
        if self.descriptor < 0:
            return
        self.flush(force=True)
        try:
            os.fdatasync(self.descriptor)
        except OSError as failure:
            self._host.log("warning", f"Fail to fsync the AOF file: {failure.strerror}")
        else:
            self._last_sync_unix_s = clock.unix_ms() // 1000
            self._synced_size = self.incr_size

    def _drop_buffer(self) -> None:
        self._buffer.clear()
        self.buffer_bytes = 0

    def reset_statistics(self) -> None:
        """CONFIG RESETSTAT."""
        self.rewrites.count = self.rewrites.consecutive_failures = 0
        self.delayed_syncs = 0

    def loaded(self, total_size: int, base_size: int) -> None:
        """The files have been loaded, of this size."""
        self.current_size = total_size
        self.rewrite_base_size = base_size

    # Rewriting --------------------------------------------------------------------------------------------------

    def _write_base(
        self,
        path: str,
        log: Callable[[str, str], None],
        progress: Callable[[int], None] | None = None,
        *,
        as_rdb: bool,
    ) -> bool:
        from cluster.persistence.aof_rewrite import rewrite_file

        settings = self._settings
        options = self._saver.options(None, is_aof_base=True, incremental_fsync=settings.aof_rewrite_incremental_fsync)
        return rewrite_file(
            self._keyspace,
            settings.dir,
            path,
            options,
            as_rdb=as_rdb,
            unix_s=clock.unix_ms() // 1000,
            timestamp=settings.aof_timestamp_enabled,
            log=log,
            progress=progress,
        )

    def start_rewrite(self) -> bool:
        """Fork a child that writes a new base, and go on in a new incr file. False when that failed (it is logged)."""
        if self._host.child_is_active():
            return False
        folder = self.folder
        try:
            folder.create()
        except OSError as failure:
            text = f"Can't open or create append-only dir {folder.name}: {failure.strerror}"
            self._host.log("warning", text)
            self.rewrites.last_ok = False
            return False
        self._selected_database = NO_DATABASE
        if self.descriptor >= 0:
            self.flush(force=True)
        if not self._open_next_incr():
            self.rewrites.last_ok = False
            return False
        self.rewrites.count += 1
        child = self._saver.start_child(ChildKind.AOF, self._work(), "redis-aof-rewrite")
        if child is None:
            self.rewrites.last_ok = False
            return False
        self._host.log("notice", f"Background append only file rewriting started by pid {child.pid}")
        self.rewrites.scheduled = False
        self.rewrites.started_unix_s = clock.unix_ms() // 1000
        self._host.watch_child()
        return True

    def _work(self) -> Callable[[ChildReporter], bool]:
        """What the child does."""
        from cluster.persistence.aof_rewrite import temporary_names

        as_rdb = self._settings.aof_use_rdb_preamble
        self._rewrite_as_rdb = as_rdb

        def work(reporter: ChildReporter) -> bool:
            name = temporary_names(os.getpid())[1]
            path = os.path.join(self._settings.dir, name)
            if not self._write_base(path, reporter.log, reporter.progress, as_rdb=as_rdb):
                return False
            reporter.log("notice", f"Successfully created the temporary AOF base file {name}")
            return True

        return work

    def _open_next_incr(self) -> bool:
        """Go on in a new file, while the child writes what was before it."""
        if self.state is AofState.OFF:
            return True
        folder = self.folder
        manifest = folder.manifest
        if self.state is AofState.WAIT_REWRITE:
            name = temporary_incr_name(self._settings.appendfilename)
        else:
            manifest = manifest.with_incr(self._settings.appendfilename)
            name = manifest.incrs[-1].name
        try:
            descriptor = os.open(folder.path(name), _OPEN_FLAGS | os.O_TRUNC, 0o644)
        except OSError as failure:
            self._host.log("warning", f"Can't open the append-only file {name}: {failure.strerror}")
            return False
        if not folder.save(manifest):
            os.close(descriptor)
            return False
        self._host.log("notice", f"Creating AOF incr file {name} on background rewrite")
        if self.descriptor >= 0:
            self._host.in_background(partial(_sync_and_close, self.descriptor))
            self._last_sync_unix_s = clock.unix_ms() // 1000
        self.descriptor = descriptor
        self.incr_size = self._synced_size = 0
        return True

    def rewrite_ended(self, child: ChildProcess, ended: ChildExit) -> None:
        """The child is gone: take its file, or note that there is none."""
        if ended.success:
            self._host.log("notice", "Background AOF rewrite terminated with success")
            began_us = clock.monotonic_us()
            if self._take_rewritten(child.pid):
                self._host.log("notice", "Background AOF rewrite finished successfully")
                if self.state is AofState.WAIT_REWRITE:
                    self.state = AofState.ON
                elapsed_us = clock.monotonic_us() - began_us
                self._host.log("verbose", f"Background AOF rewrite signal handler took {elapsed_us}us")
            else:
                self.rewrites.failed()
        elif ended.signal:
            if not ended.was_killed_on_purpose:
                self.rewrites.failed()
            self._host.log("warning", f"Background AOF rewrite terminated by signal {ended.signal}")
        else:
            self.rewrites.failed()
            self._host.log("warning", "Background AOF rewrite terminated with error")
        self._remove_temporary_base(child.pid)
        if self.state is AofState.WAIT_REWRITE:
            self._drop_buffer()
            self._remove_temporary_incr()
        self.rewrites.last_duration_s = clock.unix_ms() // 1000 - self.rewrites.started_unix_s
        self.rewrites.started_unix_s = -1
        if self.state is AofState.WAIT_REWRITE:
            self.rewrites.scheduled = True

    def _take_rewritten(self, pid: int) -> bool:
        """Make the child's file the base, and what it says history. False when that failed (it is logged)."""
        from cluster.persistence.aof_rewrite import temporary_names

        folder = self.folder
        log = self._host.log
        filename = self._settings.appendfilename
        manifest = folder.manifest.with_base(filename, as_rdb=self._rewrite_as_rdb)
        assert manifest.base is not None
        temporary = temporary_names(pid)[1]
        base_path = folder.path(manifest.base.name)
        if not self._rename(os.path.join(self._settings.dir, temporary), base_path, temporary, base_path, "base"):
            return False
        log("notice", f"Successfully renamed the temporary AOF base file {temporary} into {manifest.base.name}")
        made = [base_path]
        if self.state is AofState.WAIT_REWRITE:
            temporary = temporary_incr_name(filename)
            manifest = manifest.with_incr(filename)
            incr = manifest.incrs[-1]
            incr_path = folder.path(incr.name)
            if not self._rename(folder.path(temporary), incr_path, folder.path(temporary), incr_path, "incr"):
                self._remove_in_background(made)
                return False
            log("notice", f"Successfully renamed the temporary AOF incr file {temporary} into {incr.name}")
            made.append(incr_path)
        manifest = manifest.with_incrs_rewritten(keep_last=self.descriptor >= 0)
        if not folder.save(manifest):
            self._remove_in_background(made)
            return False
        assert manifest.base is not None
        if self.state is not AofState.OFF:
            self.current_size = folder.size(manifest.base.name) + self.incr_size
            self.rewrite_base_size = self.current_size
        self.remove_history()
        self.rewrites.last_ok = True
        self.rewrites.consecutive_failures = 0
        return True

    def _rename(self, source: str, target: str, shown_source: str, shown_target: str, what: str) -> bool:
        began_us = clock.monotonic_us()
        try:
            os.rename(source, target)
        except OSError as failure:
            self._host.log(
                "warning",
                f"Error trying to rename the temporary AOF {what} file {shown_source} into {shown_target}: "
                f"{failure.strerror}",
            )
            return False
        self._host.note_latency(b"aof-rename", clock.monotonic_us() - began_us)
        return True

    def remove_history(self) -> None:
        """Remove the files that the present base has made superfluous, unless aof-disable-auto-gc says to keep them."""
        manifest = self.folder.manifest
        if self._settings.aof_disable_auto_gc or not manifest.history:
            return
        for file in manifest.history:
            self._host.log("notice", f"Removing the history file {file.name} in the background")
        self._remove_in_background([self.folder.path(file.name) for file in manifest.history])
        self.folder.save(manifest.without_history())

    def _remove_temporary_incr(self) -> None:
        name = temporary_incr_name(self._settings.appendfilename)
        self._host.log("notice", f"Removing the temp incr aof file {name} in the background")
        self._remove_in_background([self.folder.path(name)])

    def _remove_temporary_base(self, pid: int) -> None:
        from cluster.persistence.aof_rewrite import temporary_names

        self._remove_in_background([os.path.join(self._settings.dir, name) for name in temporary_names(pid)])

    def _remove_in_background(self, paths: list[str]) -> None:
        # Out of sight at once, or a file of the same name that comes next might go in its place; the space comes back
        # when the last descriptor is closed, which is what takes its time.
        descriptors = [descriptor for path in paths if (descriptor := _unlink(path)) is not None]
        if descriptors:
            self._host.in_background(partial(_close_all, descriptors))

    def kill_rewrite(self) -> None:
        """End the child, because nobody needs its file, and wait until it is gone."""
        child = self._saver.child
        if child is None or child.kind is not ChildKind.AOF:
            return
        self._host.log("notice", f"Killing running AOF rewrite child: {child.pid}")
        child.kill()
        child.wait()
        self._saver.poll()
        self._remove_temporary_base(child.pid)
        self.rewrites.started_unix_s = -1

    # Periodic ---------------------------------------------------------------------------------------------------

    def cron(self) -> None:
        """Ten times a second: begin the rewrite that is due, and try again what had to wait."""
        if not self._host.child_is_active():
            if self.rewrites.scheduled:
                if not self._rewrite_is_limited():
                    self.start_rewrite()
            elif self._growth_is_due():
                self.start_rewrite()
        if self._postponed_since_unix_s and self.state is not AofState.OFF:
            self.flush()

    def retry_write(self) -> None:
        """Once a second: what could not be written may now be."""
        if self.state is not AofState.OFF and self._write_errno:
            self.flush()

    def _growth_is_due(self) -> bool:
        settings = self._settings
        percentage = settings.auto_aof_rewrite_percentage
        if self.state is not AofState.ON or not percentage or self.current_size <= settings.auto_aof_rewrite_min_size:
            return False
        growth = self.current_size * 100 // (self.rewrite_base_size or 1) - 100
        if growth < percentage or self._rewrite_is_limited():
            return False
        self._host.log("notice", f"Starting automatic rewriting of AOF on {growth}% growth")
        return True

    def _rewrite_is_limited(self) -> bool:
        """After repeated failures the next attempt waits: each makes one more incr file."""
        books = self.rewrites
        if books.consecutive_failures < FAILURES_BEFORE_LIMIT:
            books.limit_minutes = 0
            books.limited_until_unix_s = 0
            return False
        unix_s = clock.unix_ms() // 1000
        if books.limited_until_unix_s:
            if unix_s < books.limited_until_unix_s:
                return True
            books.limited_until_unix_s = 0
            return False
        books.limit_minutes = min(books.limit_minutes * 2 or 1, LIMIT_MINUTES_MAX)
        books.limited_until_unix_s = unix_s + books.limit_minutes * 60
        self._host.log(
            "warning",
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in "
            f"{books.limit_minutes} minutes",
        )
        return True


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fdatasync(descriptor)
    except OSError:
        pass  # As in Redis: nobody waits for it any more, and the new base holds what it held.
    os.close(descriptor)


def _unlink(path: str) -> int | None:
    """Remove ``path``; a descriptor of what it was, if there was something."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.unlink(path)
    except OSError:
        pass
    return descriptor


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
