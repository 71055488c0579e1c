"""HyperLogLog commands on a server without a network: replies, errors, what replicas are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.errors import WRONGTYPE
from tests.support.sessions import BenchClient, ServerBench

NOT_ONE = b"-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n"
CORRUPTED = b"-INVALIDOBJ Corrupted HLL object detected\r\n"


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
    for hook in ("replicate", "replicate_requests"):
        monkeypatch.setattr(bench.server, hook, lambda unit: commands.extend(argv for _index, argv in unit))
    return commands


def test_adding_counting_and_merging(client: BenchClient) -> None:
    assert client.ask("PFCOUNT", "h") == b":0\r\n"
    assert client.ask("PFADD", "h") == b":1\r\n"
    assert client.ask("PFADD", "h") == b":0\r\n"
    assert client.ask("PFADD", "h", "a", "b", "a") == b":1\r\n"
    assert client.ask("PFADD", "h", "a", "b") == b":0\r\n"
    assert client.ask("PFCOUNT", "h") == client.ask("PFCOUNT", "h") == b":2\r\n"
    client.ask("PFADD", "other", "b", "c")
    assert client.ask("PFCOUNT", "h", "other", "none") == b":3\r\n"
    assert client.ask("PFMERGE", "all", "h", "none", "other") == b"+OK\r\n"
    assert client.ask("PFCOUNT", "all") == b":3\r\n"
    assert client.ask("PFMERGE", "h", "other") == b"+OK\r\n"
    assert client.ask("PFCOUNT", "h") == b":3\r\n"
    assert client.ask("TYPE", "h") == b"+string\r\n"
    assert client.ask("OBJECT", "ENCODING", "h") == b"$3\r\nraw\r\n"
    assert client.ask("PFSELFTEST") == b"+OK\r\n"


def test_a_dense_source_makes_the_target_dense(client: BenchClient) -> None:
    client.ask("PFADD", "a", "1")
    client.ask("PFADD", "b", "2")
    assert client.ask("PFDEBUG", "TODENSE", "a") == b":1\r\n"
    assert client.ask("PFDEBUG", "todense", "a") == b":0\r\n"
    client.ask("PFMERGE", "b", "a")
    assert client.ask("PFDEBUG", "ENCODING", "b") == b"+dense\r\n"
    assert client.ask("PFCOUNT", "b") == b":2\r\n"


def test_refusals(client: BenchClient) -> None:
    client.ask("RPUSH", "list", "x")
    client.ask("SET", "text", "HYLL")
    client.ask("SET", "number", "7")
    for request in (("PFADD", "{}", "x"), ("PFCOUNT", "{}"), ("PFCOUNT", "none", "{}"), ("PFMERGE", "to", "{}"),
                    ("PFDEBUG", "DECODE", "{}")):  # fmt: skip
        assert client.ask(*(word.format("list") for word in request)) == b"-%b\r\n" % WRONGTYPE
        assert client.ask(*(word.format("text") for word in request)) == NOT_ONE
        assert client.ask(*(word.format("number") for word in request)) == NOT_ONE
    assert client.ask("EXISTS", "to") == b":0\r\n"
    client.ask("PFADD", "h", "a")
    client.ask("APPEND", "h", "hello")
    for words in (("PFCOUNT", "h"), ("PFCOUNT", "h", "h"), ("PFMERGE", "to", "h"), ("PFDEBUG", "GETREG", "h")):
        assert client.ask(*words) == CORRUPTED


@pytest.mark.parametrize("extra", [b"\x80", b"\x00", b"\x40\x00"])
def test_a_run_beyond_the_last_register_is_refused(client: BenchClient, extra: bytes) -> None:
    for words in (
        ("PFCOUNT", "h"), ("PFCOUNT", "h", "h"), ("PFMERGE", "to", "h"), ("PFMERGE", "h"), ("PFDEBUG", "TODENSE", "h"),
        ("PFDEBUG", "GETREG", "h"),
    ):  # fmt: skip
        client.ask("DEL", "h")
        client.ask("PFADD", "h")
        client.ask("APPEND", "h", extra)
        assert client.ask(*words) == CORRUPTED


def test_debugging(client: BenchClient) -> None:
    assert client.ask("PFDEBUG", "OTHER", "h") == b"-ERR The specified key does not exist\r\n"
    client.ask("PFADD", "h", "a", "b", "c")
    runs = b"Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603"
    assert client.ask("PFDEBUG", "DECODE", "h") == b"$%d\r\n%b\r\n" % (len(runs), runs)
    assert client.ask("PFDEBUG", "OTHER", "h") == b"-ERR Unknown PFDEBUG subcommand 'OTHER'\r\n"
    registers = client.ask("PFDEBUG", "GETREG", "h").split(b"\r\n")
    assert registers[0] == b"*16384"
    assert registers[1 + 8436] == registers[1 + 8436 + 1 + 4274 + 1 + 3068] == b":1"
    assert client.ask("PFDEBUG", "DECODE", "h") == b"-ERR HLL encoding is not sparse\r\n"


def test_a_cache_that_is_filled_is_replicated(client: BenchClient, effects: list[list[bytes]]) -> None:
    client.ask("PFADD", "h", "a")
    client.ask("PFADD", "h", "a")
    client.ask("PFCOUNT", "h")
    client.ask("PFCOUNT", "h")
    client.ask("PFCOUNT", "h", "h")
    assert effects == [[b"PFADD", b"h", b"a"], [b"PFCOUNT", b"h"]]


def test_forged_caches_and_registers_are_shown_as_they_are(client: BenchClient) -> None:
    client.ask("SET", "cache", b"HYLL\x01\0\0\0" + b"\xff" * 7 + b"\x7f" + b"\x7f\xff")
    assert client.ask("PFCOUNT", "cache") == b":9223372036854775807\r\n"
    client.ask("SET", "full", b"HYLL\x00" + bytes(10) + b"\x80" + b"\xff" * 12288)
    assert client.ask("PFCOUNT", "full") == b":-9223372036854775808\r\n"
