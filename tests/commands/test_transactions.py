"""MULTI, EXEC, WATCH: what breaks a transaction, what it replicates, and what ends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.keyspace.database import Database
from tests.support.sessions import BenchClient, ServerBench


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as server:
        yield server


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    return bench.connect()


@pytest.fixture
def other(bench: ServerBench) -> BenchClient:
    return bench.connect()


def _database(bench: ServerBench, index: int = 0) -> Database:
    return bench.server.keyspace.databases[index]


def _make_expired(bench: ServerBench, key: bytes, index: int = 0) -> None:
    """Over, and nobody has looked."""
    _database(bench, index).expires[key] = 1


NULL_ARRAY = b"*-1\r\n"
ONE_OK = b"*1\r\n+OK\r\n"


def test_commands_run_in_order_and_each_reply_stands_in_its_place(client: BenchClient) -> None:
    assert client.ask("MULTI") == b"+OK\r\n"
    for request in (("SET", "k", "1"), ("INCR", "k"), ("LPUSHX", "k", "x"), ("GET", "k")):
        assert client.ask(*request) == b"+QUEUED\r\n"
    assert client.ask("EXEC") == (
        b"*4\r\n+OK\r\n:2\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n$1\r\n2\r\n"
    )
    assert client.ask("EXEC") == b"-ERR EXEC without MULTI\r\n"


def test_a_request_that_cannot_be_queued_ends_the_transaction_at_exec(client: BenchClient) -> None:
    client.pipeline(("SET", "k", "before"), ("MULTI",), ("SET", "k", "after"))
    assert client.ask("GET") == b"-ERR wrong number of arguments for 'get' command\r\n"
    assert client.ask("SET", "k", "later") == b"+QUEUED\r\n"
    assert client.session.transaction is not None and len(client.session.transaction.queue) == 1
    assert client.ask("EXEC") == b"-EXECABORT Transaction discarded because of previous errors.\r\n"
    assert client.ask("GET", "k") == b"$6\r\nbefore\r\n"


def test_exec_with_arguments_aborts_and_says_why(client: BenchClient) -> None:
    client.pipeline(("MULTI",), ("SET", "k", "v"))
    assert client.ask("EXEC", "now") == (
        b"-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n"
    )
    assert client.ask("EXEC") == b"-ERR EXEC without MULTI\r\n"


def test_exec_refused_at_a_gate_aborts_with_the_gates_words(bench: ServerBench, client: BenchClient) -> None:
    client.pipeline(("MULTI",), ("SET", "k", "v"))
    bench.server.settings.min_replicas_to_write = 1
    assert client.ask("EXEC") == (
        b"-EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.\r\n"
    )
    assert client.session.transaction is None


def test_errors_inside_do_not_nest(client: BenchClient) -> None:
    client.ask("MULTI")
    assert client.ask("MULTI") == b"-ERR MULTI calls can not be nested\r\n"
    assert client.ask("WATCH", "k") == b"-ERR WATCH inside MULTI is not allowed\r\n"
    assert client.ask("EXEC") == b"*0\r\n", "such errors do not break the transaction"
    assert client.ask("DISCARD") == b"-ERR DISCARD without MULTI\r\n"


def test_discard_forgets_queue_and_watches(client: BenchClient, other: BenchClient) -> None:
    client.pipeline(("WATCH", "k"), ("MULTI",), ("SET", "k", "v"))
    other.ask("SET", "k", "theirs")
    assert client.ask("DISCARD") == b"+OK\r\n"
    assert client.pipeline(("MULTI",), ("GET", "k"), ("EXEC",)).endswith(b"*1\r\n$6\r\ntheirs\r\n")


CHANGES: list[tuple[str, ...]] = [
    ("SET", "k", "v"),
    ("DEL", "k"),
    ("APPEND", "k", "x"),
    ("INCR", "n"),
    ("EXPIRE", "k", "100"),
    ("EXPIRE", "k", "-1"),
    ("RENAME", "k", "elsewhere"),
    ("RENAME", "other", "k"),
    ("COPY", "other", "k", "REPLACE"),
    ("MOVE", "k", "1"),
    ("FLUSHDB",),
    ("FLUSHALL",),
    ("SWAPDB", "0", "1"),
    ("GETEX", "k", "EX", "100"),
    ("GETDEL", "k"),
    ("SETRANGE", "k", "1", "x"),
]


@pytest.mark.parametrize("change", CHANGES, ids=" ".join)
def test_a_change_of_a_watched_key_empties_exec(
    client: BenchClient, other: BenchClient, change: tuple[str, ...]
) -> None:
    client.pipeline(("MSET", "k", "v", "other", "o", "n", "1"), ("WATCH", "k", "n"))
    assert not other.ask(*change).startswith(b"-")
    assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)).endswith(NULL_ARRAY)
    assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)).endswith(b"*1\r\n+PONG\r\n"), "watches last for one EXEC"


@pytest.mark.parametrize(
    "request_words", [("GET", "k"), ("SET", "another", "v"), ("DEL", "missing"), ("PERSIST", "k"), ("SETNX", "k", "w")]
)
def test_what_changes_nothing_of_it_does_not(
    client: BenchClient, other: BenchClient, request_words: tuple[str, ...]
) -> None:
    client.pipeline(("SET", "k", "v"), ("WATCH", "k", "missing"))
    other.ask(*request_words)
    assert client.pipeline(("MULTI",), ("SET", "k", "w"), ("EXEC",)).endswith(ONE_OK)


def test_a_watched_key_that_expires_empties_exec(bench: ServerBench, client: BenchClient) -> None:
    client.pipeline(("SET", "k", "v", "EX", "100"), ("WATCH", "k"))
    _make_expired(bench, b"k")
    assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)).endswith(NULL_ARRAY)


def test_a_key_that_was_over_already_may_go_but_not_come_back(
    bench: ServerBench, client: BenchClient, other: BenchClient
) -> None:
    client.ask("SET", "k", "v", "EX", "100")
    _make_expired(bench, b"k")
    client.ask("WATCH", "k")
    other.ask("GET", "k")
    assert len(_database(bench)) == 0
    assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)).endswith(b"*1\r\n+PONG\r\n")

    client.ask("SET", "k", "v", "EX", "100")
    _make_expired(bench, b"k")
    client.ask("WATCH", "k")
    other.pipeline(("GET", "k"), ("SET", "k", "again"))
    assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)).endswith(NULL_ARRAY)


def test_flushing_a_key_that_was_over_is_no_change(bench: ServerBench, client: BenchClient, other: BenchClient) -> None:
    client.ask("SET", "k", "v", "EX", "100")
    _make_expired(bench, b"k")
    client.ask("WATCH", "k")
    other.ask("FLUSHALL")
    assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)).endswith(b"*1\r\n+PONG\r\n")


def test_swapping_in_a_key_is_a_change_and_swapping_in_an_expired_one_is_not(
    bench: ServerBench, client: BenchClient, other: BenchClient
) -> None:
    other.pipeline(("SELECT", "1"), ("SET", "k", "v", "EX", "100"))
    client.ask("WATCH", "k")
    other.ask("SWAPDB", "0", "1")
    assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)).endswith(NULL_ARRAY)
    other.ask("SWAPDB", "0", "1")
    _make_expired(bench, b"k", 1)
    client.ask("WATCH", "k")
    other.ask("SWAPDB", "0", "1")
    assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)).endswith(b"*1\r\n+PONG\r\n")


def test_a_watch_is_for_one_database(client: BenchClient, other: BenchClient) -> None:
    client.ask("WATCH", "k")
    other.pipeline(("SELECT", "1"), ("SET", "k", "v"))
    assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)).endswith(b"*1\r\n+PONG\r\n")


def test_nobody_watches_after_everybody_left(bench: ServerBench, client: BenchClient, other: BenchClient) -> None:
    client.ask("WATCH", "a", "b", "a")
    other.ask("WATCH", "a")
    assert bench.server.keyspace.observed
    client.close()
    bench.run()
    other.ask("UNWATCH")
    assert not bench.server.keyspace.observed


def test_one_transaction_is_one_unit_for_replicas(bench: ServerBench, client: BenchClient) -> None:
    units: list[list[tuple[int, list[bytes]]]] = []
    bench.server.replicate = units.append  # type: ignore[method-assign, assignment]
    bench.server.keyspace.followed = True
    client.pipeline(
        ("MULTI",), ("SET", "k", "v"), ("GET", "k"), ("INCRBYFLOAT", "f", "0.5"), ("SELECT", "1"), ("SET", "k", "w"),
        ("INCR", "k"), ("EXEC",),
    )  # fmt: skip
    assert units == [
        [(0, [b"SET", b"k", b"v"]), (0, [b"SET", b"f", b"0.5", b"KEEPTTL"]), (1, [b"SET", b"k", b"w"])],
    ]


def test_each_command_finds_its_own_keys(client: BenchClient) -> None:
    """Also one whose first key is not told by its place alone."""
    client.pipeline(("RPUSH", "list", "2", "1"), ("SET", "other", "x"), ("MULTI",), ("GET", "other"), ("SORT", "list"))
    assert client.ask("EXEC") == b"*2\r\n$1\r\nx\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n"


def test_a_running_transaction_is_shown_as_open(client: BenchClient) -> None:
    client.pipeline(("MULTI",), ("CLIENT", "INFO"), ("PING",))
    reply = client.ask("EXEC")
    assert b" flags=xU " in reply and b" multi=2 " in reply
    assert b" multi=-1 " in client.ask("CLIENT", "INFO")
