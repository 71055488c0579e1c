"""The cluster bus: sockets, ticks and nodes.conf around the engine. The only module of gossip that knows trio.

Role        Accepts and opens the links, turns their bytes into messages for the engine, and performs its effects.
Invariants  * What must be durable precedes what is said: the bus effects of a batch start after its SaveConfig.
              Performing is synchronous, fsync included (as in Redis), so no second batch can slip in between.
            * A link has one socket, one reader, and at most one write per wake-up; what the kernel does not take
              waits in order. Bad bytes or a broken socket cost the link, never the node.
            * Every link the engine knows ends with exactly one of: CloseLink, link_failed, link_closed.
Source      Redis 7.0.15, cluster.c: clusterInit, clusterAcceptHandler, clusterReadHandler, clusterWriteHandler,
            clusterLinkConnectHandler, and the 100 ms of clusterCron.
Units       ``*_ms`` monotonic milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import trio

from cluster import clock
from cluster.errors import BusError, ConfigError
from cluster.gossip.actions import NodeActions, perform_local
from cluster.gossip.effects import CloseLink, Effect, LocalEffect, LogLevel, OpenLink, SaveConfig, Send
from cluster.gossip.messages import Message
from cluster.gossip.nodes_conf import NodesConfFile, essence, format_nodes_conf
from cluster.gossip.sockets import listen_on, prepare_connection
from cluster.gossip.state import BUS_PORT_INCREMENT, ClusterState, Link
from cluster.gossip.wire import Discarded, FrameDecoder, encode
from cluster.settings import Settings

TICK_SECONDS: Final = 0.1
SYNC_MS: Final = 1000
"""What was saved without fsync is on disk at the latest after this time."""
READ_BYTES: Final = 64 * 1024
ACCEPTS_PER_WAKE_UP: Final = 1000
ACCEPT_RETRY_SECONDS: Final = 0.1
"""How long a listener rests when the process has no descriptor left for another connection."""
_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ABSENT_ADDRESS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENOPROTOOPT, errno.EPROTONOSUPPORT})


class BusEngine(Protocol):
    """What the bus drives: cluster.failover.engine.ClusterEngine, which this package may not import."""

    @property
    def state(self) -> ClusterState: ...
    def link_accepted(self, peer_ip: str, local_ip: str, now_ms: int) -> Link: ...
    def link_connected(self, link: Link, peer_ip: str, local_ip: str, now_ms: int) -> list[LocalEffect]: ...
    def link_failed(self, link: Link, reason: str, now_ms: int) -> list[LocalEffect]: ...
    def link_closed(self, link: Link, now_ms: int) -> list[LocalEffect]: ...
    def on_message(self, link: Link, message: Message, now_ms: int) -> list[LocalEffect]: ...
    def keep_alive(self, now_ms: int) -> list[LocalEffect]: ...
    def tick(self, now_ms: int, unix_ms: int) -> list[LocalEffect]: ...
    def before_sleep(self, now_ms: int) -> list[Effect]: ...
    def verify_config_with_data(self, now_ms: int) -> list[LocalEffect]: ...


class Connection:
    """The socket of one link, and what is still to be sent over it."""

    __slots__ = ("chunks", "decoder", "link", "scope", "sock", "unsent", "waits_for_room")

    def __init__(self, link: Link, sock: socket.socket | None = None) -> None:
        self.link = link
        self.sock = sock
        """None while connecting, and after closing."""
        self.scope = trio.CancelScope()
        """Around the task that reads (and before that connects)."""
        self.decoder = FrameDecoder()
        self.chunks: list[bytes] = []
        """Packets queued since the last write."""
        self.unsent = memoryview(b"")
        """What the kernel did not take; ``chunks`` come after it."""
        self.waits_for_room = False

    def note_buffer(self) -> None:
        """Tell CLUSTER LINKS, and the limit on send buffers, how much is queued."""
        link = self.link
        link.send_buffer_bytes = len(self.unsent) + sum(map(len, self.chunks))
        link.send_buffer_allocated_bytes = link.send_buffer_bytes
        link.has_write_handler = self.waits_for_room or bool(self.chunks)


class ClusterBus:
    """The running bus of one node. ``run`` it in the node's nursery; it does nothing before ``data_loaded``."""

    def __init__(
        self,
        engine: BusEngine,
        settings: Settings,
        nodes_conf: NodesConfFile,
        actions: NodeActions,
        listeners: Sequence[socket.socket],
    ) -> None:
        """``nodes_conf`` is locked, ``listeners`` come from :func:`bind_listeners`; both are closed by ``close``."""
        self._engine = engine
        self._settings = settings
        self._nodes_conf = nodes_conf
        self._actions = actions
        self._listeners = list(listeners)
        self._connections: dict[int, Connection] = {}
        self._to_write: dict[int, Connection] = {}
        self._nursery: trio.Nursery | None = None
        self._loaded = trio.Event()
        self._written: object = None
        """The essence of what nodes.conf holds."""
        self._durable: object = None
        """The same of the last save that was synced to disk."""
        self._last_sync_ms = 0
        self._is_silent = False
        """True once nodes.conf could not be saved: nothing may be said any more."""

    # -- the node's side ------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be a member of the cluster until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            # Peers' UPDATEs may delete keys: let nobody in before the data is there.
            try:
                await self._loaded.wait()
                for listener in self._listeners:
                    nursery.start_soon(self._accept_links, listener)
                await self._tick_forever()
            finally:
                self._nursery = None

    def data_loaded(self) -> None:
        """The keys are in memory: take them into account, then start talking."""
        self.perform(self._engine.verify_config_with_data(clock.monotonic_ms()))
        self.before_sleep()
        self._loaded.set()

    def keep_alive(self, now_ms: int) -> None:
        """Before clients are served: let the engine notice if the process stood still."""
        effects = self._engine.keep_alive(now_ms)
        if effects:
            perform_local(self._actions, effects)

    def perform(self, effects: Iterable[LocalEffect]) -> None:
        """Carry out the local effects of an input now. ``before_sleep`` must follow before any reply leaves."""
        perform_local(self._actions, effects)

    def before_sleep(self) -> None:
        """Finish a batch of inputs: save what must be saved, then say what is to be said."""
        effects = self._engine.before_sleep(clock.monotonic_ms())
        for effect in effects:
            match effect:
                case SaveConfig(fsync):
                    self._save_or_die(fsync=fsync)
                case OpenLink(link, host, port):
                    self._open(link, host, port)
                case CloseLink(link):
                    self._close(link)
                case Send(links, message):
                    self._send(links, message)
                case _:
                    perform_local(self._actions, (effect,))
        if self._to_write:
            self._flush()

    def save_config(self, *, fsync: bool) -> None:
        """Write nodes.conf as the state is now. Raises OSError."""
        self._save(essence(self._engine.state), fsync=fsync)

    def _save(self, content: tuple[object, ...], *, fsync: bool) -> None:
        self._written = self._durable = None  # Unknown, should writing fail.
        self._nodes_conf.save(format_nodes_conf(self._engine.state), fsync=fsync)
        self._written = content
        if fsync:
            self._note_synced()

    def _note_synced(self) -> None:
        self._durable = self._written
        self._last_sync_ms = clock.monotonic_ms()

    def connection_count(self) -> int:
        """How many descriptors the bus needs, as maxclients counts them: a link each way for every other node."""
        return 2 * (len(self._engine.state.nodes) - 1)

    def close(self) -> None:
        """Close every socket and let go of nodes.conf. ``run`` must have been cancelled."""
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections.values()):
            self._close(connection.link)
        self._nodes_conf.close()

    # -- effects --------------------------------------------------------------------------------------------------

    def _save_or_die(self, *, fsync: bool) -> None:
        # The same change is often learnt twice, by command and by gossip; an fsync is what everybody waits for.
        content = essence(self._engine.state)
        if content == (self._durable if fsync else self._written):
            return
        try:
            self._save(content, fsync=fsync)
        except OSError as error:
            self._fall_silent(error)

    def _sync_if_due(self, now_ms: int) -> None:
        """Put a save that was not synced on disk."""
        if self._written is self._durable or now_ms - self._last_sync_ms < SYNC_MS or self._is_silent:
            return
        try:
            self._nodes_conf.sync()
        except OSError as error:
            self._fall_silent(error)
        else:
            self._note_synced()

    def _fall_silent(self, error: OSError) -> None:
        self._is_silent = True
        self._actions.log(LogLevel.WARNING, "Fatal: can't update cluster config file.")
        self._actions.config_not_saved(error)

    def _open(self, link: Link, host: str, port: int) -> None:
        if self._nursery is None:
            return  # The node is about to end.
        connection = self._connections[link.link_id] = Connection(link)
        self._nursery.start_soon(self._connect, connection, host, port)

    def _send(self, links: Iterable[Link], message: Message) -> None:
        packet = b""
        for link in links:
            connection = self._connections.get(link.link_id)
            if connection is not None:
                packet = packet or encode(message)
                connection.chunks.append(packet)
                self._to_write[link.link_id] = connection

    def _close(self, link: Link) -> None:
        """Drop the socket of a link; whoever waits for it is woken and ends."""
        connection = self._connections.pop(link.link_id, None)
        if connection is None:
            return
        self._to_write.pop(link.link_id, None)
        sock, connection.sock = connection.sock, None
        if sock is not None:
            with contextlib.suppress(RuntimeError):  # No trio any more: nobody waits either.
                trio.lowlevel.notify_closing(sock)
            sock.close()
        connection.scope.cancel()

    # -- writing --------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """One write for each link with something new to say."""
        connections, self._to_write = self._to_write, {}
        for connection in connections.values():
            if connection.sock is not None and not connection.waits_for_room and not self._is_silent:
                self._write(connection)
            connection.note_buffer()

    def _write(self, connection: Connection) -> None:
        """Give the kernel everything that is queued; leave the rest to a task that waits for room."""
        assert connection.sock is not None
        try:
            while connection.unsent or connection.chunks:
                if not connection.unsent:
                    connection.unsent = memoryview(b"".join(connection.chunks))
                    connection.chunks.clear()
                connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
                if connection.unsent:
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            connection.unsent = memoryview(b"")
            connection.chunks.clear()
            self._log_io_error("writing to", error)
            # The reader sees the broken socket as well, and reports it to the engine in its turn.
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
            return
        if connection.unsent and self._nursery is not None:
            connection.waits_for_room = True
            self._nursery.start_soon(self._write_when_possible, connection)

    async def _write_when_possible(self, connection: Connection) -> None:
        sock = connection.sock
        with contextlib.suppress(trio.ClosedResourceError):
            if sock is not None:
                await trio.lowlevel.wait_writable(sock)
        connection.waits_for_room = False
        if connection.sock is not None and not self._is_silent:
            self._write(connection)
            connection.note_buffer()

    # -- reading --------------------------------------------------------------------------------------------------

    async def _read_until_closed(self, connection: Connection) -> None:
        """Feed the engine with what a link brings, until it ends in one way or another."""
        link, decoder = connection.link, connection.decoder
        with contextlib.suppress(trio.ClosedResourceError):
            while (sock := connection.sock) is not None:
                await trio.lowlevel.wait_readable(sock)
                try:
                    chunk = sock.recv(READ_BYTES)
                except BlockingIOError:
                    continue
                except OSError as error:
                    self._log_io_error("reading from", error)
                    break
                if not chunk:
                    self._actions.log(LogLevel.DEBUG, "I/O error reading from node link: connection closed")
                    break
                if not self._receive(link, decoder, chunk):
                    break
        if connection.link.link_id in self._connections:
            self._close(link)
            self.perform(self._engine.link_closed(link, clock.monotonic_ms()))
            self.before_sleep()

    def _receive(self, link: Link, decoder: FrameDecoder, chunk: bytes) -> bool:
        """Process what one read brought; False when the link must be dropped."""
        now_ms = clock.monotonic_ms()
        self.keep_alive(now_ms)
        is_sound = True
        try:
            for item in decoder.feed(chunk):
                if isinstance(item, Discarded):
                    self._discard(item)
                    continue
                effects = self._engine.on_message(link, item, now_ms)
                if effects:
                    perform_local(self._actions, effects)
                if not link.is_open:
                    break  # The engine closed it for what was said; the rest is of no interest.
        except BusError as error:
            self._actions.log(LogLevel.WARNING, str(error))
            is_sound = False
        self.before_sleep()
        return is_sound

    def pump(self) -> None:
        """Hear and answer what has arrived, without waiting: for a loop that a script holds up.

        What ends a link, and ticks, are left to the tasks.
        """
        if self._nursery is None or not self._loaded.is_set():
            return
        for listener in self._listeners:
            self._accept_ready(listener)
        for connection in list(self._connections.values()):
            sock = connection.sock
            if sock is None:
                continue
            try:
                chunk = sock.recv(READ_BYTES)
            except OSError:
                continue
            if chunk and not self._receive(connection.link, connection.decoder, chunk):
                self._close(connection.link)
                self.perform(self._engine.link_closed(connection.link, clock.monotonic_ms()))
                self.before_sleep()

    def _discard(self, item: Discarded) -> None:
        self._actions.log(item.level, item.text)
        if item.is_countable:
            self._engine.state.messages_received[item.type_number] += 1

    def _log_io_error(self, doing: str, error: OSError) -> None:
        self._actions.log(LogLevel.DEBUG, f"I/O error {doing} node link: {os.strerror(error.errno or 0)}")

    # -- links come up --------------------------------------------------------------------------------------------

    async def _accept_links(self, listener: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            if self._accept_ready(listener) in _OUT_OF_DESCRIPTORS:
                await trio.sleep(ACCEPT_RETRY_SECONDS)

    def _accept_ready(self, listener: socket.socket) -> int | None:
        """Accept who is waiting; the number of the error that ended it, if one did."""
        for _ in range(ACCEPTS_PER_WAKE_UP):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                self._actions.log(LogLevel.VERBOSE, f"Error accepting cluster node: {reason}")
                return error.errno
            self._accepted(sock, str(address[0]), int(address[1]))
        return None

    def _accepted(self, sock: socket.socket, peer_ip: str, peer_port: int) -> None:
        self._actions.log(LogLevel.VERBOSE, f"Accepting cluster node connection from {peer_ip}:{peer_port}")
        try:
            prepare_connection(sock, keepalive_seconds=self._settings.cluster_node_timeout // 1000 * 2)
            local_ip = str(sock.getsockname()[0])
        except OSError:  # Gone already.
            sock.close()
            return
        link = self._engine.link_accepted(peer_ip, local_ip, clock.monotonic_ms())
        connection = self._connections[link.link_id] = Connection(link, sock)
        assert self._nursery is not None
        self._nursery.start_soon(self._serve, connection)

    async def _serve(self, connection: Connection) -> None:
        with connection.scope:
            await self._read_until_closed(connection)

    async def _connect(self, connection: Connection, host: str, port: int) -> None:
        link = connection.link
        with connection.scope:
            try:
                sock = await open_connection(host, port, self._settings.bind_source_addr)
                connection.sock = sock
                peer_ip, local_ip = str(sock.getpeername()[0]), str(sock.getsockname()[0])
            except OSError as error:
                reason = error.strerror or str(error)
                if link.link_id in self._connections:
                    self._close(link)
                    self.perform(self._engine.link_failed(link, reason, clock.monotonic_ms()))
                    self.before_sleep()
                return
            if link.link_id not in self._connections:  # Given up in the very moment in which it came up.
                sock.close()
                return
            self.perform(self._engine.link_connected(link, peer_ip, local_ip, clock.monotonic_ms()))
            self._to_write[link.link_id] = connection  # What was queued while it was connecting.
            self.before_sleep()
            await self._read_until_closed(connection)

    # -- time -----------------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        due = trio.current_time()
        while True:
            for connection in self._connections.values():
                connection.note_buffer()
            now_ms = clock.monotonic_ms()
            self.perform(self._engine.tick(now_ms, clock.unix_ms()))
            self.before_sleep()
            self._sync_if_due(now_ms)
            due += TICK_SECONDS
            now = trio.current_time()
            if due <= now:
                # Ticks that were missed while the process was busy or stopped are not made up for; the engine, which
                # is told the time, sees that they are missing.
                due = now + TICK_SECONDS
            await trio.sleep_until(due)


# -- sockets ------------------------------------------------------------------------------------------------------


async def open_connection(host: str, port: int, source_ip: str) -> socket.socket:
    """A connected, non-blocking socket to a peer, coming from ``source_ip`` unless that is empty. Raises OSError."""
    try:
        infos = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # The name of a peer's choosing cannot even be asked for.
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
    family, _kind, _protocol, _name, address = infos[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        prepare_connection(sock, keepalive_seconds=0)
        if source_ip:
            sock.bind((source_ip, 0))
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        # The kernel connects a socket to itself if it drew, as its own port, the one that nobody listens on.
        if not code and sock.getsockname() == sock.getpeername():
            code = errno.ECONNREFUSED
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


def bus_port(settings: Settings) -> int:
    """The port of the bus. Raises ConfigError when the client port leaves no room above it."""
    port = settings.tls_port if settings.tls_cluster else settings.port
    if not settings.cluster_port and port > 65535 - BUS_PORT_INCREMENT:
        raise ConfigError(
            "Redis port number too high. Cluster communication port is 10,000 port numbers higher than your Redis "
            "port. Your Redis port number must be 55535 or less."
        )
    return settings.cluster_port or port + BUS_PORT_INCREMENT


def bind_listeners(settings: Settings) -> list[socket.socket]:
    """Sockets that listen on the bus port of every bind address. Raises ConfigError, in Redis's words."""
    port = bus_port(settings)
    if not settings.bind:
        raise ConfigError("No bind address is configured, but it is required for the Cluster bus.")
    listeners: list[socket.socket] = []
    for address in settings.bind:
        try:
            listeners.append(listen_on(address.removeprefix("-"), port, settings.tcp_backlog))
        except OSError as error:
            if error.errno in _ABSENT_ADDRESS and (address.startswith("-") or address == "::*"):
                continue
            for listener in listeners:
                listener.close()
            raise ConfigError(f"Failed listening on port {port} (cluster), aborting.") from error
    if not listeners:
        raise ConfigError(f"Failed listening on port {port} (cluster), aborting.")
    return listeners
