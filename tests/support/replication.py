"""Replication between any two servers, and a master that the test plays by hand."""

from __future__ import annotations

import socket
from collections.abc import Callable

import hiredis

from tests.support.servers import Server, eventually
from tests.support.waiting import PATIENCE
from tests.support.wire import encode

Start = Callable[..., Server]


def replication(server: Server) -> dict[str, str]:
    return server.info("replication")


def follow(replica: Server, master: Server) -> None:
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    link_is(replica, "up")


def link_is(replica: Server, status: str) -> None:
    eventually(lambda: replication(replica)["master_link_status"] == status)


def in_step(master: Server, replica: Server) -> None:
    eventually(lambda: replication(replica)["slave_repl_offset"] == replication(master)["master_repl_offset"])


def fill(server: Server, keys: int, size: int = 10) -> None:
    with server.raw() as connection:
        for first in range(0, keys, 1000):
            batch = range(first, min(first + 1000, keys))
            connection.sendall(b"".join(encode("SET", f"key:{n}", b"v" * size) for n in batch))
            for _ in batch:
                assert connection.reply() == b"OK"


EMPTY_RDB = b"REDIS0010\xff" + bytes(8)
HISTORY = "abcdef0123" * 4


class HandMaster:
    """A listening socket on which the test answers a replica byte by byte."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self._reader = hiredis.Reader(notEnoughData=None)
        self._socket: socket.socket | None = None

    def accept(self) -> list[bytes]:
        """Take the replica's next connection up to its PSYNC, which is returned."""
        self.hang_up()
        self._socket, _ = self._listener.accept()
        self._socket.settimeout(PATIENCE)
        self._reader = hiredis.Reader(notEnoughData=None)
        while True:
            command = self.command()
            if command[0] == b"PSYNC":
                return command
            self.send(b"+PONG\r\n" if command[0] == b"PING" else b"+OK\r\n")

    def greeting(self) -> list[bytes]:
        """Take the replica's next connection; the first command on it."""
        self.hang_up()
        self._socket, _ = self._listener.accept()
        self._socket.settimeout(PATIENCE)
        self._reader = hiredis.Reader(notEnoughData=None)
        return self.command()

    def command(self) -> list[bytes]:
        """The next command from the replica."""
        assert self._socket is not None
        while (command := self._reader.gets()) is None:
            data = self._socket.recv(65536)
            assert data, "the replica hung up"
            self._reader.feed(data.lstrip(b"\n"))
        assert isinstance(command, list)
        return command

    def ack(self) -> int:
        """The offset that the replica acknowledges next."""
        command = self.command()
        assert command[:2] == [b"REPLCONF", b"ACK"]
        return int(command[2])

    def send(self, data: bytes) -> None:
        assert self._socket is not None
        self._socket.sendall(data)

    def full_sync(self, offset: int, snapshot: bytes = EMPTY_RDB) -> None:
        self.send(b"+FULLRESYNC %b %d\r\n\n$%d\r\n%b" % (HISTORY.encode(), offset, len(snapshot), snapshot))

    def hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self.hang_up()
        self._listener.close()
