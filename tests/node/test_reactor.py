"""Sockets: slow readers, big values, many clients, limits; nobody may keep the others waiting or eat the memory."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from cluster.node import reactor as reactor_module
from cluster.node.admission import refusal_of
from cluster.node.client import READ_BYTES_MIN
from cluster.node.poller import READ, SelectorPoller
from cluster.node.reactor import READ_BYTES, READ_BYTES_MAX
from cluster.replication.replica import Announcement, Replica, ReplicaState
from cluster.settings import OutputBufferLimit
from cluster.slots.hashing import key_slot
from tests.support.costs import allocated_bytes, counted_calls
from tests.support.sessions import BenchClient, ServerBench
from tests.support.wire import encode

MEGABYTE = 1 << 20


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as server:
        yield server


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    return bench.connect()


def _put(bench: ServerBench, key: str, value: bytes) -> None:
    bench.server.keyspace.databases[0].put(key.encode(), key_slot(key.encode()), value)


def _big_value(size: int) -> bytes:
    """A value in which nothing stands twice."""
    return b"".join(b"%015d\n" % number for number in range(size // 16))


def _read_all(bench: ServerBench, client: BenchClient, size: int) -> bytes:
    """Until nothing more comes: both ends are in this process, so what one run leaves unsaid nobody will say."""
    data = bytearray(client.read())
    while len(data) < size:
        bench.run()
        if not (news := client.read()):
            break
        data += news
    return bytes(data)


# Big replies and slow readers -----------------------------------------------------------------------------------


def test_a_big_value_arrives_whole_and_in_order(bench: ServerBench, client: BenchClient) -> None:
    value = _big_value(20 * MEGABYTE)
    _put(bench, "big", value)
    expected = b"+PONG\r\n$%d\r\n%b\r\n+PONG\r\n" % (len(value), value) + b"$%d\r\n%b\r\n" % (len(value), value)
    client_answer = client.pipeline(("PING",), ("GET", "big"), ("PING",), ("GET", "big"))
    assert client_answer + _read_all(bench, client, len(expected) - len(client_answer)) == expected
    assert not client.session.unsent and not client.session.wants_write and client.session.unsent_bytes == 0
    assert client.ask("PING") == b"+PONG\r\n"


def test_waiting_replies_hold_a_big_value_once(bench: ServerBench, client: BenchClient) -> None:
    """A slow reader that asks for 20 MB a hundred times costs nothing like 2 GB, and the value may even be gone."""
    value = _big_value(20 * MEGABYTE)
    _put(bench, "big", value)
    client._socket.sendall(encode("GET", "big") * 100 + encode("DEL", "big"))
    bench.run()
    assert client.session.unsent_bytes > 1900 * MEGABYTE
    owned = [piece for piece in client.session.unsent if piece is not value and len(piece) > 1000]
    assert all(getattr(piece, "obj", None) is value for piece in owned)
    assert len(bench.server.keyspace.databases[0]) == 0


def test_a_slow_reader_keeps_nobody_waiting(bench: ServerBench, client: BenchClient) -> None:
    """It gets what its socket takes, of which no more is copied, and the next one has its turn."""
    _put(bench, "big", _big_value(100 * MEGABYTE))
    other = bench.connect()

    def requests() -> None:
        client._socket.sendall(encode("GET", "big"))
        bench.run()
        assert other.ask("PING") == b"+PONG\r\n"
        assert client.session.wants_write
        assert client.read()
        bench.run()
        assert other.ask("PING") == b"+PONG\r\n"

    with counted_calls() as calls:
        copied = allocated_bytes([requests])
    assert calls.count < 1000
    assert copied < 2 * MEGABYTE


def test_small_replies_behind_a_waiting_one_keep_their_place(bench: ServerBench, client: BenchClient) -> None:
    value = _big_value(8 * MEGABYTE)
    _put(bench, "big", value)
    client._socket.sendall(encode("APPEND", "big", "") + encode("GET", "big"))  # A bytearray now: copied.
    bench.run()
    for number in range(50):
        client._socket.sendall(encode("ECHO", number))
        bench.run()
    expected = b":%d\r\n$%d\r\n%b\r\n" % (len(value), len(value), value)
    expected += b"".join(b"$%d\r\n%d\r\n" % (len(str(number)), number) for number in range(50))
    assert _read_all(bench, client, len(expected)) == expected


def test_quit_behind_a_big_reply_closes_only_after_it(bench: ServerBench, client: BenchClient) -> None:
    value = _big_value(8 * MEGABYTE)
    _put(bench, "big", value)
    client._socket.sendall(encode("GET", "big") + encode("QUIT"))
    bench.run()
    assert not client.closed
    answer = _read_all(bench, client, 2 * len(value))
    assert client.closed and answer.endswith(b"\r\n+OK\r\n") and len(answer) > len(value)


def test_a_reader_in_the_middle_of_a_reply_is_not_idle(bench: ServerBench, client: BenchClient) -> None:
    _put(bench, "big", _big_value(20 * MEGABYTE))
    client._socket.sendall(encode("GET", "big"))
    bench.run()
    client.session.last_active_ms = 0
    client.read()
    bench.run()
    assert client.session.last_active_ms > 0


@pytest.mark.parametrize("closing", ["at once", "half read"])
def test_a_client_that_leaves_in_the_middle_of_a_reply(bench: ServerBench, client: BenchClient, closing: str) -> None:
    _put(bench, "big", _big_value(20 * MEGABYTE))
    client._socket.sendall(encode("GET", "big"))
    bench.run()
    if closing == "half read":
        client.read()
    client.close()
    bench.run()
    assert not bench.server.sessions and not client.session.unsent


# Asking for a flush ---------------------------------------------------------------------------------------------


class _Token:
    """trio's, which keeps what is to be run for the turn of its loop."""

    def __init__(self) -> None:
        self.queued: list[Callable[[], None]] = []

    def run_sync_soon(self, call: Callable[[], None]) -> None:
        self.queued.append(call)

    def run(self) -> None:
        queued, self.queued = self.queued, []
        for call in queued:
            call()


