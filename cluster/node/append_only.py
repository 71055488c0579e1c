"""The append only file inside a running node: threads, children, loading at start, on and off with the role.

Role        :class:`AofShell` is what cluster.persistence.aof asks of its server, :class:`AofRole` what the server's
            role and CONFIG SET ask of it; loading itself is cluster.node.aof_loading's.
Invariants  Nothing here is on the path of a request: the file is fed by Server.replicate and flushed before the loop
            sleeps. A data set that cannot be loaded to its end is not served: the process ends.
Spec        aof.c (loadAppendOnlyFiles), bio.c, replication.c (restartAOFAfterSYNC).      Units  bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import trio

from cluster.errors import ConfigError
from cluster.node.cpu_affinity import confine
from cluster.persistence.aof import AppendOnlyFile
from cluster.persistence.aof_host import AofState
from cluster.scripting.functions import Collection

if TYPE_CHECKING:
    from cluster.node.client import Client
    from cluster.node.server import Server

RESTART_ATTEMPTS = 10


class AofShell:
    """Implements AofHost for one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def log(self, level: str, text: str) -> None:
        getattr(self._server.log, level)(text)

    def child_is_active(self) -> bool:
        return self._server.saving.child_is_active()

    def is_in_transaction(self) -> bool:
        return self._server.dispatcher.is_in_transaction

    def sync_in_background(self, descriptor: int, done: Callable[[int], None]) -> None:
        cpus = self._server.settings.bio_cpulist

        def sync() -> int:
            confine(cpus)
            try:
                os.fdatasync(descriptor)
            except OSError as failure:
                return failure.errno or -1
            finally:
                os.close(descriptor)
            return 0

        async def run() -> None:
            with trio.CancelScope(shield=True):
                done(await trio.to_thread.run_sync(sync))

        if self._server.exit_requested.is_set():
            done(sync())  # There will be no other turn.
        else:
            self._server.nursery.start_soon(run)

    def in_background(self, work: Callable[[], None]) -> None:
        async def run() -> None:
            with trio.CancelScope(shield=True):  # Also at the end of the process: it must be done, if not waited for.
                await trio.to_thread.run_sync(work)

        if self._server.exit_requested.is_set():
            work()
        else:
            self._server.nursery.start_soon(run)

    def note_latency(self, event: bytes, duration_us: int) -> None:
        self._server.latency.note(event, duration_us)

    def writes_refused_changed(self) -> None:
        self._server.refresh_plain()

    def watch_child(self) -> None:
        self._server.saving.watch_child()

    def die(self) -> NoReturn:
        os._exit(1)


class AofRole:
    """Off while a full synchronisation replaces the data, on again after it, whatever happens in between."""

    def __init__(self, server: Server, aof: AppendOnlyFile) -> None:
        self._server = server
        self._aof = aof

    def register(self) -> None:
        """Have CONFIG SET call us."""
        on_change = self._server.config.on_change
        on_change("appendonly", self._switched)
        on_change("aof-disable-auto-gc", self._aof.rewrites.remove_history)

    def _switched(self) -> None:
        wanted = self._server.settings.appendonly
        if not wanted and self._aof.state is not AofState.OFF:
            self._aof.stop()
        elif wanted and self._aof.state is AofState.OFF and not self._aof.start():
            raise ConfigError("Unable to turn on AOF. Check server logs.")

    def load_now(self, client: Client) -> bool:
        """DEBUG LOADAOF: replace the data set by that of the files, here and now; False when that failed.

        Meanwhile others are told LOADING; what ``client``, who asked for it, says next has to wait.
        """
        return _load_now(self._server, client)

    def data_set_is_replaced(self) -> None:
        """Our master's snapshot is about to take the place of our data."""
        if self._aof.state is not AofState.OFF:
            self._aof.stop()

    def data_set_is_settled(self) -> None:
        """The snapshot is loaded, or we are a master again: log from here on, if the settings say so."""
        if self._server.settings.appendonly and self._aof.state is AofState.OFF:
            self._server.nursery.start_soon(self._restart)

    async def _restart(self) -> None:
        server, aof = self._server, self._aof
        for _attempt in range(RESTART_ATTEMPTS):
            if not server.settings.appendonly or aof.state is not AofState.OFF or server.loading:
                return
            if aof.start():
                return
            server.log.warning(
                "Failed enabling the AOF after successful master synchronization! Trying it again in one second."
            )
            await trio.sleep(1)
        server.log.warning(
            "FATAL: this replica instance finished the synchronization with its master, but the AOF can't be turned "
            "on. Exiting now."
        )
        os._exit(1)


# Loading ------------------------------------------------------------------------------------------------------------


async def load_at_start(server: Server) -> bool:
    """Load what the manifest names, and open the file that goes on; False when the server must not start."""
    from cluster.node.aof_loading import LoadResult, load_slices

    began = time.perf_counter()
    slices = load_slices(server)
    try:
        while True:
            try:
                commands = next(slices)
            except StopIteration as end:
                result: LoadResult = end.value
                break
            await server.saving.delay_load(commands)
            if server.exit_requested.is_set():
                slices.close()
                return True  # SHUTDOWN while loading: what has been loaded is not needed any more.
        if result is LoadResult.FAILED:
            return False
        if result is not LoadResult.NOT_EXIST:
            elapsed = time.perf_counter() - began
            server.log.notice(f"DB loaded from append only file: {elapsed:.3f} seconds")
        server.aof.open_at_start()
    except ConfigError as refusal:
        server.log.warning(str(refusal))
        return False
    return True


def _load_now(server: Server, client: Client) -> bool:
    from cluster.node.aof_loading import LoadResult, load_slices

    aof = server.aof
    if aof.state is not AofState.OFF:
        aof.flush(force=True)
    for database in server.keyspace.databases:
        server.watches.database_emptied(database)
    server.tracking.all_keys_gone()
    server.keyspace.flush_all()
    server.scripting.functions.replace_all(Collection())
    slices = load_slices(server)
    try:
        aof.folder.load()
        aof.rewrites.remove_history()
        while True:
            server.saving.rest_in_load(next(slices), client)
    except StopIteration as end:
        succeeded = end.value in (LoadResult.OK, LoadResult.TRUNCATED, LoadResult.EMPTY)
    except ConfigError as refusal:
        server.log.warning(str(refusal))
        return False
    server.keyspace.dirty = 0
    return succeeded
