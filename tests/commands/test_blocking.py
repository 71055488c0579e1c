"""Clients that wait for keys: who is served, with what, in which order, and what replicas are told of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from cluster import clock
from cluster.commands import blocking
from cluster.errors import CommandError
from cluster.gossip.state import ClusterHealth, ClusterState, Node, NodeFlags, new_state
from cluster.slots.hashing import key_slot
from tests.support.sessions import BenchClient, ServerBench
from tests.support.wire import encode

NOTHING = b"*-1\r\n"
WRONGTYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as bench:
        yield bench
        assert not bench.server.statistics.internal_errors


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    return bench.connect()


def waiting(bench: ServerBench, *request: str) -> BenchClient:
    """A client that waits for what it asked for."""
    client = bench.connect()
    assert client.ask(*request) == b""
    assert client.session.is_blocked()
    return client


def popped(key: str, element: str) -> bytes:
    return encode(key, element)


def told(bench: ServerBench) -> list[list[list[bytes]]]:
    """From now on, what replicas would be told, unit by unit."""
    units: list[list[list[bytes]]] = []

    def feed(commands: Sequence[tuple[int, list[bytes]]]) -> None:
        units.append([argv for _index, argv in commands])

    bench.server.feed.feed = feed  # type: ignore[method-assign]
    bench.server.feed.feed_requests = lambda requests: [feed([each]) for each in requests]  # type: ignore[method-assign, assignment]
    bench.server.keyspace.followed = True
    return units


def pass_time(bench: ServerBench, client: BenchClient) -> bytes:
    """Let the client's time be over."""
    parked = client.session.parked
    assert parked is not None and parked.deadline_ms is not None
    bench.server._parked_timeout(client.session, parked)
    bench.run()
    return client.read()


@pytest.mark.parametrize(
    ("request_", "reply", "left", "effect"),
    [
        ("BLPOP q k 0", encode("k", "a"), ["b", "c"], "LPOP k"),
        ("BRPOP q k 0", encode("k", "c"), ["a", "b"], "RPOP k"),
        ("BLMPOP 0 2 q k LEFT COUNT 2", b"*2\r\n$1\r\nk\r\n" + encode("a", "b"), ["c"], "LPOP k 2"),
        ("BLMPOP 0 1 k RIGHT COUNT 9", b"*2\r\n$1\r\nk\r\n" + encode("c", "b", "a"), [], "RPOP k 3"),
        ("BLMOVE k k2 LEFT RIGHT 0", b"$1\r\na\r\n", ["b", "c"], "LMOVE k k2 left right"),
        ("BRPOPLPUSH k k 0", b"$1\r\nc\r\n", ["c", "a", "b"], "RPOPLPUSH k k"),
    ],
)
@pytest.mark.parametrize("first", ["list", "client"])
def test_takes_the_same_whether_it_had_to_wait_or_not(
    bench: ServerBench, client: BenchClient, request_: str, reply: bytes, left: list[str], effect: str, first: str
) -> None:
    push = ("RPUSH", "k", "a", "b", "c")
    units = told(bench)
    if first == "list":
        client.ask(*push)
        taker = bench.connect()
        assert taker.ask(*request_.split()) == reply
    else:
        taker = waiting(bench, *request_.split())
        assert client.ask(*push) == b":3\r\n"
        assert taker.read() == reply
    assert client.ask("LRANGE", "k", "0", "-1") == encode(*left) if left else client.ask("EXISTS", "k") == b":0\r\n"
    if first == "list":
        effect = effect.replace("left right", "LEFT RIGHT")  # As the client wrote it.
    assert units == [[[word.encode() for word in push]], [effect.encode().split()]]
    assert not bench.server.blocking and not bench.server.keyspace.observed


def test_the_first_to_come_is_the_first_served_key_by_key(bench: ServerBench, client: BenchClient) -> None:
    takers = [waiting(bench, "BLPOP", *keys, "0") for keys in (("a", "b"), ("b",), ("b", "a"), ("a",))]
    assert client.ask("RPUSH", "b", "1", "2") == b":2\r\n"
    assert [taker.read() for taker in takers] == [popped("b", "1"), popped("b", "2"), b"", b""]
    assert client.ask("RPUSH", "a", "3", "4", "5") == b":3\r\n"
    assert [taker.read() for taker in takers] == [b"", b"", popped("a", "3"), popped("a", "4")]
    assert client.ask("LRANGE", "a", "0", "-1") == encode("5")


