"""BITCOUNT, BITPOS, BITOP and BITFIELD on a server without a network: replies, errors and their order, effects."""

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


def error(message: bytes) -> bytes:
    return b"-%b\r\n" % message


def test_bitcount(client: BenchClient) -> None:
    client.ask("SET", "s", "foobar")
    assert client.ask("BITCOUNT", "s") == b":26\r\n"
    assert client.ask("BITCOUNT", "s", "0", "0") == b":4\r\n"
    assert client.ask("BITCOUNT", "s", "-2", "-1") == b":7\r\n"
    assert client.ask("BITCOUNT", "s", "5", "30", "BIT") == b":17\r\n"
    assert client.ask("BITCOUNT", "s", "-1", "-2") == b":0\r\n"
    assert client.ask("BITCOUNT", "s", "0") == error(SYNTAX)
    assert client.ask("BITCOUNT", "s", "0", "1", "BITS") == error(SYNTAX)
    assert client.ask("BITCOUNT", "s", "0", "x", "BITS") == error(NOT_AN_INTEGER)
    # What does not exist is not looked at more closely.
    assert client.ask("BITCOUNT", "none", "0") == b":0\r\n"
    client.ask("SET", "number", "7")
    client.ask("INCR", "number")
    assert client.ask("BITCOUNT", "number") == b":3\r\n"


def test_bitpos(client: BenchClient) -> None:
    client.ask("SET", "s", b"\xff\xf0\x00")
    assert client.ask("BITPOS", "s", "0") == b":12\r\n"
    assert client.ask("BITPOS", "s", "1", "2") == b":-1\r\n"
    assert client.ask("BITPOS", "s", "1", "-2", "-1") == b":8\r\n"
    assert client.ask("BITPOS", "s", "1", "7", "15", "BIT") == b":7\r\n"
    assert client.ask("BITPOS", "s", "0", "2", "9", "bit") == b":-1\r\n"
    client.ask("SET", "ones", b"\xff\xff")
    assert client.ask("BITPOS", "ones", "0") == client.ask("BITPOS", "ones", "0", "1") == b":16\r\n"
    assert client.ask("BITPOS", "ones", "0", "0", "-1") == b":-1\r\n"
    assert client.ask("BITPOS", "none", "0") == b":0\r\n"
    assert client.ask("BITPOS", "none", "1") == b":-1\r\n"
    assert client.ask("BITPOS", "s", "2") == b"-ERR The bit argument must be 1 or 0.\r\n"
    assert client.ask("BITPOS", "s", "0", "0", "0", "BIT", "x") == error(SYNTAX)


def test_bitop(client: BenchClient) -> None:
    client.ask("SET", "a", b"\x0f\xff")
    client.ask("SET", "b", b"\x3c")
    for operation, result in (("AND", b"\x0c\x00"), ("OR", b"\x3f\xff"), ("xor", b"\x33\xff")):
        assert client.ask("BITOP", operation, "to", "a", "b") == b":2\r\n"
        assert client.ask("GET", "to") == b"$2\r\n%b\r\n" % result
    assert client.ask("BITOP", "NOT", "to", "a") == b":2\r\n"
    assert client.ask("GET", "to") == b"$2\r\n\xf0\x00\r\n"
    assert client.ask("OBJECT", "ENCODING", "to") == b"$3\r\nraw\r\n"
    assert client.ask("BITOP", "AND", "to", "none", "other") == b":0\r\n"
    assert client.ask("EXISTS", "to") == b":0\r\n"
    assert client.ask("BITOP", "NAND", "to", "a") == error(SYNTAX)
    assert client.ask("BITOP", "NOT", "to", "a", "b") == b"-ERR BITOP NOT must be called with a single source key.\r\n"
    client.ask("RPUSH", "list", "x")
    assert client.ask("BITOP", "AND", "to", "a", "list") == error(WRONGTYPE)


def test_bitfield(client: BenchClient) -> None:
    assert client.ask("BITFIELD", "f", "SET", "i8", "0", "-100", "GET", "u8", "0") == b"*2\r\n:0\r\n:156\r\n"
    assert client.ask("BITFIELD", "f", "INCRBY", "i8", "0", "-100") == b"*1\r\n:56\r\n"
    assert client.ask("BITFIELD", "f", "OVERFLOW", "SAT", "INCRBY", "i8", "#0", "100") == b"*1\r\n:127\r\n"
    assert client.ask("BITFIELD", "f", "OVERFLOW", "FAIL", "INCRBY", "i8", "0", "1") == b"*1\r\n$-1\r\n"
    assert client.ask("BITFIELD", "f", "SET", "u2", "#3", "3", "GET", "i16", "0") == b"*2\r\n:3\r\n:32512\r\n"
    # A negative number does not fit an unsigned field: it counts as a huge one.
    assert client.ask("BITFIELD", "u", "OVERFLOW", "SAT", "SET", "u8", "0", "-1", "GET", "u8", "0") == (
        b"*2\r\n:0\r\n:255\r\n"
    )
    assert client.ask("BITFIELD", "f") == b"*0\r\n"
    assert client.ask("BITFIELD_RO", "f", "GET", "u8", "0") == b"*1\r\n:127\r\n"
    assert client.ask("BITFIELD_RO", "f", "SET", "u8", "0", "1") == (
        b"-ERR BITFIELD_RO only supports the GET subcommand\r\n"
    )


def test_bitfield_is_checked_as_a_whole_before_anything_changes(client: BenchClient) -> None:
    bad_type = b"-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.\r\n"
    bad_offset = b"-ERR bit offset is not an integer or out of range\r\n"
    first = ("BITFIELD", "f", "SET", "u8", "0", "1")
    assert client.ask(*first, "GET", "u64", "0") == bad_type
    assert client.ask(*first, "GET", "u8", "-1") == client.ask(*first, "GET", "u8", "#x") == bad_offset
    assert client.ask(*first, "GET", "i64", "#9223372036854775807") == bad_offset
    assert client.ask(*first, "OVERFLOW", "OTHER") == b"-ERR Invalid OVERFLOW type specified\r\n"
    assert client.ask(*first, "INCRBY", "u8", "0") == error(SYNTAX)
    assert client.ask(*first, "INCRBY", "u8", "0", "x") == error(NOT_AN_INTEGER)
    assert client.ask("EXISTS", "f") == b":0\r\n"


def test_a_failing_field_makes_room_but_is_no_change(bench: ServerBench, client: BenchClient) -> None:
    before = bench.server.keyspace.dirty
    client.ask("BITFIELD", "f", "OVERFLOW", "FAIL", "INCRBY", "u8", "8", "-1")
    assert bench.server.keyspace.dirty == before
    assert client.ask("STRLEN", "f") == b":2\r\n"
