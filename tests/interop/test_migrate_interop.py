"""MIGRATE between a real server and ours, both ways: values, expiry, options, open slots, bad targets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.servers import OurNode, RealRedis, Server
from tests.support.waiting import eventually
from tests.support.wire import ReplyError

pytestmark = pytest.mark.real_redis

FOO = 12182


@pytest.fixture(scope="module")
def alone() -> Iterator[tuple[RealRedis, OurNode]]:
    with RealRedis() as theirs, OurNode() as ours:
        yield theirs, ours


@pytest.fixture(params=["ours to theirs", "theirs to ours"])
def pair(request: pytest.FixtureRequest, alone: tuple[RealRedis, OurNode]) -> tuple[Server, Server]:
    """(source, target), both empty."""
    for server in alone:
        server.call("FLUSHALL")
    theirs, ours = alone
    return (ours, theirs) if request.param.startswith("ours") else (theirs, ours)


def migrate(source: Server, port: int, key: str, *rest: object, database: int = 0, timeout_ms: int = 30_000) -> object:
    with source.raw() as connection:
        return connection.ask("MIGRATE", "127.0.0.1", port, key, database, timeout_ms, *map(str, rest))


def test_a_key_moves_with_value_and_expiry(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.call("SET", "k", b"\0value\xff" * 100, "PX", 100_000)
    source.call("SET", "n", "12345")

    assert migrate(source, target.port, "k") == b"OK"
    assert migrate(source, target.port, "n") == b"OK"

    assert target.call("GET", "k") == b"\0value\xff" * 100
    assert 90_000 < target.call("PTTL", "k") <= 100_000
    assert target.call("OBJECT", "ENCODING", "n") == b"int"
    assert source.call("EXISTS", "k", "n") == 0
    assert migrate(source, target.port, "k") == b"NOKEY"


def test_keys_copy_and_replace(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.call("MSET", "a", "1", "b", "2", "c", "3")
    target.call("SET", "b", "old")

    assert migrate(source, target.port, "", "COPY", "KEYS", "a") == b"OK"
    assert source.call("EXISTS", "a") == 1
    answer = migrate(source, target.port, "", "KEYS", "c", "b", "missing")
    assert str(answer) == "ERR Target instance replied with error: BUSYKEY Target key name already exists."
    assert source.call("EXISTS", "a", "b", "c") == 2, "what was acknowledged is gone, what was refused stays"
    assert migrate(source, target.port, "", "REPLACE", "KEYS", "a", "b") == b"OK"
    assert target.call("MGET", "a", "b", "c") == [b"1", b"2", b"3"]
    assert source.call("DBSIZE") == 0


def test_many_keys_at_once(pair: tuple[Server, Server]) -> None:
    source, target = pair
    keys = [f"key:{n}" for n in range(3000)]
    source.call("MSET", *[word for key in keys for word in (key, key * 20)])

    assert migrate(source, target.port, "", "KEYS", *keys) == b"OK"
    assert source.call("DBSIZE") == 0
    assert target.call("MGET", *keys) == [(key * 20).encode() for key in keys]


def test_another_database(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.call("MSET", "k", "v", "l", "w")

    assert migrate(source, target.port, "k", database=3) == b"OK"
    assert migrate(source, target.port, "l") == b"OK"
    with target.raw() as connection:
        assert connection.call("DBSIZE") == 1
        connection.call("SELECT", 3)
        assert connection.call("GET", "k") == b"v"
    source.call("SET", "k", "v")
    refused = migrate(source, target.port, "k", database=99)
    assert str(refused) == "ERR Target instance replied with error: ERR DB index is out of range"
    assert source.call("EXISTS", "k") == 1


def test_authentication(pair: tuple[Server, Server]) -> None:
    source, _ = pair
    target_class = RealRedis if source.kind == "ours" else OurNode
    with target_class(requirepass="secret") as target:
        source.call("MSET", "a", "1", "b", "2")
        assert str(migrate(source, target.port, "a")).startswith("ERR Target instance replied with error: NOAUTH")
        wrong = migrate(source, target.port, "a", "AUTH", "guess")
        assert str(wrong).startswith("ERR Target instance replied with error: WRONGPASS")
        assert source.call("EXISTS", "a") == 1
        assert migrate(source, target.port, "a", "AUTH", "secret") == b"OK"
        assert migrate(source, target.port, "b", "AUTH2", "default", "secret") == b"OK"


def test_a_target_that_went_away_and_came_back_is_reached_again(pair: tuple[Server, Server]) -> None:
    """The connection kept from the first time is dead: nobody hears of it."""
    source, _ = pair
    target_class = RealRedis if source.kind == "ours" else OurNode
    with target_class() as target:
        source.call("MSET", "a", "1", "b", "2")
        assert migrate(source, target.port, "a") == b"OK"
        target.restart()
        assert migrate(source, target.port, "b") == b"OK"
        assert target.call("GET", "b") == b"2"


class TestOpenSlots:
    """A slot on its way from one node to the other, as redis-cli moves it."""

    @pytest.fixture(params=["ours to theirs", "theirs to ours"])
    def nodes(self, request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
        with RealRedis(cluster=True) as theirs, OurNode(cluster=True) as ours:
            source, target = (ours, theirs) if request.param.startswith("ours") else (theirs, ours)
            source.call("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
            target.call("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
            source.call("CLUSTER", "SET-CONFIG-EPOCH", 1)
            target.call("CLUSTER", "SET-CONFIG-EPOCH", 2)
            source.call("CLUSTER", "MEET", "127.0.0.1", target.port)
            for node in (source, target):
                eventually(lambda node=node: node.cluster_info()["cluster_state"] == "ok")
            yield source, target

    def test_the_whole_move(self, nodes: tuple[Server, Server]) -> None:
        source, target = nodes
        source_id, target_id = (node.call("CLUSTER", "MYID").decode() for node in nodes)
        source.call("MSET", "{foo}1", "1", "{foo}2", "2")
        target.call("CLUSTER", "SETSLOT", FOO, "IMPORTING", source_id)
        source.call("CLUSTER", "SETSLOT", FOO, "MIGRATING", target_id)
        assert migrate(source, target.port, "{foo}1") == b"OK"

        with source.raw() as at_source, target.raw() as at_target:
            assert str(at_source.ask("GET", "{foo}1")) == f"ASK {FOO} 127.0.0.1:{target.port}"
            assert at_source.ask("GET", "{foo}2") == b"2"
            assert str(at_source.ask("MGET", "{foo}1", "{foo}2")).startswith("TRYAGAIN")
            assert str(at_target.ask("GET", "{foo}1")) == f"MOVED {FOO} 127.0.0.1:{source.port}"
            assert at_target.call("ASKING") == b"OK"
            assert at_target.ask("GET", "{foo}1") == b"1"
            assert str(at_target.ask("GET", "{foo}1")).startswith("MOVED"), "ASKING is good for one command"
            at_target.call("ASKING")
            assert str(at_target.ask("MGET", "{foo}1", "{foo}2")).startswith("TRYAGAIN")
            at_target.call("ASKING")
            at_target.call("MULTI")
            assert at_target.ask("GET", "{foo}1") == b"QUEUED"
            assert at_target.ask("EXEC") == [b"1"]

            assert source.call("CLUSTER", "COUNTKEYSINSLOT", FOO) == 1
            assert source.call("CLUSTER", "GETKEYSINSLOT", FOO, 10) == [b"{foo}2"]
            still_holds = at_source.ask("CLUSTER", "SETSLOT", FOO, "NODE", target_id)
            assert str(still_holds).startswith(
                f"ERR Can't assign hashslot {FOO} to a different node while I still hold"
            )
            assert migrate(source, target.port, "", "KEYS", "{foo}2") == b"OK"
            at_target.call("CLUSTER", "SETSLOT", FOO, "NODE", target_id)
            at_source.call("CLUSTER", "SETSLOT", FOO, "NODE", target_id)
            assert str(at_source.ask("GET", "{foo}2")) == f"MOVED {FOO} 127.0.0.1:{target.port}"
            assert at_target.ask("GET", "{foo}2") == b"2"
        owners = [node.call("CLUSTER", "NODES").decode() for node in nodes]
        assert all(f"{FOO - 1} {FOO + 1}-16383" in text for text in owners)

    def test_a_target_that_imports_nothing_refuses_and_the_key_stays(self, nodes: tuple[Server, Server]) -> None:
        source, target = nodes
        source.call("SET", "foo", "bar")
        answer = str(migrate(source, target.port, "foo"))
        assert answer == f"ERR Target instance replied with error: MOVED {FOO} 127.0.0.1:{source.port}"
        assert source.call("GET", "foo") == b"bar"


# -- targets that misbehave ---------------------------------------------------------------------------------------


@contextmanager
def fake_target(serve: Callable[[socket.socket, int], None]) -> Iterator[int]:
    """A server whose nth connection is handled by ``serve(socket, n)``; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept_all() -> None:
            number = 0
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    serve(sock, number)
                number += 1

        thread = threading.Thread(target=accept_all)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def silence(sock: socket.socket, number: int) -> None:
    while sock.recv(65536):
        pass


