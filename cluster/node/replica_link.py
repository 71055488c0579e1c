"""The link to our master: the trio shell around cluster.replication.link and the stream that follows.

Role        One object per attempt. It connects, lets :class:`MasterHandshake` decide, stores and loads the snapshot,
            then feeds the command stream to :class:`MasterStream`. What any outcome means for the server is decided
            by cluster.replication.manager, which also makes the next attempt.
Invariants  After :meth:`close` the object does nothing more: no byte is sent, no command run, no state changed. A load
            that is broken off leaves an empty data set, never half of one. The loop is never held up for longer than a
            slice: files are read, parsed and applied in pieces.
Source      replication.c (connectWithMaster, syncWithMaster, readSyncBulkPayload).   Units  bytes; ``*_ms`` monotonic.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import TYPE_CHECKING, assert_never

import trio

from cluster import clock
from cluster.errors import RdbError
from cluster.node.master_stream import MasterStream
from cluster.persistence.rdb_reader import LoadPolicy, RdbParser
from cluster.persistence.snapshot import KeyspaceSink, load_file, sync_folder
from cluster.replication.link import (
    Action,
    ContinueStream,
    ExpectSnapshot,
    GiveUp,
    HandshakeOptions,
    Log,
    MasterHandshake,
    Send,
    SnapshotData,
    SnapshotEnd,
    SnapshotHeader,
    StreamData,
)
from cluster.replication.state import NO_OFFSET, FailoverState, LinkState
from cluster.replication.stream import StreamError

if TYPE_CHECKING:
    from cluster.node.client import Client
    from cluster.node.server import Server

RECEIVE_BYTES = 256 * 1024
UNSENT_BYTES_MAX = 1 << 20
"""We send next to nothing; a master that does not even read that is gone."""
SYNC_FILE_EVERY_BYTES = 8 << 20
LOAD_SLICE_S = 0.004
HELD_LOOK_S = 0.02
_FLUSH_KEEPALIVE = b"\n"


class ReplicaLink:
    """One attempt to follow ``replication.state.master_host``, for as long as it lasts."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._replication = server.replication
        self._scope = trio.CancelScope()
        self._socket: socket.socket | None = None
        self._unsent = b""
        self._closed = False
        self._handshake = MasterHandshake(HandshakeOptions(listening_port=0))
        self._session: Client | None = None
        self._stream: MasterStream | None = None
        self._expected = ("", NO_OFFSET)
        self._file: _SnapshotFile | None = None
        self._loading = False
        self._newline_sent_ms = 0

    # Control ------------------------------------------------------------------------------------------------

    def start(self, nursery: trio.Nursery) -> None:
        """Begin."""
        nursery.start_soon(self._run)

    def close(self) -> None:
        """End, at once and for good; may be called from inside the link's own task."""
        if self._closed:
            return
        self._closed = True
        if self._session is not None:
            self._session.closed = True
            self._server.sessions.pop(self._session.id, None)
        self._abandon_load()
        self._scope.cancel()

    def send(self, data: bytes) -> None:
        """Send now what the kernel takes, and the rest with what comes next."""
        if self._closed or self._socket is None:
            return
        self._unsent += data
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            return  # Reading will find out, and say so.
        self._unsent = self._unsent[sent:]

    # The task -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._follow()
        finally:
            self._closed = True
            self._abandon_load()
            if self._file is not None:
                self._file.discard()
            if self._session is not None:
                self._session.closed = True
                self._server.sessions.pop(self._session.id, None)
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    async def _follow(self) -> None:
        sock = await self._connect()
        if sock is None:
            return
        self._socket = sock
        self._handshake = MasterHandshake(self._options())
        await self._perform(self._handshake.connected())
        self._show_progress()
        # close() cancels this task: whoever is here still has a link.
        while True:
            data = await self._receive_while_held(sock)
            if not data:
                self._connection_lost("connection lost")
                return
            if self._stream is not None:
                self._stream.receive(data)
                await self._apply()
            else:
                self._note_life()
                await self._perform(self._handshake.receive(data))
                self._show_progress()

    async def _connect(self) -> socket.socket | None:
        state = self._replication.state
        host, port = state.master_host, state.master_port
        settings = self._server.settings
        assert host is not None
        try:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as problem:
            self._failed(f"Unable to connect to MASTER: {problem.strerror or problem}")
            return None
        for family, kind, protocol, _name, address in found:
            sock = trio.socket.socket(family, kind, protocol)
            try:
                if settings.bind_source_addr:
                    await sock.bind((settings.bind_source_addr, 0))
                await sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return _take_over(sock)
            except OSError as problem:
                sock.close()
                reason = os.strerror(problem.errno) if problem.errno else str(problem)
            except BaseException:
                sock.close()
                raise
        self._failed(f"Error condition on socket for SYNC: {reason}")
        return None

    def _options(self) -> HandshakeOptions:
        settings = self._server.settings
        state = self._replication.state
        cached = state.cached_master
        return HandshakeOptions(
            listening_port=settings.replica_announce_port or settings.port,
            announced_ip=settings.replica_announce_ip,
            user=settings.masteruser.encode("utf-8", "surrogateescape"),
            password=settings.masterauth.encode("utf-8", "surrogateescape"),
            replid=cached.replid if cached is not None else None,
            next_offset=cached.applied_offset + 1 if cached is not None else NO_OFFSET,
            failover=state.failover is FailoverState.IN_PROGRESS,
        )

    async def _receive_while_held(self, sock: socket.socket) -> bytes:
        """The next bytes; meanwhile, if a pause holds the stream back, look whether it is over."""
        while self._stream is not None and self._stream.is_held:
            with trio.move_on_after(HELD_LOOK_S):
                return await self._receive(sock)
            await self._apply()
        return await self._receive(sock)

    async def _receive(self, sock: socket.socket) -> bytes:
        """The next bytes; empty at the end of the connection, however it came about."""
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                return sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError as problem:
                self._connection_lost(os.strerror(problem.errno) if problem.errno else str(problem))
                return b""

    def _show_progress(self) -> None:
        """Tell the record how far the handshake is; the transfer, its end and the stream say so themselves."""
        if not self._closed and self._handshake.state.is_handshake:
            self._replication.state.link = self._handshake.state

    def _note_life(self) -> None:
        state = self._replication.state
        now_ms = clock.monotonic_ms()
        state.link_last_io_ms = now_ms
        if state.transfer is not None:
            state.transfer.last_io_ms = now_ms

    # Outcomes -----------------------------------------------------------------------------------------------

    def _failed(self, reason: str | None) -> None:
        """This attempt came to nothing; the cron makes the next."""
        if self._closed:
            return
        if reason is not None:
            self._server.log.warning(reason)
        self._replication.handshake_failed()
        self.close()

    def _connection_lost(self, reason: str) -> None:
        if self._closed:
            return
        if self._stream is not None:
            self._replication.link_lost()
        elif self._replication.state.link is LinkState.TRANSFER:
            self._server.log.warning(f"I/O error trying to sync with MASTER: {reason}")
            self._replication.retry_link()
        else:
            self._server.log.warning(f"Failed to read response from the server: {reason}")
            if self._handshake.state is LinkState.RECEIVE_PSYNC_REPLY:
                self._server.log.warning("Master did not reply to PSYNC, will try later")
                self._replication.failover.abort("Failover target rejected psync request")
            else:
                self._server.log.warning("Master did not respond to command during SYNC handshake")
            self._failed(None)

    async def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if self._closed:
                return
            match action:
                case Send(data):
                    self.send(data)
                case Log(level, text):
                    getattr(self._server.log, level)(text)
                case GiveUp(retry_at_once):
                    self._give_up(retry_at_once)
                case ContinueStream(replid):
                    self._end_failover()
                    self._replication.partial_sync_accepted(replid)
                    self._begin_stream()
                case ExpectSnapshot(replid, offset):
                    self._end_failover()
                    self._expected = (replid, offset)
                    self._expect_snapshot()
                case SnapshotHeader(size_bytes):
                    transfer = self._replication.state.transfer
                    if transfer is not None:
                        transfer.total_bytes = size_bytes or 0
                case SnapshotData(data):
                    self._store(data)
                case SnapshotEnd(streamed):
                    await self._load(streamed)
                case StreamData(data):
                    assert self._stream is not None
                    self._stream.receive(data)
                    await self._apply()
                case _:
                    assert_never(action)

    def _give_up(self, retry_at_once: bool) -> None:
        self._replication.failover.abort("Failover target rejected psync request")
        if self._closed:
            return  # Aborting a failover made us a master again.
        if retry_at_once:
            self._replication.retry_link()
        else:
            self._failed(None)

    def _end_failover(self) -> None:
        if self._replication.state.failover is FailoverState.IN_PROGRESS:
            self._replication.failover.finish()

    # The snapshot -------------------------------------------------------------------------------------------

    def _expect_snapshot(self) -> None:
        self._replication.begin_transfer()
        try:
            self._file = _SnapshotFile(self._server.settings.dir)
        except OSError as problem:
            self._failed(f"Opening the temp file needed for MASTER <-> REPLICA synchronization: {problem.strerror}")

    def _store(self, data: bytes) -> None:
        transfer = self._replication.state.transfer
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError as problem:
            self._server.log.warning(
                "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA "
                f"synchronization: {problem.strerror}"
            )
            self._replication.retry_link()
            return
        if transfer is not None:
            transfer.read_bytes += len(data)

    async def _load(self, streamed: bool) -> None:
        """The snapshot is here: replace our data set by it, and go on with the stream."""
        server = self._server
        log = server.log
        assert self._file is not None
        if server.saving.child_is_active():
            log.notice(
                "Replica is about to load the RDB file received from the master, but there is a pending RDB child "
                "running. Killing it and removing its temp file to avoid any race"
            )
            server.saving.kill_child()
        file = self._file
        step = "Failed trying to sync the temp DB to disk in MASTER <-> REPLICA synchronization"
        try:
            # Before anybody is told LOADING: a small data set is then loaded in one turn, as in Redis, unseen.
            await trio.to_thread.run_sync(file.sync)
            self._replication.attach_to_new_history()
            log.notice("MASTER <-> REPLICA sync: Flushing old data")
            self._begin_loading()
            self._clear_data()
            log.notice("MASTER <-> REPLICA sync: Loading DB in memory")
            name = server.settings.dbfilename
            step = f"Failed trying to rename the temp DB into {name} in MASTER <-> REPLICA synchronization"
            path = file.rename_to(name)
            self._file = None
            step = "Failed trying to load the MASTER synchronization DB from disk"
            database = await self._load_file(path)
        except OSError as problem:
            log.warning(f"{step}: {problem.strerror}")
            self._load_failed()
            return
        except RdbError as problem:
            log.warning(f"{step}: {problem}")
            self._load_failed()
            return
        self._end_loading()
        settings = server.settings
        if settings.rdb_del_sync_files and not settings.save and not settings.appendonly:
            log.notice("Removing the RDB file obtained from the master. This replica has persistence disabled")
            server.replication_host.remove_snapshot_file()
        replid, offset = self._expected
        self._replication.full_sync_loaded(replid, offset, database)
        self._begin_stream()
        if streamed:
            self._replication.send_ack()

    async def _load_file(self, path: str) -> int:
        """Load the snapshot slice by slice; the database that the stream begins in."""
        server = self._server
        progress = server.saving.begin_loading(os.path.getsize(path))
        policy = LoadPolicy(verify_checksum=server.settings.rdbchecksum, database_count=len(server.keyspace.databases))
        sink = KeyspaceSink(server.keyspace, lambda level, text: getattr(server.log, level)(text))
        parser: RdbParser | None = None
        turn_ends = time.perf_counter() + LOAD_SLICE_S
        for parser in load_file(path, sink, policy, clock.unix_ms() // 1000):
            progress.loaded_bytes = parser.offset
            if time.perf_counter() > turn_ends:
                self._keep_master_waiting()
                await trio.lowlevel.checkpoint()
                turn_ends = time.perf_counter() + LOAD_SLICE_S
        if parser is None:
            return 0
        try:
            database = int(parser.aux.get(b"repl-stream-db", b"0"))
        except ValueError:
            return 0
        return database if 0 <= database < len(server.keyspace.databases) else 0

    def _keep_master_waiting(self) -> None:
        """Once a second while loading: we are alive, and it should not think otherwise."""
        now_ms = clock.monotonic_ms()
        self._note_life()
        if now_ms - self._newline_sent_ms >= 1000:
            self._newline_sent_ms = now_ms
            self.send(_FLUSH_KEEPALIVE)

    def _begin_loading(self) -> None:
        self._loading = True
        transfer = self._replication.state.transfer
        self._server.saving.begin_loading(transfer.read_bytes if transfer is not None else 0)

    def _end_loading(self) -> None:
        self._loading = False
        self._server.saving.end_loading()

    def _abandon_load(self) -> None:
        """Half a data set is none."""
        if self._loading:
            self._clear_data()
            self._end_loading()

    def _load_failed(self) -> None:
        self._abandon_load()
        self._replication.retry_link()

    def _clear_data(self) -> None:
        keyspace = self._server.keyspace
        for database in keyspace.databases:
            self._server.watches.database_emptied(database)
        keyspace.flush_all()

    # The stream ---------------------------------------------------------------------------------------------

    def _begin_stream(self) -> None:
        """From here on the master is a client whose commands we run."""
        server = self._server
        assert self._socket is not None
        master = self._replication.state.master
        assert master is not None
        session = server.new_client(self._socket)
        session.is_master_link = True
        session.write_scheduled = True  # Replies to a master go nowhere; the reactor does not know this socket.
        server.set_authenticated(session, authenticated=True)
        if 0 <= master.database < len(server.keyspace.databases):
            session.db = server.keyspace.databases[master.database]
        self._session = session
        self._stream = MasterStream(server, session)
        server.refresh_plain()

    async def _apply(self) -> None:
        """Run what has arrived, a slice at a time."""
        assert self._stream is not None
        try:
            while not self._closed and self._stream.apply_slice():
                await trio.lowlevel.checkpoint()
        except StreamError as problem:
            if self._closed:
                return
            if "inline" in str(problem):
                self._server.log.warning(
                    "WARNING: Receiving inline protocol from master, master stream corruption? Closing the master "
                    "connection and discarding the cached master."
                )
            assert self._session is not None
            self._server.log.warning(
                f"Protocol error ({problem}) from client: {self._server.describe_client(self._session)}."
            )
            self._replication.link_lost(desynchronised=True)


def _take_over(sock: trio.socket.SocketType) -> socket.socket:
    """The connected socket as a plain non-blocking one: sending must work outside of tasks too."""
    plain = socket.socket(sock.family, sock.type, sock.proto, sock.detach())
    plain.setblocking(False)
    return plain


class _SnapshotFile:
    """``temp-<time>.<pid>.rdb``: the snapshot while it arrives."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._path = ""
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
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        """Make the content durable. Runs in a thread: it may take long."""
        os.fsync(self._descriptor)

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
