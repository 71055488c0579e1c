"""Stream commands on a server without a network: what beside the replies they do, and those who wait for entries.

The replies are compared with a real server's in tests/interop/test_differential_streams.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from cluster import clock
from cluster.gossip.state import ClusterHealth, ClusterState, Node, NodeFlags, new_state
from cluster.slots.hashing import key_slot
from tests.support.sessions import BenchClient, ServerBench
from tests.support.wire import encode

NOTHING = b"*-1\r\n"
GONE = b"-UNBLOCKED the stream key no longer exists\r\n"
NO_GROUP = b"-NOGROUP the consumer group this client was blocked on no longer exists\r\n"
NOW_MS = 1_700_000_000_000


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as bench:
        yield bench
        assert not bench.server.statistics.internal_errors


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    return bench.connect()


def waiting(bench: ServerBench, request: str) -> BenchClient:
    """A client that waits for what it asked for."""
    client = bench.connect()
    assert client.ask(*request.split()) == b""
    assert client.session.is_blocked()
    return client


def told(bench: ServerBench) -> list[list[str]]:
    """From now on, what replicas would be told, unit by unit; times are shown as <now>."""
    units: list[list[str]] = []

    def feed(commands: Sequence[tuple[int, list[bytes]]]) -> None:
        now = b"%d" % bench.server.keyspace.now_ms
        units.append([b" ".join(argv).replace(now, b"<now>").decode() for _index, argv in commands])

    bench.server.feed.feed = feed  # type: ignore[method-assign]
    bench.server.feed.feed_requests = lambda requests: [feed([each]) for each in requests]  # type: ignore[method-assign, assignment]
    bench.server.keyspace.followed = True
    return units


def entry(entry_id: str, *pairs: str) -> bytes:
    """One entry as XRANGE answers it."""
    return b"*2\r\n" + encode(entry_id)[4:] + encode(*pairs)


def read(key: str, *entries: bytes) -> bytes:
    """What XREAD answers of one stream."""
    return b"*1\r\n*2\r\n%b*%d\r\n%b" % (encode(key)[4:], len(entries), b"".join(entries))


def claim(entry_id: str, *, count: int = 1, consumer: str = "c", last_id: str = "") -> str:
    """What replicas are told of a delivery."""
    words = (
        f"XCLAIM s g {consumer} 0 {entry_id} TIME <now> RETRYCOUNT {count} FORCE JUSTID LASTID {last_id or entry_id}"
    )
    return words


@pytest.mark.parametrize(
    ("request_", "events", "dirty"),
    [
        ("XADD s 9-0 f v", "xadd:s", 1),
        ("XADD new 9-0 f v", "xadd:new", 1),
        ("XADD new NOMKSTREAM 9-0 f v", "", 0),
        ("XADD s MAXLEN 2 9-0 f v", "xadd:s xtrim:s", 1),
        ("XADD s MAXLEN 9 9-0 f v", "xadd:s", 1),
        ("XADD s 1-0 f v", "", 0),
        ("XDEL s 1-0 2-0 7-7", "xdel:s", 2),
        ("XDEL s 7-7", "", 0),
        ("XTRIM s MAXLEN 1", "xtrim:s", 2),
        ("XTRIM s MINID 1", "", 0),
        ("XSETID s 7-0", "xsetid:s", 1),
        ("XGROUP CREATE s new 0", "xgroup-create:s", 1),
        ("XGROUP CREATE new new $ MKSTREAM", "xgroup-create:new", 1),
        ("XGROUP SETID s g 0", "xgroup-setid:s", 1),
        ("XGROUP DESTROY s g", "xgroup-destroy:s", 1),
        ("XGROUP DESTROY s none", "", 0),
        ("XGROUP CREATECONSUMER s g new", "xgroup-createconsumer:s", 1),
        ("XGROUP CREATECONSUMER s g c", "", 0),
        ("XGROUP DELCONSUMER s g c", "xgroup-delconsumer:s", 1),
        ("XGROUP DELCONSUMER s g none", "", 0),
        ("XREADGROUP GROUP g c STREAMS s >", "", 1),
        ("XREADGROUP GROUP g d STREAMS s >", "xgroup-createconsumer:s", 2),
        ("XREADGROUP GROUP g c STREAMS s 0", "", 1),
        ("XACK s g 1-0 7-7", "", 1),
        ("XCLAIM s g d 0 1-0", "xgroup-createconsumer:s", 2),
        ("XCLAIM s g c 0 7-7", "", 0),
        ("XAUTOCLAIM s g c 0 0", "", 1),
        ("XREAD STREAMS s 0", "", 0),
    ],
)
def test_events_and_changes(bench: ServerBench, client: BenchClient, request_: str, events: str, dirty: int) -> None:
    client.pipeline(
        *(("XADD", "s", f"{number}-0", "f", "v") for number in (1, 2, 3)),
        ("XGROUP", "CREATE", "s", "g", "0"),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", ">"),
    )
    keyspace = bench.server.keyspace
    seen: list[bytes] = []
    keyspace.notifier = lambda kind, event, key, _database: seen.append(event + b":" + key) if kind == "t" else None
    before = keyspace.dirty
    client.ask(*request_.split())
    assert (b" ".join(seen).decode(), keyspace.dirty - before) == (events, dirty)


@pytest.mark.parametrize(
    ("request_", "effects"),
    [
        ("XADD s 9-* f v", "XADD s 9-0 f v"),
        ("XADD s 3-* f v", "XADD s 3-1 f v"),
        ("XADD s MAXLEN ~ 1 9-* f v", "XADD s MAXLEN = 2 9-0 f v"),
        ("XADD s MAXLEN ~ 1 LIMIT 1 9-0 f v", "XADD s MAXLEN = 4 LIMIT 1 9-0 f v"),
        ("XADD s MINID ~ 3 9-0 f v", "XADD s MINID = 3-0 9-0 f v"),
        ("XADD s MAXLEN 1 9-0 f v", "XADD s MAXLEN 1 9-0 f v"),
        ("XTRIM s MAXLEN ~ 1", "XTRIM s MAXLEN = 1"),
        ("XTRIM s MINID ~ 9", "XTRIM s MINID = 18446744073709551615-18446744073709551615"),
        ("XTRIM s MAXLEN ~ 5", None),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS s >", claim("2-0")),
        ("XREADGROUP GROUP g c NOACK STREAMS s >", "XGROUP SETID s g 3-0 ENTRIESREAD 3"),
        (
            "XREADGROUP GROUP g d NOACK STREAMS s >",
            "XGROUP CREATECONSUMER s g d | XGROUP SETID s g 3-0 ENTRIESREAD 3",
        ),
        ("XREADGROUP GROUP g c STREAMS s 0", None),
        ("XCLAIM s g d 0 1-0 LASTID 2-5", claim("1-0", count=2, consumer="d", last_id="2-5")),
        ("XCLAIM s g d 0 9-9 LASTID 2-5", "XGROUP SETID s g 2-5 ENTRIESREAD 1"),
        ("XCLAIM s g d 0 9-9", None),
        ("XAUTOCLAIM s g d 0 - JUSTID", claim("1-0", consumer="d")),
        ("XACK s g 1-0", "XACK s g 1-0"),
        ("XACK s g 9-0", None),
    ],
)
def test_replicas_are_told_what_has_come_of_it(
    bench: ServerBench, client: BenchClient, request_: str, effects: str | None
) -> None:
    bench.server.settings.stream_node_max_entries = 2
    client.pipeline(
        *(("XADD", "s", f"{number}-0", "f", "v") for number in (1, 2, 3)),
        ("XGROUP", "CREATE", "s", "g", "0"),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", ">"),
    )
    units = told(bench)
    client.ask(*request_.split())
    assert [" | ".join(unit) for unit in units] == ([] if effects is None else [effects])


def test_the_clock_makes_ids(bench: ServerBench, client: BenchClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands still here: a real one may go on, or be set back, between two looks at it."""
    monkeypatch.setattr(clock, "unix_ms", lambda: NOW_MS)
    units = told(bench)
    assert client.ask("XADD", "s", "*", "f", "v") == encode(f"{NOW_MS}-0")[4:]
    assert units == [["XADD s <now>-0 f v"]]
    client.ask("XADD", "s", f"{NOW_MS + 3_600_000}-5", "f", "v")
    assert client.ask("XADD", "s", "*", "f", "v") == encode(f"{NOW_MS + 3_600_000}-6")[4:]