def hang_up(sock: socket.socket, number: int) -> None:
    sock.recv(65536)


def hang_up_once(sock: socket.socket, number: int) -> None:
    sock.recv(65536)
    if number:
        sock.sendall(b"+OK\r\n+OK\r\n")


def acknowledge_one(sock: socket.socket, number: int) -> None:
    """SELECT and the first key are answered, then the line goes dead."""
    sock.recv(65536)
    sock.sendall(b"+OK\r\n+OK\r\n")


@pytest.fixture(params=[OurNode, RealRedis])
def source(request: pytest.FixtureRequest, alone: tuple[RealRedis, OurNode]) -> Server:
    """Both, to show that they behave alike."""
    server = next(server for server in alone if isinstance(server, request.param))
    server.call("FLUSHALL")
    server.call("MSET", "a", "1", "b", "2")
    return server


class TestMisbehavingTargets:
    def test_silence_is_a_time_out(self, source: Server) -> None:
        with fake_target(silence) as port:
            began = time.monotonic()
            answer = migrate(source, port, "a", timeout_ms=300)
            assert str(answer) == "IOERR error or timeout reading to target instance"
            assert 0.25 < time.monotonic() - began < 3  # Not the time-out of anything else.
        assert source.call("EXISTS", "a") == 1

    def test_hanging_up_twice_is_an_error(self, source: Server) -> None:
        with fake_target(hang_up) as port:
            answer = migrate(source, port, "a")
            assert str(answer) == "IOERR error or timeout reading to target instance"
        assert source.call("EXISTS", "a") == 1

    def test_hanging_up_once_is_tried_again(self, source: Server) -> None:
        with fake_target(hang_up_once) as port:
            assert migrate(source, port, "a") == b"OK"
        assert source.call("EXISTS", "a") == 0

    def test_keys_that_were_acknowledged_are_gone_whatever_happens_next(self, source: Server) -> None:
        with fake_target(acknowledge_one) as port:
            answer = migrate(source, port, "", "KEYS", "a", "b")
            assert str(answer) == "IOERR error or timeout reading to target instance"
        assert source.call("EXISTS", "a") == 0
        assert source.call("EXISTS", "b") == 1

    def test_nobody_listens(self, source: Server) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        assert str(migrate(source, port, "a")) == "IOERR error or timeout writing to target instance"


