"""SORT on a server without a network: orders, patterns, limits, errors, and what is stored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.errors import NOT_AN_INTEGER, SYNTAX, WRONGTYPE
from tests.support.sessions import BenchClient, ServerBench


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as server:
        yield server


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    return bench.connect()


def bulks(*texts: str | None) -> bytes:
    parts = [b"$-1\r\n" if text is None else b"$%d\r\n%b\r\n" % (len(text), text.encode()) for text in texts]
    return b"*%d\r\n" % len(parts) + b"".join(parts)


def error(message: bytes) -> bytes:
    return b"-%b\r\n" % message


@pytest.mark.parametrize("fill", [("RPUSH", "k", "3", "10", "1"), ("SADD", "k", "3", "10", "1"),
                                  ("ZADD", "k", "1", "3", "2", "10", "3", "1")])  # fmt: skip
def test_orders_of_each_type(client: BenchClient, fill: tuple[str, ...]) -> None:
    client.ask(*fill)
    assert client.ask("SORT", "k") == client.ask("SORT_RO", "k") == bulks("1", "3", "10")
    assert client.ask("SORT", "k", "DESC") == bulks("10", "3", "1")
    assert client.ask("SORT", "k", "alpha") == bulks("1", "10", "3")
    assert client.ask("SORT", "k", "LIMIT", "1", "1") == bulks("3")
    assert client.ask("SORT", "k", "LIMIT", "-5", "2") == bulks("1", "3")
    assert client.ask("SORT", "k", "LIMIT", "1", "-1") == bulks("3", "10")
    assert client.ask("SORT", "k", "LIMIT", "9", "1") == bulks()


def test_the_own_order(client: BenchClient) -> None:
    client.ask("RPUSH", "list", "3", "10", "1")
    client.ask("ZADD", "zset", "1", "3", "2", "10", "3", "1")
    for key in ("list", "zset"):
        assert client.ask("SORT", key, "BY", "nosort") == bulks("3", "10", "1")
        assert client.ask("SORT", key, "BY", "nosort", "DESC", "LIMIT", "0", "2") == bulks("1", "10")
    assert client.ask("OBJECT", "ENCODING", "zset") == b"$8\r\nskiplist\r\n"
    client.ask("SADD", "set", "b", "a", "c")
    client.ask("SORT", "set", "BY", "nosort", "DESC", "STORE", "to")
    assert client.ask("LRANGE", "to", "0", "-1") == bulks("c", "b", "a")


def test_patterns(client: BenchClient) -> None:
    client.ask("RPUSH", "k", "1", "2", "3")
    client.ask("MSET", "w1", "30", "w2", "10", "w3", "20", "name_2_x", "two")
    client.ask("HSET", "h2", "f->g", "field")
    assert client.ask("SORT", "k", "BY", "w*") == bulks("2", "3", "1")
    assert client.ask("SORT", "k", "BY", "w*", "GET", "#", "GET", "name_*_x") == (
        bulks("2", "two", "3", None, "1", None)
    )
    assert client.ask("SORT", "k", "GET", "h*->f->g", "GET", "w1", "GET", "h*->") == (
        bulks(None, None, None, "field", None, None, None, None, None)
    )
    # Without a weight: 0 for numbers, before all others for texts.
    client.ask("DEL", "w2")
    assert client.ask("SORT", "k", "BY", "w*", "ALPHA") == bulks("2", "3", "1")
    assert client.ask("SORT", "k", "BY", "w*", "ALPHA", "DESC") == bulks("1", "3", "2")


def test_what_is_equal_keeps_its_order_and_numbers_are_ordered_by_their_texts(client: BenchClient) -> None:
    client.ask("RPUSH", "k", "c", "a", "b")
    client.ask("MSET", "wa", "1", "wb", "1", "wc", "1")
    assert client.ask("SORT", "k", "BY", "w*") == bulks("a", "b", "c")
    assert client.ask("SORT", "k", "BY", "w*", "DESC") == bulks("c", "b", "a")
    assert client.ask("SORT", "k", "BY", "w*", "ALPHA") == bulks("c", "a", "b")
    assert client.ask("SORT", "k", "BY", "w*", "ALPHA", "DESC") == bulks("c", "a", "b")


def test_a_limit_on_equal_weights_finds_what_a_partial_sort_finds(client: BenchClient) -> None:
    client.ask("RPUSH", "k", *map(str, range(12)))
    client.ask("SET", "w3", "x")
    # As redis-server answers.
    assert client.ask("SORT", "k", "BY", "w*", "ALPHA", "LIMIT", "0", "4") == bulks("11", "1", "2", "0")


def test_storing(bench: ServerBench, client: BenchClient) -> None:
    client.ask("RPUSH", "k", "2", "1")
    client.ask("SET", "to", "x")
    client.ask("EXPIRE", "to", "100")
    before = bench.server.keyspace.dirty
    assert client.ask("SORT", "k", "GET", "#", "GET", "none*", "STORE", "to") == b":4\r\n"
    assert bench.server.keyspace.dirty == before + 4
    assert client.ask("LRANGE", "to", "0", "-1") == bulks("1", "", "2", "")
    assert client.ask("TTL", "to") == b":-1\r\n"
    assert client.ask("SORT", "none", "STORE", "to") == b":0\r\n"
    assert client.ask("EXISTS", "to") == b":0\r\n"
    assert client.ask("SORT_RO", "k", "STORE", "to") == error(SYNTAX)


def test_storing_serves_who_waits(bench: ServerBench, client: BenchClient) -> None:
    waiting = bench.connect()
    waiting.ask("BLPOP", "to", "0")
    client.ask("RPUSH", "k", "2", "1")
    client.ask("SORT", "k", "STORE", "to")
    bench.run()
    assert waiting.read() == bulks("to", "1")
    assert client.ask("LRANGE", "to", "0", "-1") == bulks("2")


@pytest.mark.parametrize("text", ["abc", "5 ", "1_0", "nan", "1e400", "1e-400", "0x", "-", " "])
def test_what_is_no_number(client: BenchClient, text: str) -> None:
    client.ask("RPUSH", "k", "1", text)
    assert client.ask("SORT", "k") == b"-ERR One or more scores can't be converted into double\r\n"


@pytest.mark.parametrize("text", [" 4", "0x10", "inf", "-INFINITY", "", "0e-500", "+7", ".5", "5."])
def test_what_is_a_number(client: BenchClient, text: str) -> None:
    client.ask("RPUSH", "k", text)
    assert client.ask("SORT", "k") == bulks(text)


def test_refusals(client: BenchClient) -> None:
    client.ask("SET", "text", "x")
    client.ask("RPUSH", "k", "1")
    assert client.ask("SORT", "text") == error(WRONGTYPE)
    for words in (("LIMIT", "1"), ("BY",), ("GET",), ("STORE",), ("OTHER",), ("ASC", "OTHER")):
        assert client.ask("SORT", "k", *words) == error(SYNTAX)
    assert client.ask("SORT", "k", "LIMIT", "x", "1") == error(NOT_AN_INTEGER)


def test_patterns_need_the_right_to_read_every_key(client: BenchClient) -> None:
    client.ask("ACL", "SETUSER", "some", "on", "nopass", "+@all", "~k*")
    client.ask("ACL", "SETUSER", "all", "on", "nopass", "+@all", "%R~*")
    client.ask("RPUSH", "k", "1")
    client.ask("AUTH", "some", "")
    denied = b"-ERR %b option of SORT denied due to insufficient ACL permissions.\r\n"
    assert client.ask("SORT", "k", "BY", "w*") == denied % b"BY"
    assert client.ask("SORT", "k", "GET", "#") == denied % b"GET"
    assert client.ask("SORT", "k") == bulks("1")
    client.ask("AUTH", "all", "")
    assert client.ask("SORT", "k", "GET", "#") == bulks("1")
