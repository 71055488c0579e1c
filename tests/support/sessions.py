"""A whole server in the test's own process: requests go in, replies come out, and nothing happens in between.

No listening socket, no trio, no housekeeping: the reactor makes its passes when a client says something (or `run` is
called), and time passes as it does. Each client is one end of a socket pair: what it reads, and that it was closed, is
what a connection would have shown.

    bench = ServerBench(requirepass="sesame")
    client = bench.connect()
    assert client.ask("PING") == b"-NOAUTH Authentication required.\r\n"
"""

from __future__ import annotations

import contextlib
import os
import socket
from types import TracebackType
from typing import Any, Self

from cluster.node.client import Client
from cluster.node.config import Config
from cluster.node.logging import Log
from cluster.node.server import Server
from cluster.settings import Settings
from tests.support.wire import Argument, encode


class BenchClient:
    """The peer of one session."""

    def __init__(self, bench: ServerBench, address: str) -> None:
        self._bench = bench
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._socket = theirs
        self.session: Client = bench.server.reactor.adopt(ours)
        self.session.address = address
        self.session.local_address = "127.0.0.1:6379"
        self.closed = False
        """The server has closed the connection, and everything it said before has been read."""

    def ask(self, *arguments: Argument) -> bytes:
        """One request, and what came back at once."""
        return self.send(encode(*arguments))

    def pipeline(self, *requests: tuple[Argument, ...]) -> bytes:
        """Several requests in one read, and what came back at once."""
        return self.send(b"".join(encode(*request) for request in requests))

    def send(self, data: bytes) -> bytes:
        """Bytes, in as few writes as a socket takes, and what came back once the server had read them."""
        reply = b""
        while data and not self.closed:
            data = data[self.say(data) :]
            self._bench.run()
            reply += self.read()
        return reply

    def say(self, data: bytes) -> int:
        """Leave bytes in the socket, for the next pass to find; returns how many it took."""
        try:
            return self._socket.send(data)
        except BrokenPipeError:
            return len(data)

    def read(self) -> bytes:
        """What the server has said since the last time."""
        data = b""
        try:
            while chunk := self._socket.recv(1 << 16):
                data += chunk
            self.closed = True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.closed = True  # Closed with our bytes unread.
        return data

    def close(self) -> None:
        self._socket.close()


class ServerBench:
    """The server; keyword arguments are attributes of Settings."""

    def __init__(self, **settings: Any) -> None:
        values = Settings(logfile=os.devnull)
        for name, value in settings.items():
            assert hasattr(values, name), name
            setattr(values, name, value)
        directory = os.getcwd()
        self.server = Server(Config(values, Log(values)), Log(values))
        assert os.getcwd() == directory
        self._clients: list[BenchClient] = []

    def connect(self, address: str | None = None) -> BenchClient:
        """A new client, from an address of its own."""
        client = BenchClient(self, address or f"10.0.0.1:{50000 + len(self._clients)}")
        self._clients.append(client)
        return client

    def run(self) -> None:
        """Passes of the reactor until no client has anything left to say; at least one, for what is due anyway."""
        reactor = self.server.reactor
        while True:
            events = reactor._poller.poll(0, 1024)
            reactor._run_pass(events)
            if not events:
                return

    def close(self) -> None:
        self.server.reactor.close()
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