def test_after_a_transaction_keys_are_served_as_they_became_ready(bench: ServerBench, client: BenchClient) -> None:
    taker = waiting(bench, "BLPOP", "a", "b", "c", "0")
    units = told(bench)
    client.pipeline(
        ("MULTI",), ("RPUSH", "a", "1"), ("DEL", "a"), ("RPUSH", "c", "3"), ("RPUSH", "b", "2"), ("LPUSH", "c", "4"),
        ("EXEC",),
    )  # fmt: skip
    assert taker.read() == popped("c", "4")
    assert [len(unit) for unit in units] == [5, 1]
    assert units[1] == [[b"LPOP", b"c"]]


def test_one_move_feeds_the_next(bench: ServerBench, client: BenchClient) -> None:
    last = waiting(bench, "BLPOP", "c", "0")
    middle = waiting(bench, "BLMOVE", "b", "c", "LEFT", "LEFT", "0")
    first = waiting(bench, "BRPOPLPUSH", "a", "b", "0")
    units = told(bench)
    assert client.ask("RPUSH", "a", "x") == b":1\r\n"
    assert [taker.read() for taker in (first, middle, last)] == [b"$1\r\nx\r\n", b"$1\r\nx\r\n", popped("c", "x")]
    assert [unit[0][0] for unit in units] == [b"RPUSH", b"RPOPLPUSH", b"LMOVE", b"LPOP"]
    assert client.ask("DBSIZE") == b":0\r\n"


def test_pushes_of_one_pipeline_are_served_one_by_one(bench: ServerBench, client: BenchClient) -> None:
    taker = waiting(bench, "BLPOP", "k", "0")
    assert client.pipeline(("RPUSH", "k", "1"), ("RPUSH", "k", "2"), ("LLEN", "k")) == b":1\r\n:1\r\n:1\r\n"
    assert taker.read() == popped("k", "1")


def test_what_it_asked_while_it_waited_is_answered_afterwards(bench: ServerBench, client: BenchClient) -> None:
    taker = bench.connect()
    assert taker.pipeline(("BLPOP", "k", "0"), ("RPUSH", "other", "x"), ("BLPOP", "k", "0"), ("PING",)) == b""
    second = waiting(bench, "BLPOP", "other", "0")
    assert client.ask("RPUSH", "k", "1") == b":1\r\n"
    bench.run()
    assert taker.read() == popped("k", "1") + b":1\r\n"
    assert second.read() == popped("other", "x")
    client.ask("RPUSH", "k", "2")
    assert taker.read() == popped("k", "2") + b"+PONG\r\n"


def test_other_types_are_not_waited_for(bench: ServerBench, client: BenchClient) -> None:
    taker = waiting(bench, "BLPOP", "k", "0")
    client.pipeline(("SET", "k", "text"), ("DEL", "k"), ("SADD", "k", "member"))
    assert taker.read() == b""
    assert bench.connect().ask("BLPOP", "none", "k", "0") == WRONGTYPE
    client.pipeline(("DEL", "k"), ("LPUSH", "k", "1"))
    assert taker.read() == popped("k", "1")


def test_a_target_of_another_type_is_told_when_the_element_comes(bench: ServerBench, client: BenchClient) -> None:
    mover, taker = waiting(bench, "BLMOVE", "k", "t", "LEFT", "LEFT", "0"), waiting(bench, "BLPOP", "k", "0")
    client.ask("SET", "t", "text")
    units = told(bench)
    client.ask("RPUSH", "k", "1")
    assert mover.read() == WRONGTYPE
    assert taker.read() == popped("k", "1")
    assert [unit[0][0] for unit in units] == [b"RPUSH", b"LPOP"]
    assert b"errorstat_WRONGTYPE:count=1" in client.ask("INFO", "errorstats")


