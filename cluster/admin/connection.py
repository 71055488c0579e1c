"""A plain, blocking connection to one node's client port.

Role        Commands out, replies in; failures become the sentences of ``errors``.
Invariants  A command's reply is read before the next command is sent, except between ``send`` and ``receive``, which
            let one caller ask many nodes at once. After ConnectionLost the connection is closed for good.
            No call waits for ever: every reply has a time limit.
Units       *_s: seconds.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Protocol, TypeAlias

import attrs
import hiredis

from cluster.admin.address import Address
from cluster.admin.errors import CannotConnect, ConnectionLost, ReplyError, UnexpectedReply
from cluster.clock import monotonic_ms

CONNECT_TIMEOUT_S = 5.0
# A node that is alive answers an administrative command at once, unless somebody else keeps it busy.
REPLY_TIMEOUT_S = 15.0
KEEPALIVE_INTERVAL_S = 15  # As redis-cli: find out about a dead peer while a long command runs.

Argument: TypeAlias = str | bytes | int
# What a node may answer: bytes, int, None, an ErrorReply, a list of these; a RESP3 server could add bool, float, dict.
Reply: TypeAlias = Any


class ErrorReply(Exception):
    """An error reply, as a value: inside an EXEC's array it is one element among others."""


@attrs.frozen
class Credentials:
    """How to log in. Without a password no AUTH is sent, as in redis-cli."""

    password: str | None = None
    user: str | None = None

    def auth_command(self) -> tuple[str, ...] | None:
        """The AUTH command, or None when there is nothing to say."""
        if self.password is None:
            return None
        if self.user is None:
            return ("AUTH", self.password)
        return ("AUTH", self.user, self.password)


class Link(Protocol):
    """What the operations need of a connection to one node; the tests put a model of a cluster behind it."""

    address: Address

    def send(self, *command: Argument) -> None:
        """Send a command without waiting for its reply."""

    def receive(self, timeout_s: float = ...) -> Reply:
        """The reply of the oldest command without one; an error reply is returned as an ErrorReply."""

    def close(self) -> None:
        """Close the connection; calling it again does no harm."""


class Connection:
    """A Link over TCP."""

    def __init__(self, address: Address, sock: socket.socket) -> None:
        self.address = address
        self._socket: socket.socket | None = sock
        self._reader = hiredis.Reader(replyError=ErrorReply, notEnoughData=_NOTHING_YET)

    def send(self, *command: Argument) -> None:
        # The stub describes a tuple of one element; it takes any number.
        packed = hiredis.pack_command(tuple(_as_bytes(argument) for argument in command))  # type: ignore[arg-type]
        try:
            self._open_socket().sendall(packed)
        except OSError as error:
            raise self._lost(_reason(error)) from None

    def receive(self, timeout_s: float = REPLY_TIMEOUT_S) -> Reply:
        deadline_ms = monotonic_ms() + int(timeout_s * 1000)
        try:
            reply = self._reader.gets()
            while reply is _NOTHING_YET:
                sock = self._open_socket()
                sock.settimeout(max(deadline_ms - monotonic_ms(), 1) / 1000)
                received = sock.recv(65536)
                if not received:
                    raise self._lost("Server closed the connection")
                self._reader.feed(received)
                reply = self._reader.gets()
        except TimeoutError:
            raise self._lost(f"no answer within {timeout_s:g} seconds") from None
        except OSError as error:
            raise self._lost(_reason(error)) from None
        except (hiredis.HiredisError, TypeError):
            raise self._lost("what it sends is not the Redis protocol") from None
        return reply

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise ConnectionLost(self.address, "the connection is closed")
        return self._socket

    def _lost(self, reason: str) -> ConnectionLost:
        self.close()
        return ConnectionLost(self.address, reason)


class _NothingYet:
    """The parser's word for "feed me more": its default, False, is also what RESP3's #f parses to."""


_NOTHING_YET = _NothingYet()


def connect(address: Address, credentials: Credentials) -> Connection:
    """Connect to a node and log in. Raises CannotConnect, or ReplyError with the node's reason for refusing us."""
    try:
        sock = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S)
    except (OSError, UnicodeError) as error:
        raise CannotConnect(address, _reason(error)) from None
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_INTERVAL_S)
    connection = Connection(address, sock)
    auth = credentials.auth_command()
    if auth is not None:
        try:
            call(connection, *auth)
        except BaseException:
            connection.close()
            raise
    return connection


def call(link: Link, *command: Argument, timeout_s: float = REPLY_TIMEOUT_S) -> Reply:
    """Send one command and return its reply; an error reply is raised as ReplyError."""
    link.send(*command)
    return raise_error(link, link.receive(timeout_s))


def raise_error(link: Link, reply: Reply) -> Reply:
    """Return ``reply``, or raise it when it is an error."""
    if isinstance(reply, ErrorReply):
        raise ReplyError(link.address, str(reply))
    return reply


def call_text(link: Link, *command: Argument, timeout_s: float = REPLY_TIMEOUT_S) -> str:
    """A command whose reply is text: INFO, CLUSTER NODES, a status."""
    reply = call(link, *command, timeout_s=timeout_s)
    if not isinstance(reply, bytes):
        raise UnexpectedReply(link.address, _name(command))
    return reply.decode("utf-8", "replace")


def call_int(link: Link, *command: Argument) -> int:
    """A command whose reply is an integer."""
    reply = call(link, *command)
    if not isinstance(reply, int):
        raise UnexpectedReply(link.address, _name(command))
    return reply


def call_keys(link: Link, *command: Argument) -> list[bytes]:
    """A command whose reply is an array of strings: CLUSTER GETKEYSINSLOT, DEBUG DIGEST-VALUE."""
    reply = call(link, *command)
    if not isinstance(reply, list) or not all(isinstance(element, bytes) for element in reply):
        raise UnexpectedReply(link.address, _name(command))
    return reply


def info_field(info: str, name: str) -> str | None:
    """One field of an INFO or CLUSTER INFO text."""
    prefix = name + ":"
    for line in info.splitlines():
        if line.startswith(prefix):
            return line[len(prefix) :]
    return None


def _name(command: tuple[Argument, ...]) -> str:
    words = [word for word in command[:2] if isinstance(word, str) and word.isupper()]
    return " ".join(words)


def _as_bytes(argument: Argument) -> bytes:
    if isinstance(argument, bytes):
        return argument
    if isinstance(argument, int):
        return b"%d" % argument
    return argument.encode("utf-8", "surrogateescape")  # The bytes of the command line, whatever their encoding.


def _reason(error: Exception) -> str:
    """The operating system's words for a failure, without its numbers."""
    if isinstance(error, TimeoutError):
        return "Connection timed out"
    if isinstance(error, socket.gaierror) or not isinstance(error, OSError):
        return "Name or service not known"
    return error.strerror or str(error)
