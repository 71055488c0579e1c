"""Sorted sets and places, here and in a real server: every reply, and what is left behind, must be the same.

What is stored is compared by DUMP, in which both have a sorted set in order. A walk by ZSCAN goes over a skiplist's
table in no order, so of a step only the number of parts is compared, and of a whole walk what it found.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.differential import geo, keyspace, normalise, sets, sorted_sets, transactions
from tests.support.differential.pair import CONNECTIONS, Pair, Side
from tests.support.differential.steps import Described, Step, ask
from tests.support.differential.vocabulary import Request, keys, weighted

pytestmark = pytest.mark.real_redis

_UNORDERED = frozenset(b"SMEMBERS SINTER SUNION SDIFF SPOP".split())
_RANDOM = frozenset({b"SRANDMEMBER", b"ZRANDMEMBER"})
_SCANS = frozenset({b"SSCAN", b"ZSCAN"})
_BY_BYTES = frozenset(b"ZLEXCOUNT ZRANGEBYLEX ZREVRANGEBYLEX ZREMRANGEBYLEX".split())


def _comparable(request: Request, raw: bytes) -> bytes:
    """The reply without what may differ."""
    name = request[0].upper()
    if raw[:1] not in b"*~$":
        return normalise.reply(request, raw)
    if name in _UNORDERED and raw[:1] in b"*~":
        return raw[:1] + b"".join(sorted(normalise.elements(raw)))
    if name in _RANDOM:
        return raw[: raw.index(b"\r\n")] if raw[:1] == b"*" else raw[:1]
    if name in _SCANS:
        return raw[:4]
    return normalise.reply(request, raw)


class SortedSetPair(Pair):
    """Two servers whose tables may list their members in different orders."""

    def begin(self) -> None:
        super().begin()
        self._in_transaction: set[int] = set()

    def ask(self, connection: int, request: Request) -> bytes:
        if self._has_no_answer(connection, request):
            return b""
        reply = super().ask(connection, request)
        if request[0].upper() == b"MULTI":
            self._in_transaction.add(connection)
        elif request[0].upper() in (b"EXEC", b"DISCARD", b"RESET"):
            self._in_transaction.discard(connection)
        return reply

    def _has_no_answer(self, connection: int, request: Request) -> bool:
        """A range by bytes of a skiplist with different scores: Redis's search starts at members drawn at random."""
        if request[0].upper() not in _BY_BYTES and b"BYLEX" not in {word.upper() for word in request}:
            return False
        # What a key will hold when a transaction is executed is not known.
        return connection in self._in_transaction or any(map(self._has_different_scores, request[1:3]))

    def _has_different_scores(self, key: bytes) -> bool:
        """True for a skiplist with more than one score. Both are asked, so that both count it."""
        answers = [
            [
                side.observer.ask(b"OBJECT", b"ENCODING", key),
                side.observer.ask(b"ZRANGE", key, b"0", b"0", b"WITHSCORES"),
                side.observer.ask(b"ZRANGE", key, b"-1", b"-1", b"WITHSCORES"),
            ]
            for side in self.sides
        ]
        encoding, first, last = answers[0]
        return b"skiplist" in encoding and normalise.elements(first)[1:] != normalise.elements(last)[1:]

    def ask_each(self, connection: int, requests: list[Request]) -> bytes:
        for side, words in zip(self.sides, requests, strict=True):
            side.connections[connection].send(words)
        ours, theirs = (side.connections[connection].reply() for side in self.sides)
        self.history.append(f"{connection}: {requests[0]!r} -> {theirs!r}")
        if ours != theirs:
            self.same("replies", _comparable(requests[0], ours), _comparable(requests[0], theirs))
        return ours

    def walk(self, connection: int, key: bytes) -> None:
        """A whole iteration of ZSCAN finds the same on both sides."""
        found = []
        for side in self.sides:
            cursor, pairs = b"0", set[tuple[bytes, bytes]]()
            while True:
                raw = side.connections[connection].ask(b"ZSCAN", key, cursor)
                if not raw.startswith(b"*2"):
                    found.append({(raw, b"")})
                    break
                _head, _size, cursor, rest = raw.split(b"\r\n", 3)
                words = normalise.elements(rest)
                pairs.update(zip(words[::2], words[1::2], strict=True))
                if cursor == b"0":
                    found.append(pairs)
                    break
        self.history.append(f"{connection}: ZSCAN {key!r} -> {found[1]!r}")
        self.same("walk", *found)
        for side in self.sides:  # Each took steps of its own number, and each step counts as a hit.
            side.observer.ask(b"CONFIG", b"RESETSTAT")

    def _end_of_stream(self, side: Side) -> list[bytes]:
        """Without the payloads of RESTORE, which each side got from the other."""
        commands = super()._end_of_stream(side)
        return [b"RESTORE" if b"RESTORE" in command[:15].upper() else command for command in commands]

    def _compare_database(self, index: int) -> None:
        observers = [side.observer for side in self.sides]
        if index and all(b"db%d:" % index not in observer.ask(b"INFO", b"keyspace") for observer in observers):
            return
        for key in self.same_keys(index):
            asked: list[Request] = [(b"TYPE", key), (b"OBJECT", b"ENCODING", key), (b"DEBUG", b"DIGEST-VALUE", key)]
            if b"hashtable" not in observers[0].ask(b"OBJECT", b"ENCODING", key):
                asked.append((b"DUMP", key))
            for words in asked:
                self.same(f"{words!r} in database {index}", *(observer.ask(*words) for observer in observers))