@pytest.mark.parametrize("arrival", ["RENAME s k", "COPY s k", "MOVE", "SWAPDB 0 1"])
def test_lists_may_come_from_anywhere(bench: ServerBench, client: BenchClient, arrival: str) -> None:
    client.pipeline(("RPUSH", "s", "1"), ("SELECT", "1"), ("RPUSH", "k", "1"))
    taker = waiting(bench, "BLPOP", "k", "0")
    if arrival == "MOVE":
        client.ask("MOVE", "k", "0")
    else:
        client.pipeline(("SELECT", "0"), tuple(arrival.split()))
    bench.run()
    assert taker.read() == popped("k", "1")


def test_other_databases_are_other_keys(bench: ServerBench, client: BenchClient) -> None:
    taker = waiting(bench, "BLPOP", "k", "0")
    client.pipeline(("SELECT", "1"), ("RPUSH", "k", "1"))
    assert taker.read() == b""


def test_in_a_transaction_nothing_waits(client: BenchClient) -> None:
    replies = client.pipeline(
        ("MULTI",), ("BLPOP", "k", "0"), ("BLMPOP", "0", "1", "k", "LEFT"), ("BLMOVE", "k", "t", "LEFT", "LEFT", "0"),
        ("BRPOPLPUSH", "k", "t", "0"), ("EXEC",),
    )  # fmt: skip
    assert replies.endswith(b"*4\r\n*-1\r\n*-1\r\n$-1\r\n$-1\r\n")


@pytest.mark.parametrize("request_", ["BLPOP k 1", "BLMPOP 1 1 k LEFT", "BLMOVE k t LEFT LEFT 1", "BRPOPLPUSH k t 1"])
def test_when_time_is_over_the_reply_is_a_null_array(bench: ServerBench, client: BenchClient, request_: str) -> None:
    assert pass_time(bench, waiting(bench, *request_.split())) == NOTHING
    new = bench.connect()
    new.ask("HELLO", "3")
    new.ask(*request_.split())
    assert pass_time(bench, new) == b"_\r\n"
    client.ask("RPUSH", "k", "1")
    assert client.ask("LLEN", "k") == b":1\r\n"
    assert not bench.server.blocking


