"""The connections that MIGRATE keeps: reused, bounded, dropped when idle."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest

from cluster.node.migrate_connections import CACHED_MAX, IDLE_MS_MAX, MigrateConnection, MigrateConnections


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as sock:
        sock.settimeout(10)
        yield sock


def target(listener: socket.socket) -> tuple[bytes, bytes]:
    return b"127.0.0.1", b"%d" % listener.getsockname()[1]


@pytest.fixture
def connections() -> MigrateConnections:
    return MigrateConnections(random.Random(1))


def test_a_connection_is_used_again(connections: MigrateConnections, listener: socket.socket) -> None:
    first = connections.get(*target(listener), timeout_ms=1000, now_ms=0)
    first.selected_database = 3

    assert connections.get(*target(listener), timeout_ms=1000, now_ms=5) is first
    connections.close(*target(listener))
    assert connections.get(*target(listener), timeout_ms=1000, now_ms=6).selected_database is None


def test_no_step_may_take_longer_than_the_time_out() -> None:
    class Socket:
        """Takes everything, says nothing, and remembers how long it may take for that."""

        def __init__(self) -> None:
            self.allowed_s = 0.0
            self.steps: list[tuple[str, float]] = []

        def settimeout(self, seconds: float) -> None:
            self.allowed_s = seconds

        def sendall(self, data: memoryview) -> None:
            self.steps.append((f"send {len(data)}", self.allowed_s))

        def recv(self, size: int) -> bytes:
            self.steps.append(("read", self.allowed_s))
            raise TimeoutError

    sock = Socket()
    connection = MigrateConnection(sock, now_ms=0)  # type: ignore[arg-type]
    connection.send(bytes(65_536 + 1), 300)
    with pytest.raises(TimeoutError):
        connection.read_line(200)
    assert sock.steps == [("send 65536", 0.3), ("send 1", 0.3), ("read", 0.2)]


def test_the_idle_are_dropped(connections: MigrateConnections, listener: socket.socket) -> None:
    connections.get(*target(listener), timeout_ms=1000, now_ms=0)
    accepted, _ = listener.accept()
    connections.get(*target(listener), timeout_ms=1000, now_ms=100)
    connections.close_idle(100 + IDLE_MS_MAX)
    assert len(connections) == 1
    connections.close_idle(101 + IDLE_MS_MAX)
    assert len(connections) == 0
    accepted.settimeout(10)
    assert accepted.recv(1) == b""
    accepted.close()


def test_there_are_never_too_many(connections: MigrateConnections) -> None:
    """All of 127/8 is this machine, so that one listener on every address makes as many targets as one likes."""
    with socket.create_server(("0.0.0.0", 0), backlog=200) as listener:
        port = b"%d" % listener.getsockname()[1]
        for n in range(CACHED_MAX + 5):
            connections.get(b"127.0.1.%d" % n, port, timeout_ms=1000, now_ms=n)
            assert len(connections) == min(n + 1, CACHED_MAX)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        (b"127.0.0.1", b"x"),
        (b"127.0.0.1", b"-1"),
        (b"127.0.0.1", b"99999"),
        (b"no such host", b"1"),
        (b"\0", b"1"),
        (b"\xff" * 80, b"1"),
    ],
)
def test_what_is_no_address_is_an_os_error_or_refuses_the_first_write(
    connections: MigrateConnections, host: bytes, port: bytes
) -> None:
    with pytest.raises(OSError):
        connections.get(host, port, 500, 0).send(b"x", 500)


class TestLines:
    @pytest.fixture
    def ends(self) -> Iterator[tuple[MigrateConnection, socket.socket]]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            yield MigrateConnection(ours, 0), theirs

    def test_lines_in_any_pieces(self, ends: tuple[MigrateConnection, socket.socket]) -> None:
        connection, peer = ends
        peer.sendall(b"+O")
        peer.sendall(b"K\r\n-ERR x\r\n:1")
        assert connection.read_line(1000) == b"+OK"
        assert connection.read_line(1000) == b"-ERR x"
        peer.sendall(b"\n")
        assert connection.read_line(1000) == b":1"

    def test_time_out(self, ends: tuple[MigrateConnection, socket.socket]) -> None:
        with pytest.raises(TimeoutError):
            ends[0].read_line(20)

    def test_hang_up(self, ends: tuple[MigrateConnection, socket.socket]) -> None:
        ends[1].sendall(b"half a line")
        ends[1].close()
        with pytest.raises(ConnectionResetError):
            ends[0].read_line(1000)
