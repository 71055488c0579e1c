"""From bytes to replies: the hot path and the gates must agree, and what waits must come later, in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import clock
from tests.support.sessions import BenchClient, ServerBench
from tests.support.still_time import StillTime
from tests.support.wire import encode


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as server:
        yield server


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    return bench.connect()


_WORDS = st.sampled_from([b"a", b"b", b"1", b"-1", b"x", b"", b"9223372036854775807", b"EX", b"NX", b"\r\n"])
_NAMES = st.sampled_from(
    [b"GET", b"set", b"Set", b"INCR", b"DECRBY", b"MSET", b"MGET", b"EXISTS", b"DEL", b"TTL", b"APPEND", b"PING",
     b"ECHO", b"SETNX", b"GETDEL", b"EXPIRE", b"PERSIST", b"STRLEN", b"TYPE", b"NOSUCH", b"RENAME", b"TIME|"]
)  # fmt: skip
_REQUESTS = st.lists(
    st.tuples(_NAMES, st.lists(_WORDS, max_size=4)).map(lambda drawn: [drawn[0], *drawn[1]]), max_size=15
)


@pytest.fixture(scope="module")
def two_benches() -> Iterator[tuple[ServerBench, ServerBench]]:
    """One that takes the hot path where it can, and one that never does."""
    with ServerBench() as quick, ServerBench() as careful:
        careful.server.refresh_plain = lambda: None  # type: ignore[method-assign]
        careful.server.plain = False
        yield quick, careful


@given(requests=_REQUESTS, cuts=st.lists(st.integers(0, 400), max_size=4))
def test_the_hot_path_answers_and_counts_as_the_gates_do(
    two_benches: tuple[ServerBench, ServerBench], requests: list[list[bytes]], cuts: list[int]
) -> None:
    """The same bytes, cut anywhere, to a plain client and to one that must pass every gate."""
    stream = b"".join(encode(*request) for request in requests)
    outcomes = []
    for bench in two_benches:
        server, keyspace = bench.server, bench.server.keyspace
        keyspace.flush_all()
        server.reset_statistics()
        dirty_before = keyspace.dirty
        client = bench.connect()
        answer = b""
        start = 0
        for cut in [*sorted(cuts), len(stream)]:
            answer += client.send(stream[start:cut])
            start = max(start, cut)
        outcomes.append({
            "answer": answer,
            "dirty": keyspace.dirty - dirty_before,
            "hits": (keyspace.hits, keyspace.misses),
            "calls": {each.name: (each.calls, each.failed_calls) for each in server.commands.all_rows()},
            "rejected": {each.name: each.rejected_calls for each in server.commands.all_rows()},
            "commands": server.statistics.commands,
            "errors": dict(server.statistics.errors_by_code),
            "last command": client.session.last_command,
        })  # fmt: skip
        client.close()
        bench.run()
    assert outcomes[0] == outcomes[1]


def test_an_exception_in_a_handler_is_our_bug_and_nobody_elses(bench: ServerBench, client: BenchClient) -> None:
    row = bench.server.commands.by_name[b"get"]

    def broken(_client: object, _argv: list[bytes]) -> bytes:
        raise ZeroDivisionError

    handler, row.handler = row.handler, broken
    try:
        answer = client.pipeline(("GET", "k"), ("PING",))
    finally:
        row.handler = handler
    assert answer == b"-ERR internal error, see the server's log\r\n+PONG\r\n"
    assert bench.server.statistics.internal_errors == 1


# Waiting --------------------------------------------------------------------------------------------------------


def _pause(bench: ServerBench, *, writes_only: bool = False) -> None:
    bench.server.pauses.pause(clock.monotonic_ms() + 60_000, writes_only=writes_only)


def test_what_a_paused_client_asks_runs_in_order_when_the_pause_ends(bench: ServerBench, client: BenchClient) -> None:
    _pause(bench)
    assert client.pipeline(("SET", "k", "1"), ("INCR", "k")) == b""
    assert client.ask("GET", "k") == b"" and client.send(encode("INCR", "k")[:9]) == b""
    bench.server.pauses.end()
    bench.run()
    assert client.read() == b"+OK\r\n:2\r\n$1\r\n2\r\n"
    assert client.send(encode("INCR", "k")[9:]) == b":3\r\n"


def test_a_pause_of_writes_holds_what_may_write_and_nothing_else(bench: ServerBench, client: BenchClient) -> None:
    other = bench.connect()
    client.ask("SET", "k", "1")
    _pause(bench, writes_only=True)
    assert client.ask("GET", "k") == b"$1\r\n1\r\n"
    assert client.ask("MULTI") == b"+OK\r\n"
    assert client.ask("GET", "k") == b"+QUEUED\r\n"
    assert client.ask("EXEC") == b"*1\r\n$1\r\n1\r\n"
    assert other.pipeline(("MULTI",), ("SET", "k", "2"), ("EXEC",)) == b"+OK\r\n", "queueing a write waits"
    assert client.ask("GET", "k") == b"$1\r\n1\r\n"
    bench.server.pauses.end()
    bench.run()
    assert other.read() == b"+QUEUED\r\n*1\r\n+OK\r\n"


def test_keys_do_not_expire_while_writes_are_paused(bench: ServerBench, client: BenchClient) -> None:
    client.pipeline(("SET", "k", "v", "EX", "100"))
    bench.server.keyspace.databases[0].expires[b"k"] = 1
    _pause(bench, writes_only=True)
    assert client.ask("GET", "k") == b"$-1\r\n"
    assert client.ask("DBSIZE") == b":1\r\n"
    bench.server.pauses.end()
    assert client.ask("GET", "k") == b"$-1\r\n"
    assert client.ask("DBSIZE") == b":0\r\n"


def test_a_waiting_client_cannot_make_us_remember_more_than_the_limit(bench: ServerBench, client: BenchClient) -> None:
    bench.server.settings.client_query_buffer_limit = 1 << 20
    client.ask("WAIT", "1", "0")
    for _ in range(200):
        client.send(encode("SET", "k", "x" * 10_000))
        if client.closed:
            break
    assert client.closed
    assert client.session.id not in bench.server.sessions


def test_a_protocol_error_behind_a_wait_is_told_after_it(bench: ServerBench, client: BenchClient) -> None:
    _pause(bench)
    assert client.send(encode("PING") + b"*1\r\n:1\r\n") == b""
    bench.server.pauses.end()
    bench.run()
    assert client.read() == b"+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n"
    assert client.closed


def test_a_waiting_client_that_leaves_is_forgotten(bench: ServerBench, client: BenchClient) -> None:
    client.ask("WAIT", "1", "100000")
    assert len(bench.server.timers) == 1
    client.close()
    bench.run()
    assert not bench.server.sessions
    bench.server.timers.run_due(clock.monotonic_ms() + 200_000)


def test_a_wait_ends_to_the_millisecond(bench: ServerBench, client: BenchClient, still_time: StillTime) -> None:
    client.ask("WAIT", "1", "300")
    still_time.pass_ms(299)
    bench.server.timers.run_due(clock.monotonic_ms())
    bench.run()
    assert client.read() == b""
    still_time.pass_ms(1)
    bench.server.timers.run_due(clock.monotonic_ms())
    bench.run()
    assert client.read() == b":0\r\n"


def test_nothing_behind_quit_is_run(bench: ServerBench, client: BenchClient) -> None:
    assert client.pipeline(("PING",), ("QUIT",), ("SET", "k", "v")) == b"+PONG\r\n+OK\r\n"
    assert client.closed and len(bench.server.keyspace.databases[0]) == 0


# Gates ----------------------------------------------------------------------------------------------------------


def test_which_error_wins(bench: ServerBench) -> None:
    """Unknown, then arity, then NOAUTH: the order of processCommand."""
    bench.server.config.set([(b"requirepass", b"secret")])
    client = bench.connect()
    assert client.ask("NOSUCH", "a").startswith(b"-ERR unknown command 'NOSUCH', with args beginning with: 'a' ")
    assert client.ask("GET").startswith(b"-ERR wrong number of arguments")
    assert client.ask("GET", "k") == b"-NOAUTH Authentication required.\r\n"
    assert client.ask("MULTI") == b"-NOAUTH Authentication required.\r\n"


def test_a_command_that_replies_none_inside_exec_keeps_the_others_in_place(client: BenchClient) -> None:
    client.pipeline(("MULTI",), ("GET", "missing"), ("SET", "big", "x" * 100_000), ("GET", "big"))
    answer = client.ask("EXEC")
    assert answer.startswith(b"*3\r\n$-1\r\n+OK\r\n$100000\r\nxxx") and answer.endswith(b"xxx\r\n")
