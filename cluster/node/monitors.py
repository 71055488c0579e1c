"""MONITOR: clients that are shown every request (replicationFeedMonitors in replication.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import clock

if TYPE_CHECKING:
    from cluster.node.client import Client
    from cluster.node.server import Server

_ESCAPES = {0x5C: b"\\\\", 0x22: b'\\"', 0x0A: b"\\n", 0x0D: b"\\r", 0x09: b"\\t", 0x07: b"\\a", 0x08: b"\\b"}


def quoted(text: bytes) -> bytes:
    """``text`` in double quotes, with escapes for what does not print (sdscatrepr)."""
    parts = [_ESCAPES.get(byte) or (b"%c" % byte if 0x20 <= byte < 0x7F else b"\\x%02x" % byte) for byte in text]
    return b'"' + b"".join(parts) + b'"'


class MonitorFeed:
    """The clients in MONITOR mode. False while there are none, so that the hot path need not know of it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._clients: dict[int, Client] = {}

    def __bool__(self) -> bool:
        return bool(self._clients)

    def add(self, client: Client) -> None:
        """Show ``client`` every request from now on."""
        client.is_monitor = True
        client.refresh_plain()
        self._clients[client.id] = client
        self._server.refresh_plain()

    def remove(self, client: Client) -> None:
        """The client left, or was RESET."""
        if self._clients.pop(client.id, None) is not None:
            client.is_monitor = False
            client.refresh_plain()
            self._server.refresh_plain()

    def feed(self, client: Client, argv: list[bytes]) -> None:
        """Show a request that has just run."""
        now_us = clock.unix_us()
        source = f"[{client.db.index} {client.address}] ".encode()
        line = b"+%d.%06d %b%b\r\n" % (now_us // 1_000_000, now_us % 1_000_000, source, b" ".join(map(quoted, argv)))
        for monitor in list(self._clients.values()):
            monitor.push(line)
