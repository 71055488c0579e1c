"""Sorted sets between our nodes and real redis-servers, in either role: by full sync in both encodings, then by the
stream. What decides is DEBUG DIGEST, in which every bit of every score counts.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.differential.pair import RawReplies
from tests.support.servers import Kind, RealRedis, Server, eventually, make_server
from tests.support.sessions import ServerBench

pytestmark = pytest.mark.real_redis

PAIRS: list[tuple[Kind, Kind]] = [("real", "ours"), ("ours", "real")]


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]} master, {pair[1]} replica")
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
    """A master and a server that is no replica yet."""
    with ExitStack() as stack:
        master, replica = (stack.enter_context(make_server(kind)) for kind in request.param)
        yield master, replica


def same_data(master: Server, replica: Server) -> None:
    def in_step() -> bool:
        offset = master.info("replication")["master_repl_offset"]
        return bool(replica.info("replication").get("slave_repl_offset") == offset)

    eventually(in_step)
    assert replica.call("DEBUG", "DIGEST") == master.call("DEBUG", "DIGEST")


def test_what_a_replica_has(pair: tuple[Server, Server]) -> None:
    master, replica = pair
    rng = random.Random(7)
    scores = ["0", "-0", "1", "inf", "-inf", "0.1", "1e17", "-1.5e-300", "4611686018427387904", "123456789012345678"]
    master.call("ZADD", "small", *(word for number, score in enumerate(scores) for word in (score, f"m{number}")))
    master.call("ZADD", "long", "-0", "x" * 65, "1", "y")
    for start in range(0, 20_000, 1000):
        pairs = [(repr(rng.gauss(0, 1e6)), f"member {number}") for number in range(start, start + 1000)]
        master.call("ZADD", "large", *(word for pair_ in pairs for word in pair_))
        places = [(f"{rng.uniform(-180, 180)}", f"{rng.uniform(-85, 85)}", f"p{number}") for number in range(50)]
        master.call("GEOADD", "places", *(word for place in places for word in place))
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    eventually(lambda: replica.info("replication").get("master_link_status") == "up")
    same_data(master, replica)
    for key in ("small", "long", "large", "places"):
        assert replica.call("OBJECT", "ENCODING", key) == master.call("OBJECT", "ENCODING", key)
        assert replica.call("ZRANGE", key, 0, -1, "WITHSCORES") == master.call("ZRANGE", key, 0, -1, "WITHSCORES")

    master.call("ZINCRBY", "small", "0.1", "m5")
    master.call("ZADD", "large", "GT", "CH", "1e9", "member 5", "-1e9", "member 6")
    master.call("ZPOPMIN", "large", 50)
    master.call("ZMPOP", 2, "none", "large", "MAX", "COUNT", 3)
    master.call("ZREMRANGEBYSCORE", "large", "(-1000", "1000")
    master.call("ZUNIONSTORE", "union", 2, "small", "large", "WEIGHTS", "0.3", "-7", "AGGREGATE", "MAX")
    master.call("ZRANGESTORE", "part", "large", "(0", "+inf", "BYSCORE", "LIMIT", 5, 1000)
    master.call("GEOADD", "places", "NX", "2.35", "48.85", "Paris", "1", "1", "p1")
    master.call("GEOSEARCHSTORE", "near", "places", "FROMMEMBER", "Paris", "BYRADIUS", 2000, "km", "STOREDIST")
    same_data(master, replica)


def test_clients_that_waited_are_served_on_the_replica_too(pair: tuple[Server, Server]) -> None:
    master, replica = pair
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    eventually(lambda: replica.info("replication").get("master_link_status") == "up")
    replies: dict[object, object] = {}

    def wait(*request: str | int) -> None:
        with master.raw() as connection:
            replies[request[0]] = connection.call(*request)

    requests: list[tuple[str | int, ...]] = [("BZPOPMAX", "a", "b", 0), ("BZMPOP", 0, 2, "b", "c", "MIN", "COUNT", 2)]
    waiting = [threading.Thread(target=wait, args=request) for request in requests]
    for number, thread in enumerate(waiting, 1):
        thread.start()
        eventually(lambda number=number: int(master.info("clients")["blocked_clients"]) == number)  # type: ignore[misc]
    master.call("ZADD", "b", "1", "one", "2", "two", "3", "three", "4", "four")
    for thread in waiting:
        thread.join(60)
    assert replies["BZPOPMAX"] == [b"b", b"four", b"4"]
    assert replies["BZMPOP"] == [b"b", [[b"one", b"1"], [b"two", b"2"]]]
    same_data(master, replica)
    assert replica.call("ZRANGE", "b", 0, -1) == [b"three"]


def test_ranges_by_bytes_over_different_scores() -> None:
    """They have no meaning, but an answer: where Redis's walk through a listpack begins and ends."""
    rng = random.Random(11)
    letters = "abcdefgh"
    bounds = ["-", "+", *(mark + letter for mark in "[(" for letter in letters)]
    answers = 0
    with RealRedis() as real, ServerBench() as bench:
        client, connection = bench.connect(), RawReplies(real.port)

        def same(*words: str) -> bytes:
            ours, theirs = client.ask(*words), connection.ask(*(word.encode() for word in words))
            assert ours == theirs, words
            return ours

        for _ in range(100):
            scores = [(str(rng.randrange(3)), rng.choice(letters)) for _ in range(rng.randrange(1, 9))]
            same("ZADD", "z", *(word for pair_ in scores for word in pair_))
            for name in ("ZRANGEBYLEX", "ZREVRANGEBYLEX", "ZLEXCOUNT") * 4:
                limit = ("LIMIT", str(rng.randrange(-1, 4)), str(rng.randrange(-1, 5)))
                options = limit if name != "ZLEXCOUNT" and rng.random() < 0.7 else ()
                answers += same(name, "z", rng.choice(bounds), rng.choice(bounds), *options) not in (
                    b"*0\r\n",
                    b":0\r\n",
                )
            for _ in range(3):
                same("ZREMRANGEBYLEX", "z", rng.choice(bounds), rng.choice(bounds))
            same("DEL", "z")
        connection.close()
    assert answers > 100
