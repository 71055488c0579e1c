"""The append only file of one server: what is written to it, and when it is safe.

Role        :class:`AppendOnlyFile` is given the effects of each unit of execution and writes them before the replies of
            a pass leave (:meth:`AppendOnlyFile.flush`). Rewrites are aof_rewriting's, files and manifest aof_folder's.
Invariants  With ``appendfsync always`` whatever was fed before a flush is on the disk after it, or the process has
            ended: one fsync stands for all commands of a pass. A short write is undone, or its rest is what is written
            next.
States      OFF; ON; WAIT_REWRITE: switched on while running, and what is there already is still being written by the
            first rewrite, with what comes meanwhile in a temporary file that belongs to it.
Spec        flushAppendOnlyFile, startAppendOnly, stopAppendOnly, aofOpenIfNeededOnServerStart in aof.c; log texts are
            Redis's.
Units       bytes; ``*_unix_s`` seconds since 1970; ``*_us`` microseconds.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from cluster import clock
from cluster.errors import ConfigError
from cluster.keyspace.database import Keyspace
from cluster.keyspace.effects import ReplicasOnly
from cluster.persistence.aof_folder import AofFolder
from cluster.persistence.aof_host import AofHost, AofState
from cluster.persistence.aof_rewriting import AofRewriting
from cluster.persistence.saver import Saver
from cluster.replication.unit_encoding import NO_DATABASE, encode_requests, encode_unit
from cluster.settings import Settings

WRITE_ERROR_LOG_INTERVAL_S: Final = 30
POSTPONE_S: Final = 2
"""For so long a write may wait for an fsync that is under way (everysec)."""
_OPEN_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


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
        self.rewrites = AofRewriting(self, keyspace, settings, saver, host)
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
        return self._state is AofState.ON or (self._state is AofState.WAIT_REWRITE and self.rewrites.is_running)

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
            if not self.rewrites.write_base(folder.path(manifest.base.name), self._host.log, as_rdb=as_rdb):
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
        if self._host.child_is_active() and not self.rewrites.is_running:
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
            if self.rewrites.is_running:
                log(
                    "warning",
                    "AOF was enabled but there is already an AOF rewriting in background. Stopping background AOF and "
                    "starting a rewrite now.",
                )
                self.rewrites.kill()
            if not self.rewrites.start():
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
        self.rewrites.kill()
        self.drop_buffer()
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

    def go_on_in(self, descriptor: int) -> None:
        """Write what comes to another, empty file."""
        if self.descriptor >= 0:
            self._host.in_background(partial(_sync_and_close, self.descriptor))
            self._last_sync_unix_s = clock.unix_ms() // 1000
        self.descriptor = descriptor
        self.incr_size = self._synced_size = 0

    def forget_selected_database(self) -> None:
        """Another reader begins: what comes next is preceded by SELECT."""
        self._selected_database = NO_DATABASE

    def drop_buffer(self) -> None:
        """What was fed and not written yet is not needed."""
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

    # Periodic ---------------------------------------------------------------------------------------------------

    def cron(self) -> None:
        """Ten times a second: begin the rewrite that is due, and try again what had to wait."""
        self.rewrites.cron()
        if self._postponed_since_unix_s and self.state is not AofState.OFF:
            self.flush()

    def retry_write(self) -> None:
        """Once a second: what could not be written may now be."""
        if self.state is not AofState.OFF and self._write_errno:
            self.flush()


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fdatasync(descriptor)
    except OSError:
        pass  # As in Redis: nobody waits for it any more, and the new base holds what it held.
    os.close(descriptor)
