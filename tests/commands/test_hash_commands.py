"""Hash commands on a server without a network: replies in both protocols, errors and their order, effects, events."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.errors import NOT_A_FLOAT, NOT_AN_INTEGER, OVERFLOW, SYNTAX, WRONGTYPE
from tests.support.sessions import BenchClient, ServerBench


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench(enable_debug_command="yes") as server:
        yield server


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    return bench.connect()


def error(message: bytes) -> bytes:
    return b"-%b\r\n" % message


@pytest.fixture
def effects(bench: ServerBench, monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """What is replicated, as it happens."""
    commands: list[list[bytes]] = []
    bench.server.keyspace.followed = True
    monkeypatch.setattr(bench.server, "replicate", lambda unit: commands.extend(argv for _index, argv in unit))
    return commands


def test_setting_and_reading(client: BenchClient) -> None:
    assert client.ask("HSET", "h", "a", "1", "b", "2") == b":2\r\n"
    assert client.ask("HSET", "h", "a", "3", "c", "4") == b":1\r\n"
    assert client.ask("HMSET", "h", "c", "5") == b"+OK\r\n"
    assert client.ask("HSETNX", "h", "a", "6") == b":0\r\n"
    assert client.ask("HSETNX", "h", "d", "") == b":1\r\n"
    assert client.ask("HGET", "h", "a") == b"$1\r\n3\r\n"
    assert client.ask("HGET", "h", "d") == b"$0\r\n\r\n"
    assert client.ask("HGET", "h", "z") == b"$-1\r\n"
    assert client.ask("HMGET", "h", "c", "z") == b"*2\r\n$1\r\n5\r\n$-1\r\n"
    assert client.ask("HKEYS", "h") == b"*4\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n"
    assert client.ask("HVALS", "h") == b"*4\r\n$1\r\n3\r\n$1\r\n2\r\n$1\r\n5\r\n$0\r\n\r\n"
    assert client.ask("HLEN", "h") == b":4\r\n"
    assert client.ask("HEXISTS", "h", "d") == b":1\r\n"
    assert client.ask("HEXISTS", "h", "z") == b":0\r\n"
    assert client.ask("HSTRLEN", "h", "a") == b":1\r\n"
    assert client.ask("HSTRLEN", "h", "z") == b":0\r\n"


def test_maps_and_nested_arrays_in_resp3(client: BenchClient) -> None:
    client.ask("HSET", "h", "a", "1")
    assert client.ask("HGETALL", "h") == b"*2\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert client.ask("HGETALL", "none") == b"*0\r\n"
    assert client.ask("HRANDFIELD", "h", "-2", "WITHVALUES") == b"*4\r\n" + 2 * b"$1\r\na\r\n$1\r\n1\r\n"
    client.ask("HELLO", "3")
    assert client.ask("HGETALL", "h") == b"%1\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert client.ask("HGETALL", "none") == b"%0\r\n"
    assert client.ask("HGET", "none", "a") == client.ask("HRANDFIELD", "none") == b"_\r\n"
    assert client.ask("HKEYS", "none") == client.ask("HRANDFIELD", "none", "5") == b"*0\r\n"
    assert client.ask("HRANDFIELD", "h", "-2", "WITHVALUES") == b"*2\r\n" + 2 * b"*2\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert client.ask("HRANDFIELD", "h", "3") == b"*1\r\n$1\r\na\r\n"
    assert client.ask("HSCAN", "h", "0") == b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n"


def test_deleting_the_last_field_deletes_the_key(client: BenchClient) -> None:
    client.ask("HSET", "h", "a", "1", "b", "2")
    assert client.ask("HDEL", "h", "z") == b":0\r\n"
    assert client.ask("HDEL", "h", "a", "a", "b", "c") == b":2\r\n"
    assert client.ask("EXISTS", "h") == b":0\r\n"
    assert client.ask("HDEL", "h", "a") == b":0\r\n"


def test_integers(client: BenchClient) -> None:
    assert client.ask("HINCRBY", "h", "n", "5") == b":5\r\n"
    assert client.ask("HINCRBY", "h", "n", "-7") == b":-2\r\n"
    assert client.ask("HINCRBY", "h", "n", "1.5") == error(NOT_AN_INTEGER)
    client.ask("HSET", "h", "text", " 1", "max", "9223372036854775807")
    assert client.ask("HINCRBY", "h", "text", "1") == error(b"ERR hash value is not an integer")
    assert client.ask("HINCRBY", "h", "max", "1") == error(OVERFLOW)
    client.ask("SET", "s", "1")
    assert client.ask("HINCRBY", "s", "n", "x") == error(NOT_AN_INTEGER)
    assert client.ask("HINCRBY", "s", "n", "1") == error(WRONGTYPE)


def test_floats(client: BenchClient, effects: list[list[bytes]]) -> None:
    assert client.ask("HINCRBYFLOAT", "h", "n", "0.1") == b"$3\r\n0.1\r\n"
    assert client.ask("HINCRBYFLOAT", "h", "n", "0.2") == b"$3\r\n0.3\r\n"
    assert effects == [[b"HSET", b"h", b"n", b"0.1"], [b"HSET", b"h", b"n", b"0.3"]]
    assert client.ask("HINCRBYFLOAT", "h", "n", "x") == error(NOT_A_FLOAT)
    assert client.ask("HINCRBYFLOAT", "h", "n", "nan") == error(NOT_A_FLOAT)
    assert client.ask("HINCRBYFLOAT", "h", "n", "-inf") == error(b"ERR value is NaN or Infinity")
    client.ask("HSET", "h", "text", "x", "infinite", "inf")
    assert client.ask("HINCRBYFLOAT", "h", "text", "1") == error(b"ERR hash value is not a float")
    assert client.ask("HINCRBYFLOAT", "h", "infinite", "1") == error(b"ERR increment would produce NaN or Infinity")


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        ("HSET h a", b"ERR wrong number of arguments for 'hset' command"),
        ("HSET h a 1 b", b"ERR wrong number of arguments for 'hset' command"),
        ("hmset h a 1 b", b"ERR wrong number of arguments for 'hmset' command"),
        ("HSET s a 1", WRONGTYPE),
        ("HGETALL s", WRONGTYPE),
        ("HDEL s a", WRONGTYPE),
        ("HSCAN s 0 WHATEVER", WRONGTYPE),
        ("HSCAN s x", b"ERR invalid cursor"),
        ("HSCAN h 0 COUNT 0", SYNTAX),
        ("HSCAN h 0 COUNT x", NOT_AN_INTEGER),
        ("HSCAN h 0 MATCH", SYNTAX),
        ("HSCAN h 0 TYPE hash", SYNTAX),
        ("HRANDFIELD h x", NOT_AN_INTEGER),
        ("HRANDFIELD h 1 WITHSCORES", SYNTAX),
        ("HRANDFIELD h 1 WITHVALUES x", SYNTAX),
        ("HRANDFIELD h -9223372036854770000 WITHVALUES", b"ERR value is out of range"),
        (
            "HRANDFIELD h -9223372036854775808",
            b"ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ),
        ("HRANDFIELD h -9223372036854775807", b"ERR value is out of range"),
    ],
)
def test_refusals(client: BenchClient, request_text: str, message: bytes) -> None:
    client.ask("HSET", "h", "a", "1")
    client.ask("SET", "s", "text")
    assert client.ask(*request_text.split()) == error(message)


def test_encodings_follow_the_live_settings(bench: ServerBench, client: BenchClient) -> None:
    client.ask("HSET", "h", *[word for number in range(512) for word in (f"f{number}", "x")])
    assert client.ask("OBJECT", "ENCODING", "h") == b"$8\r\nlistpack\r\n"
    bench.server.settings.hash_max_listpack_entries = 511
    assert client.ask("OBJECT", "ENCODING", "h") == b"$8\r\nlistpack\r\n"
    client.ask("HSET", "h", "f0", "y")
    assert client.ask("OBJECT", "ENCODING", "h") == b"$9\r\nhashtable\r\n"
    client.ask("HSET", "long", "f", "x" * 64)
    assert client.ask("OBJECT", "ENCODING", "long") == b"$8\r\nlistpack\r\n"
    client.ask("HSET", "long", "f", "x" * 65)
    client.ask("HSET", "long", "f", "x")
    assert client.ask("OBJECT", "ENCODING", "long") == b"$9\r\nhashtable\r\n"


def test_every_changed_field_counts_and_is_notified(
    bench: ServerBench, client: BenchClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyspace = bench.server.keyspace
    events: list[tuple[str, bytes]] = []
    keyspace.notifier = lambda kind, event, _key, _index: events.append((kind, event))
    before = keyspace.dirty
    client.ask("HSET", "h", "a", "1", "b", "2")
    client.ask("HMSET", "h", "a", "1")
    client.ask("HINCRBY", "h", "a", "1")
    client.ask("HINCRBYFLOAT", "h", "a", "1")
    client.ask("HSETNX", "h", "c", "1")
    client.ask("HDEL", "h", "a", "b", "z")
    client.ask("HDEL", "h", "c")
    assert keyspace.dirty - before == 2 + 1 + 1 + 1 + 1 + 2 + 1
    names = [b"hset", b"hset", b"hincrby", b"hincrbyfloat", b"hset", b"hdel", b"hdel"]
    assert events == [("h", name) for name in names] + [("g", b"del")]


def test_a_walk_of_a_big_hash_finds_each_field_and_filters_by_name(client: BenchClient) -> None:
    for first in range(0, 3000, 100):
        client.ask("HSET", "big", *[word for n in range(first, first + 100) for word in (f"f{n}", f"v{n}")])
    for options, expected in ((("COUNT", "50"), 3000), (("MATCH", "f1??"), 100)):
        cursor, found, steps = b"0", [], 0
        while True:
            reply = client.ask("HSCAN", "big", cursor, *options)
            _array, _size, cursor, rest = reply.split(b"\r\n", 3)
            words = rest.split(b"\r\n")[2::2]
            found += list(zip(words[::2], words[1::2], strict=True))
            steps += 1
            if cursor == b"0":
                break
        assert len(found) == len(set(found)) == expected and steps > 10
        assert all(field[1:] == text[1:] for field, text in found)


def test_digest_is_the_same_in_either_encoding(client: BenchClient) -> None:
    client.ask("HSET", "h", "a", "1", "b", "2")
    compact = client.ask("DEBUG", "DIGEST-VALUE", "h")
    client.ask("HSET", "h", "c", "x" * 100)
    client.ask("HDEL", "h", "c")
    assert client.ask("OBJECT", "ENCODING", "h") == b"$9\r\nhashtable\r\n"
    assert client.ask("DEBUG", "DIGEST-VALUE", "h") == compact
