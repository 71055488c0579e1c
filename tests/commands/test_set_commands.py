"""Set commands on a server without a network: replies in both protocols, errors and their order, effects, events."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.errors import NOT_AN_INTEGER, OUT_OF_RANGE_POSITIVE, SYNTAX, WRONGTYPE
from tests.support.sessions import BenchClient, ServerBench


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as server:
        yield server


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    return bench.connect()


@pytest.fixture
def effects(bench: ServerBench, monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """What is replicated, as it happens."""
    commands: list[list[bytes]] = []
    bench.server.keyspace.followed = True
    monkeypatch.setattr(bench.server, "replicate", lambda unit: commands.extend(argv for _index, argv in unit))
    return commands


def error(message: bytes) -> bytes:
    return b"-%b\r\n" % message


def bulks(*texts: str, mark: bytes = b"*") -> bytes:
    return mark + b"%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(text), text.encode()) for text in texts)


def strings(reply: bytes) -> set[bytes]:
    """The bulk strings of a flat reply."""
    return set(reply.split(b"\r\n")[2::2])


def test_members(client: BenchClient) -> None:
    assert client.ask("SADD", "s", "3", "1", "2", "1") == b":3\r\n"
    assert client.ask("SADD", "s", "1") == b":0\r\n"
    assert client.ask("SMEMBERS", "s") == bulks("1", "2", "3")
    assert client.ask("SCARD", "s") == b":3\r\n"
    assert client.ask("SISMEMBER", "s", "2") == b":1\r\n"
    assert client.ask("SISMEMBER", "s", "02") == b":0\r\n"
    assert client.ask("SMISMEMBER", "s", "1", "x", "3") == b"*3\r\n:1\r\n:0\r\n:1\r\n"
    assert client.ask("SMISMEMBER", "none", "1", "x") == b"*2\r\n:0\r\n:0\r\n"
    assert client.ask("SREM", "s", "1", "x", "2", "3", "3") == b":3\r\n"
    assert client.ask("EXISTS", "s") == b":0\r\n"
    assert client.ask("SREM", "s", "1") == client.ask("SCARD", "s") == b":0\r\n"


def test_sets_in_resp3(client: BenchClient) -> None:
    client.ask("SADD", "a", "1", "2")
    client.ask("SADD", "b", "2", "3")
    client.ask("HELLO", "3")
    assert client.ask("SMEMBERS", "a") == bulks("1", "2", mark=b"~")
    assert client.ask("SINTER", "a", "b") == bulks("2", mark=b"~")
    assert client.ask("SUNION", "a", "b") == bulks("1", "2", "3", mark=b"~")
    assert client.ask("SDIFF", "a", "b") == bulks("1", mark=b"~")
    for request in ("SMEMBERS none", "SINTER a none", "SUNION none", "SDIFF none a", "SPOP none 3", "SPOP a 0"):
        assert client.ask(*request.split()) == b"~0\r\n"
    assert client.ask("SRANDMEMBER", "a", "5") == bulks("1", "2")
    assert client.ask("SRANDMEMBER", "none", "5") == b"*0\r\n"
    assert client.ask("SRANDMEMBER", "none") == client.ask("SPOP", "none") == b"_\r\n"
    assert client.ask("SPOP", "a", "5") == bulks("1", "2", mark=b"~")


def test_moving(client: BenchClient) -> None:
    client.ask("SADD", "a", "1", "x")
    assert client.ask("SMOVE", "none", "a", "1") == b":0\r\n"
    assert client.ask("SMOVE", "a", "b", "z") == b":0\r\n"
    assert client.ask("SMOVE", "a", "a", "x") == b":1\r\n"
    assert client.ask("SMOVE", "a", "b", "1") == b":1\r\n"
    assert client.ask("OBJECT", "ENCODING", "b") == b"$6\r\nintset\r\n"
    client.ask("SADD", "b", "x")
    assert client.ask("SMOVE", "a", "b", "x") == b":1\r\n"
    assert client.ask("EXISTS", "a") == b":0\r\n"
    client.ask("SET", "text", "t")
    assert client.ask("SMOVE", "none", "text", "1") == b":0\r\n"
    assert client.ask("SMOVE", "b", "text", "1") == client.ask("SMOVE", "text", "b", "1") == error(WRONGTYPE)


@pytest.mark.parametrize("members", [[str(n) for n in range(100)], [f"m{n}" for n in range(100)]])
def test_popping_says_what_was_removed(client: BenchClient, effects: list[list[bytes]], members: list[str]) -> None:
    client.ask("SADD", "s", *members)
    effects.clear()
    popped = client.ask("SPOP", "s").split(b"\r\n")[1]
    assert effects == [[b"SREM", b"s", popped]]
    left = {member.encode() for member in members} - {popped}
    for count in (5, 90):  # Taking out a few, and keeping a few.
        effects.clear()
        several = strings(client.ask("SPOP", "s", count))
        assert len(several) == count and several <= left
        assert sorted(effects) == sorted([b"SREM", b"s", member] for member in several)
        left -= several
        assert strings(client.ask("SMEMBERS", "s")) == left
    effects.clear()
    assert strings(client.ask("SPOP", "s", "1000")) == left
    assert effects == [[b"DEL", b"s"]] and client.ask("EXISTS", "s") == b":0\r\n"
    client.ask("SADD", "s", "last")
    effects.clear()
    assert client.ask("SPOP", "s") == b"$4\r\nlast\r\n"
    assert effects == [[b"SREM", b"s", b"last"]] and client.ask("EXISTS", "s") == b":0\r\n"


def test_popping_keeps_the_time_to_live(client: BenchClient) -> None:
    client.ask("SADD", "s", *range(100))
    client.ask("EXPIREAT", "s", "32503680000")
    client.ask("SPOP", "s", "95")
    assert client.ask("EXPIRETIME", "s") == b":32503680000\r\n" and client.ask("SCARD", "s") == b":5\r\n"


def test_storing(client: BenchClient, effects: list[list[bytes]]) -> None:
    client.ask("SADD", "a", "1", "2", "x")
    client.ask("SADD", "b", "2", "3")
    client.ask("SET", "target", "text")
    assert client.ask("SINTERSTORE", "target", "a", "b") == b":1\r\n"
    assert client.ask("OBJECT", "ENCODING", "target") == b"$6\r\nintset\r\n"
    assert client.ask("SUNIONSTORE", "target", "a", "b", "none") == b":4\r\n"
    assert client.ask("OBJECT", "ENCODING", "target") == b"$9\r\nhashtable\r\n"
    assert client.ask("SDIFFSTORE", "a", "a", "b") == b":2\r\n"
    assert strings(client.ask("SMEMBERS", "a")) == {b"1", b"x"}
    assert client.ask("SINTERSTORE", "a", "a", "none") == b":0\r\n"
    assert client.ask("EXISTS", "a") == b":0\r\n"
    effects.clear()
    assert client.ask("SDIFFSTORE", "a", "none") == b":0\r\n"
    assert effects == []


def test_counting_an_intersection(client: BenchClient) -> None:
    client.ask("SADD", "a", *range(100))
    client.ask("SADD", "b", *range(50, 150))
    assert client.ask("SINTERCARD", "2", "a", "b") == b":50\r\n"
    assert client.ask("SINTERCARD", "2", "a", "b", "LIMIT", "0") == b":50\r\n"
    assert client.ask("SINTERCARD", "2", "a", "b", "limit", "7") == b":7\r\n"
    assert client.ask("SINTERCARD", "2", "a", "b", "LIMIT", "7", "LIMIT", "9223372036854775807") == b":50\r\n"
    assert client.ask("SINTERCARD", "2", "a", "none") == b":0\r\n"


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        ("SADD text a", WRONGTYPE),
        ("SMEMBERS text", WRONGTYPE),
        ("SINTER none text", WRONGTYPE),
        ("SUNIONSTORE none text", WRONGTYPE),
        ("SPOP s 1 2", SYNTAX),
        ("SPOP s -1", OUT_OF_RANGE_POSITIVE),
        ("SPOP text x", OUT_OF_RANGE_POSITIVE),
        ("SPOP text 1", WRONGTYPE),
        ("SRANDMEMBER s 1 2", SYNTAX),
        ("SRANDMEMBER text x", NOT_AN_INTEGER),
        (
            "SRANDMEMBER s -9223372036854775808",
            b"ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ),
        ("SRANDMEMBER s -9223372036854775807", b"ERR value is out of range"),
        ("SINTERCARD 0 s", b"ERR numkeys should be greater than 0"),
        ("SINTERCARD x s", b"ERR numkeys should be greater than 0"),
        ("SINTERCARD 2 s", b"ERR Number of keys can't be greater than number of args"),
        ("SINTERCARD 1 s LIMIT", SYNTAX),
        ("SINTERCARD 1 s LIMIT -1", b"ERR LIMIT can't be negative"),
        ("SINTERCARD 1 s LIMIT x", b"ERR LIMIT can't be negative"),
        ("SSCAN s x", b"ERR invalid cursor"),
        ("SSCAN text 0 WHATEVER", WRONGTYPE),
        ("SSCAN s 0 WHATEVER", SYNTAX),
    ],
)
def test_refusals(client: BenchClient, request_text: str, message: bytes) -> None:
    client.ask("SADD", "s", "a")
    client.ask("SET", "text", "text")
    assert client.ask(*request_text.split()) == error(message)


def test_encodings_follow_the_live_settings(bench: ServerBench, client: BenchClient) -> None:
    client.ask("SADD", "s", *range(512))
    assert client.ask("OBJECT", "ENCODING", "s") == b"$6\r\nintset\r\n"
    client.ask("SADD", "s", "512")
    assert client.ask("OBJECT", "ENCODING", "s") == b"$9\r\nhashtable\r\n"
    bench.server.settings.set_max_intset_entries = 0
    client.ask("SADD", "other", "1")
    assert client.ask("OBJECT", "ENCODING", "other") == b"$9\r\nhashtable\r\n"


def test_every_changed_member_counts_and_is_notified(bench: ServerBench, client: BenchClient) -> None:
    keyspace = bench.server.keyspace
    events: list[tuple[str, bytes, bytes]] = []
    keyspace.notifier = lambda kind, event, key, _index: events.append((kind, event, key))
    before = keyspace.dirty
    client.ask("SADD", "a", "1", "2", "3")
    client.ask("SADD", "a", "1")
    client.ask("SMOVE", "a", "b", "1")
    client.ask("SREM", "a", "2", "x")
    client.ask("SREM", "a", "3", "3")
    client.ask("SUNIONSTORE", "c", "b")
    client.ask("SPOP", "c", "5")
    client.ask("SINTERSTORE", "b", "none")
    assert keyspace.dirty - before == 3 + 0 + 2 + 1 + 1 + 1 + 1 + 1
    assert [event for event in events if event[0] != "m"] == [
        ("s", b"sadd", b"a"),
        ("s", b"srem", b"a"),
        ("s", b"sadd", b"b"),
        ("s", b"srem", b"a"),
        ("s", b"srem", b"a"),
        ("g", b"del", b"a"),
        ("s", b"sunionstore", b"c"),
        ("s", b"spop", b"c"),
        ("g", b"del", b"c"),
        ("g", b"del", b"b"),
    ]


def test_a_walk_of_a_big_set_finds_each_member(client: BenchClient) -> None:
    members = {f"m{n}" for n in range(3000)}
    client.ask("SADD", "big", *members)
    cursor, found, steps = b"0", [], 0
    while True:
        reply = client.ask("SSCAN", "big", cursor, "COUNT", "50")
        _array, _size, cursor, rest = reply.split(b"\r\n", 3)
        found += rest.split(b"\r\n")[2::2]
        steps += 1
        if cursor == b"0":
            break
    assert len(found) == 3000 and set(found) == {member.encode() for member in members} and steps > 20
    assert client.ask("SSCAN", "none", "5") == b"*2\r\n$1\r\n0\r\n*0\r\n"
