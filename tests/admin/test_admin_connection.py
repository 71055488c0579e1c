"""Connections to nodes that are absent, silent, rude or not Redis at all: always a sentence, never a traceback."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from cluster.admin import connection as module
from cluster.admin.address import Address, parse_address, parse_contact, parse_port, resolve_ip
from cluster.admin.connection import Connection, Credentials, ErrorReply, call, call_int, call_keys, call_text, connect
from cluster.admin.errors import AdminError, CannotConnect, ConnectionLost, ReplyError, UnexpectedReply


@contextlib.contextmanager
def peer(behave: Callable[[socket.socket], None]) -> Iterator[Address]:
    """Something that listens, accepts one connection and then behaves in its own way."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                accepted, _ = listener.accept()
                with accepted:
                    behave(accepted)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield Address("127.0.0.1", listener.getsockname()[1])
        thread.join(10)
        assert not thread.is_alive()


def answers(*replies: bytes) -> Callable[[socket.socket], None]:
    def behave(accepted: socket.socket) -> None:
        for reply in replies:
            if not accepted.recv(65536):
                return
            accepted.sendall(reply)
        while accepted.recv(65536):
            pass

    return behave


@contextlib.contextmanager
def connected(*replies: bytes, credentials: Credentials | None = None) -> Iterator[Connection]:
    with peer(answers(*replies)) as address:
        connection = connect(address, credentials or Credentials())
        try:
            yield connection
        finally:
            connection.close()


def test_nobody_listens() -> None:
    address = Address("127.0.0.1", 1)

    with pytest.raises(CannotConnect) as failed:
        connect(address, Credentials())
    assert str(failed.value) == f"Could not connect to Redis at {address}: Connection refused"


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(CannotConnect, match=r"^Could not connect to Redis at no-such-host\.invalid:7000: \w"):
        connect(Address("no-such-host.invalid", 7000), Credentials())


def test_a_host_name_that_is_none() -> None:
    with pytest.raises(CannotConnect):
        connect(Address("a" * 300, 7000), Credentials())


def test_a_node_that_accepts_and_says_nothing() -> None:
    with connected() as connection:
        connection.send("PING")
        with pytest.raises(ConnectionLost, match=r"no answer within 0\.05 seconds"):
            connection.receive(0.05)
        with pytest.raises(ConnectionLost, match="is closed"):
            connection.send("PING")


def test_a_host_that_swallows_the_connection_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full looks like a host behind a silent firewall."""
    monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(address)
            with pytest.raises(CannotConnect, match="Connection timed out"):
                connect(Address(*address), Credentials())


def test_a_node_that_hangs_up() -> None:
    with peer(lambda accepted: accepted.close()) as address:
        connection = connect(address, Credentials())
        with pytest.raises(ConnectionLost, match=f"Lost the connection to Redis at {address}: "):
            call(connection, "PING")


@pytest.mark.parametrize("noise", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x01\x02", b"*abc\r\n", b"$-7\r\n"])
def test_a_peer_that_is_no_redis(noise: bytes) -> None:
    with connected(noise) as connection, pytest.raises(ConnectionLost, match="not the Redis protocol"):
        call(connection, "PING")


def test_a_reply_in_many_pieces() -> None:
    def behave(accepted: socket.socket) -> None:
        accepted.recv(65536)
        for byte in b"*2\r\n$3\r\nabc\r\n:7\r\n":
            accepted.sendall(bytes([byte]))

    with peer(behave) as address:
        connection = connect(address, Credentials())
        assert call(connection, "X") == [b"abc", 7]
        connection.close()


def test_an_error_reply_is_raised_with_the_nodes_words() -> None:
    with connected(b"-ERR no luck\r\n") as connection, pytest.raises(ReplyError) as failed:
        call(connection, "X")
    assert failed.value.text == "ERR no luck"
    assert str(failed.value) == f"Node {failed.value.address} replied with error:\nERR no luck"


def test_an_error_inside_an_array_is_a_value() -> None:
    with connected(b"*1\r\n-ERR inside\r\n") as connection:
        reply = call(connection, "EXEC")
    assert isinstance(reply[0], ErrorReply)
    assert str(reply[0]) == "ERR inside"


@pytest.mark.parametrize(
    ("ask", "reply"),
    [
        (call_text, b":1\r\n"),
        (call_text, b"$-1\r\n"),
        (call_int, b"+1\r\n"),
        (call_keys, b"$1\r\na\r\n"),
        (call_keys, b"*1\r\n:1\r\n"),
    ],
)
def test_a_reply_of_the_wrong_kind(ask: Callable[..., object], reply: bytes) -> None:
    with connected(reply) as connection, pytest.raises(UnexpectedReply, match="invalid CLUSTER NODES reply"):
        ask(connection, "CLUSTER", "NODES")


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        (Credentials("pw"), b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n"),
        (Credentials("pw", "admin"), b"*3\r\n$4\r\nAUTH\r\n$5\r\nadmin\r\n$2\r\npw\r\n"),
    ],
)
def test_logging_in(credentials: Credentials, expected: bytes) -> None:
    seen: list[bytes] = []

    def behave(accepted: socket.socket) -> None:
        seen.append(accepted.recv(65536))
        accepted.sendall(b"+OK\r\n")

    with peer(behave) as address:
        connect(address, credentials).close()
    assert seen == [expected]


def test_a_wrong_password() -> None:
    refusal = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"

    with (
        pytest.raises(AdminError, match="WRONGPASS invalid username-password pair"),
        connected(refusal, credentials=Credentials("wrong")),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7000", Address("127.0.0.1", 7000)),
        ("node.example:7000", Address("node.example", 7000)),
        ("::1:7000", Address("::1", 7000)),
        ("[::1]:7000", Address("::1", 7000)),
        ("10.0.0.1:7000@17000", Address("10.0.0.1", 7000)),
        ("10.0.0.1", None),
        (":7000", None),
        ("10.0.0.1:", None),
        ("10.0.0.1:0", None),
        ("10.0.0.1:65536", None),
        ("10.0.0.1:7000x", None),
        ("10.0.0.1:-1", None),
        ("", None),
    ],
)
def test_addresses_as_people_type_them(text: str, expected: Address | None) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["10.0.0.1:7000"], Address("10.0.0.1", 7000)),
        (["10.0.0.1", "7000"], Address("10.0.0.1", 7000)),
        (["::1", "7000"], Address("::1", 7000)),
        (["10.0.0.1", "x"], None),
        (["10.0.0.1"], None),
        ([], None),
    ],
)
def test_the_node_to_start_from(words: list[str], expected: Address | None) -> None:
    assert parse_contact(words) == expected


def test_ports() -> None:
    assert parse_port("7000") == 7000
    assert parse_port("٧٠٠٠") is None  # Digits, but not those of a port.


def test_names_are_resolved_for_meet() -> None:
    assert resolve_ip("127.0.0.1") == "127.0.0.1"
    assert resolve_ip("localhost") in ("127.0.0.1", "::1")
    assert resolve_ip("no-such-host.invalid") is None
