"""The reactor: one poller that holds every client socket, drained in passes by one trio task.

A pass reads every ready client, parses, runs its commands to completion, and collects replies; then, before sleeping,
what must be durable or replicated is dealt with, each client's replies leave in one ``send``, and the other trio tasks
(bus, replication link, cron) get their turn. Commands never await, so execution is atomic and in order, as in Redis.

Invariants  Only this module touches client sockets. A client with unsent output is registered for writability.
            Output written outside a pass (cron, bus) is flushed soon, without waiting for a client to speak.
Units       bytes; monotonic ms.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from cluster import clock
from cluster.node.admission import refusal_of
from cluster.node.client import READ_BYTES_MIN, Client
from cluster.node.poller import READ, WRITE, new_poller
from cluster.resp.encode import error

if TYPE_CHECKING:
    from cluster.commands.context import Session
    from cluster.node.server import Server

READ_BYTES: Final = 16 * 1024  # PROTO_IOBUF_LEN
READ_BYTES_MAX: Final = 1024 * 1024
"""Only for the inside of one big value: a read of requests must not keep the others waiting."""
SEND_BYTES_MAX: Final = 1024 * 1024
"""What one client is sent before the others get their turn."""
EVENTS_MAX: Final = 256
SHORT_READ_BYTES: Final = 256
"""Up to this size a read is taken for one small request, and the next one too."""
PASS_NS: Final = 2_000_000
"""When a pass begins no further client; who is left comes first in the next one."""
YIELD_AFTER_NS: Final = 2_000_000
"""How long passes may follow one another before the other tasks get a turn."""


class Reactor:
    """Owns the client sockets of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._poller = new_poller()
        self._clients: dict[int, Client] = {}
        self._listeners: dict[int, socket.socket] = {}
        self._to_write: list[Client] = []
        self._in_pass = False
        self._in_flush = False
        self._served_fd = -1
        self._flush_requested = False
        self._token: trio.lowlevel.TrioToken | None = None

    # Listening ----------------------------------------------------------------------------------------------

    def listen(self, sock: socket.socket) -> None:
        """Accept clients from a bound, listening socket."""
        sock.setblocking(False)
        self._listeners[sock.fileno()] = sock
        self._poller.register(sock.fileno(), READ)

    def stop_listening(self, *, tcp_only: bool = False) -> None:
        """Close every listening socket, or all but the Unix socket."""
        for fd, sock in list(self._listeners.items()):
            if tcp_only and sock.family == socket.AF_UNIX:
                continue
            self._poller.unregister(fd)
            sock.close()
            del self._listeners[fd]

    def close(self) -> None:
        """Send what can be sent at once, then close everything."""
        self.flush()
        self.stop_listening()
        for client in list(self._clients.values()):
            self.disconnect(client)
        self._poller.close()

    # The loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled."""
        self._token = trio.lowlevel.current_trio_token()
        poll = self._poller.poll
        poller_fd = self._poller.fileno()
        turn_began_ns = time.perf_counter_ns()
        events: list[tuple[int, int]] = []
        while True:
            if not events:
                events = poll(0, EVENTS_MAX)
            if not events:
                self._served_fd = -1  # Nobody is left in epoll's list: its order is that of arrival again.
                await trio.lowlevel.wait_readable(poller_fd)
                turn_began_ns = time.perf_counter_ns()
                continue
            events = self._run_pass(events)
            if time.perf_counter_ns() - turn_began_ns > YIELD_AFTER_NS:
                await trio.lowlevel.checkpoint()
                turn_began_ns = time.perf_counter_ns()

    def _run_pass(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Serve ready clients in order; returns the events for which there was no time."""
        server = self._server
        server.begin_pass()
        self._in_pass = True
        clients = self._clients
        to_write = self._to_write
        dispatcher = server.dispatcher
        received = 0
        read = os.read  # Of a socket no other than recv, but without a tuple of its argument.
        clock_ns = time.perf_counter_ns
        ends_ns = clock_ns() + PASS_NS
        if len(events) == 2 and events[0][0] == self._served_fd and server.client_limit.limit_bytes:
            # Who was served last may still be in epoll's list, ahead of the one who has been waiting for longer. Under
            # maxmemory-clients it matters more that nobody is measured late than that requests run as they arrived.
            events.reverse()
        waiting = iter(events)
        for fd, mask in waiting:
            client = clients.get(fd)
            if client is None:
                if fd in self._listeners:
                    self._accept(self._listeners[fd])
                continue
            if mask != READ:
                if mask & WRITE:
                    self._send_unsent(client)
                if client.closed or not mask & ~WRITE:
                    continue
            try:
                data = read(fd, READ_BYTES_MIN if client.read_bytes == READ_BYTES_MIN else client.read_bytes)
            except BlockingIOError:
                continue
            except OSError:
                self.disconnect(client)
                continue
            if not data:
                self.disconnect(client)
                continue
            dispatcher.receive(client, data)
            if client.out and not client.write_scheduled:
                client.write_scheduled = True
                to_write.append(client)
            size = len(data)
            received += size
            # Short reads are short work, and there are at most EVENTS_MAX of them.
            if size > SHORT_READ_BYTES:
                client.read_bytes = min(max(client.parser.missing_bulk_bytes, READ_BYTES), READ_BYTES_MAX)
                if client.read_bytes != READ_BYTES:
                    received += self._read_big_value(client)
                if clock_ns() > ends_ns:
                    break
            elif client.read_bytes != READ_BYTES_MIN:
                client.read_bytes = READ_BYTES_MIN
        self._served_fd = events[-1][0] if events else -1
        server.statistics.net_input_bytes += received
        self._in_pass = False
        self.flush()
        return list(waiting)

    def pump(self, busy: Session) -> None:
        """Serve whoever is ready while the command of ``busy``, whose bytes must wait, still runs."""
        was_in_pass = self._in_pass
        events = []
        for fd, mask in self._poller.poll(0, EVENTS_MAX):
            if self._clients.get(fd) is not busy:
                events.append((fd, mask))
            elif mask & WRITE:
                events.append((fd, WRITE))
        if events:
            self._run_pass(events)
        elif self._to_write:
            self.flush()
        self._in_pass = was_in_pass

    def _read_big_value(self, client: Client) -> int:
        """Go on reading a value that has begun, as far as it is there; returns how many bytes that were.

        What does not fit the kernel's window comes up as it is read, so one read would seldom bring all.
        """
        received = 0
        client.large_value_bytes = max(client.large_value_bytes, client.parser.missing_bulk_bytes)
        while not client.closed and client.parser.missing_bulk_bytes and received < READ_BYTES_MAX:
            try:
                data = os.read(client.fd, min(client.parser.missing_bulk_bytes, READ_BYTES_MAX))
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.disconnect(client)
                break
            received += len(data)
            self._server.dispatcher.receive(client, data)
        if client.out and not client.write_scheduled:
            client.write_scheduled = True
            self._to_write.append(client)
        return received

    # Writing ------------------------------------------------------------------------------------------------

    def schedule_write(self, client: Client) -> None:
        """See that the client's output leaves before the loop sleeps, whoever wrote it."""
        if client.write_scheduled or client.closed:
            return
        client.write_scheduled = True
        self._to_write.append(client)
        if not self._in_flush:
            self.request_flush()

    def request_flush(self) -> None:
        """Have :meth:`flush` run soon, also when no client speaks."""
        self._server.has_loose_ends = True
        if not self._in_pass and not self._flush_requested and self._token is not None:
            self._flush_requested = True
            self._token.run_sync_soon(self._flush_as_requested)

    def _flush_as_requested(self) -> None:
        # Until now, since trio keeps every request until its turn, and a pass that flushes takes none of them back.
        self._flush_requested = False
        self.flush()

    def flush(self) -> None:
        """The step before sleeping: make durable and replicate, then send every client's replies."""
        self._in_flush = True
        self._server.before_sleep()
        sent_total = 0
        write = os.write
        unlimited_bytes = self._server.unlimited_output_bytes
        # Sending may close a client, whose observers may write to others: go on until nothing is left.
        while self._to_write:
            batch = self._to_write.copy()
            self._to_write.clear()
            for client in batch:
                client.write_scheduled = False
                if client.closed:
                    continue
                out = client.out
                if client.unsent or client.has_big_output:
                    self._queue_output(client)
                    continue
                if len(out) == 1:
                    data = out.pop()
                else:
                    data = b"".join(out)
                    out.clear()
                if len(data) > unlimited_bytes and self._refuse_output(client, len(data)):
                    continue
                try:
                    sent = write(client.fd, data)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    self.disconnect(client)
                    continue
                sent_total += sent
                if sent < len(data):
                    self._keep_unsent(client, data, sent)
                elif client.close_after_reply:
                    self.disconnect(client)
        self._in_flush = False
        self._server.statistics.net_output_bytes += sent_total

    def _keep_unsent(self, client: Client, data: bytes, sent: int) -> None:
        client.unsent.append(memoryview(data)[sent:])
        client.unsent_bytes = len(data) - sent
        client.wants_write = True
        self._poller.modify(client.fd, READ | WRITE)
        self._check_output_limit(client)

    def _queue_output(self, client: Client) -> None:
        """Replies that must wait behind others, or that hold big values, which are sent from where they are."""
        out = client.out
        was_idle = not client.unsent
        client.unsent_bytes += sum(map(len, out))
        if client.has_big_output:
            client.has_big_output = False
            client.unsent.extend(out)
        else:
            client.unsent.append(b"".join(out))
        out.clear()
        if was_idle and not self._refuse_output(client, client.unsent_bytes):
            self._send_unsent(client)
        if client.unsent and not client.closed:
            self._check_output_limit(client)

    def _send_unsent(self, client: Client) -> None:
        """Send what is waiting, until the kernel takes no more or the others must have their turn."""
        unsent = client.unsent
        allowed = SEND_BYTES_MAX
        try:
            while unsent and allowed > 0:
                chunk = unsent[0]
                sent = client.sock.send(chunk if len(chunk) <= allowed else memoryview(chunk)[:allowed])
                allowed -= sent
                if sent < len(chunk):
                    unsent[0] = memoryview(chunk)[sent:]
                else:
                    unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.disconnect(client)
            return
        sent_bytes = SEND_BYTES_MAX - allowed
        self._server.statistics.net_output_bytes += sent_bytes
        client.unsent_bytes -= sent_bytes
        if sent_bytes:
            client.last_active_ms = self._server.now_ms  # Who reads a long reply is not idle.
        if bool(unsent) != client.wants_write:
            client.wants_write = bool(unsent)
            self._poller.modify(client.fd, READ | WRITE if unsent else READ)
        if not unsent:
            client.soft_limit_since_ms = None
            if client.replica is not None:
                self._server.has_loose_ends = True  # It is given more of the stream when it has sent what it had.
            if client.close_after_reply and not client.out:
                self.disconnect(client)

    def _refuse_output(self, client: Client, size: int) -> bool:
        """Disconnect a client whose replies exceed its hard limit before it is sent any of them; True if so."""
        if self._server.exceeds_hard_limit(client, size):
            self.drop_for_its_output(client)
        return client.closed

    def _check_output_limit(self, client: Client) -> None:
        """Disconnect a client that lets its output grow past client-output-buffer-limit."""
        if self._server.exceeds_output_limit(client, clock.monotonic_ms()):
            self.drop_for_its_output(client)
        else:
            self._server.client_limit.note(client)

    def drop_for_its_output(self, client: Client) -> None:
        """Disconnect a client that has more to be sent than it may."""
        self._server.log.warning(
            f"Client {self._server.describe_client(client)} scheduled to be closed ASAP for overcoming of "
            "output buffer limits."
        )
        self.disconnect(client)

    # Coming and going ---------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(1000):  # MAX_ACCEPTS_PER_CALL
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as failure:
                self._server.log.warning(f"Accepting client connection: accept: {failure.strerror}")
                return
            self._admit(sock)

    def _admit(self, sock: socket.socket) -> None:
        refusal = refusal_of(self._server, sock, len(self._clients))
        if refusal is not None:
            try:
                sock.setblocking(False)
                sock.send(error(refusal))
            except OSError:
                pass
            sock.close()
            self._server.statistics.rejected_connections += 1
            return
        try:
            self._server.prepare_socket(sock)
        except OSError:
            sock.close()
            return
        self.adopt(sock)

    def adopt(self, sock: socket.socket) -> Client:
        """Make a client of a connected, non-blocking socket."""
        client = self._server.new_client(sock)
        self._clients[client.fd] = client
        self._poller.register(client.fd, READ)
        return client

    def close_soon(self, client: Client) -> None:
        """Disconnect once everything written has left."""
        client.close_after_reply = True
        if not client.out and not client.unsent:
            self.disconnect(client)

    def disconnect(self, client: Client) -> None:
        """Drop a client at once."""
        if client.closed:
            return
        client.closed = True
        del self._clients[client.fd]
        try:
            self._poller.unregister(client.fd)
        except (OSError, KeyError):
            pass  # The descriptor is gone already; so is its registration.
        client.sock.close()
        client.out.clear()
        client.unsent.clear()
        client.unsent_bytes = 0
        self._server.client_gone(client)

    def for_each_client(self, visit: Callable[[Client], None]) -> None:
        """Call ``visit`` for every connected client; it may disconnect them."""
        for client in list(self._clients.values()):
            visit(client)

    def __len__(self) -> int:
        return len(self._clients)