def test_a_replica_does_as_it_is_told(bench: ServerBench, client: BenchClient) -> None:
    """LIMIT came with ``~``, which its master has replaced."""
    client.pipeline(*(("XADD", "s", f"{number}-0", "f", "v") for number in range(1, 9)))
    client.session.is_master_link = True
    assert client.ask("XADD", "s", "MAXLEN", "=", "2", "LIMIT", "1", "9-0", "f", "v") != b""
    client.session.is_master_link = False
    assert client.ask("XLEN", "s") == b":2\r\n"
    assert client.ask("XADD", "s", "MAXLEN", "=", "2", "LIMIT", "1", "*", "f", "v").startswith(
        b"-ERR syntax error, LIMIT"
    )


def test_groups_are_no_business_of_watch(bench: ServerBench, client: BenchClient) -> None:
    other = bench.connect()
    client.pipeline(("XADD", "s", "1-0", "f", "v"), ("XGROUP", "CREATE", "s", "g", "0"), ("WATCH", "s"))
    other.pipeline(
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"),
        ("XACK", "s", "g", "1-0"),
        ("XGROUP", "SETID", "s", "g", "0"),
        ("XSETID", "s", "7-0"),
    )
    assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)).endswith(b"*1\r\n+PONG\r\n")
    client.ask("WATCH", "s")
    other.ask("XADD", "s", "9-0", "f", "v")
    assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)).endswith(NOTHING)


