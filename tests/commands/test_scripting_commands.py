"""EVAL, FCALL and their like on a server without a network: what scripts may do, what they leave behind, the counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.errors import NOREPLICAS, READONLY
from tests.support.sessions import BenchClient, ServerBench
from tests.support.still_time import StillTime

READER = b"#!lua flags=no-writes\nreturn redis.call('GET', 'k')"
LIBRARY = b"""#!lua name=lib
redis.register_function('w', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
redis.register_function{function_name='r', callback=function() return redis.call('GET', 'k') end, flags={'no-writes'}}
"""


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as server:
        yield server


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    return bench.connect()


@pytest.fixture
def units(bench: ServerBench, monkeypatch: pytest.MonkeyPatch) -> list[list[list[bytes]]]:
    """What is replicated, unit by unit."""
    noted: list[list[list[bytes]]] = []
    bench.server.keyspace.followed = True
    monkeypatch.setattr(bench.server, "replicate", lambda unit: noted.append([list(argv) for _index, argv in unit]))
    return noted


def statistics(bench: ServerBench, name: bytes) -> tuple[int, int, int]:
    """Calls, rejected calls, failed calls."""
    row = bench.server.commands.resolve(name.split(b"|"))
    assert row is not None
    return row.calls, row.rejected_calls, row.failed_calls


def test_nothing_of_lua_exists_before_the_first_script(bench: ServerBench, client: BenchClient) -> None:
    client.ask(b"SET", b"k", b"v")
    client.ask(b"FUNCTION", b"LIST")
    client.ask(b"SCRIPT", b"EXISTS", b"0" * 40)

    assert bench.server.scripting._engine is None
    assert bench.server.scripting.functions._engine is None


def test_the_effects_of_a_script_are_one_unit(client: BenchClient, units: list[list[list[bytes]]]) -> None:
    client.ask(b"EVAL", b"redis.call('SET', 'a', 1) redis.call('GET', 'a') redis.call('INCR', 'a')", b"0")

    assert units == [[[b"SET", b"a", b"1"], [b"INCR", b"a"]]]


def test_what_a_failing_script_has_done_stays_and_is_replicated(
    client: BenchClient, units: list[list[list[bytes]]]
) -> None:
    reply = client.ask(b"EVAL", b"redis.call('SET', 'a', 1) error('x')", b"0")

    assert reply.startswith(b"-ERR user_script:1: x script: ")
    assert units == [[[b"SET", b"a", b"1"]]]


def test_a_script_in_a_transaction_is_part_of_its_unit(client: BenchClient, units: list[list[list[bytes]]]) -> None:
    client.pipeline((b"MULTI",), (b"SET", b"a", b"1"), (b"EVAL", b"return redis.call('INCR', 'a')", b"0"), (b"EXEC",))

    assert units == [[[b"SET", b"a", b"1"], [b"INCR", b"a"]]]


def test_set_repl_leaves_effects_out(client: BenchClient, units: list[list[list[bytes]]]) -> None:
    unseen = b"redis.set_repl(redis.REPL_NONE) redis.call('SET','a',1) "
    script = unseen + b"redis.set_repl(redis.REPL_ALL) redis.call('SET','b',2)"

    client.ask(b"EVAL", script, b"0")

    assert units == [[[b"SET", b"b", b"2"]]]


def test_select_in_a_script_is_the_scripts_alone(client: BenchClient) -> None:
    client.ask(b"EVAL", b"redis.call('SELECT', 3) redis.call('SET', 'k', 'three')", b"0")

    assert client.ask(b"GET", b"k") == b"$-1\r\n"
    client.ask(b"SELECT", b"3")
    assert client.ask(b"GET", b"k") == b"$5\r\nthree\r\n"


def test_time_stands_still_for_a_script(client: BenchClient, still_time: StillTime) -> None:
    """Whoever looks at the clock here finds that 10 ms have gone; the script does not."""
    still_time.per_look_ms = 10
    script = b"redis.call('SET', 'k', 'v', 'PX', 1) redis.call('TIME') return redis.call('GET', 'k')"

    assert client.ask(b"EVAL", script, b"0") == b"$1\r\nv\r\n"
    assert client.ask(b"GET", b"k") == b"$-1\r\n"


def test_a_read_only_script_runs_on_a_replica_and_another_does_not(bench: ServerBench, client: BenchClient) -> None:
    client.ask(b"SET", b"k", b"v")
    client.ask(b"FUNCTION", b"LOAD", LIBRARY)
    bench.server.replication_state.master_host = "127.0.0.1"
    bench.server.refresh_plain()
    if not bench.server.replication_state.is_replica:
        pytest.fail("the bench is no replica")

    assert client.ask(b"EVAL", READER, b"0") == b"$1\r\nv\r\n"
    assert client.ask(b"FCALL", b"r", b"0") == b"$1\r\nv\r\n"
    assert client.ask(b"EVAL", b"#!lua\nreturn 1", b"0") == b"-%b\r\n" % READONLY
    assert client.ask(b"FCALL", b"w", b"1", b"a", b"b") == b"-%b\r\n" % READONLY
    assert client.ask(b"EVAL", b"return redis.call('SET', 'k', 1)", b"0").startswith(b"-%b script: " % READONLY)


def test_a_writing_script_wants_its_replicas(bench: ServerBench, client: BenchClient) -> None:
    client.ask(b"CONFIG", b"SET", b"min-replicas-to-write", b"1")

    assert client.ask(b"EVAL", b"#!lua\nreturn 1", b"0") == b"-%b\r\n" % NOREPLICAS
    assert client.ask(b"EVAL", READER, b"0") == b"$-1\r\n"
    assert client.ask(b"EVAL", b"return redis.call('SET', 'k', 1)", b"0").startswith(b"-NOREPLICAS")
    assert client.ask(b"EVAL", b"return redis.call('GET', 'k')", b"0") == b"$-1\r\n"


def test_failures_are_counted_where_they_happen(bench: ServerBench, client: BenchClient) -> None:
    client.ask(b"CONFIG", b"RESETSTAT")
    client.ask(b"SET", b"k", b"text")

    client.ask(b"EVAL", b"return redis.call('INCR', 'k')", b"0")
    assert statistics(bench, b"incr") == (1, 0, 1)
    assert statistics(bench, b"eval") == (1, 0, 1)
    assert bench.server.statistics.error_replies == 1

    client.ask(b"EVAL", b"redis.pcall('INCR', 'k') redis.pcall('GET') return 1", b"0")
    assert statistics(bench, b"incr") == (2, 0, 2)
    assert statistics(bench, b"get") == (0, 1, 0)
    assert statistics(bench, b"eval") == (2, 0, 1)
    assert bench.server.statistics.error_replies == 3

    client.ask(b"EVAL", b"return redis.error_reply('MINE x')", b"0")
    assert bench.server.statistics.errors_by_code[b"MINE"] == 1


def test_scripts_do_not_run_scripts(client: BenchClient) -> None:
    refusal = b"-ERR This Redis command is not allowed from script"
    assert client.ask(b"EVAL", b"return redis.call('EVAL', 'return 1', 0)", b"0").startswith(refusal)

    client.ask(b"DEBUG", b"SET-DISABLE-DENY-SCRIPTS", b"1")
    reply = client.ask(b"EVAL", b"return redis.call('EVAL', 'return 1', 0)", b"0")
    client.ask(b"DEBUG", b"SET-DISABLE-DENY-SCRIPTS", b"0")

    assert reply.startswith(b"-ERR ")
    assert client.ask(b"EVAL", b"return 1", b"0") == b":1\r\n"


def test_a_library_that_fails_changes_nothing(client: BenchClient) -> None:
    client.ask(b"FUNCTION", b"LOAD", LIBRARY)
    before = client.ask(b"FUNCTION", b"LIST", b"WITHCODE")

    for code in (b"#!lua name=lib\nredis.register_function('w2', function() end) error('x')", b"#!lua name=lib\nx y"):
        assert client.ask(b"FUNCTION", b"LOAD", b"REPLACE", code).startswith(b"-ERR Error ")
    assert client.ask(b"FUNCTION", b"LOAD", b"#!lua name=b\nredis.register_function('W', function() end)") == (
        b"-ERR Function W already exists\r\n"
    )

    assert client.ask(b"FUNCTION", b"LIST", b"WITHCODE") == before
    assert client.ask(b"FCALL", b"W", b"1", b"a", b"b") == b"+OK\r\n"


def test_restoring_replaces_all_or_nothing(client: BenchClient) -> None:
    client.ask(b"FUNCTION", b"LOAD", LIBRARY)
    dumped = client.ask(b"FUNCTION", b"DUMP")
    payload = dumped[dumped.index(b"\r\n") + 2 : -2]
    client.ask(b"FUNCTION", b"DELETE", b"lib")
    client.ask(b"FUNCTION", b"LOAD", b"#!lua name=other\nredis.register_function('w', function() return 7 end)")

    assert client.ask(b"FUNCTION", b"RESTORE", payload, b"REPLACE") == b"-ERR Function w already exists\r\n"
    assert client.ask(b"FCALL", b"w", b"0") == b":7\r\n"
    assert client.ask(b"FUNCTION", b"RESTORE", payload, b"FLUSH") == b"+OK\r\n"
    assert client.ask(b"FCALL", b"w", b"1", b"a", b"b") == b"+OK\r\n"
    damaged = payload[:-1] + bytes((payload[-1] ^ 1,))
    assert client.ask(b"FUNCTION", b"RESTORE", damaged) == b"-ERR DUMP payload version or checksum are wrong\r\n"


def test_flushing_scripts_forgets_them(client: BenchClient) -> None:
    sha = client.ask(b"SCRIPT", b"LOAD", b"return 5")[5:-2]
    assert client.ask(b"EVALSHA", sha.upper(), b"0") == b":5\r\n"

    client.ask(b"SCRIPT", b"FLUSH")

    assert client.ask(b"EVALSHA", sha, b"0").startswith(b"-NOSCRIPT ")
    assert client.ask(b"EVAL", b"return 5", b"0") == b":5\r\n"
    assert client.ask(b"EVALSHA", sha, b"0") == b":5\r\n"