@pytest.mark.parametrize("source_class", [OurNode, RealRedis])
def test_a_replica_hears_of_exactly_the_keys_that_left(source_class: type[Server]) -> None:
    with source_class() as source, RealRedis() as replica:
        replica.call("REPLICAOF", "127.0.0.1", source.port)
        eventually(lambda: replica.info("replication")["master_link_status"] == "up")
        source.call("MSET", "a", "1", "b", "2", "c", "3")
        eventually(lambda: replica.call("DBSIZE") == 3)
        with fake_target(acknowledge_one) as port:
            migrate(source, port, "", "KEYS", "a", "b", timeout_ms=500)
        with RealRedis() as target:
            assert migrate(source, target.port, "", "COPY", "KEYS", "b", "c") == b"OK"
        eventually(lambda: sorted(replica.call("KEYS", "*")) == [b"b", b"c"])
        payload = source.call("DUMP", "b")
        source.call("RESTORE", "r", 60_000, payload)
        source.call("RESTORE", "b", 1, payload, "REPLACE", "ABSTTL")
        eventually(lambda: sorted(replica.call("KEYS", "*")) == [b"c", b"r"])
        assert replica.call("PEXPIRETIME", "r") == source.call("PEXPIRETIME", "r")
        with pytest.raises(ReplyError, match="READONLY"):
            replica.call("RESTORE", "x", 0, payload)