def test_client_unblock(bench: ServerBench, client: BenchClient) -> None:
    for reason, reply in ((), NOTHING), (("ERROR",), b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"):
        taker = waiting(bench, "BLPOP", "k", "0")
        assert client.ask("CLIENT", "UNBLOCK", taker.session.id, *reason) == b":1\r\n"
        assert taker.read() == reply
        assert client.ask("CLIENT", "UNBLOCK", taker.session.id) == b":0\r\n"
    assert not bench.server.blocking


def test_a_client_that_left_is_given_nothing(bench: ServerBench, client: BenchClient) -> None:
    gone, taker = waiting(bench, "BLPOP", "k", "k", "0"), waiting(bench, "BLPOP", "k", "0")
    gone.close()
    bench.run()
    client.ask("RPUSH", "k", "1", "2")
    assert taker.read() == popped("k", "1")
    assert client.ask("LLEN", "k") == b":1\r\n"
    taker = waiting(bench, "BLPOP", "none", "0")
    assert client.ask("CLIENT", "KILL", "ID", taker.session.id) == b":1\r\n"
    assert not bench.server.blocking and not bench.server.keyspace.observed


def test_a_change_of_the_role_sends_everybody_away(bench: ServerBench) -> None:
    taker = waiting(bench, "BLPOP", "k", "0")
    bench.server.unblock_all()
    bench.run()
    assert taker.read().startswith(b"-UNBLOCKED force unblock from blocking operation, instance state changed")
    assert taker.closed and not bench.server.blocking


@pytest.fixture
def state(bench: ServerBench) -> ClusterState:
    """In cluster mode, with every slot here."""
    state = new_state("a" * 40, 1)
    state.add_node(Node("b" * 40, NodeFlags.MASTER, ip="10.0.0.2", port=7001, cport=17001))
    for slot in range(16384):
        state.assign_slot(slot, state.myself)
    state.health = ClusterHealth.OK
    bench.server.cluster = state
    return state


def test_who_waits_for_a_slot_that_goes_is_sent_after_it(
    bench: ServerBench, client: BenchClient, state: ClusterState
) -> None:
    stays, goes, homeless = (waiting(bench, "BLPOP", key, "0") for key in ("a", "b", "c"))
    bench.server.blocking.redirect()
    bench.run()
    assert [taker.read() for taker in (stays, goes, homeless)] == [b"", b"", b""]
    state.assign_slot(key_slot(b"b"), state.nodes["b" * 40])
    state.unassign_slot(key_slot(b"c"))
    bench.server.blocking.redirect()
    bench.run()
    assert goes.read() == b"-MOVED %d 10.0.0.2:7001\r\n" % key_slot(b"b")
    assert homeless.read() == b"-CLUSTERDOWN Hash slot not served\r\n"
    assert not goes.closed and stays.read() == b""
    client.ask("RPUSH", "a", "1")
    assert stays.read() == popped("a", "1")


def test_who_waits_when_the_cluster_goes_down_is_told(bench: ServerBench, state: ClusterState) -> None:
    taker = waiting(bench, "BLMOVE", "{a}", "{a}b", "LEFT", "LEFT", "0")
    state.set_health(ClusterHealth.FAIL)
    bench.server.blocking.redirect()
    bench.run()
    assert taker.read() == b"-CLUSTERDOWN The cluster is down\r\n"


def test_who_waits_in_a_slot_on_its_way_here_goes_on_waiting(
    bench: ServerBench, client: BenchClient, state: ClusterState
) -> None:
    slot, other = key_slot(b"k"), state.nodes["b" * 40]
    state.assign_slot(slot, other)
    state.set_importing(slot, other)
    taker = bench.connect()
    assert taker.pipeline(("ASKING",), ("BLPOP", "k", "0")) == b"+OK\r\n"
    bench.server.blocking.redirect()
    client.pipeline(("ASKING",), ("RPUSH", "k", "1"))
    assert taker.read() == popped("k", "1")
    assert taker.ask("GET", "k") == b"-MOVED %d 10.0.0.2:7001\r\n" % slot  # ASKING was for one command.


def test_a_move_breaks_the_watch_on_its_target(bench: ServerBench, client: BenchClient) -> None:
    mover = waiting(bench, "BRPOPLPUSH", "k", "t", "0")
    watcher = bench.connect()
    watcher.pipeline(("WATCH", "t"), ("MULTI",), ("PING",))
    client.ask("RPUSH", "k", "1")
    assert mover.read() == b"$1\r\n1\r\n"
    assert watcher.ask("EXEC") == NOTHING


def test_serving_counts_as_no_change(bench: ServerBench, client: BenchClient) -> None:
    waiting(bench, "BLPOP", "k", "0")
    waiting(bench, "BLMOVE", "k", "t", "LEFT", "LEFT", "0")
    before = bench.server.keyspace.dirty
    client.ask("RPUSH", "k", "1", "2", "3")
    assert bench.server.keyspace.dirty == before + 3


def test_many_who_wait_are_counted_once(bench: ServerBench, client: BenchClient) -> None:
    for _ in range(3):
        waiting(bench, "BLPOP", "a", "b", "0")
    assert b"blocked_clients:3\r\n" in client.ask("INFO", "clients")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", blocking._BAD_TIMEOUT),
        (b"x", blocking._BAD_TIMEOUT),
        (b"nan", blocking._BAD_TIMEOUT),
        (b"-1", b"ERR timeout is negative"),
        (b"inf", b"ERR timeout is negative"),
        (b"9223372036854776", b"ERR timeout is negative"),
    ],
)
def test_bad_timeouts(text: bytes, message: bytes) -> None:
    with pytest.raises(CommandError) as refusal:
        blocking.parse_deadline(text)
    assert refusal.value.message == message


@pytest.mark.parametrize(("text", "length_ms"), [(b"0.0001", 1), (b"0.001", 1), (b"1.1", 1100), (b"0x1", 1000)])
def test_timeouts_are_rounded_up(monkeypatch: pytest.MonkeyPatch, text: bytes, length_ms: int) -> None:
    monkeypatch.setattr(clock, "monotonic_ms", lambda: 5000)
    assert blocking.parse_deadline(text) == 5000 + length_ms


def test_no_timeout() -> None:
    assert blocking.parse_deadline(b"0") is None
    assert blocking.parse_deadline(b"-0.0") is None
