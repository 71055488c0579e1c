"""Commands about keys of any type: SCAN's guarantee, expiry and what it replicates, databases, encodings."""

from __future__ import annotations

from collections.abc import Iterator

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sessions import BenchClient, ServerBench


@pytest.fixture(scope="module")
def bench() -> Iterator[ServerBench]:
    with ServerBench() as server:
        yield server


@pytest.fixture
def client(bench: ServerBench) -> Iterator[BenchClient]:
    asked = bench.connect()
    asked.ask("FLUSHALL")
    yield asked
    asked.close()
    bench.run()


def _decode(raw: bytes) -> list[object]:
    reader = hiredis.Reader()
    reader.feed(raw)
    value = reader.gets()
    assert isinstance(value, list), value
    return value


# SCAN -----------------------------------------------------------------------------------------------------------

_NAMES = st.integers(0, 60).map(lambda number: b"key:%d" % number)
_CHANGES = st.lists(st.tuples(st.sampled_from(["SET", "DEL", "EXPIRED"]), _NAMES), max_size=12)


@given(
    at_first=st.sets(_NAMES, max_size=60),
    between=st.lists(_CHANGES, max_size=30),
    count=st.integers(1, 30),
    match=st.booleans(),
)
def test_what_is_there_throughout_is_returned_and_what_never_was_is_not(
    bench: ServerBench, at_first: set[bytes], between: list[list[tuple[str, bytes]]], count: int, match: bool
) -> None:
    """Whatever is added and removed between the calls."""
    client = bench.connect()
    client.ask("FLUSHALL")
    database = client.session.db
    for name in at_first:
        client.ask("SET", name, "v")
    throughout, ever = set(at_first), set(at_first)
    options = ("COUNT", count, "MATCH", "key:*") if match else ("COUNT", count)
    changes = iter(between)
    cursor, found, calls = b"0", set[bytes](), 0
    while True:
        answer = _decode(client.ask("SCAN", cursor, *options))
        cursor = answer[0]  # type: ignore[assignment]
        found.update(answer[1])  # type: ignore[call-overload]
        calls += 1
        assert calls <= 200, "an iteration comes to an end"
        if cursor == b"0":
            break
        for change, name in next(changes, []):
            if change == "SET":
                client.ask("SET", name, "v")
                ever.add(name)
            else:
                throughout.discard(name)
                if change == "DEL":
                    client.ask("DEL", name)
                elif client.ask("EXISTS", name) == b":1\r\n":
                    database.expires[name] = 1
    assert throughout <= found <= ever
    client.close()
    bench.run()


@pytest.mark.parametrize(
    ("cursor", "is_valid"),
    [("0", True), ("16384", True), ("18446744073709551615", True), ("18446744073709551616", False), ("-1", True),
     ("+0", True), ("", True), ("x", False), ("1x", False), (" 1", False), ("-", False), ("0" * 30, True)],
)  # fmt: skip
def test_cursors_are_read_as_strtoul_reads_them(client: BenchClient, cursor: str, is_valid: bool) -> None:
    answer = client.ask("SCAN", cursor)
    assert answer == (b"*2\r\n$1\r\n0\r\n*0\r\n" if is_valid else b"-ERR invalid cursor\r\n")


def test_a_cursor_that_nobody_was_given_goes_on_from_its_slot(client: BenchClient) -> None:
    client.ask("SET", "k", "v")  # In slot 7629, whose dict slots 7616 to 7647 share.
    assert client.ask("SCAN", 16384 + 7629) == client.ask("SCAN", 7629)
    assert client.ask("SCAN", 16384 + 7648) == b"*2\r\n$1\r\n0\r\n*0\r\n"


# Expiry ---------------------------------------------------------------------------------------------------------


def _effects(bench: ServerBench, client: BenchClient, *request: str | int) -> tuple[bytes, list[list[bytes]]]:
    units: list[list[tuple[int, list[bytes]]]] = []
    server = bench.server
    original, original_requests = server.replicate, server.replicate_requests
    server.replicate = server.replicate_requests = units.append  # type: ignore[method-assign, assignment]
    server.keyspace.followed = True
    try:
        answer = client.ask(*request)
    finally:
        server.replicate, server.replicate_requests = original, original_requests  # type: ignore[method-assign]
        server.keyspace.followed = False
    return answer, [argv for unit in units for _database, argv in unit]


FAR_MS = 32503680000123


