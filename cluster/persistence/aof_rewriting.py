"""Rewriting an append only file: a forked child writes a new base, and takes the place of everything before it.

Role        :class:`AofRewriting` starts and ends the children of one append only file, decides when the next is due,
            and keeps the books that INFO shows.
Invariants  The files that the manifest names are, at any moment, a complete data set: a new base and its manifest take
            the place of the old ones in one rename, and only then are the old ones removed. A rewrite that fails leaves
            one more incr file and nothing else; after repeated failures the next attempt waits.
Spec        rewriteAppendOnlyFileBackground, backgroundRewriteDoneHandler, aofRewriteLimited, aofDelHistoryFiles in
            aof.c, and serverCron; log texts are Redis's.     Units  bytes; ``*_unix_s`` seconds since 1970.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from cluster import clock
from cluster.keyspace.database import Keyspace
from cluster.persistence.aof_host import AofHost, AofState
from cluster.persistence.aof_manifest import temporary_incr_name
from cluster.persistence.child import ChildExit, ChildKind, ChildProcess, ChildReporter
from cluster.persistence.saver import Saver
from cluster.settings import Settings

if TYPE_CHECKING:
    from cluster.persistence.aof import AppendOnlyFile

FAILURES_BEFORE_LIMIT: Final = 3
LIMIT_MINUTES_MAX: Final = 60
_OPEN_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class AofRewriting:
    """The rewrites of one append only file."""

    def __init__(
        self, aof: AppendOnlyFile, keyspace: Keyspace, settings: Settings, saver: Saver, host: AofHost
    ) -> None:
        self._aof = aof
        self._keyspace = keyspace
        self._settings = settings
        self._saver = saver
        self._host = host
        self._as_rdb = True
        """What the child that runs, or ran last, writes."""
        self.scheduled = False
        self.started_unix_s = -1
        self.last_duration_s = -1
        self.last_ok = True
        self.count = 0
        self.consecutive_failures = 0
        self.limit_minutes = 0
        self.limited_until_unix_s = 0

    @property
    def is_running(self) -> bool:
        """A child is rewriting."""
        child = self._saver.child
        return child is not None and child.kind is ChildKind.AOF

    def write_base(
        self,
        path: str,
        log: Callable[[str, str], None],
        progress: Callable[[int], None] | None = None,
        *,
        as_rdb: bool,
    ) -> bool:
        """Write the data set to ``path``; False (and the reason in the log) when that failed."""
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

    def start(self) -> bool:
        """Fork a child that writes a new base, and go on in a new incr file. False when that failed (it is logged)."""
        if self._host.child_is_active():
            return False
        folder = self._aof.folder
        try:
            folder.create()
        except OSError as failure:
            text = f"Can't open or create append-only dir {folder.name}: {failure.strerror}"
            self._host.log("warning", text)
            self.last_ok = False
            return False
        self._aof.forget_selected_database()
        if self._aof.descriptor >= 0:
            self._aof.flush(force=True)
        if not self._open_next_incr():
            self.last_ok = False
            return False
        self.count += 1
        child = self._saver.start_child(ChildKind.AOF, self._work(), "redis-aof-rewrite")
        if child is None:
            self.last_ok = False
            return False
        self._host.log("notice", f"Background append only file rewriting started by pid {child.pid}")
        self.scheduled = False
        self.started_unix_s = clock.unix_ms() // 1000
        self._host.watch_child()
        return True

    def _work(self) -> Callable[[ChildReporter], bool]:
        """What the child does."""
        from cluster.persistence.aof_rewrite import temporary_names

        as_rdb = self._settings.aof_use_rdb_preamble
        self._as_rdb = as_rdb

        def work(reporter: ChildReporter) -> bool:
            name = temporary_names(os.getpid())[1]
            path = os.path.join(self._settings.dir, name)
            if not self.write_base(path, reporter.log, reporter.progress, as_rdb=as_rdb):
                return False
            reporter.log("notice", f"Successfully created the temporary AOF base file {name}")
            return True

        return work

    def _open_next_incr(self) -> bool:
        """Go on in a new file, while the child writes what was before it."""
        if self._aof.state is AofState.OFF:
            return True
        folder = self._aof.folder
        manifest = folder.manifest
        if self._aof.state is AofState.WAIT_REWRITE:
            name = temporary_incr_name(self._settings.appendfilename)
        else:
            manifest = manifest.with_incr(self._settings.appendfilename)
            name = manifest.incrs[-1].name
        try:
            descriptor = os.open(folder.path(name), _OPEN_FLAGS, 0o644)
        except OSError as failure:
            self._host.log("warning", f"Can't open the append-only file {name}: {failure.strerror}")
            return False
        if not folder.save(manifest):
            os.close(descriptor)
            return False
        self._host.log("notice", f"Creating AOF incr file {name} on background rewrite")
        self._aof.go_on_in(descriptor)
        return True

    def ended(self, child: ChildProcess, ended: ChildExit) -> None:
        """The child is gone: take its file, or note that there is none."""
        if ended.success:
            self._host.log("notice", "Background AOF rewrite terminated with success")
            began_us = clock.monotonic_us()
            if self._take_rewritten(child.pid):
                self._host.log("notice", "Background AOF rewrite finished successfully")
                if self._aof.state is AofState.WAIT_REWRITE:
                    self._aof.state = AofState.ON
                elapsed_us = clock.monotonic_us() - began_us
                self._host.log("verbose", f"Background AOF rewrite signal handler took {elapsed_us}us")
            else:
                self._failed()
        elif ended.signal:
            if not ended.was_killed_on_purpose:
                self._failed()
            self._host.log("warning", f"Background AOF rewrite terminated by signal {ended.signal}")
        else:
            self._failed()
            self._host.log("warning", "Background AOF rewrite terminated with error")
        self._remove_temporary_base(child.pid)
        if self._aof.state is AofState.WAIT_REWRITE:
            self._aof.drop_buffer()
            self._remove_temporary_incr()
        self.last_duration_s = clock.unix_ms() // 1000 - self.started_unix_s
        self.started_unix_s = -1
        if self._aof.state is AofState.WAIT_REWRITE:
            self.scheduled = True

    def _take_rewritten(self, pid: int) -> bool:
        """Make the child's file the base, and what it says history. False when that failed (it is logged)."""
        from cluster.persistence.aof_rewrite import temporary_names

        folder = self._aof.folder
        log = self._host.log
        filename = self._settings.appendfilename
        manifest = folder.manifest.with_base(filename, as_rdb=self._as_rdb)
        assert manifest.base is not None
        temporary = temporary_names(pid)[1]
        base_path = folder.path(manifest.base.name)
        if not self._rename(os.path.join(self._settings.dir, temporary), base_path, temporary, base_path, "base"):
            return False
        log("notice", f"Successfully renamed the temporary AOF base file {temporary} into {manifest.base.name}")
        made = [base_path]
        if self._aof.state is AofState.WAIT_REWRITE:
            temporary = temporary_incr_name(filename)
            manifest = manifest.with_incr(filename)
            incr = manifest.incrs[-1]
            incr_path = folder.path(incr.name)
            if not self._rename(folder.path(temporary), incr_path, folder.path(temporary), incr_path, "incr"):
                self._remove_in_background(made)
                return False
            log("notice", f"Successfully renamed the temporary AOF incr file {temporary} into {incr.name}")
            made.append(incr_path)
        manifest = manifest.with_incrs_rewritten(keep_last=self._aof.descriptor >= 0)
        if not folder.save(manifest):
            self._remove_in_background(made)
            return False
        assert manifest.base is not None
        if self._aof.state is not AofState.OFF:
            self._aof.current_size = folder.size(manifest.base.name) + self._aof.incr_size
            self._aof.rewrite_base_size = self._aof.current_size
        self.remove_history()
        self.last_ok = True
        self.consecutive_failures = 0
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
        manifest = self._aof.folder.manifest
        if self._settings.aof_disable_auto_gc or not manifest.history:
            return
        for file in manifest.history:
            self._host.log("notice", f"Removing the history file {file.name} in the background")
        self._remove_in_background([self._aof.folder.path(file.name) for file in manifest.history])
        self._aof.folder.save(manifest.without_history())

    def _remove_temporary_incr(self) -> None:
        name = temporary_incr_name(self._settings.appendfilename)
        self._host.log("notice", f"Removing the temp incr aof file {name} in the background")
        self._remove_in_background([self._aof.folder.path(name)])

    def _remove_temporary_base(self, pid: int) -> None:
        from cluster.persistence.aof_rewrite import temporary_names

        self._remove_in_background([os.path.join(self._settings.dir, name) for name in temporary_names(pid)])

    def _remove_in_background(self, paths: list[str]) -> None:
        # Out of sight at once, or a file of the same name that comes next might go in its place; the space comes back
        # when the last descriptor is closed, which is what takes its time.
        descriptors = [descriptor for path in paths if (descriptor := _unlink(path)) is not None]
        if descriptors:
            self._host.in_background(partial(_close_all, descriptors))

    def kill(self) -> None:
        """End the child, because nobody needs its file, and wait until it is gone."""
        child = self._saver.child
        if child is None or child.kind is not ChildKind.AOF:
            return
        self._host.log("notice", f"Killing running AOF rewrite child: {child.pid}")
        child.kill()
        child.wait()
        self._saver.poll()
        self._remove_temporary_base(child.pid)
        self.started_unix_s = -1

    def _growth_is_due(self) -> bool:
        settings = self._settings
        percentage = settings.auto_aof_rewrite_percentage
        if (
            self._aof.state is not AofState.ON
            or not percentage
            or self._aof.current_size <= settings.auto_aof_rewrite_min_size
        ):
            return False
        growth = self._aof.current_size * 100 // (self._aof.rewrite_base_size or 1) - 100
        if growth < percentage or self._is_limited():
            return False
        self._host.log("notice", f"Starting automatic rewriting of AOF on {growth}% growth")
        return True

    def _failed(self) -> None:
        self.last_ok = False
        self.consecutive_failures += 1

    def cron(self) -> None:
        """Ten times a second: begin the rewrite that is due."""
        if self._host.child_is_active():
            return
        if self.scheduled:
            if not self._is_limited():
                self.start()
        elif self._growth_is_due():
            self.start()

    def _is_limited(self) -> bool:
        """After repeated failures the next attempt waits: each makes one more incr file."""
        if self.consecutive_failures < FAILURES_BEFORE_LIMIT:
            self.limit_minutes = 0
            self.limited_until_unix_s = 0
            return False
        unix_s = clock.unix_ms() // 1000
        if self.limited_until_unix_s:
            if unix_s < self.limited_until_unix_s:
                return True
            self.limited_until_unix_s = 0
            return False
        self.limit_minutes = min(self.limit_minutes * 2 or 1, LIMIT_MINUTES_MAX)
        self.limited_until_unix_s = unix_s + self.limit_minutes * 60
        self._host.log(
            "warning",
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in "
            f"{self.limit_minutes} minutes",
        )
        return True


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
