"""String commands: options, their order of errors, limits, copies. The long tail: interop/test_differential.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sessions import BenchClient, ServerBench

NULL = b"$-1\r\n"


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


@pytest.mark.parametrize(
    ("options", "answer", "left"),
    [
        ("NX", b"$-1\r\n", "old"),
        ("XX", b"+OK\r\n", "new"),
        ("GET", b"$3\r\nold\r\n", "new"),
        ("NX GET", b"$3\r\nold\r\n", "old"),
        ("XX GET KEEPTTL", b"$3\r\nold\r\n", "new"),
        ("NX XX", b"-ERR syntax error\r\n", "old"),
        ("NX NX", b"$-1\r\n", "old"),
        ("EX", b"-ERR syntax error\r\n", "old"),
        ("EX 1 PX 1", b"-ERR syntax error\r\n", "old"),
        ("EX 1 KEEPTTL", b"-ERR syntax error\r\n", "old"),
        ("EX nope EX 100", b"+OK\r\n", "new"),
        ("EX 100 EX nope", b"-ERR value is not an integer or out of range\r\n", "old"),
        ("EX 0", b"-ERR invalid expire time in 'set' command\r\n", "old"),
        ("EX 9223372036854775807", b"-ERR invalid expire time in 'set' command\r\n", "old"),
        ("PXAT -1", b"-ERR invalid expire time in 'set' command\r\n", "old"),
        ("NX EX nope", b"-ERR value is not an integer or out of range\r\n", "old"),
        ("PERSIST", b"-ERR syntax error\r\n", "old"),
    ],
)
def test_set_with_options(client: BenchClient, options: str, answer: bytes, left: str) -> None:
    client.ask("SET", "k", "old")
    assert client.ask("SET", "k", "new", *options.split()) == answer
    assert client.ask("GET", "k") == b"$3\r\n%b\r\n" % left.encode()


def test_what_keeps_and_what_drops_a_time_to_live(client: BenchClient) -> None:
    def has_ttl_after(*request: str) -> bool:
        client.ask("SET", "k", "1", "EX", "100")
        assert not client.ask(*request).startswith(b"-")
        return client.ask("TTL", "k") != b":-1\r\n"

    for keeping in (("INCR", "k"), ("INCRBYFLOAT", "k", "1"), ("APPEND", "k", "1"), ("SETRANGE", "k", "0", "2"),
                    ("SET", "k", "2", "KEEPTTL"), ("GETEX", "k"), ("SET", "k", "2", "NX")):  # fmt: skip
        assert has_ttl_after(*keeping), keeping
    for dropping in (("SET", "k", "2"), ("GETSET", "k", "2"), ("MSET", "k", "2"), ("GETEX", "k", "PERSIST")):
        assert not has_ttl_after(*dropping), dropping


@pytest.mark.parametrize(
    ("stored", "request_words", "answer"),
    [
        ("9223372036854775807", "INCR k", b"-ERR increment or decrement would overflow\r\n"),
        ("-9223372036854775808", "DECR k", b"-ERR increment or decrement would overflow\r\n"),
        ("0", "DECRBY k -9223372036854775808", b"-ERR decrement would overflow\r\n"),
        ("-1", "INCRBY k -9223372036854775807", b":-9223372036854775808\r\n"),
        (" 1", "INCR k", b"-ERR value is not an integer or out of range\r\n"),
        ("1", "INCRBY k 01", b"-ERR value is not an integer or out of range\r\n"),
        ("1", "INCRBYFLOAT k inf", b"-ERR increment would produce NaN or Infinity\r\n"),
        ("inf", "INCRBYFLOAT k -inf", b"-ERR increment would produce NaN or Infinity\r\n"),
        ("x", "INCRBYFLOAT k 1", b"-ERR value is not a valid float\r\n"),
        ("1", "INCRBYFLOAT k 0x10", b"$2\r\n17\r\n"),
        ("hello", "GETRANGE k -3 -2", b"$2\r\nll\r\n"),
        ("hello", "GETRANGE k -2 -3", b"$0\r\n\r\n"),
        ("hello", "GETRANGE k -100 100", b"$5\r\nhello\r\n"),
        ("hello", "GETRANGE k 5 9", b"$0\r\n\r\n"),
        ("hello", "SETRANGE k -1 x", b"-ERR offset is out of range\r\n"),
        ("hello", "SETRANGE k 7 x", b":8\r\n"),
        ("hello", "SETRANGE k 536870912 x",
         b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"),
    ],
)  # fmt: skip
def test_numbers_and_ranges(client: BenchClient, stored: str, request_words: str, answer: bytes) -> None:
    client.ask("SET", "k", stored)
    assert client.ask(*request_words.split()) == answer


def test_an_empty_patch_creates_nothing(client: BenchClient) -> None:
    assert client.ask("SETRANGE", "k", "10", "") == b":0\r\n"
    assert client.ask("EXISTS", "k") == b":0\r\n"


def test_a_copy_of_a_string_grown_in_place_is_its_own(client: BenchClient) -> None:
    client.pipeline(("APPEND", "k", "a"), ("APPEND", "k", "b"), ("COPY", "k", "copy"), ("APPEND", "k", "c"))
    assert client.ask("MGET", "k", "copy") == b"*2\r\n$3\r\nabc\r\n$2\r\nab\r\n"


def test_a_reply_is_not_changed_by_what_comes_after_it(client: BenchClient) -> None:
    """In one read: the first reply must not be a view of what APPEND then changes."""
    client.pipeline(("APPEND", "k", "a" * 70_000), ("APPEND", "k", "b"))
    answer = client.pipeline(("GET", "k"), ("SETRANGE", "k", "0", "XXXX"), ("GET", "k"))
    assert answer.startswith(b"$70001\r\naaaa") and b"\r\n:70001\r\n$70001\r\nXXXXaaa" in answer


def test_msetnx_is_all_or_nothing(client: BenchClient) -> None:
    client.ask("SET", "b", "old")
    assert client.ask("MSETNX", "a", "1", "b", "2") == b":0\r\n"
    assert client.ask("MGET", "a", "b") == b"*2\r\n$-1\r\n$3\r\nold\r\n"
    assert client.ask("MSETNX", "c", "1", "c", "2") == b":1\r\n"
    assert client.ask("GET", "c") == b"$1\r\n2\r\n"
    assert client.ask("MSET", "a", "1", "b") == b"-ERR wrong number of arguments for 'mset' command\r\n"