# Waiting --------------------------------------------------------------------------------------------------------


def test_whoever_only_reads_gets_everything(bench: ServerBench, client: BenchClient) -> None:
    client.ask("XADD", "s", "1-0", "f", "1")
    takers = [waiting(bench, f"XREAD BLOCK 0 STREAMS {keys}") for keys in ("s $", "s 5-0", "t s 0 $", "s s $ 5-0")]
    new = bench.connect()
    new.ask("HELLO", "3")
    assert new.ask("XREAD", "BLOCK", "0", "STREAMS", "s", "$") == b""
    units = told(bench)
    client.ask("XADD", "s", "2-0", "f", "2")
    second = entry("2-0", "f", "2")
    assert [taker.read() for taker in takers] == [read("s", second), b"", read("s", second), read("s", second)]
    assert new.read() == b"%1\r\n" + encode("s")[4:] + b"*1\r\n" + second
    assert units == [["XADD s 2-0 f 2"]]
    client.ask("XADD", "s", "6-0", "f", "6")
    assert takers[1].read() == read("s", entry("6-0", "f", "6"))
    assert not bench.server.blocking and not bench.server.keyspace.observed


def test_members_of_a_group_share(bench: ServerBench, client: BenchClient) -> None:
    client.ask("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    takers = [
        waiting(bench, f"XREADGROUP GROUP g {name} {options}BLOCK 0 STREAMS s >")
        for name, options in (("one", "COUNT 1 "), ("two", ""), ("three", "NOACK "))
    ]
    units = told(bench)
    client.pipeline(("MULTI",), *(("XADD", "s", f"{number}-0", "f", str(number)) for number in (1, 2, 3)), ("EXEC",))
    assert [taker.read() for taker in takers] == [
        read("s", entry("1-0", "f", "1")),
        read("s", entry("2-0", "f", "2"), entry("3-0", "f", "3")),
        b"",
    ]
    assert units[1:] == [[claim("1-0", consumer="one")], [claim("2-0", consumer="two"), claim("3-0", consumer="two")]]
    del units[:]
    client.ask("XADD", "s", "4-0", "f", "4")
    assert takers[2].read() == read("s", entry("4-0", "f", "4"))
    assert units == [
        ["XADD s 4-0 f 4"],
        ["XGROUP CREATECONSUMER s g three", "XGROUP SETID s g 4-0 ENTRIESREAD 4"],
    ]