@pytest.mark.parametrize(
    ("request_words", "effects"),
    [
        (("EXPIREAT", "k", 32503680000), [[b"PEXPIREAT", b"k", b"32503680000000"]]),
        (("pexpireat", "k", FAR_MS, "LT"), [[b"pexpireat", b"k", b"%d" % FAR_MS, b"LT"]]),
        (("PEXPIREAT", "k", 1), [[b"DEL", b"k"]]),
        (("EXPIRE", "k", -1), [[b"DEL", b"k"]]),
        (("EXPIRE", "k", 10, "XX"), []),
        (("SET", "k", "w", "PXAT", FAR_MS), [[b"SET", b"k", b"w", b"PXAT", b"%d" % FAR_MS]]),
        (("SET", "k", "w", "get", "XX", "GET"), [[b"SET", b"k", b"w", b"XX"]]),
        (("SET", "k", "w", "NX"), []),
        (("GETEX", "k"), []),
        (("GETEX", "k", "PERSIST"), []),
        (("GETEX", "k", "PXAT", FAR_MS), [[b"PEXPIREAT", b"k", b"%d" % FAR_MS]]),
        (("GETEX", "k", "PXAT", 1), [[b"DEL", b"k"]]),
        (("GETDEL", "k"), [[b"DEL", b"k"]]),
        (("GETSET", "k", "w"), [[b"SET", b"k", b"w"]]),
        (("INCRBYFLOAT", "n", "0.5"), [[b"SET", b"n", b"1.5", b"KEEPTTL"]]),
        (("GET", "k"), []),
        (("DEL", "missing"), []),
    ],
    ids=str,
)
def test_replicas_are_told_effects(
    bench: ServerBench, client: BenchClient, request_words: tuple[str | int, ...], effects: list[list[bytes]]
) -> None:
    client.pipeline(("SET", "k", "v"), ("SET", "n", "1"))
    answer, told = _effects(bench, client, *request_words)
    assert not answer.startswith(b"-") and told == effects


def test_keys_that_scan_finds_expired_are_no_transaction(bench: ServerBench, client: BenchClient) -> None:
    units: list[object] = []
    for number in range(3):
        client.ask("SET", number, "v", "EX", 100)
    for key in client.session.db.expires:
        client.session.db.expires[key] = 1
    original = bench.server.replicate
    bench.server.replicate = units.append  # type: ignore[method-assign, assignment]
    bench.server.keyspace.followed = True
    client.ask("SCAN", 0, "COUNT", 100)
    bench.server.keyspace.followed = False
    bench.server.replicate = original  # type: ignore[method-assign]
    assert sorted(units) == [[(0, [b"DEL", b"%d" % number])] for number in range(3)]  # type: ignore[type-var]


# Encodings, databases -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requests", "encoding"),
    [
        ([("SET", "k", "12")], b"int"),
        ([("SET", "k", "012")], b"embstr"),
        ([("SET", "k", "x" * 44)], b"embstr"),
        ([("SET", "k", "x" * 45)], b"raw"),
        ([("SET", "k", "9223372036854775808")], b"embstr"),
        ([("INCR", "k")], b"int"),
        ([("INCRBYFLOAT", "k", "3.0e3")], b"embstr"),
        ([("INCRBYFLOAT", "k", "3"), ("INCR", "k")], b"int"),
        ([("INCRBYFLOAT", "k", "3"), ("COPY", "k", "other"), ("RENAME", "other", "k")], b"embstr"),
        ([("APPEND", "k", "12")], b"int"),
        ([("APPEND", "k", "1"), ("APPEND", "k", "2")], b"raw"),
        ([("SETRANGE", "k", "0", "12")], b"raw"),
    ],
    ids=str,
)
def test_encodings(client: BenchClient, requests: list[tuple[str, ...]], encoding: bytes) -> None:
    client.pipeline(*requests)
    assert client.ask("OBJECT", "ENCODING", "k") == b"$%d\r\n%b\r\n" % (len(encoding), encoding)


@pytest.mark.parametrize(
    ("request_words", "refusal"),
    [
        (("MOVE", "k", "0"), b"ERR source and destination objects are the same"),
        (("MOVE", "k", "16"), b"ERR DB index is out of range"),
        (("MOVE", "k", "99999999999"),
         b"ERR value is out of range, value must between -2147483648 and 2147483647"),
        (("COPY", "k", "k"), b"ERR source and destination objects are the same"),
        (("COPY", "k", "l", "DB", "x"), b"ERR value is not an integer or out of range"),
        (("SWAPDB", "99999999999", "0"), b"ERR invalid first DB index"),
        (("SWAPDB", "0", "16"), b"ERR DB index is out of range"),
        (("RENAME", "missing", "k"), b"ERR no such key"),
        (("EXPIRE", "k", "1", "NX", "XX"), b"ERR NX and XX, GT or LT options at the same time are not compatible"),
        (("EXPIRE", "k", "x", "??\0?"), b"ERR Unsupported option ??"),
        (("EXPIRE", "k", "9223372036854775807"), b"ERR invalid expire time in 'expire' command"),
        (("FLUSHALL", "NOW"), b"ERR syntax error"),
    ],
    ids=str,
)  # fmt: skip
def test_refusals(client: BenchClient, request_words: tuple[str, ...], refusal: bytes) -> None:
    client.ask("SET", "k", "v")
    assert client.ask(*request_words) == b"-" + refusal + b"\r\n"


def test_an_empty_database_is_flushed_without_a_change(bench: ServerBench, client: BenchClient) -> None:
    """The save points must not fire for it; replicas hear of it all the same."""
    dirty = bench.server.keyspace.dirty
    answer, told = _effects(bench, client, "FLUSHALL")
    assert answer == b"+OK\r\n" and told == [[b"FLUSHALL"]] and bench.server.keyspace.dirty == dirty
