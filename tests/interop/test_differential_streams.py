"""Streams, here and in a real server: every reply, what replicas are told, and what is left behind must be the same.

Node by node: nodes are made small for that, by count or by size. Clients wait in a group or for a stream while others
go on; who is served, with what and in which order, must be the same, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.persistence.dump_payload import restore
from tests.persistence.rdb_samples import every_kind_loadable
from tests.support.differential import keyspace, normalise, streams, transactions
from tests.support.differential.pair import CONNECTIONS, Pair, RawReplies, Side
from tests.support.differential.steps import Described, Step, ask
from tests.support.differential.vocabulary import KEYS, Request, keys
from tests.support.streams import described

pytestmark = pytest.mark.real_redis

_WAITERS = 3


class StreamPair(Pair):
    """Two servers whose clocks differ a little, and clients that wait."""

    def __init__(self, **options: Any) -> None:
        self._waiters: list[list[RawReplies]] = []
        self._waiter_ids: list[list[bytes]] = []
        super().__init__(**options)

    def open_waiters(self) -> None:
        """Connections of their own for those who wait; the second speaks RESP3."""
        for side in self.sides:
            connections = [RawReplies(side.server.port) for _ in range(_WAITERS)]
            connections[1].ask(b"HELLO", b"3")
            self._waiters.append(connections)
            self._waiter_ids.append([connection.ask(b"CLIENT", b"ID")[1:-2] for connection in connections])

    def close(self) -> None:
        for connections in self._waiters:
            for connection in connections:
                connection.close()
        super().close()

    def ask_each(self, connection: int, requests: list[Request]) -> bytes:
        for side, words in zip(self.sides, requests, strict=True):
            side.connections[connection].send(words)
        ours, theirs = (side.connections[connection].reply() for side in self.sides)
        self.history.append(f"{connection}: {b' '.join(requests[0])!r} -> {theirs!r:.300}")
        if ours != theirs:
            self.same("replies", *(self._comparable(requests[0], raw) for raw in (ours, theirs)))
        if requests[0][0].upper() == b"RESET" and connection == 1:
            self._speak_resp3(connection)
        return ours

    @staticmethod
    def _comparable(request: Request, raw: bytes) -> bytes:
        if request[0].upper() == b"DUMP":
            return repr(_described(raw)).encode()
        return streams.comparable(request, normalise.reply(request, raw))

    def meanwhile(self, waiting: list[Request], requests: list[Request]) -> None:
        """Some wait, another goes on; who was served is compared, and who was not goes home."""
        for number, request in enumerate(waiting):
            for side, connections in zip(self.sides, self._waiters, strict=True):
                connections[number].send(request)
                side.observer.ask(b"PING")  # When this is answered, that has been read.
            self.history.append(f"waiter {number}: {b' '.join(request)!r}")
        answered = [False] * len(waiting)
        for request in requests:
            self.ask(0, request)
            self._look_for_replies(waiting, answered)
        self._look_for_replies(waiting, answered)
        for number, request in enumerate(waiting):
            if not answered[number]:
                replies = []
                for side, connections, client_ids in zip(self.sides, self._waiters, self._waiter_ids, strict=True):
                    side.observer.ask(b"CLIENT", b"UNBLOCK", client_ids[number])
                    replies.append(connections[number].reply())
                self.same(f"the end of {request!r}", *replies)

    def _look_for_replies(self, waiting: list[Request], answered: list[bool]) -> None:
        for side in self.sides:
            side.observer.ask(b"PING")  # What others were sent before this was answered has arrived.
        for number, request in enumerate(waiting):
            if not answered[number]:
                ours, theirs = (connections[number].reply_if_any() for connections in self._waiters)
                self.same(f"reply to waiter {number}", ours, theirs)
                answered[number] = ours is not None
                if ours is not None:
                    self.history.append(f"waiter {number}: {request!r} -> {ours!r:.300}")

    def restore_on_both(self, connection: int, source: bytes, target: bytes, *, ours: bool) -> None:
        """Both get what one of them has dumped."""
        dumped = [side.observer.ask(b"DUMP", source) for side in self.sides][0 if ours else 1]
        if dumped.startswith(b"$") and dumped != b"$-1\r\n":
            payload = dumped[dumped.index(b"\r\n") + 2 : -2]
            self.ask(connection, (b"RESTORE", target, b"0", payload, b"REPLACE"))

    def _end_of_stream(self, side: Side) -> list[bytes]:
        return [streams.hide_times(command) for command in super()._end_of_stream(side)]

    def _compare_database(self, index: int) -> None:
        observers = [side.observer for side in self.sides]
        for key in self.same_keys(index):
            asked: list[Request] = [
                (b"TYPE", key), (b"OBJECT", b"ENCODING", key), (b"DEBUG", b"DIGEST-VALUE", key), (b"DUMP", key),
            ]  # fmt: skip
            if observers[0].ask(b"TYPE", key) == b"+stream\r\n":
                asked += [
                    (b"XRANGE", key, b"-", b"+"),
                    (b"XREVRANGE", key, b"+", b"-"),
                    (b"XINFO", b"STREAM", key),
                    (b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"),
                ]
            for words in asked:
                replies = [self._comparable(words, observer.ask(*words)) for observer in observers]
                self.same(f"{words!r} in database {index}", *replies)


def _described(raw: bytes) -> Any:
    """What a DUMP reply stands for, without the times in it."""
    if not raw.startswith(b"$") or raw == b"$-1\r\n":
        return raw
    with every_kind_loadable():
        value = restore(raw[raw.index(b"\r\n") + 2 : -2])
    if not hasattr(value, "nodes"):
        return value
    return streams.hide_times(repr(described(value)).encode())


def _fill(key: bytes, first: int, count: int, options: Request, size: int) -> Step:
    """Enough entries for several nodes; now and then one with other fields."""

    def act(pair: Pair) -> None:
        for number in range(first, first + count):
            fields = (b"f", b"%d" % (number * 37)) if number % 7 else (b"other", b"x" * size)
            pair.ask(0, (b"XADD", key, *options, b"%d-%d" % (number // 3, number % 3), *fields))

    return Described(f"fill({key!r}, {first}, {count}, {options!r}, {size})", act)


def _meanwhile(waiting: list[Request], requests: list[Request]) -> Step:
    def act(pair: Pair) -> None:
        assert isinstance(pair, StreamPair)
        pair.meanwhile(waiting, requests)

    return Described(f"meanwhile({waiting!r}, {requests!r})", act)


def _restore(connection: int, source: bytes, target: bytes, ours: bool) -> Step:
    def act(pair: Pair) -> None:
        assert isinstance(pair, StreamPair)
        pair.restore_on_both(connection, source, target, ours=ours)

    return Described(f"restore_on_both({connection}, {source!r}, {target!r}, ours={ours})", act)


def _limit_nodes(entries: int, size: int) -> Step:
    request = (b"CONFIG", b"SET", b"stream-node-max-entries", b"%d" % entries, b"stream-node-max-bytes", b"%d" % size)
    return Described(f"limit_nodes({entries}, {size})", lambda pair: pair.ask(0, request))


_connections = st.integers(0, CONNECTIONS - 1)
_asking = st.builds(ask, _connections, streams.requests)
_filling = st.builds(
    _fill,
    keys,
    st.integers(1, 25),
    st.sampled_from((5, 12, 30)),
    st.sampled_from(((), (), (b"MAXLEN", b"~", b"9"), (b"MINID", b"~", b"5-0"), (b"MAXLEN", b"7"))),
    st.sampled_from((1, 20, 70)),
)
_waiting = st.builds(
    _meanwhile,
    st.lists(streams.waiting, min_size=1, max_size=_WAITERS),
    st.lists(
        streams.weighted([(6, streams.requests), (1, keyspace.requests), (1, st.just((b"FLUSHALL",)))]),
        min_size=1,
        max_size=4,
    ),
)
_steps = st.lists(
    streams.weighted(
        [
            (24, _asking),
            (1, st.builds(ask, _connections, keyspace.requests)),
            (1, st.builds(ask, _connections, transactions.requests)),
            (2, _filling),
            (3, _waiting),
            (1, st.builds(_restore, _connections, keys, keys, st.booleans())),
            (1, st.builds(_limit_nodes, st.sampled_from((0, 1, 3, 4, 100)), st.sampled_from((0, 300, 1000, 4096)))),
        ]
    ),
    min_size=5,
    max_size=30,
)
_prepared: list[Request] = [
    *((b"XGROUP", b"CREATE", key, group, b"0", b"MKSTREAM") for key in KEYS[:2] for group in (b"g1", b"g2")),
    *((b"XADD", KEYS[0], b"1-%d" % number, b"f", b"v") for number in range(4)),
    (b"XREADGROUP", b"GROUP", b"g1", b"alice", b"COUNT", b"3", b"STREAMS", KEYS[0], b">"),
]


@pytest.fixture(scope="module", params=["followed", "cluster"])
def pair(request: pytest.FixtureRequest) -> Iterator[StreamPair]:
    """Both servers: with a replica attached, and in cluster mode."""
    with StreamPair(cluster=request.param == "cluster") as servers:
        servers.open_waiters()
        yield servers


@given(steps=_steps, node_entries=st.sampled_from((3, 4, 100)))
def test_any_requests_have_the_same_effect(pair: StreamPair, steps: list[Step], node_entries: int) -> None:
    pair.begin()
    _limit_nodes(node_entries, 4096)(pair)
    for request in _prepared:
        pair.ask(0, request)
    for step in steps:
        step(pair)
    pair.compare_state()