@pytest.mark.parametrize(
    ("requests", "reply"),
    [
        ("DEL s", GONE),
        ("UNLINK s", GONE),
        ("SET s text", GONE),
        ("FLUSHALL", GONE),
        ("FLUSHDB", GONE),
        ("SWAPDB 0 1", GONE),
        ("RENAME s t", GONE),
        ("MOVE s 1", GONE),
        ("PEXPIRE s 0", GONE),
        ("MULTI; DEL s; SADD s m; EXEC", GONE),
        ("MULTI; DEL s; XADD s 9-0 f v; EXEC", NO_GROUP),
        ("MULTI; DEL s; XGROUP CREATE s g 0 MKSTREAM; EXEC", b""),
        ("MULTI; DEL s; XADD s 9-0 f v; XGROUP CREATE s g 0; EXEC", read("s", entry("9-0", "f", "v"))),
        ("XGROUP DESTROY s g", NO_GROUP),
        ("XGROUP DESTROY s other", b""),
        ("XADD t 9-0 f v; RENAME t s", NO_GROUP),
        ("XGROUP CREATE t g $ MKSTREAM; RENAME t s", b""),
        ("XGROUP CREATE t g $ MKSTREAM; XADD t 9-0 f v; RENAME t s", read("s", entry("9-0", "f", "v"))),
        ("XADD s 9-0 f v", read("s", entry("9-0", "f", "v"))),
        ("XADD s MAXLEN 0 9-0 f v", read("s")),
        ("XDEL s 1-0", b""),
        ("XTRIM s MAXLEN 0", b""),
        ("EXPIRE s 100", b""),
        ("XGROUP SETID s g 0", b""),
        ("XSETID s 9-0; EXPIRE s 100", b""),
        ("XSETID s 9-0; XSETID s 1-0; XADD s 9-0 f v", read("s", entry("9-0", "f", "v"))),
    ],
)  # fmt: skip
def test_what_becomes_of_a_member_who_waits(
    bench: ServerBench, client: BenchClient, requests: str, reply: bytes
) -> None:
    client.pipeline(
        ("XADD", "s", "1-0", "f", "1"), ("XGROUP", "CREATE", "s", "g", "$"), ("XGROUP", "CREATE", "s", "other", "$")
    )
    member = waiting(bench, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >")
    reader = waiting(bench, "XREAD BLOCK 0 STREAMS s 20-0")
    for request in requests.split("; "):
        client.ask(*request.split())
    assert (member.read(), reader.read()) == (reply, b"")
    assert member.session.is_blocked() == (not reply)
    if reply in (GONE, NO_GROUP):
        assert b"failed_calls=1" in client.ask("INFO", "commandstats").split(b"cmdstat_xreadgroup")[1].split(b"\r\n")[0]


def test_lists_and_streams_may_be_waited_for_under_one_name(bench: ServerBench, client: BenchClient) -> None:
    popper = waiting(bench, "BLPOP s 0")
    client.ask("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    member = waiting(bench, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >")
    client.pipeline(("MULTI",), ("DEL", "s"), ("RPUSH", "s", "x"), ("EXEC",))
    assert (popper.read(), member.read()) == (encode("s", "x"), GONE)
    assert client.ask("EXISTS", "s") == b":0\r\n"


def test_time_is_over_or_somebody_says_so(bench: ServerBench, client: BenchClient) -> None:
    client.ask("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    for request in ("XREAD BLOCK 1000 STREAMS s $", "XREADGROUP GROUP g c BLOCK 1000 STREAMS s >"):
        taker = waiting(bench, request)
        parked = taker.session.parked
        assert parked is not None and parked.deadline_ms is not None
        bench.server._parked_timeout(taker.session, parked)
        bench.run()
        assert taker.read() == NOTHING
        for reason, reply in ((), NOTHING), (("ERROR",), b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"):
            taker = waiting(bench, request)
            assert client.ask("CLIENT", "UNBLOCK", taker.session.id, *reason) == b":1\r\n"
            assert taker.read() == reply
    assert not bench.server.blocking and not bench.server.keyspace.observed


def test_in_a_transaction_nothing_waits(client: BenchClient) -> None:
    replies = client.pipeline(
        ("MULTI",),
        ("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM"),
        ("XREAD", "BLOCK", "0", "STREAMS", "s", "$"),
        ("XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "s", ">"),
        ("EXEC",),
    )
    assert replies.endswith(b"*3\r\n+OK\r\n*-1\r\n*-1\r\n")


def test_a_change_of_the_role_sends_everybody_away(bench: ServerBench, client: BenchClient) -> None:
    client.ask("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    takers = [
        waiting(bench, text) for text in ("XREAD BLOCK 0 STREAMS s $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >")
    ]
    bench.server.unblock_all()
    bench.run()
    for taker in takers:
        assert taker.read().startswith(b"-UNBLOCKED force unblock from blocking operation, instance state changed")
        assert taker.closed
    assert not bench.server.blocking and not bench.server.keyspace.observed


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
    for key in ("a", "b"):
        client.ask("XGROUP", "CREATE", key, "g", "$", "MKSTREAM")
    stays = waiting(bench, "XREADGROUP GROUP g c BLOCK 0 STREAMS a >")
    reader, member = (
        waiting(bench, text) for text in ("XREAD BLOCK 0 STREAMS b $", "XREADGROUP GROUP g c BLOCK 0 STREAMS b >")
    )
    state.unassign_slot(key_slot(b"b"))
    state.assign_slot(key_slot(b"b"), state.nodes["b" * 40])
    bench.server.blocking.redirect()
    bench.run()
    moved = b"-MOVED %d 10.0.0.2:7001\r\n" % key_slot(b"b")
    assert [taker.read() for taker in (stays, reader, member)] == [b"", moved, moved]


def test_a_script_does_not_wait(client: BenchClient) -> None:
    client.session.is_script = True
    refused = b"-ERR xread command is not allowed with BLOCK option from scripts\r\n"
    assert client.ask("xread", "BLOCK", "0", "STREAMS", "s", "$") == refused
    assert client.ask("XREAD", "STREAMS", "s", "$") == NOTHING


def test_counters_wrap_as_64_bits_do(bench: ServerBench, client: BenchClient) -> None:
    """Not that anybody counts so far, but XSETID, RETRYCOUNT and files may say so."""
    most = str(2**63 - 1)
    client.pipeline(
        ("XADD", "s", "1-0", "f", "v"),
        ("XGROUP", "CREATE", "s", "g", "0", "ENTRIESREAD", most),
        ("XSETID", "s", "1-0", "ENTRIESADDED", most),
        ("XADD", "s", "2-0", "f", "v"),
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"),
        ("XCLAIM", "s", "g", "c", "0", "1-0", "RETRYCOUNT", most),
        ("XCLAIM", "s", "g", "c", "0", "1-0"),
    )
    least = b":-9223372036854775808\r\n"
    assert b"entries-added\r\n" + least in client.ask("XINFO", "STREAM", "s")
    assert client.ask("XPENDING", "s", "g", "-", "+", "1").endswith(least)
    assert b"entries-read\r\n:-92233720368547758" in client.ask("XINFO", "GROUPS", "s")
    stream = bench.server.keyspace.databases[0].slots[key_slot(b"s")][b"s"]
    stream.entries_added = stream.groups[b"g"].pending.entries[1 << 64].delivery_count = 2**64 - 1
    client.ask("XADD", "s", "3-0", "f", "v")
    client.ask("XCLAIM", "s", "g", "c", "0", "1-0")
    payload = client.ask("DUMP", "s")
    assert client.ask("RESTORE", "t", "0", payload[payload.index(b"\n") + 1 : -2]) == b"+OK\r\n"
    assert b"entries-added\r\n:0\r\n" in client.ask("XINFO", "STREAM", "t")
