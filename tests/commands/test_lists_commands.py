"""List commands on a server without a network: what beside the replies they do. The replies are compared with a real
server's in tests/interop/test_differential_lists.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sessions import BenchClient, ServerBench
from tests.support.still_time import StillTime
from tests.support.wire import encode

NULL_ARRAY = b"*-1\r\n"
EMPTY = b"*0\r\n"


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as bench:
        yield bench
        assert not bench.server.statistics.internal_errors


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    return bench.connect()


@pytest.mark.parametrize(
    ("request_", "events", "dirty"),
    [
        ("RPUSH k x y", "rpush:k", 2),
        ("LPUSH new x y z", "lpush:new", 3),
        ("LPUSHX none x", "", 0),
        ("LPOP k", "lpop:k", 1),
        ("RPOP k 2", "rpop:k", 2),
        ("LPOP k 9", "lpop:k del:k", 3),
        ("LPOP k 0", "", 0),
        ("LMPOP 2 none k LEFT COUNT 3", "lpop:k del:k", 3),
        ("LSET k 0 x", "lset:k", 1),
        ("LINSERT k AFTER b x", "linsert:k", 1),
        ("LINSERT k AFTER none x", "", 0),
        ("LREM k 0 b", "lrem:k", 1),
        ("LREM k 0 none", "", 0),
        ("LREM one 0 x", "lrem:one del:one", 1),
        ("LTRIM k 0 -1", "ltrim:k", 0),
        ("LTRIM k 1 1", "ltrim:k", 2),
        ("LTRIM k 5 9", "ltrim:k del:k", 3),
        ("LMOVE k k LEFT RIGHT", "rpush:k lpop:k", 1),
        ("RPOPLPUSH one one", "lpush:one rpop:one", 1),
        ("RPOPLPUSH one new", "lpush:new rpop:one del:one", 1),
        ("LMOVE none k LEFT RIGHT", "", 0),
    ],
)
def test_events_and_changes(bench: ServerBench, client: BenchClient, request_: str, events: str, dirty: int) -> None:
    client.pipeline(("RPUSH", "k", "a", "b", "c"), ("RPUSH", "one", "x"))
    keyspace = bench.server.keyspace
    seen: list[bytes] = []
    keyspace.notifier = lambda _class, event, key, _database: seen.append(event + b":" + key)
    before = keyspace.dirty
    client.ask(*request_.split())
    assert b" ".join(seen) == events.encode()
    assert keyspace.dirty - before == dirty


def test_what_replicas_are_told_of_lmpop(bench: ServerBench, client: BenchClient) -> None:
    client.ask("RPUSH", "k", "a", "b", "c")
    told: list[list[bytes]] = []
    bench.server.feed.feed = lambda commands: told.extend(argv for _index, argv in commands)  # type: ignore[method-assign]
    bench.server.feed.feed_requests = bench.server.feed.feed  # type: ignore[method-assign]
    bench.server.keyspace.followed = True
    assert client.ask("LMPOP", "2", "none", "k", "RIGHT", "COUNT", "2") == b"*2\r\n$1\r\nk\r\n" + encode("c", "b")
    assert client.ask("LMPOP", "1", "none", "RIGHT") == NULL_ARRAY
    assert told == [[b"RPOP", b"k", b"2"]]


def test_nothing_in_either_protocol(client: BenchClient) -> None:
    words = "LPOP k,LPOP k 1,LMPOP 1 k LEFT,LPOS k x,LINDEX k 0,LPOS k x COUNT 0,LRANGE k 0 -1,RPOPLPUSH k t"
    requests = [tuple(request.split()) for request in words.split(",")]
    assert client.pipeline(*requests) == b"$-1\r\n" + 2 * NULL_ARRAY + 2 * b"$-1\r\n" + 2 * EMPTY + b"$-1\r\n"
    client.ask("HELLO", "3")
    assert client.pipeline(*requests) == 5 * b"_\r\n" + 2 * EMPTY + b"_\r\n"


def test_a_list_keeps_its_time_to_live(client: BenchClient, still_time: StillTime) -> None:
    client.pipeline(("RPUSH", "k", "a", "b"), ("EXPIRE", "k", "100"), ("RPUSH", "k", "c"), ("LTRIM", "k", "1", "1"))
    assert client.ask("TTL", "k") == b":100\r\n"
    client.pipeline(("LPOP", "k"), ("RPUSH", "k", "a"))
    assert client.ask("TTL", "k") == b":-1\r\n"


@pytest.mark.parametrize("size", ["-1", "-2", "-5", "1", "7", "0", "100000"])
def test_payloads_in_nodes_of_any_size(bench: ServerBench, client: BenchClient, size: str) -> None:
    elements = [b"%d" % (number * 37) + b"x" * (number % 50) for number in range(2000)]
    bench.server.settings.list_max_listpack_size = int(size)
    client.ask("RPUSH", "k", *elements)
    payload = client.ask("DUMP", "k").split(b"\r\n", 1)[1][:-2]
    assert client.ask("RESTORE", "copy", "0", payload) == b"+OK\r\n"
    assert client.ask("LRANGE", "copy", "0", "-1") == encode(*elements)


@pytest.mark.parametrize(
    "change",
    [
        *("LPUSH k x", "RPUSH k x", "LPOP k", "RPOP k", "LPOP k 2", "LSET k 1 x", "LREM k 1 b", "LTRIM k 1 2"),
        *("LINSERT k AFTER a x", "LMPOP 1 k RIGHT", "LMOVE k t LEFT RIGHT", "LMOVE t k RIGHT LEFT", "RENAME t k"),
        *("DEL k", "SET k x", "PEXPIREAT k 1", "SWAPDB 0 1", "FLUSHALL", "RESTORE k 0 payload REPLACE"),
        *("COPY t k REPLACE", "SORT t ALPHA STORE k"),
    ],
)
def test_what_was_read_before_is_not_what_is_read_after_a_change(client: BenchClient, change: str) -> None:
    client.pipeline(("RPUSH", "k", "a", "b", "c"), ("RPUSH", "t", "y", "z"))
    before = client.ask("LRANGE", "k", "0", "-1")
    assert client.ask("LRANGE", "k", "0", "-1") == before == encode("a", "b", "c")
    assert client.ask("LRANGE", "k", "0", "1") == encode("a", "b")
    assert client.ask("LRANGE", "k", "0", "-1") == before
    payload = client.ask("DUMP", "t").split(b"\r\n", 1)[1][:-2]
    words = [payload if word == "payload" else word for word in change.split(" ")]
    assert not client.ask(*words).startswith(b"-")
    assert client.ask("LRANGE", "k", "0", "-1") != before


def test_reading_a_list_again_counts_as_reading(bench: ServerBench, client: BenchClient) -> None:
    client.pipeline(("RPUSH", "k", "a", "b", "c"), *[("LRANGE", "k", "0", "-1")] * 3)
    assert (bench.server.keyspace.hits, bench.server.keyspace.misses) == (3, 0)
    client.ask("PEXPIREAT", "k", "1")
    assert client.ask("LRANGE", "k", "0", "-1") == EMPTY
    assert (bench.server.keyspace.hits, bench.server.keyspace.misses) == (3, 1)
    assert client.ask("LRANGE", "k", "0", "x") == b"-ERR value is not an integer or out of range\r\n"


def test_what_a_copy_becomes_is_its_own(client: BenchClient) -> None:
    client.ask("RPUSH", "k", *(str(number) for number in range(1000)))
    client.pipeline(("COPY", "k", "c"), ("LSET", "c", "0", "x"), ("LSET", "c", "500", "x"), ("LSET", "c", "-1", "x"))
    assert client.ask("LRANGE", "k", "0", "-1") == encode(*(str(number) for number in range(1000)))
    assert client.ask("LPOS", "c", "x", "COUNT", "0") == b"*3\r\n:0\r\n:500\r\n:999\r\n"


def test_the_lowest_rank_finds_the_last_match(client: BenchClient) -> None:
    """Its negative is itself in C, so every match is beyond it."""
    client.ask("RPUSH", "k", "a", "b", "a")
    assert client.ask("LPOS", "k", "a", "RANK", str(-(2**63))) == b":2\r\n"
    assert client.ask("LPOS", "k", "a", "RANK", str(-(2**63)), "COUNT", "0") == b"*2\r\n:2\r\n:0\r\n"
    assert client.ask("LPOS", "k", "a", "RANK", str(1 - 2**63)) == b"$-1\r\n"