def test_however_often_a_flush_is_asked_for_trio_keeps_one_request(bench: ServerBench, client: BenchClient) -> None:
    token = _Token()
    bench.server.reactor._token = token  # type: ignore[assignment]
    for _ in range(100):
        bench.server.reactor.request_flush()
        assert client.ask("PING") == b"+PONG\r\n"  # A pass, which flushes.
    assert len(token.queued) == 1
    token.run()
    client.session.push(b"+late\r\n")
    assert len(token.queued) == 1
    token.run()
    assert client.read() == b"+late\r\n"


def test_what_is_written_in_the_step_before_sleeping_leaves_in_it(
    bench: ServerBench, client: BenchClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the stream to a replica does with every command: no other flush is needed for it."""
    token, follower = _Token(), bench.connect()
    bench.server.reactor._token = token  # type: ignore[assignment]
    monkeypatch.setattr(bench.server, "before_sleep", lambda: follower.session.push(b"+stream\r\n"))
    assert client.ask("SET", "k", "v") == b"+OK\r\n"
    assert follower.read() and not token.queued


# Replicas -------------------------------------------------------------------------------------------------------


def _as_replica(bench: ServerBench, client: BenchClient) -> Replica:
    """Make a client a replica that has everything up to now."""
    feed = bench.server.feed
    feed.create_backlog()
    assert feed.backlog is not None
    replica = Replica(client.session, Announcement(), ReplicaState.ONLINE, since_ms=0, ack_ms=0)
    replica.cursor = feed.backlog.next_offset
    client.session.replica = replica
    feed.add(replica)
    return replica


def test_a_replica_that_has_sent_what_it_was_given_is_given_more(bench: ServerBench, client: BenchClient) -> None:
    stream = b"".join(encode("SET", f"key:{number}", bytes(100)) for number in range(40_000))
    _as_replica(bench, client)
    # A replica of ours, we being one: no command runs here, so that nobody else asks for the next step.
    bench.server.replication_state.master_host = "10.0.0.9"
    bench.server.feed.role_changed()
    assert not bench.server.keyspace.followed
    bench.server.feed.proxy(stream)
    bench.server.has_loose_ends = True
    bench.run()
    assert _read_all(bench, client, len(stream)) == stream


# Limits ---------------------------------------------------------------------------------------------------------


def _limit(bench: ServerBench, *, hard: int = 0, soft: int = 0, seconds: int = 0) -> None:
    limits = dict(bench.server.settings.client_output_buffer_limit)
    bench.server.settings.client_output_buffer_limit = {**limits, "normal": OutputBufferLimit(hard, soft, seconds)}


def test_the_hard_limit_of_output(bench: ServerBench, client: BenchClient) -> None:
    _limit(bench, hard=10 * MEGABYTE)
    _put(bench, "small", _big_value(5 * MEGABYTE))
    client._socket.sendall(encode("GET", "small"))
    bench.run()
    assert not client.session.closed
    client._socket.sendall(encode("GET", "small") * 3)
    bench.run()
    assert client.session.closed and client.session.id not in bench.server.sessions


def test_the_soft_limit_counts_once_it_lasts(bench: ServerBench, client: BenchClient) -> None:
    _limit(bench, soft=MEGABYTE, seconds=10)
    _put(bench, "big", _big_value(20 * MEGABYTE))
    client._socket.sendall(encode("GET", "big"))
    bench.run()
    server, session = bench.server, client.session
    since_ms = session.soft_limit_since_ms
    assert since_ms is not None
    assert not server.exceeds_output_limit(session, since_ms + 10_000)
    assert server.exceeds_output_limit(session, since_ms + 10_001)
    _read_all(bench, client, 20 * MEGABYTE)
    assert session.soft_limit_since_ms is None


def test_the_limit_of_an_unfinished_request(bench: ServerBench, client: BenchClient) -> None:
    bench.server.settings.client_query_buffer_limit = MEGABYTE
    client.send(b"*2\r\n$4\r\nECHO\r\n$4194304\r\n")
    for _ in range(40):
        if client.closed:
            break
        client.send(b"x" * 65536)
    assert client.closed


@pytest.mark.parametrize("cluster", [False, True])
def test_maxclients(bench: ServerBench, cluster: bool) -> None:
    bench.server.settings.maxclients = 1
    bench.connect()
    if cluster:
        bench.server.cluster = object()  # type: ignore[assignment]
    ours, theirs = socket.socketpair()
    bench.server.reactor._admit(ours)
    expected = b"-ERR max number of clients + cluster connections reached\r\n" if cluster else None
    assert theirs.recv(100) == (expected or b"-ERR max number of clients reached\r\n")
    assert theirs.recv(100) == b""
    assert bench.server.statistics.rejected_connections == 1
    theirs.close()


class _From:
    """A socket from an address."""

    family = socket.AF_INET

    def __init__(self, address: str) -> None:
        self._address = address

    def getpeername(self) -> tuple[str, int]:
        return self._address, 1


@pytest.mark.parametrize(
    ("address", "password", "admitted"),
    [
        ("127.0.0.1", "", True),
        ("127.8.8.8", "", True),
        ("::1", "", True),
        ("::ffff:127.0.0.1", "", True),
        ("10.0.0.1", "", False),
        ("fe80::1%eth0", "", False),
        ("10.0.0.1", "secret", True),
    ],
)
def test_protected_mode(bench: ServerBench, address: str, password: str, admitted: bool) -> None:
    bench.server.config.set([(b"requirepass", password.encode())])
    refusal = refusal_of(bench.server, _From(address), 0)  # type: ignore[arg-type]
    assert (refusal is None) == admitted
    assert refusal is None or refusal.startswith(b"DENIED Redis is running in protected mode because")
    bench.server.settings.protected_mode = False
    assert refusal_of(bench.server, _From(address), 0) is None  # type: ignore[arg-type]


# Reading --------------------------------------------------------------------------------------------------------


def test_reads_grow_for_the_inside_of_a_big_value_only(bench: ServerBench, client: BenchClient) -> None:
    session = client.session
    client.send(encode("PING"))
    assert session.read_bytes == READ_BYTES_MIN
    client.send(encode("PING") * 20_000)
    assert session.read_bytes == READ_BYTES, "a long pipeline is read in pieces of one size"
    client.send(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$5000000\r\n")
    client.send(b"x" * READ_BYTES)
    assert session.read_bytes == READ_BYTES_MAX
    for _ in range(70):
        client.send(b"x" * 65536)
    assert READ_BYTES < session.read_bytes < READ_BYTES_MAX, "no more than what is missing"
    missing = session.parser.missing_bulk_bytes
    while session.parser.missing_bulk_bytes > 65536:
        client.send(b"x" * 65536)
    missing = session.parser.missing_bulk_bytes
    assert client.send(b"x" * (missing - 2) + b"\r\n") == b"+OK\r\n"
    assert session.read_bytes == READ_BYTES
    assert client.ask("STRLEN", "big") == b":5000000\r\n"


def test_who_is_left_when_the_time_is_up_comes_first_in_the_next_pass(
    bench: ServerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [bench.connect() for _ in range(3)]
    for client in clients:
        client._socket.sendall(encode("PING"))
    monkeypatch.setattr(reactor_module, "PASS_NS", -1)
    monkeypatch.setattr(reactor_module, "SHORT_READ_BYTES", 0)
    reactor = bench.server.reactor
    events = reactor._poller.poll(0, 10)
    order = [fd for fd, _mask in events]
    for expected_left in (2, 1, 0):
        events = reactor._run_pass(events)
        assert [fd for fd, _mask in events] == order[3 - expected_left :]
    assert [client.read() for client in clients] == [b"+PONG\r\n"] * 3


def test_an_event_for_a_client_that_is_gone_is_harmless(bench: ServerBench, client: BenchClient) -> None:
    fd = client.session.fd
    client.close()
    bench.run()
    assert bench.server.reactor._run_pass([(fd, READ)]) == []


def test_a_client_that_leaves_in_the_middle_of_a_request(bench: ServerBench, client: BenchClient) -> None:
    client.send(encode("SET", "k", "v") + encode("SET", "k", "never")[:-4])
    client.close()
    bench.run()
    assert not bench.server.sessions
    assert bench.connect().ask("GET", "k") == b"$1\r\nv\r\n"


def test_hundreds_of_connections(bench: ServerBench) -> None:
    clients = [bench.connect() for _ in range(300)]
    for index, client in enumerate(clients):
        client._socket.sendall(encode("INCR", "counter") * 3 + encode("ECHO", index))
    bench.run()
    answers = [client.read() for client in clients]
    assert all(answer.endswith(b"\r\n%d\r\n" % index) for index, answer in enumerate(answers))
    assert bench.connect().ask("GET", "counter") == b"$3\r\n900\r\n"
    for client in clients:
        client.close()
    bench.run()
    assert len(bench.server.sessions) == 1


def test_the_other_poller_does_as_well(bench: ServerBench) -> None:
    """What platforms without epoll get."""
    bench.server.reactor._poller.close()
    bench.server.reactor._poller = SelectorPoller()
    client = bench.connect()
    value = _big_value(8 * MEGABYTE)
    _put(bench, "big", value)
    answer = client.pipeline(("GET", "big"), ("PING",))
    answer += _read_all(bench, client, len(value) + 18 - len(answer))
    assert answer.endswith(b"\r\n+PONG\r\n") and client.ask("PING") == b"+PONG\r\n"
