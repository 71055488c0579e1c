"""Sorted set commands on a server without a network: what beside the replies they do, and the shapes of replies. The
replies are compared with a real server's in tests/interop/test_differential_sorted_sets.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from tests.support.costs import allocated_bytes, counted_calls
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


def ask(client: BenchClient, line: str) -> bytes:
    return client.ask(*line.split())


def effects_of(bench: ServerBench) -> list[list[bytes]]:
    """From now on, what replicas would be told."""
    told: list[list[bytes]] = []
    bench.server.feed.feed = lambda commands: told.extend(argv for _index, argv in commands)  # type: ignore[method-assign]
    bench.server.feed.feed_requests = bench.server.feed.feed  # type: ignore[method-assign]
    bench.server.keyspace.followed = True
    return told


@pytest.mark.parametrize(
    ("request_", "events", "dirty"),
    [
        ("ZADD z 1 x 2 y", "zadd:z", 2),
        ("ZADD new 1 x 2 y 3 x", "zadd:new", 3),
        ("ZADD z 1 a", "", 0),
        ("ZADD z 5 a 1 x", "zadd:z", 2),
        ("ZADD z NX 5 a", "", 0),
        ("ZADD none XX 5 a", "", 0),
        ("ZADD z INCR 5 a", "zincr:z", 1),
        ("ZINCRBY z 0 a", "", 0),
        ("ZINCRBY new 0 a", "zincr:new", 1),
        ("ZREM z a none b", "zrem:z", 2),
        ("ZREM z none", "", 0),
        ("ZREM z a b c d", "zrem:z del:z", 3),
        ("ZPOPMIN z", "zpopmin:z", 1),
        ("ZPOPMAX z 2", "zpopmax:z", 2),
        ("ZPOPMAX z 9", "zpopmax:z del:z", 3),
        ("ZPOPMIN z 0", "", 0),
        ("ZMPOP 2 none z MAX COUNT 2", "zpopmax:z", 2),
        ("BZPOPMIN none z 0", "zpopmin:z", 1),
        ("BZMPOP 0 1 z MIN COUNT 9", "zpopmin:z del:z", 3),
        ("ZREMRANGEBYRANK z 0 1", "zremrangebyrank:z", 2),
        ("ZREMRANGEBYSCORE z (1 2", "zremrangebyscore:z", 1),
        ("ZREMRANGEBYLEX z - +", "zremrangebylex:z del:z", 3),
        ("ZREMRANGEBYRANK z 5 9", "", 0),
        ("ZRANGESTORE new z 0 1", "zrangestore:new", 1),
        ("ZRANGESTORE z none 0 1", "del:z", 1),
        ("ZUNIONSTORE z 2 z s", "zunionstore:z", 1),
        ("ZINTERSTORE new 1 none", "", 0),
        ("ZDIFFSTORE z 2 z z", "del:z", 1),
    ],
)
def test_events_and_changes(bench: ServerBench, client: BenchClient, request_: str, events: str, dirty: int) -> None:
    client.pipeline(("ZADD", "z", "1", "a", "2", "b", "3", "c"), ("SADD", "s", "a", "q"))
    keyspace = bench.server.keyspace
    seen: list[bytes] = []
    keyspace.notifier = lambda _class, event, key, _database: seen.append(event + b":" + key)
    before = keyspace.dirty
    ask(client, request_)
    assert b" ".join(event for event in seen if not event.startswith((b"keymiss", b"new"))) == events.encode()
    assert keyspace.dirty - before == dirty


def test_what_replicas_are_told(bench: ServerBench, client: BenchClient) -> None:
    ask(client, "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f")
    told = effects_of(bench)
    for line in ("ZMPOP 2 none z MAX COUNT 2", "BZPOPMIN none z 0", "BZMPOP 0 1 z MIN COUNT 2", "BZMPOP 0 1 z MAX"):
        ask(client, line)
    ask(client, "ZADD z XX 9 none")
    assert told == [
        [b"ZPOPMAX", b"z", b"2"],
        [b"ZPOPMIN", b"z"],
        [b"ZPOPMIN", b"z", b"2"],
        [b"ZPOPMAX", b"z", b"1"],
    ]


def test_nothing_in_either_protocol(client: BenchClient) -> None:
    words = "ZSCORE z a,ZRANK z a,ZINCRBY z nan a,ZADD z XX INCR 1 a,ZRANDMEMBER z,ZMPOP 1 z MIN"
    requests = [tuple(request.split()) for request in words.split(",")]
    refused = b"-ERR value is not a valid float\r\n"
    assert client.pipeline(*requests) == 2 * b"$-1\r\n" + refused + 2 * b"$-1\r\n" + NULL_ARRAY
    empty = [
        tuple(line.split()) for line in ("ZRANGE z 0 -1", "ZPOPMIN z", "ZRANDMEMBER z 3", "ZUNION 1 z", "ZDIFF 1 z")
    ]
    assert client.pipeline(*empty) == 5 * EMPTY
    assert ask(client, "ZMSCORE z a b") == b"*2\r\n$-1\r\n$-1\r\n"
    client.ask("HELLO", "3")
    assert client.pipeline(*requests) == 2 * b"_\r\n" + refused + 3 * b"_\r\n"
    assert client.pipeline(*empty) == 5 * EMPTY


def test_scores_in_resp3(client: BenchClient) -> None:
    ask(client, "ZADD z 1 a 2.5 b inf c")
    client.ask("HELLO", "3")
    assert ask(client, "ZSCORE z b") == b",2.5\r\n"
    assert ask(client, "ZRANGE z 0 1 WITHSCORES") == b"*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n"
    assert ask(client, "ZPOPMAX z") == b"*2\r\n$1\r\nc\r\n,inf\r\n"
    assert ask(client, "ZPOPMAX z 1") == b"*1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n"
    assert ask(client, "BZPOPMIN z 0") == b"*3\r\n$1\r\nz\r\n$1\r\na\r\n,1\r\n"
    ask(client, "ZADD z 1 a")
    assert ask(client, "ZMPOP 1 z MIN") == b"*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\na\r\n,1\r\n"


def test_a_listpack_forgets_the_sign_of_zero(client: BenchClient) -> None:
    assert ask(client, "ZINCRBY small -0 a") == b"$2\r\n-0\r\n"  # The sum, not what is stored.
    assert ask(client, "ZSCORE small a") == b"$1\r\n0\r\n"
    ask(client, f"ZADD big -0 {'a' * 65}")
    assert ask(client, f"ZSCORE big {'a' * 65}") == b"$2\r\n-0\r\n"


def test_a_sorted_set_keeps_its_time_to_live(client: BenchClient, still_time: StillTime) -> None:
    client.pipeline(
        ("ZADD", "z", "1", "a", "2", "b"), ("EXPIRE", "z", "100"), ("ZADD", "z", "3", "a"), ("ZPOPMIN", "z")
    )
    assert ask(client, "TTL z") == b":100\r\n"
    ask(client, "ZUNIONSTORE z 1 z")
    assert ask(client, "TTL z") == b":-1\r\n"


def test_what_a_copy_becomes_is_its_own(client: BenchClient) -> None:
    for count in ("50", "500"):
        client.ask("ZADD", "z", *(word for n in range(int(count)) for word in (str(n), f"m{n}")))
        ask(client, "COPY z c REPLACE")
        ask(client, "ZADD c 7.5 m0 7.5 new")
        assert ask(client, "ZRANK c new") == b":8\r\n"
        assert ask(client, "ZRANK z m0") == b":0\r\n"
        assert ask(client, "ZCARD z") == b":%b\r\n" % count.encode()


def test_encodings_follow_the_settings(bench: ServerBench, client: BenchClient) -> None:
    settings = bench.server.settings
    ask(client, "ZADD z 1 a 2 b")
    settings.zset_max_listpack_entries = 2
    assert ask(client, "OBJECT ENCODING z") == encode("listpack")[4:]
    ask(client, "ZADD z 3 a")  # A new score takes no new place.
    assert ask(client, "OBJECT ENCODING z") == encode("listpack")[4:]
    ask(client, "ZADD z 3 c")
    ask(client, "ZREM z a b")
    assert ask(client, "OBJECT ENCODING z") == encode("skiplist")[4:]
    ask(client, "ZUNIONSTORE z 1 z")
    assert ask(client, "OBJECT ENCODING z") == encode("listpack")[4:]
    settings.zset_max_listpack_value = 3
    ask(client, "ZADD y 1 abcd")
    assert ask(client, "OBJECT ENCODING y") == encode("skiplist")[4:]


# Waiting --------------------------------------------------------------------------------------------------------


def waiting(bench: ServerBench, line: str) -> BenchClient:
    """A client that waits for what it asked for."""
    client = bench.connect()
    assert ask(client, line) == b"" and client.session.is_blocked()
    return client


def test_clients_are_served_in_the_order_in_which_they_came(bench: ServerBench, client: BenchClient) -> None:
    first, second = waiting(bench, "BZPOPMAX x z 0"), waiting(bench, "BZMPOP 0 2 y z MIN COUNT 10")
    third = waiting(bench, "BZPOPMIN z 0")
    told = effects_of(bench)
    ask(client, "ZADD z 1 a 2 b 3 c")
    assert first.read() == b"*3\r\n$1\r\nz\r\n$1\r\nc\r\n$1\r\n3\r\n"
    assert second.read() == b"*2\r\n$1\r\nz\r\n*2\r\n" + encode("a", "1") + encode("b", "2")
    assert third.read() == b"" and third.session.is_blocked()
    assert ask(client, "EXISTS z") == b":0\r\n"
    assert told[1:] == [[b"ZPOPMAX", b"z"], [b"ZPOPMIN", b"z", b"2"]]


def test_what_is_no_sorted_set_wakes_nobody(bench: ServerBench, client: BenchClient) -> None:
    blocked = waiting(bench, "BZPOPMIN z 0")
    client.pipeline(("SADD", "z", "a"), ("DEL", "z"), ("LPUSH", "z", "a"), ("DEL", "z"))
    assert blocked.read() == b"" and blocked.session.is_blocked()
    for line in ("ZUNIONSTORE z 1 src", "ZRANGESTORE z src 0 -1", "COPY src z", "RENAME src z", "GEOADD z 1 1 a"):
        ask(client, "ZADD src 1 a")
        ask(client, line)
        assert blocked.read().startswith(b"*3\r\n$1\r\nz\r\n$1\r\na\r\n"), line
        assert ask(blocked, "BZPOPMIN z 0") == b""


def test_no_client_waits_in_a_transaction(client: BenchClient) -> None:
    client.pipeline(("MULTI",), ("BZPOPMIN", "z", "0"), ("BZMPOP", "0", "1", "z", "MAX"))
    assert client.ask("EXEC") == b"*2\r\n" + 2 * NULL_ARRAY


def test_time_is_over_with_nothing(bench: ServerBench) -> None:
    blocked = waiting(bench, "BZMPOP 0.01 1 z MIN")
    parked = blocked.session.parked
    assert parked is not None and parked.kind == "zset"
    assert parked.on_timeout() == NULL_ARRAY


# Size -----------------------------------------------------------------------------------------------------------


def test_a_walk_finds_what_is_there_throughout(client: BenchClient) -> None:
    """ZSCAN while members come, go and change their scores."""
    client.ask("ZADD", "z", *(word for n in range(1000) for word in (str(n), f"keep{n}")))
    found: set[bytes] = set()
    cursor, step = b"0", 0
    while True:
        reply = client.ask("ZSCAN", "z", cursor, "COUNT", "20").split(b"\r\n")
        cursor = reply[2]
        found.update(reply[5::4])
        if cursor == b"0":
            break
        step += 1
        client.ask("ZADD", "z", *(word for n in range(300) for word in ("7.5", f"new{step}-{n}")))
        ask(client, "ZREMRANGEBYSCORE z 7.5 7.5" if step % 2 else "ZREM z new1-1")
        client.ask("ZADD", "z", "-5", f"keep{step}")
    assert {b"keep%d" % n for n in range(1000)} <= found and step > 10


def test_a_large_one_answers_at_once(bench: ServerBench, client: BenchClient) -> None:
    """Ranks, ranges and changes among 200,000 members cost a few steps each, of which none copies or counts them."""
    count = 200_000
    client.ask("ZADD", "z", *(word for n in range(count) for word in (b"%d" % (n * 7919 % count), b"%d" % n)))
    assert ask(client, "ZCARD z") == b":200000\r\n"
    ask(client, "ZRANK z 0")  # Counts all of them, once.

    def requests(number: int) -> None:
        assert ask(client, f"ZRANK z {number}") == b":%d\r\n" % (number * 7919 % count)
        client.pipeline(("ZADD", "z", "100000.5", "x"), ("ZRANGE", "z", "150000", "150002"), ("ZREM", "z", "x"))
        assert ask(client, "ZCOUNT z 10 (199990") == b":199980\r\n"

    times = 100
    with counted_calls() as calls:
        for number in range(times):
            requests(number)
    assert calls.count < 1000 * times
    # Requests and replies in sockets' buffers take their part, a list of the members would be 1.6 MB.
    assert allocated_bytes(functools.partial(requests, number) for number in range(times)) < 200_000 * times
