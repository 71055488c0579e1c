"""What is published of a change, here and by a real server: keyspace events of every class, and invalidations.

On each side one client listens: to all keyspace events, and to the invalidations that two tracking clients redirect to
it (one in the default mode, one that broadcasts); a third, which speaks RESP3, is told of its own. After each request
both listeners must have heard the same. Replies are compared elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.commands.registry import load_command_table
from tests.support.differential import (
    bits,
    changes,
    geo,
    hashes,
    keyspace,
    lists,
    sets,
    sorted_sets,
    sorting,
    streams,
    strings,
    transactions,
)
from tests.support.differential.pair import CONNECTIONS, RESP3_CONNECTION, Pair, RawReplies, Side
from tests.support.differential.vocabulary import Request, Requests, keys, words

pytestmark = pytest.mark.real_redis

_BROADCASTING_CONNECTION = 2
_ALL_EVENTS = b"KEAmn"

_NOT_THE_SAME = frozenset({b"RANDOMKEY", b"DEBUG"})
"""RANDOMKEY finds expired keys by chance."""

_scripts: Requests = st.tuples(
    words("EVAL"),
    st.sampled_from(
        (
            b"return redis.call('set', KEYS[1], ARGV[1])",
            b"redis.call('get', KEYS[1]) return redis.pcall('rpush', KEYS[2], ARGV[1], ARGV[1])",
            b"redis.call('del', KEYS[1], KEYS[2]) redis.call('lpop', KEYS[1])",
            b"return redis.pcall('exists', KEYS[1])",
        )
    ),
    st.just(b"2"),
    keys,
    keys,
    st.just(b"1"),
)

_requests: Requests = st.one_of(
    *(strings.requests, hashes.requests, lists.requests, sets.requests, sorted_sets.requests, geo.requests),
    *(streams.requests, bits.requests, bits.hyperloglogs, sorting.requests, _scripts),
    *(keyspace.requests, keyspace.across_databases, transactions.requests),
).filter(lambda request: request[0].upper() not in _NOT_THE_SAME)


class _Listeners:
    """Who hears what one side says."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._listener = RawReplies(side.server.port)
        self._count = 0
        listener_id = self._listener.ask(b"CLIENT", b"ID").strip()[1:]
        side.observer.ask(b"CONFIG", b"SET", b"notify-keyspace-events", _ALL_EVENTS)
        tracking = (b"CLIENT", b"TRACKING", b"ON")
        for index, connection in enumerate(side.connections):
            if index == RESP3_CONNECTION:
                connection.ask(*tracking)
            elif index == _BROADCASTING_CONNECTION:
                connection.ask(*tracking, b"BCAST", b"NOLOOP", b"REDIRECT", listener_id)
            else:
                connection.ask(*tracking, b"REDIRECT", listener_id)
        self._listener.ask(b"SUBSCRIBE", b"__redis__:invalidate")
        self._listener.ask(b"SUBSCRIBE", b"end")
        self._listener.ask(b"PSUBSCRIBE", b"__key*")
        self.pushes: list[bytes] = []

    def reply(self, connection: int) -> bytes:
        """The next reply on a connection; pushes that come before it are kept."""
        while (data := self._side.connections[connection].reply()).startswith(b">"):
            self.pushes.append(data)
        return data

    def heard(self) -> tuple[list[bytes], list[bytes]]:
        """The events and the invalidations since the last time, whichever came first of one and the other."""
        self._count += 1
        number = b"%d" % self._count
        end = b"*3\r\n$7\r\nmessage\r\n$3\r\nend\r\n$%d\r\n%b\r\n" % (len(number), number)
        self._side.observer.ask(b"PUBLISH", b"end", number)
        messages = list(iter(self._listener.reply, end))
        events = [message for message in messages if message.startswith(b"*4")]
        return events, [message for message in messages if not message.startswith(b"*4")]

    def close(self) -> None:
        for connection in self._side.connections:
            connection.send((b"RESET",))
            while (data := connection.reply()) != b"+RESET\r\n":
                if data.startswith(b">"):
                    self.pushes.append(data)
        self._listener.close()


class EventPair(Pair):
    """Two servers that are listened to."""

    def __init__(self, *, cluster: bool) -> None:
        super().__init__(cluster=cluster, followed=False)
        self.listeners: list[_Listeners] = []

    def begin(self) -> None:
        self.stop_listening()
        super().begin()
        self.listeners = [_Listeners(side) for side in self.sides]

    def stop_listening(self) -> list[list[bytes]]:
        """End the run; what each side has pushed to the client that speaks RESP3."""
        listeners, self.listeners = self.listeners, []
        for each in listeners:
            each.close()
        return [each.pushes for each in listeners]

    def ask_each(self, connection: int, requests: list[Request]) -> bytes:
        for side, request in zip(self.sides, requests, strict=True):
            side.connections[connection].send(request)
        ours, theirs = (listeners.reply(connection) for listeners in self.listeners)
        self.history.append(f"{connection}: {requests[0]!r} -> {theirs!r:.200}")
        heard = [listeners.heard() for listeners in self.listeners]
        self.history += [f"    {message!r}" for messages in heard[1] for message in messages]
        self.same(f"what {requests[0]!r} caused", *heard)
        return ours

    def close(self) -> None:
        self.stop_listening()
        super().close()


@pytest.fixture(scope="module", params=["alone", "cluster"])
def pair(request: pytest.FixtureRequest) -> Iterator[EventPair]:
    with EventPair(cluster=request.param == "cluster") as servers:
        yield servers


_steps = st.lists(
    st.one_of(
        *(st.tuples(st.just("ask"), st.integers(0, CONNECTIONS - 1), _requests) for _ in range(6)),
        st.tuples(st.just("expire"), st.integers(0, CONNECTIONS - 1), keys),
        st.tuples(st.just("restore"), st.integers(0, CONNECTIONS - 1), keys, keys),
    ),
    min_size=1,
    max_size=20,
)


@given(steps=_steps)
def test_any_requests_are_followed_by_the_same_events(pair: EventPair, steps: list[tuple]) -> None:  # type: ignore[type-arg]
    pair.begin()
    for what, connection, *arguments in steps:
        if what == "ask":
            pair.ask(connection, arguments[0])
        elif what == "expire":
            pair.let_expire(connection, arguments[0])
        else:
            pair.exchange_payloads(connection, *arguments)
    pair.same("pushes", *pair.stop_listening())


def test_every_command_that_writes(pair: EventPair) -> None:
    """What chance may miss: all of them, where they make, change, leave and empty a key."""
    pair.begin()
    for request in changes.REQUESTS:
        pair.ask(0, request)
    pair.same("pushes", *pair.stop_listening())


def test_that_these_are_all_commands_that_write() -> None:
    table = load_command_table()
    rows = [table.resolve(list(request)) for request in changes.REQUESTS]
    asked = {row.name for row in rows if row is not None}
    elsewhere = {
        b"migrate",
        b"restore-asking",
        b"function|load",
        b"function|delete",
        b"function|flush",
        b"function|restore",
    }

    assert {row.name for row in table.all_rows() if row.is_write} - asked == elsewhere