def _walk(connection: int, key: bytes) -> Step:
    def act(pair: Pair) -> None:
        assert isinstance(pair, SortedSetPair)
        pair.walk(connection, key)

    return Described(f"walk({connection}, {key!r})", act)


def _fill(connection: int, key: bytes, first: int, count: int, scores: int) -> Step:
    """Enough members for another encoding, with so many different scores."""
    numbers = range(first, first + count)
    words = [word for number in numbers for word in (b"%d" % (number * 7919 % scores), b"%d" % number)]
    return Described(
        f"fill({key!r}, {first}, {count}, {scores})", lambda pair: pair.ask(connection, (b"ZADD", key, *words))
    )


def _exchange(connection: int, source: bytes, target: bytes) -> Step:
    return Described(
        f"exchange_payloads({connection}, {source!r}, {target!r})",
        lambda pair: pair.exchange_payloads(connection, source, target),
    )


def _let_expire(connection: int, key: bytes) -> Step:
    return Described(f"let_expire({connection}, {key!r})", lambda pair: pair.let_expire(connection, key))


_connections = st.integers(0, CONNECTIONS - 1)
_asking = st.builds(ask, _connections, sorted_sets.requests)
_other_steps = (
    st.builds(ask, _connections, keyspace.requests),
    st.builds(ask, _connections, transactions.requests),
    st.builds(_exchange, _connections, keys, keys),
    st.builds(_walk, _connections, keys),
    st.builds(_let_expire, _connections, keys),
)
_fillings = st.builds(
    _fill, _connections, keys, st.integers(-5, 300), st.sampled_from((20, 130, 600)), st.sampled_from((1, 3, 1000))
)
_steps = st.lists(
    weighted(
        (20, _asking),
        (1, st.builds(ask, _connections, sorted_sets.waiting)),
        (2, st.builds(ask, _connections, sets.requests)),
        (2, _fillings),
        *((1, step) for step in _other_steps),
    ),
    min_size=1,
    max_size=30,
)
_geo_steps = st.lists(
    weighted((20, st.builds(ask, _connections, geo.requests)), (3, _asking), *((1, step) for step in _other_steps)),
    min_size=1,
    max_size=20,
)


def _run(pair: Pair, beginnings: list[Request], steps: list[Step]) -> None:
    pair.begin()
    for request in beginnings:
        pair.ask(0, request)
    for step in steps:
        step(pair)
    pair.compare_state()


@pytest.fixture(scope="module", params=["followed", "cluster"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both servers: with a replica attached, and in cluster mode."""
    with SortedSetPair(cluster=request.param == "cluster") as servers:
        for side in servers.sides:  # The two compress alike, but not to the same bytes.
            side.observer.ask(b"CONFIG", b"SET", b"rdbcompression", b"no")
        yield servers


@given(beginnings=st.lists(sorted_sets.beginnings, max_size=2), steps=_steps)
def test_any_requests_have_the_same_effect(pair: Pair, beginnings: list[Request], steps: list[Step]) -> None:
    _run(pair, beginnings, steps)


@given(beginnings=st.lists(geo.beginnings, max_size=2), steps=_geo_steps)
def test_places_are_the_same(pair: Pair, beginnings: list[Request], steps: list[Step]) -> None:
    _run(pair, beginnings, steps)
