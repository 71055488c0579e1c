"""Taking in the snapshot of a full synchronisation: through a file, or straight into memory.

Role        What cluster.node.replica_link does with the bytes of a snapshot. :class:`FileReceiver` stores them and
            loads the complete file (repl-diskless-load disabled); :class:`DirectReceiver` parses them as they come,
            into the emptied data set (on-empty-db) or into one beside it that takes its place at the end (swapdb).
Invariants  A receiver that is abandoned leaves no temporary file, and either the old data set or an empty one: never
            half of the new one. Work is done in slices; between them the loop lives, and our master is told that we do.
Source      replication.c (readSyncBulkPayload, useDisklessLoad).                                Units  bytes; seconds.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import trio

from cluster import clock
from cluster.errors import RdbError
from cluster.keyspace.database import Keyspace
from cluster.persistence.rdb_reader import SHORT_READ, LoadPolicy, Progress, RdbParser
from cluster.persistence.snapshot import KeyspaceSink, load_file, sync_folder
from cluster.scripting.functions import Collection

if TYPE_CHECKING:
    from cluster.node.server import Server

SLICE_S = 0.004
SLICE_KEYS = 1000


class ReceiveError(Exception):
    """The snapshot is lost; the text is for the log."""


class SnapshotReceiver(Protocol):
    """Where a snapshot goes."""

    async def begin(self, size_bytes: int | None) -> None:
        """The header has arrived; None: the size is not known."""

    async def write(self, data: bytes) -> None:
        """The next bytes. Raises ReceiveError."""

    async def finish(self) -> int:
        """That was all: make it our data set; the database that the stream begins in. Raises ReceiveError."""

    def interrupted(self) -> None:
        """The connection is gone; :meth:`abandon` follows."""

    def abandon(self) -> None:
        """The synchronisation is broken off; after a successful :meth:`finish` nothing happens."""


def loads_directly(server: Server) -> bool:
    """Whether the next snapshot is to be parsed as it comes."""
    wanted = server.settings.repl_diskless_load
    return wanted == "swapdb" or (wanted == "on-empty-db" and not any(map(len, server.keyspace.databases)))


def new_receiver(server: Server, keep_alive: Callable[[], None], *, directly: bool, replid: str) -> SnapshotReceiver:
    """A receiver for the snapshot of the history ``replid``. Raises OSError when there is no place for a file."""
    if not directly:
        return FileReceiver(server, keep_alive)
    swap = server.settings.repl_diskless_load == "swapdb"
    # Old data of the same history is only old: it may be shown until the new one is complete.
    return DirectReceiver(server, keep_alive, swap=swap, same_history=replid == server.replication_state.replid)


class FileReceiver:
    """Everything into ``temp-<time>.<pid>.rdb``, then into memory."""

    def __init__(self, server: Server, keep_alive: Callable[[], None]) -> None:
        self._server = server
        self._keep_alive = keep_alive
        self._file: _TemporaryFile | None = _TemporaryFile(server.settings.dir)
        self._loading = False

    async def begin(self, size_bytes: int | None) -> None:
        """Nothing to prepare: the old data stays until the file is complete."""

    async def write(self, data: bytes) -> None:
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError as problem:
            raise ReceiveError(
                "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA "
                f"synchronization: {problem.strerror}"
            ) from None

    async def finish(self) -> int:
        server = self._server
        file = self._file
        assert file is not None
        _stop_saving(server, to_disk=True)
        step = "Failed trying to sync the temp DB to disk in MASTER <-> REPLICA synchronization"
        try:
            # Before anybody is told LOADING: a small data set is then loaded in one turn, as in Redis, unseen.
            await file.sync()
            server.replication.attach_to_new_history()
            server.log.notice("MASTER <-> REPLICA sync: Flushing old data")
            self._loading = True
            server.saving.begin_loading(file.size_bytes)
            _clear(server)
            server.log.notice("MASTER <-> REPLICA sync: Loading DB in memory")
            name = server.settings.dbfilename
            step = f"Failed trying to rename the temp DB into {name} in MASTER <-> REPLICA synchronization"
            path = file.rename_to(name)
            self._file = None
            step = "Failed trying to load the MASTER synchronization DB from disk"
            parser = await self._load(path)
        except OSError as problem:
            raise ReceiveError(f"{step}: {problem.strerror}") from None
        except RdbError as problem:
            raise ReceiveError(f"{step}: {problem}") from None
        self._loading = False
        server.saving.end_loading()
        self._remove_if_unwanted()
        return _stream_database(server, parser)

    async def _load(self, path: str) -> RdbParser | None:
        server = self._server
        progress = server.saving.begin_loading(os.path.getsize(path))
        parser: RdbParser | None = None
        slice_ends = time.perf_counter() + SLICE_S
        keys, _delay_s = _slice(server)
        sink = _sink(server, server.keyspace)
        for parser in load_file(path, sink, _policy(server), clock.unix_ms() // 1000, keys):
            server.saving.last_load = parser.counts
            progress.loaded_bytes = parser.offset
            _keys, delay_s = _slice(server)  # It may be set while one loads.
            if delay_s or time.perf_counter() > slice_ends:
                self._keep_alive()
                await trio.sleep(delay_s)
                slice_ends = time.perf_counter() + SLICE_S
        return parser

    def _remove_if_unwanted(self) -> None:
        settings = self._server.settings
        # An append only file makes no difference: it begins with a snapshot of its own, and this one is never read.
        if settings.rdb_del_sync_files and not settings.save:
            self._server.log.notice(
                "Removing the RDB file obtained from the master. This replica has persistence disabled"
            )
            self._server.replication_host.remove_snapshot_file()

    def interrupted(self) -> None:
        """Nothing has been loaded yet."""

    def abandon(self) -> None:
        if self._loading:
            self._loading = False
            _clear(self._server)
            self._server.saving.end_loading()
        if self._file is not None:
            self._file.discard()
            self._file = None


class DirectReceiver:
    """Everything straight into a data set."""

    def __init__(self, server: Server, keep_alive: Callable[[], None], *, swap: bool, same_history: bool) -> None:
        self._server = server
        self._keep_alive = keep_alive
        self._swap = swap
        self._same_history = same_history
        self._keyspace = server.keyspace
        self._libraries: Collection | None = None
        """Where libraries wait for the swap; None: they are added to those in use, of which there are none."""
        self._parser: RdbParser | None = None

    async def begin(self, size_bytes: int | None) -> None:
        server = self._server
        _stop_saving(server, to_disk=False)
        if self._swap:
            self._keyspace = Keyspace(len(server.keyspace.databases), slots_per_table=server.keyspace.slots_per_table)
            self._libraries = Collection()
        else:
            server.replication.attach_to_new_history()
            server.log.notice("MASTER <-> REPLICA sync: Flushing old data")
            _clear(server)
        server.log.notice("MASTER <-> REPLICA sync: Loading DB in memory")
        server.saving.begin_loading(size_bytes or 0, is_async=self._swap and self._same_history)
        self._parser = RdbParser(
            _sink(server, self._keyspace, self._libraries), _policy(server), clock.unix_ms() // 1000
        )
        server.saving.last_load = self._parser.counts

    async def write(self, data: bytes) -> None:
        assert self._parser is not None
        self._parser.feed(data)
        await self._parse()

    async def _parse(self) -> None:
        parser = self._parser
        assert parser is not None
        slice_ends = time.perf_counter() + SLICE_S
        keys, delay_s = _slice(self._server)
        try:
            while parser.parse(keys) is Progress.PAUSED:
                if delay_s or time.perf_counter() > slice_ends:
                    self._note_progress(parser)
                    await trio.sleep(delay_s)
                    slice_ends = time.perf_counter() + SLICE_S
                    keys, delay_s = _slice(self._server)
        except RdbError as problem:
            raise ReceiveError(f"Failed trying to load the MASTER synchronization DB from socket: {problem}") from None
        self._note_progress(parser)

    def _note_progress(self, parser: RdbParser) -> None:
        self._keep_alive()
        if self._server.saving.progress is not None:
            self._server.saving.progress.loaded_bytes = parser.offset

    async def finish(self) -> int:
        server = self._server
        parser = self._parser
        assert parser is not None
        parser.feed_end()
        await self._parse()
        if parser.leftover():
            raise ReceiveError("Replication stream EOF marker is broken")
        if self._swap:
            server.replication.attach_to_new_history()
            server.log.notice("MASTER <-> REPLICA sync: Swapping active DB with loaded DB")
            for ours, new in zip(server.keyspace.databases, self._keyspace.databases, strict=True):
                server.watches.database_emptied(ours, new)
                ours.swap_contents(new)
            server.memory_limit.data_replaced()
            server.tracking.all_keys_gone()
            if self._libraries is not None:
                server.scripting.functions.replace_all(self._libraries)
            server.log.notice("MASTER <-> REPLICA sync: Discarding old DB in background")
        server.keyspace.dirty += 1  # The data changed, and unlike a file this is saved nowhere.
        self._parser = None
        self._keyspace = server.keyspace
        server.saving.end_loading()
        return _stream_database(server, parser)

    def interrupted(self) -> None:
        if self._parser is not None:
            self._server.log.warning(SHORT_READ)
            self._server.log.warning(
                f"Internal error in RDB reading offset {self._parser.offset} -> Unexpected EOF reading RDB file. "
                "Failure loading rdb format from socket, assuming connection error, resuming operation."
            )

    def abandon(self) -> None:
        if self._parser is None:
            return
        self._parser = None
        if self._swap:
            self._keyspace = self._server.keyspace
            self._server.log.notice("MASTER <-> REPLICA sync: Discarding temporary DB in background")
        else:
            _clear(self._server)
        self._server.saving.end_loading()


# --- what both need --------------------------------------------------------------------------------------------------


def _stop_saving(server: Server, *, to_disk: bool) -> None:
    """A snapshot, or a log, of the data that is about to go would only stand in the way."""
    server.aof_role.data_set_is_replaced()
    if not (server.saving.disk_snapshot_is_running() or server.saving.stream_snapshot_is_running()):
        return
    if to_disk:
        child = server.saving.saver.child
        server.log.notice(
            "Replica is about to load the RDB file received from the master, but there is a pending RDB child "
            f"running. Killing process {child.pid if child is not None else -1} and removing its temp file to avoid "
            "any race"
        )
    server.saving.kill_child()


def _clear(server: Server) -> None:
    for database in server.keyspace.databases:
        server.watches.database_emptied(database)
    server.tracking.all_keys_gone()
    server.keyspace.flush_all()
    server.scripting.functions.replace_all(Collection())


def _policy(server: Server) -> LoadPolicy:
    # Expired keys are kept: it is our master who says when they go.
    return LoadPolicy(verify_checksum=server.settings.rdbchecksum, database_count=len(server.keyspace.databases))


def _sink(server: Server, keyspace: Keyspace, libraries: Collection | None = None) -> KeyspaceSink:
    return server.saving.sink(keyspace, libraries=libraries)


def _slice(server: Server) -> tuple[int, float]:
    """How many keys to load in one go, and how many seconds to rest then: key-load-delay, a test aid (µs a key)."""
    delay_us = server.settings.key_load_delay
    if delay_us > 0:
        return 1, delay_us / 1e6
    if delay_us < 0:
        return min(-delay_us, SLICE_KEYS), 1e-6
    return SLICE_KEYS, 0.0


def _stream_database(server: Server, parser: RdbParser | None) -> int:
    """The database that the stream has selected at the place the snapshot stands for."""
    try:
        database = int(parser.aux.get(b"repl-stream-db", b"0")) if parser is not None else 0
    except ValueError:
        return 0
    return database if 0 <= database < len(server.keyspace.databases) else 0


class _TemporaryFile:
    """The snapshot while it arrives."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._path = ""
        self.size_bytes = 0
        for attempt in range(5):
            name = f"temp-{clock.unix_ms() // 1000 + attempt}.{os.getpid()}.rdb"
            self._path = os.path.join(folder, name)
            try:
                self._descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC, 0o644)
                return
            except FileExistsError:
                continue
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def write(self, data: bytes) -> None:
        self.size_bytes += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    async def sync(self) -> None:
        """Make the content durable, in a thread: it may take long.

        Meanwhile the link may be ended and the file discarded: the thread has a descriptor of its own, and who was
        cancelled does not come back from here.
        """
        descriptor = os.dup(self._descriptor)
        try:
            await trio.to_thread.run_sync(os.fsync, descriptor)
        finally:
            os.close(descriptor)
        await trio.lowlevel.checkpoint_if_cancelled()

    def rename_to(self, name: str) -> str:
        """Give the complete file its final name, durably; returns the path."""
        final_path = os.path.join(self._folder, name)
        os.rename(self._path, final_path)
        os.close(self._descriptor)
        self._descriptor = -1
        sync_folder(os.path.dirname(final_path))
        return final_path

    def discard(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            try:
                os.unlink(self._path)
            except OSError:
                pass
