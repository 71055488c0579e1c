"""The connections over which MIGRATE hands keys to other servers, kept for a while because keys come in crowds.

MIGRATE is synchronous in Redis and here: nothing else may run between reading a key and deleting it. So these sockets
block, every single step of theirs for at most the command's timeout. Source: migrateGetSocket and its siblings in
cluster.c, syncio.c of Redis 7.0. Units: milliseconds, monotonic.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import socket
from typing import Final

CACHED_MAX: Final = 64
IDLE_MS_MAX: Final = 10_000
CHUNK_BYTES: Final = 64 * 1024


class MigrateConnection:
    """One blocking connection to a target."""

    def __init__(self, sock: socket.socket, now_ms: int) -> None:
        self._sock = sock
        self._received = b""
        self.selected_database: int | None = None
        """The database that the connection is known to have selected."""
        self.last_used_ms = now_ms

    def send(self, data: bytes, timeout_ms: int) -> None:
        """Write everything; each 64 KB may take ``timeout_ms``. Raises OSError."""
        self._sock.settimeout(timeout_ms / 1000)
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_BYTES):
            self._sock.sendall(view[start : start + CHUNK_BYTES])

    def read_line(self, timeout_ms: int) -> bytes:
        """The next line without its end: all replies that MIGRATE waits for are one line. Raises OSError."""
        self._sock.settimeout(timeout_ms / 1000)
        while b"\n" not in self._received:
            chunk = self._sock.recv(CHUNK_BYTES)
            if not chunk:
                raise ConnectionResetError(errno.ECONNRESET, "closed by the target")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line.removesuffix(b"\r")

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class MigrateConnections:
    """The connections of one server, by target."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._by_target: dict[tuple[bytes, bytes], MigrateConnection] = {}

    def __len__(self) -> int:
        return len(self._by_target)

    def get(self, host: bytes, port: bytes, timeout_ms: int, now_ms: int) -> MigrateConnection:
        """A connection to ``host:port``, perhaps one used before. Raises OSError when none can be made."""
        connection = self._by_target.get((host, port))
        if connection is not None:
            connection.last_used_ms = now_ms
            return connection
        if len(self._by_target) >= CACHED_MAX:
            self.close(*self._rng.choice(list(self._by_target)))
        sock = _connect(host, port, timeout_ms)
        connection = self._by_target[host, port] = MigrateConnection(sock, now_ms)
        return connection

    def close(self, host: bytes, port: bytes) -> None:
        """Drop the connection to a target: it broke, or its state is unknown."""
        connection = self._by_target.pop((host, port), None)
        if connection is not None:
            connection.close()

    def close_idle(self, now_ms: int) -> None:
        """Drop what was not used for ten seconds; to be called about once a second."""
        for target, connection in list(self._by_target.items()):
            if now_ms - connection.last_used_ms > IDLE_MS_MAX:
                self.close(*target)


def _connect(host: bytes, port: bytes, timeout_ms: int) -> socket.socket:
    """A socket on its way to ``host:port``. Raises OSError when there is no such address or no answer in time.

    A refusal is not looked for: as in Redis it shows itself at the first write, whose text the client then gets.
    """
    # What is no port number fails like an address that nobody has.
    number = int(port) if port.isdigit() and len(port) <= 5 else 0
    try:
        infos = socket.getaddrinfo(host.decode("latin-1"), number, type=socket.SOCK_STREAM)
    except (UnicodeError, OverflowError, ValueError) as error:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
    code = errno.EADDRNOTAVAIL
    for family, kind, protocol, _name, address in infos:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code in (0, errno.EINPROGRESS):
            poll = select.poll()
            poll.register(sock, select.POLLOUT)
            if poll.poll(timeout_ms):
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
            code = errno.ETIMEDOUT
        sock.close()
    raise OSError(code, os.strerror(code))
