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

import os
import socket
from typing import TYPE_CHECKING, assert_never

import trio

from cluster import clock
from cluster.node.master_stream import MasterStream
from cluster.node.snapshot_receiver import ReceiveError, SnapshotReceiver, loads_directly, new_receiver
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
HELD_LOOK_S = 0.02
_STILL_HERE = b"\n"


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
        self._loads_directly = False
        self._receiver: SnapshotReceiver | None = None
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
        self._abandon_snapshot()
        self._scope.cancel()

    def send(self, data: bytes) -> None:
        """Send now what the kernel takes, and the rest with what comes next."""
        if self._closed or self._socket is None:
            return
        self._unsent += data
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # Reading will find out, and say so.
        self._unsent = self._unsent[sent:]
        if len(self._unsent) > UNSENT_BYTES_MAX:
            self._connection_lost("the master does not read")

    def notice_end(self) -> None:
        """Find out now whether the master has hung up, if the kernel knows: the task's turn may come after others'."""
        if self._closed or self._socket is None or self._stream is None:
            return
        try:
            is_over = not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return  # Nothing has come; or an error, which reading will find.
        if is_over:
            self._connection_lost("connection lost")

    # The task -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            with self._scope:
                # The role may change again before this task has its first turn, and at every wait after that.
                await trio.lowlevel.checkpoint_if_cancelled()
                await self._follow()
        except Exception:
            # A bug of ours costs the link, and not the node.
            self._server.report_exception()
            self._connection_lost("internal error")
        finally:
            self._closed = True
            self._abandon_snapshot()
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
        await trio.lowlevel.checkpoint_if_cancelled()
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
        except ValueError as problem:  # No name at all: empty labels, labels too long, no characters.
            self._failed(f"Unable to connect to MASTER: {problem}")
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
            except ValueError as problem:
                sock.close()
                reason = f"bind-source-addr: {problem}"
            except BaseException:
                sock.close()
                raise
        self._failed(f"Error condition on socket for SYNC: {reason}")
        return None

    def _options(self) -> HandshakeOptions:
        settings = self._server.settings
        state = self._replication.state
        cached = state.cached_master
        self._loads_directly = loads_directly(self._server)
        return HandshakeOptions(
            listening_port=settings.replica_announce_port or settings.port,
            announced_ip=settings.replica_announce_ip,
            user=settings.masteruser.encode("utf-8", "surrogateescape"),
            password=settings.masterauth.encode("utf-8", "surrogateescape"),
            replid=cached.replid if cached is not None else None,
            next_offset=cached.applied_offset + 1 if cached is not None else NO_OFFSET,
            failover=state.failover is FailoverState.IN_PROGRESS,
            load_target="to parser" if self._loads_directly else "to disk",
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
            if self._receiver is not None:
                self._receiver.interrupted()
            doing = "trying to sync with" if self._handshake.in_transfer else "reading bulk count from"
            self._server.log.warning(f"I/O error {doing} MASTER: {reason}")
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
                    self._expect_snapshot(replid, offset)
                case SnapshotHeader() | SnapshotData() | SnapshotEnd():
                    await self._take_snapshot(action)
                case StreamData(data):
                    assert self._stream is not None
                    self._stream.receive(data)
                    await self._apply()
                case _:
                    assert_never(action)

    def _give_up(self, retry_at_once: bool) -> None:
        if self._handshake.state is LinkState.RECEIVE_PSYNC_REPLY:
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

    def _expect_snapshot(self, replid: str, offset: int) -> None:
        self._expected = (replid, offset)
        self._replication.begin_transfer()
        try:
            self._receiver = new_receiver(
                self._server, self._keep_master_waiting, directly=self._loads_directly, replid=replid
            )
        except OSError as problem:
            self._failed(f"Opening the temp file needed for MASTER <-> REPLICA synchronization: {problem.strerror}")

    async def _take_snapshot(self, action: SnapshotHeader | SnapshotData | SnapshotEnd) -> None:
        """The next part of the snapshot; one that cannot be used ends the attempt, and the next begins at once."""
        receiver = self._receiver
        transfer = self._replication.state.transfer
        assert receiver is not None
        try:
            match action:
                case SnapshotHeader(size_bytes):
                    if transfer is not None:
                        transfer.total_bytes = size_bytes or 0
                    await receiver.begin(size_bytes)
                case SnapshotData(data):
                    await receiver.write(data)
                    if transfer is not None:
                        transfer.read_bytes += len(data)
                case SnapshotEnd(streamed):
                    database = await receiver.finish()
                    self._snapshot_loaded(database, streamed)
        except ReceiveError as problem:
            if self._closed:
                return
            self._server.log.warning(str(problem))
            self._abandon_snapshot()
            self._replication.retry_link()

    def _snapshot_loaded(self, database: int, streamed: bool) -> None:
        self._receiver = None
        replid, offset = self._expected
        self._replication.full_sync_loaded(replid, offset, database)
        self._begin_stream()
        if streamed:
            self._replication.send_ack()
        self._server.aof_role.data_set_is_settled()

    def _abandon_snapshot(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.abandon()

    def _keep_master_waiting(self) -> None:
        """Once a second while loading: we are alive, and it should not think otherwise."""
        now_ms = clock.monotonic_ms()
        self._note_life()
        if now_ms - self._newline_sent_ms >= 1000:
            self._newline_sent_ms = now_ms
            self.send(_STILL_HERE)

    # The stream ---------------------------------------------------------------------------------------------

    def _begin_stream(self) -> None:
        """From here on the master is a client whose commands we run."""
        server = self._server
        assert self._socket is not None
        master = self._replication.state.master
        assert master is not None
        session = server.new_client(self._socket)
        session.is_master_link = True
        session.user = server.acl.superuser
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
