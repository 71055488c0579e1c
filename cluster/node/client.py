"""A client connection: the session that commands see, plus its socket, parser and unsent output.

The reactor owns every instance; nothing else reads or writes the socket. Units: bytes, monotonic ms.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from cluster.commands.context import Session
from cluster.resp.accelerator import FastParser
from cluster.resp.parser import ParserLimits

if TYPE_CHECKING:
    from cluster.commands.context import ServerContext

READ_BYTES_MIN: Final = 448
"""For the small requests of most clients: Python has a block of this size at hand, one of 16 kB it has not."""


class Client(Session):
    """A session with a connection."""

    __slots__ = (
        "closed",
        "fd",
        "large_value_bytes",
        "parser",
        "read_bytes",
        "sock",
        "soft_limit_since_ms",
        "unsent",
        "unsent_bytes",
        "wants_write",
        "write_scheduled",
    )

    def __init__(self, server: ServerContext, session_id: int, sock: socket.socket, limits: ParserLimits) -> None:
        super().__init__(server, session_id)
        self.sock = sock
        self.fd = sock.fileno()
        self.parser = FastParser(limits)
        self.read_bytes = READ_BYTES_MIN
        """Size of the next read; grows while a client sends bulk data."""
        self.large_value_bytes = 0
        """The largest value that was read in several steps lately: what Redis's query buffer would have grown to."""
        self.unsent: deque[bytes | memoryview] = deque()
        """What the kernel did not take yet, oldest first."""
        self.unsent_bytes = 0
        self.wants_write = False
        """Registered for writability: the kernel's buffer is full."""
        self.write_scheduled = False
        self.closed = False
        self.soft_limit_since_ms: int | None = None
        """Since when the output exceeds the soft limit of client-output-buffer-limit."""

    def output_bytes(self) -> int:
        """Bytes waiting to be sent."""
        return self.unsent_bytes + sum(map(len, self.out))
