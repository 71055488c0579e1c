"""Client-side caching: who is told of which changes, when, and how the table is kept small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sessions import BenchClient, ServerBench
from tests.support.wire import encode

OK = b"+OK\r\n"


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as server:
        yield server


def tracking_client(bench: ServerBench, *options: str) -> BenchClient:
    """A client that speaks RESP3 and tracks."""
    client = bench.connect()
    client.ask("HELLO", "3")
    assert client.ask("CLIENT", "TRACKING", "ON", *options) == OK
    return client


def invalidated(*keys: str) -> bytes:
    """What a client is told of changed keys in RESP3; none: of all."""
    return b">2\r\n$10\r\ninvalidate\r\n" + (encode(*keys) if keys else b"_\r\n")


# The default mode -------------------------------------------------------------------------------------------------


def test_who_read_a_key_is_told_once_that_it_changed(bench: ServerBench) -> None:
    client, other = tracking_client(bench), bench.connect()
    client.ask("GET", "k")
    client.ask("MGET", "a", "b")

    other.ask("SET", "k", "1")
    other.ask("SET", "k", "2")
    other.ask("SET", "b", "2")

    assert client.read() == invalidated("k") + invalidated("b")
    assert list(bench.server.tracking.keys) == [b"a"]
    assert bench.server.tracking.item_count == 1


@pytest.mark.parametrize(
    "change",
    [
        ("DEL", "k"),
        ("EXPIRE", "k", "100"),
        ("RENAME", "k", "x"),
        ("RENAME", "x", "k"),
        ("COPY", "x", "k", "REPLACE"),
        ("APPEND", "k", "1"),
        ("MSET", "a", "1", "k", "2"),
    ],
)
def test_every_kind_of_change_counts(bench: ServerBench, change: tuple[str, ...]) -> None:
    client, other = tracking_client(bench), bench.connect()
    other.ask("MSET", "k", "1", "x", "1")
    client.ask("GET", "k")

    other.ask(*change)

    assert client.read() == invalidated("k")


def test_writing_is_not_reading_and_a_refused_read_is(bench: ServerBench) -> None:
    client, other = tracking_client(bench), bench.connect()
    client.ask("SET", "k", "1")
    client.ask("LPUSH", "list", "x")
    client.ask("GET", "list")

    other.ask("SET", "k", "2")
    other.ask("DEL", "list")

    assert client.read() == invalidated("list")


def test_what_a_client_changes_itself_it_is_told_after_the_reply(bench: ServerBench) -> None:
    client = tracking_client(bench)
    client.ask("GET", "k")

    assert client.ask("SET", "k", "1") == OK + invalidated("k")

    client.ask("GET", "k")
    client.pipeline(("MULTI",), ("SET", "k", "2"), ("GET", "k"))
    assert client.ask("EXEC") == b"*2\r\n+OK\r\n$1\r\n2\r\n" + invalidated("k")


def test_noloop(bench: ServerBench) -> None:
    client, other = tracking_client(bench, "NOLOOP"), bench.connect()
    client.ask("MGET", "k", "l")

    assert client.ask("SET", "k", "1") == OK
    other.ask("SET", "l", "1")
    assert client.read() == invalidated("l")


def test_expired_keys_and_empty_databases(bench: ServerBench) -> None:
    client, other = tracking_client(bench), bench.connect()
    other.ask("SET", "k", "1", "PX", "100000")
    client.ask("GET", "k")
    bench.server.keyspace.databases[0].expires[b"k"] = 1
    other.ask("GET", "k")
    assert client.read() == invalidated("k")

    client.ask("GET", "k")
    other.ask("FLUSHDB")
    assert client.read() == invalidated()
    assert client.ask("FLUSHALL") == OK + invalidated()
    assert bench.server.tracking.keys == {}


def test_optin_and_optout(bench: ServerBench) -> None:
    other = bench.connect()
    client = tracking_client(bench, "OPTIN")
    client.ask("GET", "a")
    assert client.ask("CLIENT", "CACHING", "YES") == OK
    client.ask("GET", "b")
    client.ask("GET", "c")
    other.ask("MSET", "a", "1", "b", "1", "c", "1")
    assert client.read() == invalidated("b")

    client.ask("CLIENT", "TRACKING", "OFF")
    client.ask("CLIENT", "TRACKING", "ON", "OPTOUT")
    client.ask("GET", "a")
    client.ask("CLIENT", "CACHING", "NO")
    client.ask("GET", "b")
    client.ask("GET", "c")
    other.ask("MSET", "a", "2", "b", "2", "c", "2")
    assert client.read() == invalidated("a") + invalidated("c")


def test_caching_lasts_for_a_whole_transaction(bench: ServerBench) -> None:
    client, other = tracking_client(bench, "OPTIN"), bench.connect()
    client.pipeline(("CLIENT", "CACHING", "YES"), ("MULTI",), ("GET", "a"), ("GET", "b"), ("EXEC",), ("GET", "c"))

    other.ask("MSET", "a", "1", "b", "1", "c", "1")

    assert client.read() == invalidated("a") + invalidated("b")


# Redirection ------------------------------------------------------------------------------------------------------


def test_redirection_to_a_subscriber(bench: ServerBench) -> None:
    client, listener, other = bench.connect(), bench.connect(), bench.connect()
    listener.ask("SUBSCRIBE", "__redis__:invalidate")
    client.ask("CLIENT", "TRACKING", "ON", "REDIRECT", listener.session.id)
    client.ask("GET", "k")
    other.ask("SET", "k", "1")

    message = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
    assert listener.read() == message + encode("k")
    other.ask("FLUSHALL")
    assert listener.read() == message + b"$-1\r\n"
    assert client.read() == b""
    assert f" redir={listener.session.id} ".encode() in client.ask("CLIENT", "INFO")
    assert client.ask("CLIENT", "GETREDIR") == b":%d\r\n" % listener.session.id


def test_a_resp2_client_without_redirection_is_told_nothing(bench: ServerBench) -> None:
    client, other = bench.connect(), bench.connect()
    client.ask("CLIENT", "TRACKING", "ON")
    client.ask("GET", "k")
    other.ask("SET", "k", "1")

    assert client.read() == b""
    assert client.ask("PING") == b"+PONG\r\n"


def test_broken_redirection(bench: ServerBench) -> None:
    listener, other = bench.connect(), bench.connect()
    client = tracking_client(bench, "REDIRECT", str(listener.session.id))
    client.ask("GET", "k")
    listener.close()
    bench.run()
    assert b"flags=tU " in client.ask("CLIENT", "INFO")
    other.ask("SET", "k", "1")

    assert client.read() == b">2\r\n$21\r\ntracking-redir-broken\r\n:%d\r\n" % listener.session.id
    assert b"flags=tRU " in client.ask("CLIENT", "INFO")
    assert b"broken_redirect" in client.ask("CLIENT", "TRACKINGINFO")


# Broadcasting -----------------------------------------------------------------------------------------------------


def test_broadcast_tells_once_per_turn_of_changes_below_the_prefixes(bench: ServerBench) -> None:
    client, other = tracking_client(bench, "BCAST", "PREFIX", "a:", "PREFIX", "b"), bench.connect()

    other.pipeline(*(("SET", key, "1") for key in ("a:2", "c", "b", "a:1", "a:2", "a")))

    assert client.read() == invalidated("a:1", "a:2") + invalidated("b")
    assert b"flags=tBU " in client.ask("CLIENT", "INFO")
    client.ask("CLIENT", "TRACKING", "OFF")
    assert bench.server.tracking.prefixes == {}


def test_broadcast_noloop_leaves_out_own_changes_but_not_expired_keys(bench: ServerBench) -> None:
    client, other = tracking_client(bench, "BCAST", "NOLOOP"), bench.connect()

    assert client.ask("SET", "mine", "1") == OK
    client.pipeline(("SET", "mine", "1"), ("SET", "short", "1", "PXAT", "1"))
    assert client.read() == b""
    client.ask("SET", "short", "1", "PX", "100000")
    bench.server.keyspace.databases[0].expires[b"short"] = 1
    assert client.ask("GET", "short") == b"_\r\n" + invalidated("short")
    other.ask("SET", "theirs", "1")
    assert client.read() == invalidated("theirs")


def test_flush_is_told_to_who_broadcasts_too(bench: ServerBench) -> None:
    client, other = tracking_client(bench, "BCAST", "PREFIX", "a"), bench.connect()

    other.ask("FLUSHALL")

    assert client.read() == invalidated()


# Asking for it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "refusal"),
    [
        ("", "PREFIX a", "PREFIX option requires BCAST mode to be enabled"),
        (
            "BCAST",
            "",
            "You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling",
        ),
        (
            "",
            "BCAST",
            "You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling",
        ),
        ("", "BCAST OPTIN", "You can't switch BCAST mode"),
        ("BCAST", "BCAST OPTOUT", "OPTIN and OPTOUT are not compatible with BCAST"),
        ("", "OPTIN OPTOUT", "You can't specify both OPTIN mode and OPTOUT mode"),
        ("OPTIN", "OPTOUT", "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client"),
        ("BCAST PREFIX foo", "BCAST PREFIX fo", "Prefix 'fo' overlaps with an existing prefix 'foo'. Prefixes for a "),
        ("BCAST", "BCAST PREFIX a PREFIX a", "Prefix 'a' overlaps with an existing prefix ''."),
        (
            "BCAST PREFIX x",
            "BCAST PREFIX a PREFIX bc PREFIX b",
            "Prefix 'bc' overlaps with another provided prefix 'b'.",
        ),
    ],
)
def test_contradictions_are_refused_and_change_nothing(
    bench: ServerBench, first: str, second: str, refusal: str
) -> None:
    client = tracking_client(bench, *first.split())
    before = client.session.tracking

    assert client.ask("CLIENT", "TRACKING", "ON", *second.split()).startswith(b"-ERR " + refusal.encode())
    assert client.session.tracking is before


def test_prefixes_add_up_and_other_options_are_replaced(bench: ServerBench) -> None:
    client = tracking_client(bench, "BCAST", "PREFIX", "b", "NOLOOP")

    assert client.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a") == OK

    assert client.ask("CLIENT", "TRACKINGINFO") == (
        b"%3\r\n$5\r\nflags\r\n~2\r\n$2\r\non\r\n$5\r\nbcast\r\n$8\r\nredirect\r\n:0\r\n$8\r\nprefixes\r\n"
        + encode("a", "b")
    )


def test_caching_has_its_conditions(bench: ServerBench) -> None:
    client = bench.connect()
    assert b"can be called only when" in client.ask("CLIENT", "CACHING", "YES")
    client.ask("CLIENT", "TRACKING", "ON", "OPTIN")
    assert b"CACHING NO is only valid" in client.ask("CLIENT", "CACHING", "NO")
    assert client.ask("CLIENT", "CACHING", "maybe") == b"-ERR syntax error\r\n"
    assert client.ask("CLIENT", "CACHING", "yes") == OK
    assert b"$11\r\ncaching-yes" in client.ask("CLIENT", "TRACKINGINFO")


# The table --------------------------------------------------------------------------------------------------------


def test_the_table_is_kept_to_its_limit(bench: ServerBench) -> None:
    table = bench.server.tracking
    client = tracking_client(bench)
    bench.server.settings.tracking_table_max_keys = 10
    told = b"".join(client.ask("GET", f"k{number}") for number in range(500))
    assert len(table.keys) == 11  # The next command comes before it is looked at.
    assert told.count(b"invalidate") == 489
    assert told.startswith(b"_\r\n" * 11 + invalidated("k0"))


def test_a_table_far_above_its_limit_is_shortened_with_growing_effort(bench: ServerBench) -> None:
    table = bench.server.tracking
    client = tracking_client(bench)
    client.pipeline(*(("GET", f"k{number}") for number in range(2000)))
    bench.server.settings.tracking_table_max_keys = 1
    sizes = []
    while len(table.keys) > 1:
        table.limit()
        sizes.append(len(table.keys))
    assert sizes == [1900, 1700, 1400, 1000, 500, 1]
    assert table.item_count == 1


def test_nothing_is_watched_once_nobody_tracks(bench: ServerBench) -> None:
    client, other = tracking_client(bench), bench.connect()

    def is_watched() -> bool:
        return bench.server.keyspace.observed

    client.ask("GET", "k")
    assert is_watched()
    client.ask("CLIENT", "TRACKING", "OFF")
    assert is_watched()  # Until the keys it has read have changed.
    other.ask("SET", "k", "1")
    assert not is_watched()
    assert client.read() == b""

    client.ask("CLIENT", "TRACKING", "ON", "BCAST")
    client.close()
    bench.run()
    assert not is_watched()
    assert bench.server.tracking.clients == {} and bench.server.tracking.prefixes == {}


@settings(max_examples=25)
@given(
    steps=st.lists(st.tuples(st.sampled_from(("read", "write", "flush")), st.integers(0, 2), st.sampled_from("abc"))),
)
def test_each_reader_is_told_of_the_first_change(steps: list[tuple[str, int, str]]) -> None:
    """Against a model: the set of (client, key) that may be cached."""
    with ServerBench() as bench:
        clients = [tracking_client(bench) for _ in range(3)]
        writer = bench.connect()
        cached: set[tuple[int, str]] = set()
        for what, index, key in steps:
            expected = [b""] * 3
            if what == "read":
                assert clients[index].ask("EXISTS", key)[:1] == b":"
                cached.add((index, key))
            elif what == "write":
                writer.ask("APPEND", key, "x")
                expected = [invalidated(key) if (each, key) in cached else b"" for each in range(3)]
                cached = {(owner, other) for owner, other in cached if other != key}
            else:
                writer.ask("FLUSHALL")
                expected = [invalidated()] * 3
                cached.clear()
            assert [client.read() for client in clients] == expected
            assert bench.server.tracking.item_count == len(cached)
            assert len(bench.server.tracking.keys) == len({key for _owner, key in cached})
