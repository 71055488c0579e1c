"""The plainest possible client: one socket, RESP through hiredis, and nothing done behind the test's back.

redis-py retries, reconnects, parses and renegotiates; a test of the wire wants none of that. `RawConnection.call`
sends one command and returns the reply as RESP2 (or RESP3, after HELLO 3) types; an error reply is raised by `call` and
returned by `ask`.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any, Self

import hiredis

from tests.support.waiting import PATIENCE

DEFAULT_TIMEOUT = PATIENCE

Argument = bytes | str | int | float
_NOTHING = object()


class ReplyError(Exception):
    """An error reply; `str()` is its text, code word first."""


class RawConnection:
    """A client connection on which the test decides about every byte."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader(notEnoughData=_NOTHING, replyError=ReplyError)

    def send(self, *arguments: Argument) -> None:
        """Send one command, without waiting for its reply."""
        self.sock.sendall(encode(*arguments))

    def sendall(self, data: bytes) -> None:
        self.sock.sendall(data)

    def recv(self, size: int = 65536) -> bytes:
        return self.sock.recv(size)

    def recv_exactly(self, size: int) -> bytes:
        """Read `size` bytes, whatever they are; raises ConnectionError if the peer closes before."""
        data = b""
        while len(data) < size:
            chunk = self.sock.recv(size - len(data))
            if not chunk:
                raise ConnectionError(f"closed after {data!r}")
            data += chunk
        return data

    def recv_until_closed(self) -> bytes:
        """Everything the peer says until it closes the connection; TimeoutError if it does not."""
        data = b""
        try:
            while chunk := self.sock.recv(65536):
                data += chunk
        except ConnectionResetError:
            pass  # Closed with our bytes unread: still a close.
        return data

    def reply(self) -> Any:
        """The next reply; an error reply comes back as a `ReplyError` value."""
        while (value := self._reader.gets()) is _NOTHING:
            chunk = self.sock.recv(65536)
            if not chunk:
                raise ConnectionError("connection closed by the server")
            self._reader.feed(chunk)
        return value

    def ask(self, *arguments: Argument) -> Any:
        """Send one command and return its reply, an error as a value."""
        self.send(*arguments)
        return self.reply()

    def call(self, *arguments: Argument) -> Any:
        """Send one command and return its reply; raise `ReplyError` on an error."""
        value = self.ask(*arguments)
        if isinstance(value, ReplyError):
            raise value
        return value

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def encode(*arguments: Argument) -> bytes:
    """A command as an array of bulk strings."""
    words = [argument if isinstance(argument, bytes) else str(argument).encode() for argument in arguments]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
