"""SUBSCRIBE and its kin, PUBLISH, PUBSUB: who is told what, and what subscribers may do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.commands.channels import ChannelTable, Kind
from cluster.slots.hashing import key_slot
from tests.support.sessions import ServerBench
from tests.support.wire import encode

SSUBSCRIBE_IN_EXEC = b"-ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client\r\n"


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as server:
        yield server


def told(*words: bytes | int | None, version: int = 2) -> bytes:
    """A message as a client gets it."""
    parts = [
        b"$-1\r\n"
        if word is None
        else b":%d\r\n" % word
        if isinstance(word, int)
        else b"$%d\r\n%b\r\n" % (len(word), word)
        for word in words
    ]
    return (b"*" if version == 2 else b">") + b"%d\r\n" % len(parts) + b"".join(parts)


# Subscribing ------------------------------------------------------------------------------------------------------


def test_channels_and_patterns_are_counted_together_and_shard_channels_apart(bench: ServerBench) -> None:
    client = bench.connect()

    assert client.ask("SUBSCRIBE", "a", "b", "a") == (
        told(b"subscribe", b"a", 1) + told(b"subscribe", b"b", 2) + told(b"subscribe", b"a", 2)
    )
    assert client.ask("PSUBSCRIBE", "a*") == told(b"psubscribe", b"a*", 3)
    assert client.ask("SSUBSCRIBE", "a") == told(b"ssubscribe", b"a", 1)
    assert client.ask("UNSUBSCRIBE", "b", "x") == told(b"unsubscribe", b"b", 2) + told(b"unsubscribe", b"x", 2)
    assert client.ask("SUNSUBSCRIBE") == told(b"sunsubscribe", b"a", 0)


def test_unsubscribing_from_nothing_is_confirmed_all_the_same(bench: ServerBench) -> None:
    client = bench.connect()

    for word in ("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"):
        assert client.ask(word) == told(word.lower().encode(), None, 0)
    client.ask("HELLO", "3")
    assert client.ask("UNSUBSCRIBE") == b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"


def test_a_subscriber_may_do_little_in_resp2_and_everything_in_resp3(bench: ServerBench) -> None:
    client = bench.connect()
    client.ask("SUBSCRIBE", "c")

    assert client.ask("GET", "k") == (
        b"-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this "
        b"context\r\n"
    )
    assert b"Can't execute 'client|list'" in client.ask("CLIENT", "LIST")
    assert client.ask("PING", "x") == told(b"pong", b"x")
    client.ask("UNSUBSCRIBE")
    assert client.ask("GET", "k") == b"$-1\r\n"

    client.ask("HELLO", "3")
    client.ask("SUBSCRIBE", "c")
    assert client.session.plain
    assert client.ask("GET", "k") == b"_\r\n"


def test_reset_quit_and_a_lost_connection_end_subscriptions(bench: ServerBench) -> None:
    channels = bench.server.channels
    clients = [bench.connect() for _ in range(3)]
    for client in clients:
        client.ask("SUBSCRIBE", "a")
        client.ask("PSUBSCRIBE", "*")
        client.ask("SSUBSCRIBE", "s")

    assert clients[0].ask("RESET") == b"+RESET\r\n"
    assert clients[1].ask("QUIT") == b"+OK\r\n"
    clients[2].close()
    bench.run()

    assert channels.subscribers == {kind: {} for kind in Kind}
    assert clients[0].ask("GET", "k") == b"$-1\r\n"


def test_confirmations_and_messages_are_sent_whatever_client_reply_says(bench: ServerBench) -> None:
    client, other = bench.connect(), bench.connect()

    client.ask("CLIENT", "REPLY", "OFF")
    assert client.ask("SUBSCRIBE", "a") == told(b"subscribe", b"a", 1)
    other.ask("PUBLISH", "a", "x")
    assert client.read() == told(b"message", b"a", b"x")
    assert client.ask("PING") == b""


def test_in_a_transaction(bench: ServerBench) -> None:
    client = bench.connect()
    client.ask("MULTI")
    client.pipeline(("SUBSCRIBE", "a"), ("SSUBSCRIBE", "a"), ("PSUBSCRIBE", "b"))

    assert client.ask("EXEC") == (
        b"*3\r\n" + told(b"subscribe", b"a", 1) + SSUBSCRIBE_IN_EXEC + told(b"psubscribe", b"b", 2)
    )


def test_client_list_and_kill_by_type(bench: ServerBench) -> None:
    client, admin = bench.connect(), bench.connect()
    client.ask("SUBSCRIBE", "a", "b")
    client.ask("PSUBSCRIBE", "*")
    client.ask("SSUBSCRIBE", "s")

    listed = admin.ask("CLIENT", "LIST", "TYPE", "pubsub")
    assert listed.count(b"id=") == 1
    assert b" flags=PU " in listed and b" sub=2 psub=1 ssub=1 " in listed
    assert admin.ask("CLIENT", "KILL", "TYPE", "pubsub") == b":1\r\n"
    client.read()
    assert client.closed


def test_a_subscriber_that_does_not_read_is_dropped(bench: ServerBench) -> None:
    client, publisher = bench.connect(), bench.connect()
    publisher.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 100000 0 0")
    client.ask("SUBSCRIBE", "a")

    for _ in range(1000):
        if publisher.ask("PUBLISH", "a", b"x" * 10_000) == b":0\r\n":
            break
    assert client.session.closed
    assert bench.server.channels.subscribers[Kind.CHANNEL] == {}


# Publishing -------------------------------------------------------------------------------------------------------


def test_a_message_goes_to_each_subscription(bench: ServerBench) -> None:
    both, third, publisher = bench.connect(), bench.connect(), bench.connect()
    both.ask("SUBSCRIBE", "news")
    both.ask("PSUBSCRIBE", "n?ws")
    third.ask("HELLO", "3")
    third.ask("PSUBSCRIBE", "*")

    assert publisher.ask("PUBLISH", "news", b"\r\n") == b":3\r\n"
    assert both.read() == told(b"message", b"news", b"\r\n") + told(b"pmessage", b"n?ws", b"news", b"\r\n")
    assert third.read() == told(b"pmessage", b"*", b"news", b"\r\n", version=3)


def test_shard_channels_are_a_world_of_their_own(bench: ServerBench) -> None:
    client, publisher = bench.connect(), bench.connect()
    client.ask("PSUBSCRIBE", "*")
    client.ask("SUBSCRIBE", "c")
    client.ask("SSUBSCRIBE", "c")

    assert publisher.ask("SPUBLISH", "c", "x") == b":1\r\n"
    assert client.read() == told(b"smessage", b"c", b"x")
    assert publisher.ask("PUBLISH", "c", "x") == b":2\r\n"


def test_replicas_are_told_and_the_data_set_is_not_changed(bench: ServerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    client = bench.connect()
    keyspace = bench.server.keyspace
    keyspace.followed = True
    replicated: list[tuple[int, list[bytes]]] = []
    monkeypatch.setattr(bench.server, "replicate", replicated.extend)

    client.pipeline(("SELECT", 3), ("PUBLISH", "a", "x"), ("MULTI",), ("SPUBLISH", "s", "y"), ("EXEC",))

    assert replicated == [(3, [b"PUBLISH", b"a", b"x"]), (3, [b"SPUBLISH", b"s", b"y"])]
    assert keyspace.dirty == 0


def test_publishing_waits_while_writes_are_paused(bench: ServerBench) -> None:
    client, publisher, admin = bench.connect(), bench.connect(), bench.connect()
    client.ask("SUBSCRIBE", "a")
    admin.ask("CLIENT", "PAUSE", "100000", "WRITE")

    assert publisher.ask("PUBLISH", "a", "x") == b""
    assert admin.ask("GET", "k") == b"$-1\r\n"
    admin.ask("CLIENT", "UNPAUSE")
    bench.run()
    assert publisher.read() == b":1\r\n"
    assert client.read() == told(b"message", b"a", b"x")


# PUBSUB -----------------------------------------------------------------------------------------------------------


def test_pubsub(bench: ServerBench) -> None:
    client, admin = bench.connect(), bench.connect()
    client.ask("SUBSCRIBE", "a", "ab")
    client.ask("PSUBSCRIBE", "x*", "y*")
    client.ask("SSUBSCRIBE", "s")

    assert admin.ask("PUBSUB", "CHANNELS") == encode("a", "ab")
    assert admin.ask("PUBSUB", "CHANNELS", "?") == encode("a")
    assert admin.ask("PUBSUB", "CHANNELS", "z") == b"*0\r\n"
    assert admin.ask("PUBSUB", "NUMSUB", "a", "z") == b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nz\r\n:0\r\n"
    assert admin.ask("PUBSUB", "NUMSUB") == b"*0\r\n"
    assert admin.ask("PUBSUB", "NUMPAT") == b":2\r\n"
    assert admin.ask("PUBSUB", "SHARDCHANNELS", "*") == encode("s")
    assert admin.ask("PUBSUB", "SHARDNUMSUB", "s", "a") == b"*4\r\n$1\r\ns\r\n:1\r\n$1\r\na\r\n:0\r\n"
    assert admin.ask("PUBSUB", "CHANNELS", "a", "b") == (
        b"-ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.\r\n"
    )


# The table --------------------------------------------------------------------------------------------------------


def test_slots_that_leave_take_their_channels_with_them(bench: ServerBench) -> None:
    clients = [bench.connect() for _ in range(2)]
    clients[0].ask("SSUBSCRIBE", "{a}1", "{a}2", "b")
    clients[1].ask("HELLO", "3")
    clients[1].ask("SSUBSCRIBE", "{a}1")

    bench.server.channels.close_slots([key_slot(b"{a}1"), 1])
    bench.run()

    assert clients[0].read() == told(b"sunsubscribe", b"{a}1", 2) + told(b"sunsubscribe", b"{a}2", 1)
    assert clients[1].read() == told(b"sunsubscribe", b"{a}1", 0, version=3)
    assert clients[1].session.subscriptions is None
    assert list(bench.server.channels.subscribers[Kind.SHARD]) == [b"b"]


@settings(max_examples=25)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(list(Kind)), st.sampled_from((b"a", b"b", b"c*")), st.booleans())
    )
)
def test_the_table_and_the_clients_agree(steps: list[tuple[int, Kind, bytes, bool]]) -> None:
    """Whatever is subscribed and unsubscribed, both say the same, and nothing is left over."""
    with ServerBench() as bench:
        sessions = [bench.connect().session for _ in range(3)]
        table = ChannelTable()
        model: set[tuple[int, Kind, bytes]] = set()
        for index, kind, name, adds in steps:
            (table.add if adds else table.remove)(sessions[index], kind, name)
            (model.add if adds else model.discard)((index, kind, name))
        for index, session in enumerate(sessions):
            mine = {(kind, name) for owner, kind, name in model if owner == index}
            held = session.subscriptions
            assert (held is None) == (not mine)
            assert mine == {(kind, name) for kind in Kind for name in ({} if held is None else held.names[kind])}
        for kind in Kind:
            assert {name: set(clients) for name, clients in table.subscribers[kind].items()} == {
                name: {sessions[index] for index, other, same in model if (other, same) == (kind, name)}
                for _owner, each, name in model
                if each is kind
            }
        for session in sessions:
            table.remove_all(session)
        assert not any(table.subscribers.values()) and not table._slots and not table._matchers


def test_a_replica_gets_no_messages(bench: ServerBench) -> None:
    """Only with RESP3 a subscriber can become one; its stream must stay whole."""
    client, publisher = bench.connect(), bench.connect()
    client.ask("HELLO", "3")
    client.ask("SUBSCRIBE", "a")
    client.session.replica = object()

    publisher.ask("PUBLISH", "a", "x")

    assert client.read() == b""
    client.session.replica = None
