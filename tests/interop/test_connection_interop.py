"""Connecting, as the clients of today do it, and the connection commands: the same requests to redis-server and to us.

A row is one conversation on one connection; what comes back is compared byte by byte, after ids, ports and run times
have been made equal. Where a reply describes the server itself (INFO, COMMAND), its shape is compared. Where the real
one is too old for what clients send (CLIENT SETINFO), the row says what we answer instead.

The end of a conversation is not waited for by the clock: it ends with an unknown command, which is answered in every
state a connection may be in, also before AUTH and during a pause.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import pytest

from tests.support.servers import OurNode, RealRedis, Server
from tests.support.waiting import eventually
from tests.support.wire import Argument, RawConnection, encode

pytestmark = pytest.mark.real_redis

PASSWORD = "sesame"
Request = tuple[Argument, ...]
END = encode("that-was-all")
END_REPLY = b"-ERR unknown command 'that-was-all', with args beginning with: \r\n"
SETINFO_UNKNOWN = re.compile(rb"-ERR unknown subcommand '(?i:setinfo)'\. Try CLIENT HELP\.\r\n")


@attrs.frozen
class Pair:
    """The same server twice."""

    ours: Server
    real: Server


def pairs(**directives: Any) -> Iterator[Pair]:
    with RealRedis(**directives) as real, OurNode(**directives) as ours:
        yield Pair(ours, real)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    yield from pairs()


@pytest.fixture(scope="module")
def locked() -> Iterator[Pair]:
    yield from pairs(requirepass=PASSWORD)


def await_ok(server: Server) -> None:
    eventually(lambda: server.cluster_info()["cluster_state"] == "ok")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Pair]:
    for pair in pairs(cluster=True):
        for server in (pair.ours, pair.real):
            server.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await_ok(server)
        yield pair


def converse(server: Server, requests: Sequence[Request | bytes]) -> bytes:
    """Everything the server says to the requests, one after the other, until it closes or the last is answered."""
    with server.raw() as connection:
        for request in requests:
            connection.sendall(request if isinstance(request, bytes) else encode(*request))
        try:
            connection.sendall(END)
        except (BrokenPipeError, ConnectionResetError):
            return connection.recv_until_closed()
        data = b""
        while not data.endswith(END_REPLY):
            try:
                chunk = connection.recv()
            except ConnectionResetError:
                break  # Closed with our last request unread.
            if not chunk:
                break
            data += chunk
        return data


def equal_out(data: bytes, server: Server) -> bytes:
    """What differs between any two servers, made equal."""
    data = re.sub(rb"(\$2\r\nid\r\n):\d+", rb"\1:ID", data)
    data = re.sub(rb"[0-9a-f]{40}", b"NODE-ID", data)
    return data.replace(b":%d\r\n" % server.port, b":PORT\r\n")


def compared(pair: Pair, requests: Sequence[Request | bytes]) -> tuple[bytes, bytes]:
    """What we answered, and what the real one did."""
    return (
        equal_out(converse(pair.ours, requests), pair.ours),
        equal_out(converse(pair.real, requests), pair.real),
    )


# What clients send when they connect ------------------------------------------------------------------------------


def setinfo(name: str, version: str, *, lower: bool = False) -> list[Request]:
    words = ("client", "setinfo") if lower else ("CLIENT", "SETINFO")
    return [(*words, "LIB-NAME", name), (*words, "LIB-VER", version)]


MAINTENANCE: Request = ("CLIENT", "MAINT_NOTIFICATIONS", "ON", "moving-endpoint-type", "internal-ip")

ON_CONNECT: Mapping[str, list[Request | bytes]] = {
    "redis-py 5": [*setinfo("redis-py", "5.3.1"), ("PING",)],
    "redis-py 5 with a name and a database": [
        *(("CLIENT", "SETNAME", "me"), *setinfo("redis-py", "5.3.1"), ("SELECT", 1), ("CLIENT", "GETNAME"))
    ],
    "redis-py 8": [("HELLO", 3), MAINTENANCE, *setinfo("redis-py", "8.1.0"), ("GET", "none")],
    "redis-py 8, pipelined": [
        encode("HELLO", 3) + encode(*MAINTENANCE) + b"".join(encode(*each) for each in setinfo("redis-py", "8.1.0"))
    ],
    "ioredis": [
        *(("hello", 3), ("select", 0), ("readonly",), ("client", "setname", "me")),
        *setinfo("ioredis", "6.0.0", lower=True),
    ],
    "ioredis, as cluster refresher": [
        *(("client", "setname", "ioredis-cluster(refresher)"), ("cluster", "SLOTS"), ("quit",)),
    ],
    "node-redis": [("HELLO", 3, "SETNAME", "me"), *setinfo("node-redis", "6.3.1"), MAINTENANCE, ("READONLY",)],
    "GLIDE": [
        *(("HELLO", 3), *setinfo("GlidePy", "2.5.3"), ("CLIENT", "SETNAME", "glide_management_connection")),
        *(("CLUSTER", "SLOTS"), ("READONLY",), ("PING",)),
    ],
    "go-redis": [("HELLO", 3), ("SELECT", 0), ("CLIENT", "SETNAME", "me"), MAINTENANCE, *setinfo("go-redis", "9")],
    "redis-cli -3": [("HELLO", 3), ("PING",)],
    "redis-cli, whose password is not needed": [("AUTH", PASSWORD), ("PING",)],
    "redis-benchmark": [("CONFIG", "GET", "save"), ("CONFIG", "GET", "appendonly"), ("PING",)],
    "HAProxy": [b"PING\r\n", b"QUIT\r\n"],
    "HAProxy's redis-check": [("PING",), ("QUIT",)],
    "phpredis, redis-rb in a cluster": [("CLUSTER", "SLOTS")],
}

ON_CONNECT_LOCKED: Mapping[str, list[Request | bytes]] = {
    "nobody": [("PING",), ("CLIENT", "SETNAME", "x"), ("SELECT", 0), ("QUIT",)],
    "redis-py 5": [("AUTH", PASSWORD), *setinfo("redis-py", "5.3.1"), ("PING",)],
    "redis-py 8": [("HELLO", 3, "AUTH", "default", PASSWORD), MAINTENANCE, *setinfo("redis-py", "8.1.0")],
    "ioredis": [("hello", 3, "auth", "default", PASSWORD), ("select", 0), ("client", "setname", "me")],
    "node-redis": [("HELLO", 3, "AUTH", "default", PASSWORD, "SETNAME", "me"), *setinfo("node-redis", "6")],
    "go-redis, HELLO first": [("HELLO", 3), ("AUTH", PASSWORD), ("HELLO", 3)],
    "a wrong password": [
        *(("HELLO", 3, "AUTH", "default", "wrong"), ("AUTH", "wrong"), ("AUTH", "nobody", PASSWORD), ("PING",))
    ],
    "redis-cli -a": [("AUTH", PASSWORD), ("PING",)],
    "redis-cli --user": [("AUTH", "default", PASSWORD), ("PING",)],
    "a name without logging in": [("HELLO", 2, "SETNAME", "me"), ("AUTH", PASSWORD), ("CLIENT", "GETNAME")],
    "logging out": [("AUTH", PASSWORD), ("PING",), ("RESET",), ("PING",), ("HELLO",), ("AUTH", PASSWORD), ("HELLO",)],
    "MULTI before AUTH": [("MULTI",), ("AUTH", PASSWORD), ("MULTI",), ("AUTH", "wrong"), ("EXEC",)],
    "unknown before AUTH": [("nothing", "a"), ("CLIENT", "nothing"), ("GET",), ("HELLO", 9)],
}


def check_the_same(pair: Pair, requests: Sequence[Request | bytes]) -> None:
    """The same bytes, but for CLIENT SETINFO: 7.0 refuses it, and we accept it as 7.2 does."""
    ours, real = compared(pair, requests)
    assert SETINFO_UNKNOWN.sub(b"+OK\r\n", real) == ours


@pytest.mark.parametrize("requests", ON_CONNECT.values(), ids=ON_CONNECT)
def test_connecting(pair: Pair, requests: list[Request | bytes]) -> None:
    check_the_same(pair, requests)


@pytest.mark.parametrize("requests", ON_CONNECT.values(), ids=ON_CONNECT)
def test_connecting_to_a_cluster_node(cluster: Pair, requests: list[Request | bytes]) -> None:
    check_the_same(cluster, requests)


@pytest.mark.parametrize("requests", ON_CONNECT_LOCKED.values(), ids=ON_CONNECT_LOCKED)
def test_connecting_with_a_password(locked: Pair, requests: list[Request | bytes]) -> None:
    check_the_same(locked, requests)


def test_setinfo_is_what_the_real_one_does_not_know(pair: Pair) -> None:
    """Should the real one learn it, this file must compare it."""
    ours, real = compared(pair, setinfo("x", "1"))

    assert (ours, len(SETINFO_UNKNOWN.findall(real))) == (b"+OK\r\n+OK\r\n" + END_REPLY, 2)


def fields_of(reply: Any) -> dict[str, str]:
    lines = bytes(reply).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("request_words", "wanted"),
    [
        (("info",), {"redis_version": "7.0.15", "loading": "0", "role": "master", "redis_mode": "standalone"}),
        (("INFO", "REPLICATION"), {"role": "master", "connected_slaves": "0"}),
    ],
)
def test_info_when_connecting(pair: Pair, version: int, request_words: Request, wanted: dict[str, str]) -> None:
    """ioredis waits for ``loading:0``; GLIDE and HAProxy look for the role."""
    heads = []
    for server in (pair.ours, pair.real):
        with server.raw() as connection:
            connection.call("HELLO", version)
            connection.send(*request_words)
            heads.append(connection.sock.recv(1, 2))  # MSG_PEEK: bulk or verbatim.
            assert wanted.items() <= fields_of(connection.reply()).items()
    assert heads[0] == heads[1]


def outline(reply: Any) -> Any:
    """What must not differ between two servers of different age and completeness."""
    if isinstance(reply, bytes):
        return sorted(fields_of(reply))
    return type(reply), {type(each) for each in reply}, {len(each) for each in reply if isinstance(each, list)}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("words", [("COMMAND",), ("COMMAND", "INFO", "get", "what"), ("cluster", "INFO")])
def test_what_describes_the_server_has_the_same_outline(cluster: Pair, version: int, words: Request) -> None:
    outlines = []
    for server in (cluster.ours, cluster.real):
        with server.raw() as connection:
            connection.call("HELLO", version)
            outlines.append(outline(connection.call(*words)))
    assert outlines[0] == outlines[1]


@pytest.mark.parametrize("words", [("COMMAND", "DOCS", "get"), ("CLUSTER", "NODES")])
def test_what_redis_cli_and_lettuce_ask_for(cluster: Pair, words: Request) -> None:
    """One command's documentation is the same; one node's line is, but for its id and its port."""
    replies = []
    for server in (cluster.ours, cluster.real):
        reply = server.call(*words)
        text = reply if isinstance(reply, bytes) else repr(reply).encode()
        replies.append(re.sub(rb"[0-9a-f]{40}|\b%d\b|\b%d\b" % (server.port, server.bus_port), b"X", text))
    assert replies[0] == replies[1]


# The commands -----------------------------------------------------------------------------------------------------

ROWS: Mapping[str, list[Request | bytes]] = {
    "PING": [("PING",), ("PING", ""), ("PING", "a b"), ("PING", "a", "b"), ("MULTI",), ("PING",), ("EXEC",)],
    "ECHO": [("ECHO", "x"), ("ECHO",), ("ECHO", "a", "b"), ("ECHO", b"\0\r\n")],
    "SELECT": [*(("SELECT", index) for index in (1, 16, -1, "x", "", "01", 2**31, 2**63, 15)), ("SELECT",)],
    "HELLO": [("HELLO",), ("HELLO", 3), ("HELLO",), ("HELLO", 2)],
    "HELLO's errors": [
        *(("HELLO", "x"), ("HELLO", 1), ("HELLO", 4), ("HELLO", -1), ("HELLO", 3, "AUTH"), ("HELLO", 3, "x", "y")),
        *(("HELLO", 3, "AUTH", "a"), ("HELLO", 3, "SETNAME"), ("HELLO", 3, "SETNAME", "a b"), ("HELLO", 3, "a\0b")),
        *(("HELLO", 3, "AUTH", "nobody", "x"), ("HELLO", 3, "AUTH", "default", "x"), ("HELLO", 3, "a\r\nb")),
    ],
    "HELLO in MULTI": [("MULTI",), ("HELLO", 3), ("GET", "none"), ("EXEC",), ("GET", "none")],
    "AUTH": [("AUTH", "x"), ("AUTH", "default", "x"), ("AUTH", "nobody", "x"), ("AUTH", "a", "b", "c"), ("AUTH",)],
    "QUIT": [encode("PING") + encode("QUIT") + encode("PING")],
    "QUIT with words": [("QUIT", "a", "b")],
    "QUIT in MULTI": [("MULTI",), ("PING",), ("QUIT",)],
    "RESET": [
        *(("HELLO", 3, "SETNAME", "me"), ("SELECT", 3), ("MULTI",), ("PING",), ("RESET",), ("EXEC",)),
        *(("CLIENT", "GETNAME"), ("GET", "none"), ("RESET", "x"), ("RESET",)),
    ],
    "names": [
        *(("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", "a b"), ("CLIENT", "SETNAME", "\x7f"), ("CLIENT", "GETNAME")),
        *(("CLIENT", "SETNAME", "a"), ("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", ""), ("CLIENT", "GETNAME")),
        *(("HELLO", 3), ("CLIENT", "GETNAME"), ("CLIENT", "SETNAME"), ("CLIENT", "SETNAME", "a", "b")),
    ],
    "container": [("CLIENT",), ("CLIENT", "what"), ("client", "WHAT", "x"), ("CLIENT", "a\0b"), ("CLIENT", "ID", "x")],
    "HELP": [("CLIENT", "HELP"), ("client", "help"), ("CLIENT", "HELP", "x"), ("HELLO", 3), ("CLIENT", "HELP")],
    "CLIENT LIST": [
        *(("CLIENT", "LIST", *words) for words in (["x"], ["TYPE"], ["ID"], ["TYPE", "x"], ["TYPE", "a\0b"])),
        *(("CLIENT", "LIST", *words) for words in (["ID", "x"], ["ID", "99999"], ["ID", "1", ""], ["ID", "-1"])),
        *(("CLIENT", "LIST", "TYPE", each) for each in ("master", "REPLICA", "slave", "pubsub")),
        *(("CLIENT", "LIST", "TYPE", "master", "x"), ("HELLO", 3), ("CLIENT", "LIST", "TYPE", "master")),
    ],
    "CLIENT KILL": [
        *(("CLIENT", "KILL", *words) for words in ([], ["x"], ["127.0.0.1:1"], ["ID"], ["ID", "x"], ["ID", "0"])),
        *(("CLIENT", "KILL", *words) for words in (["ID", "99999"], ["TYPE", "x"], ["USER", "x"], ["SKIPME", "x"])),
        *(("CLIENT", "KILL", *words) for words in (["x", "y"], ["ID", "1", "TYPE"], ["LADDR", "x"], ["ADDR", "x"])),
        *(("CLIENT", "KILL", *words) for words in (["TYPE", "pubsub"], ["TYPE", "master", "SKIPME", "no"])),
        ("CLIENT", "KILL", "ID", "9223372036854775808"),
    ],
    "killing oneself": [("CLIENT", "SETNAME", "x"), encode("CLIENT", "KILL", "SKIPME", "no") + encode("PING")],
    "CLIENT REPLY": [
        *(("CLIENT", "REPLY", "x"), ("CLIENT", "REPLY"), ("CLIENT", "REPLY", "SKIP"), ("PING",), ("PING", "a")),
        *(("CLIENT", "REPLY", "OFF"), ("PING",), ("CLIENT", "REPLY", "SKIP"), ("what",), ("CLIENT", "REPLY", "ON")),
        *(("CLIENT", "REPLY", "SKIP"), ("CLIENT", "REPLY", "ON"), ("PING", "b")),
        *(("CLIENT", "REPLY", "SKIP"), ("CLIENT", "REPLY", "SKIP"), ("PING", "c"), ("PING", "d")),
        *(("CLIENT", "REPLY", "OFF"), ("RESET",), ("PING", "e"), ("CLIENT", "REPLY", "SKIP"), ("RESET",), ("PING",)),
        *(("CLIENT", "REPLY", "SKIP"), ("what",), ("PING", "f"), ("CLIENT", "REPLY", "SKIP"), ("GET",), ("PING", "g")),
    ],
    "CLIENT NO-EVICT": [("CLIENT", "NO-EVICT", each) for each in ("ON", "off", "x")],
    "CLIENT PAUSE": [
        *(("CLIENT", "PAUSE", *words) for words in ([], ["x"], ["-1"], ["1", "x"], ["x", "x"], ["1", "WRITE", "x"])),
        *(("CLIENT", "PAUSE", *words) for words in (["0"], ["0", "WRITE"], ["9223372036854775807"])),
        *(("CLIENT", "PAUSE", 60_000, "write"), ("GET", "k"), ("CLIENT", "UNPAUSE"), ("SET", "k", "v")),
        *(("CLIENT", "PAUSE", 60_000, "WRITE"), ("CLIENT", "PAUSE", 1, "WRITE"), ("CLIENT", "UNPAUSE", "x")),
        *(("CLIENT", "UNPAUSE"), ("DEL", "k"), ("CLIENT", "UNPAUSE")),
    ],
    "CLIENT PAUSE 1": [("CLIENT", "PAUSE", 1), ("PING",)],
    "CLIENT PAUSE in MULTI": [
        *(("MULTI",), ("CLIENT", "PAUSE", 60_000, "WRITE"), ("SET", "k", "v"), ("CLIENT", "UNPAUSE"), ("EXEC",)),
        ("DEL", "k"),
    ],
    "CLIENT UNBLOCK": [
        *(("CLIENT", "UNBLOCK", *words) for words in ([], ["x"], ["99999"], ["1", "x"], ["x", "x"], ["-1", "ERROR"])),
        ("CLIENT", "UNBLOCK", "1", "TIMEOUT", "x"),
    ],
    "tracking": [
        *(("CLIENT", "GETREDIR"), ("CLIENT", "TRACKINGINFO"), ("CLIENT", "CACHING", "YES"), ("CLIENT", "CACHING")),
        *(("CLIENT", "TRACKING", *words) for words in ([], ["x"], ["OFF"], ["OFF", "BCAST", "NOLOOP"])),
        *(("CLIENT", "TRACKING", *words) for words in (["OFF", "x"], ["OFF", "PREFIX"], ["ON", "REDIRECT", "99999"])),
        *(("CLIENT", "TRACKING", *words) for words in (["ON", "REDIRECT", "x"], ["OFF", "REDIRECT"], ["x", "OPTIN"])),
        *(("HELLO", 3), ("CLIENT", "TRACKINGINFO"), ("CLIENT", "GETREDIR")),
    ],
}


@pytest.mark.parametrize("requests", ROWS.values(), ids=ROWS)
def test_the_same_bytes(pair: Pair, requests: list[Request | bytes]) -> None:
    ours, real = compared(pair, requests)

    assert ours == real


CLUSTER_ROWS: Mapping[str, list[Request | bytes]] = {
    "SELECT": [("SELECT", 0), ("SELECT", 1), ("SELECT", -1), ("SELECT", "x"), ("SELECT", 99)],
    "HELLO": [("HELLO",), ("HELLO", 3)],
    "RESET": [("READONLY",), ("ASKING",), ("RESET",), ("READWRITE",)],
}


@pytest.mark.parametrize("requests", CLUSTER_ROWS.values(), ids=CLUSTER_ROWS)
def test_the_same_bytes_of_a_cluster_node(cluster: Pair, requests: list[Request | bytes]) -> None:
    ours, real = compared(cluster, requests)

    assert ours == real


# CLIENT LIST ------------------------------------------------------------------------------------------------------

MEASURED = {"id", "addr", "laddr", "fd", "age", "idle", "qbuf-free", "rbs", "rbp", "tot-mem"}
"""Fields whose value is not for comparing: there are numbers in both."""


def client_lines(text: bytes) -> list[dict[str, str]]:
    return [dict(field.split("=", 1) for field in line.split(" ")) for line in text.decode().splitlines()]


def comparable(line: dict[str, str]) -> list[tuple[str, str]]:
    """The fields in order, without what is measured."""
    for name in MEASURED - {"addr", "laddr"}:
        assert line[name].isdigit(), name
    return [(name, "" if name in MEASURED else value) for name, value in line.items()]


def listed_on(server: Server) -> list[list[tuple[str, str]]]:
    """Some clients in different states, as CLIENT LIST and CLIENT INFO show them."""
    with server.raw() as one, server.raw() as queueing, server.raw() as waiting, server.raw() as other:
        for words in ("CLIENT SETNAME one", "SELECT 2", "CLIENT NO-EVICT ON"):
            one.call(*words.split())
        for words in ("CLIENT SETNAME queueing", "WATCH k", "MULTI", "SET k v", "GET k"):
            queueing.call(*words.split())
        waiting.call("CLIENT", "SETNAME", "waiting")
        waiting.send("WAIT", 1, 0)
        other.call("HELLO", 3, "SETNAME", "other")
        other.call("SET", "k", "v")
        eventually(lambda: b"cmd=wait" in other.call("CLIENT", "LIST"))
        other.ask("nothing")
        names = {"one", "queueing", "waiting", "other"}
        lines = [line for line in client_lines(one.call("CLIENT", "LIST")) if line["name"] in names]
        lines += client_lines(other.call("CLIENT", "INFO"))
        other.call("DEL", "k")
        assert len(lines) == 5
        return [comparable(line) for line in lines]


def test_every_field_of_client_list(pair: Pair) -> None:
    assert listed_on(pair.ours) == listed_on(pair.real)


def test_ids_ascend_and_find_their_client(pair: Pair) -> None:
    for server in (pair.ours, pair.real):
        with server.raw() as first, server.raw() as second:
            ids = [first.call("CLIENT", "ID"), second.call("CLIENT", "ID")]
            assert ids[0] < ids[1]
            lines = client_lines(first.call("CLIENT", "LIST", "ID", *reversed(ids), 99999))
            assert [int(line["id"]) for line in lines] == ids[::-1]
            own = "{}:{}".format(*first.sock.getsockname())
            assert (lines[1]["addr"], lines[1]["laddr"]) == (own, server.address)


# What one client does to another ----------------------------------------------------------------------------------


def address(connection: RawConnection) -> str:
    return "{}:{}".format(*connection.sock.getsockname())


def test_killing_others(pair: Pair) -> None:
    answers = []
    for server in (pair.ours, pair.real):
        with server.raw() as killer, server.raw() as first, server.raw() as second, server.raw() as third:
            ids = [each.call("CLIENT", "ID") for each in (killer, first, second, third)]
            answers.append(
                [
                    killer.ask("CLIENT", "KILL", address(first)),
                    killer.ask("CLIENT", "KILL", "ID", ids[2], "TYPE", "pubsub"),
                    killer.ask("CLIENT", "KILL", "ID", ids[2], "USER", "default", "LADDR", server.address),
                    killer.ask("CLIENT", "KILL", "ID", ids[0]),
                    killer.ask("CLIENT", "KILL", "ADDR", address(third), "SKIPME", "NO"),
                    killer.ask("CLIENT", "KILL", address(killer)),
                ]
            )
            for each in (first, second, third, killer):
                assert each.recv_until_closed() == b""
    assert answers[0] == answers[1] == [b"OK", 0, 1, 0, 1, b"OK"]


@pytest.mark.parametrize(
    ("reason", "reply"), [([], 0), (["TIMEOUT"], 0), (["ERROR"], "UNBLOCKED client unblocked via CLIENT UNBLOCK")]
)
def test_unblocking(pair: Pair, reason: list[str], reply: int | str) -> None:
    for server in (pair.ours, pair.real):
        with server.raw() as client, server.raw() as waiting:
            client_id = waiting.call("CLIENT", "ID")
            waiting.sendall(encode("WAIT", 1, 0) + encode("ECHO", "after"))
            eventually(lambda: blocked(client) == ["b"])
            assert client.call("CLIENT", "UNBLOCK", client_id, *reason) == 1
            answer = waiting.reply()
            assert (str(answer) if isinstance(reply, str) else answer) == reply
            assert waiting.reply() == b"after"
            assert client.call("CLIENT", "UNBLOCK", client_id) == 0


def blocked(client: RawConnection) -> list[str]:
    """The flags of the clients that wait for something."""
    lines = client_lines(client.call("CLIENT", "LIST"))
    return [line["flags"] for line in lines if "b" in line["flags"]]


def hold_writes_back(client: RawConnection, writer: RawConnection, queueing: RawConnection) -> None:
    queueing.call("MULTI")
    queueing.call("DEL", "paused")
    client.call("CLIENT", "PAUSE", 60_000, "WRITE")
    writer.sendall(encode("GET", "paused") + encode("SET", "paused", "1") + encode("GET", "paused"))
    assert writer.reply() is None
    eventually(lambda: blocked(client) == ["b"])
    queueing.send("EXEC")
    eventually(lambda: blocked(client) == ["b", "xb"])
    assert client.call("GET", "paused") is None
    assert client.call("CLIENT", "UNPAUSE") == b"OK"
    assert [writer.reply(), writer.reply()] == [b"OK", b"1"]
    assert queueing.reply() == [1]


def test_a_pause_of_writes_holds_back_writes_and_transactions_with_writes(pair: Pair) -> None:
    for server in (pair.ours, pair.real):
        with server.raw() as client, server.raw() as writer, server.raw() as queueing:
            try:
                hold_writes_back(client, writer, queueing)
            finally:
                client.call("CLIENT", "UNPAUSE")


def test_a_pause_of_everything_ends_by_itself(pair: Pair) -> None:
    for server in (pair.ours, pair.real):
        with server.raw() as client, server.raw() as other:
            client.sendall(encode("TIME") + encode("CLIENT", "PAUSE", 150))
            began = microseconds(client.reply())
            assert client.reply() == b"OK"
            # By the server's own clock, which is asked when it is over; it was read to the millisecond when it began.
            assert microseconds(other.call("TIME")) - began > 149_000


def microseconds(time_reply: list[bytes]) -> int:
    seconds, rest = time_reply
    return int(seconds) * 1_000_000 + int(rest)


@pytest.mark.parametrize("mode", ["WRITE", "ALL"])
def test_a_paused_replica_reads_its_masters_stream_and_applies_nothing(mode: str) -> None:
    with OurNode() as master, OurNode(replicaof=f"127.0.0.1 {master.port}") as replica:
        eventually(lambda: replica.info("replication")["master_link_status"] == "up")
        master.call("SET", "k", "1")
        eventually(lambda: replica.call("GET", "k") == b"1")
        before = int(master.info("replication")["master_repl_offset"])

        # A pause of everything also silences INFO and UNPAUSE: that one has to end by itself.
        replica.call("CLIENT", "PAUSE", 60_000 if mode == "WRITE" else 5000, mode)
        with master.raw() as connection:
            connection.sendall(encode("SET", "k2", "x" * 100_000))
            connection.sendall(encode("MULTI") + encode("SET", "k", "2") + encode("INCR", "k") + encode("EXEC"))
            connection.sendall(encode("WAIT", 1, 200))
            replies = [connection.reply() for _ in range(6)]

        # What the replica has read and not applied, it does not acknowledge.
        assert replies[-1] == 0
        if mode == "WRITE":
            offset = int(master.info("replication")["master_repl_offset"])
            eventually(lambda: int(replica.info("replication")["slave_read_repl_offset"]) >= offset)
            # Nothing but PING may have been applied.
            assert before <= int(replica.info("replication")["slave_repl_offset"]) < before + 1000
            assert replica.call("MGET", "k", "k2") == [b"1", None]
            replica.call("CLIENT", "UNPAUSE")
        eventually(lambda: replica.call("MGET", "k", "k2") == [b"3", b"x" * 100_000])
        assert master.call("WAIT", 1, 30_000) == 1
        assert master.call("DEBUG", "DIGEST") == replica.call("DEBUG", "DIGEST")


def test_requirepass_at_run_time(pair: Pair) -> None:
    for server in (pair.ours, pair.real):
        with server.raw() as before:
            before.call("CONFIG", "SET", "requirepass", PASSWORD)
            assert before.call("PING") == b"PONG"
            assert before.call("AUTH", PASSWORD) == b"OK"
            with server.raw() as after:
                assert str(after.ask("PING")) == "NOAUTH Authentication required."
                before.call("CONFIG", "SET", "requirepass", "")
                assert after.call("PING") == b"PONG"
                assert str(after.ask("HELLO", 3)).startswith("NOAUTH HELLO must be called")
                assert after.call("AUTH", "default", "any") == b"OK"
                assert after.call("HELLO", 3)[b"proto"] == 3


def test_monitor_and_slowlog_show_no_password(pair: Pair) -> None:
    shown = []
    for server in (pair.ours, pair.real):
        with server.raw() as client, server.raw() as monitor:
            client.call("CONFIG", "SET", "slowlog-log-slower-than", 0)
            client.call("SLOWLOG", "RESET")
            monitor.call("MONITOR")
            client.ask("AUTH", PASSWORD)
            client.ask("auth", "default", PASSWORD)
            client.ask("HELLO", 2, "SETNAME", "me", "AUTH", "default", PASSWORD)
            client.ask("SELECT", 3)
            for words in (("MULTI",), ("AUTH", PASSWORD), ("PING",), ("EXEC",)):
                client.ask(*words)
            lines: list[bytes] = []
            while not lines or b'"EXEC"' not in lines[-1]:
                lines.append(monitor.reply())
            entries = client.call("SLOWLOG", "GET", 20)
            client.call("CONFIG", "SET", "slowlog-log-slower-than", 10_000)
            assert not any(PASSWORD.encode() in line for line in lines)
            databases = [line.split(b"[", 1)[1].split(b" ", 1)[0] for line in lines]
            shown.append(
                [
                    [line.split(b"] ", 1)[1] for line in lines],
                    databases,
                    [entry[3] for entry in entries],
                ]
            )
    assert shown[0] == shown[1]
