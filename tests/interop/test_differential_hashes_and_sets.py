"""Hashes and sets, here and in a real server: every reply, and what is left behind, must be the same.

Redis keeps the members of a hashtable in no order, so replies that list them are compared as if they were sorted, and
what such a value holds by DEBUG DIGEST-VALUE instead of DUMP. Of what is drawn at random the size is compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.differential import hashes, normalise, sets
from tests.support.differential.pair import CONNECTIONS, Pair, Side
from tests.support.differential.steps import Described, Step, ask
from tests.support.differential.vocabulary import Request, keys, request

pytestmark = pytest.mark.real_redis

_UNORDERED = frozenset(b"SMEMBERS SINTER SUNION SDIFF HKEYS HVALS SPOP".split())
_RANDOM = frozenset({b"SRANDMEMBER", b"HRANDFIELD"})
_SCANS = frozenset({b"HSCAN", b"SSCAN"})


def _comparable(request: Request, raw: bytes) -> bytes:
    """The reply without what may differ."""
    name = request[0].upper()
    if raw[:1] == b"-" or raw[:1] not in b"*~%$":
        return normalise.reply(request, raw)
    if name in _UNORDERED and raw[:1] in b"*~":
        return raw[:1] + b"".join(sorted(normalise.elements(raw)))
    if name == b"HGETALL":
        words = normalise.elements(raw)
        return raw[:1] + repr(sorted(zip(words[::2], words[1::2], strict=True))).encode()
    if name in _RANDOM:
        return raw[: raw.index(b"\r\n")] if raw[:1] == b"*" else raw[:1]
    if name in _SCANS:
        return raw[:4]
    return normalise.reply(request, raw)


class CollectionPair(Pair):
    """Two servers whose hashtables may list their members in different orders."""

    def ask_each(self, connection: int, requests: list[Request]) -> bytes:
        for side, words in zip(self.sides, requests, strict=True):
            side.connections[connection].send(words)
        ours, theirs = (side.connections[connection].reply() for side in self.sides)
        self.history.append(f"{connection}: {requests[0]!r} -> {theirs!r}")
        if ours != theirs:
            self.same("replies", _comparable(requests[0], ours), _comparable(requests[0], theirs))
        return ours

    def walk(self, connection: int, request: Request) -> None:
        """A whole iteration of HSCAN or SSCAN finds the same on both sides."""
        found = []
        for side in self.sides:
            cursor, members = b"0", set[bytes]()
            while True:
                raw = side.connections[connection].ask(request[0], request[1], cursor, *request[2:])
                if not raw.startswith(b"*2"):
                    found.append({raw})
                    break
                _head, _size, cursor, rest = raw.split(b"\r\n", 3)
                members.update(normalise.elements(rest))
                if cursor == b"0":
                    found.append(members)
                    break
        self.history.append(f"{connection}: {request!r} -> {found[1]!r}")
        self.same("walk", *found)
        for side in self.sides:  # Each took steps of its own number, and each step counts as a hit.
            side.observer.ask(b"CONFIG", b"RESETSTAT")

    def _end_of_stream(self, side: Side) -> list[bytes]:
        """Without the payloads of RESTORE, which each side got from the other."""
        commands = super()._end_of_stream(side)
        return [b"RESTORE" if b"RESTORE" in command[:15].upper() else command for command in commands]

    def _compare_database(self, index: int) -> None:
        observers = [side.observer for side in self.sides]
        for key in self.same_keys(index):
            described: list[Request] = [(b"TYPE", key), (b"OBJECT", b"ENCODING", key), (b"DEBUG", b"DIGEST-VALUE", key)]
            if b"hashtable" not in observers[0].ask(b"OBJECT", b"ENCODING", key):
                described.append((b"DUMP", key))
            for words in described:
                self.same(f"{words!r} in database {index}", *(observer.ask(*words) for observer in observers))


def _walk(connection: int, name: bytes, key: bytes, options: Request) -> Step:
    request = (name, key, *options)

    def act(pair: Pair) -> None:
        assert isinstance(pair, CollectionPair)
        pair.walk(connection, request)

    return Described(f"walk({connection}, {request!r})", act)


def _fill(connection: int, name: bytes, key: bytes, first: int, count: int) -> Step:
    """Enough members for another encoding."""
    names = [b"%d" % number for number in range(first, first + count)]
    words = [word for text in names for word in (text, text)] if name == b"HSET" else names
    return Described(f"fill({name!r}, {key!r}, {count})", lambda pair: pair.ask(connection, (name, key, *words)))


def _exchange(connection: int, source: bytes, target: bytes) -> Step:
    return Described(
        f"exchange_payloads({connection}, {source!r}, {target!r})",
        lambda pair: pair.exchange_payloads(connection, source, target),
    )


_connections = st.integers(0, CONNECTIONS - 1)
_of_any_key = st.one_of(
    request("DEL UNLINK", keys), request("RENAME COPY RENAMENX", keys, keys), request("SET", keys, keys)
)
_asking = st.builds(ask, _connections, st.one_of(hashes.requests, sets.requests))
_steps = st.lists(
    st.one_of(
        _asking,
        _asking,
        _asking,
        _asking,
        st.builds(ask, _connections, _of_any_key),
        st.builds(_walk, _connections, st.sampled_from((b"HSCAN", b"SSCAN")), keys, hashes.scan_options),
        st.builds(
            _fill, _connections, st.sampled_from((b"HSET", b"SADD", b"SREM")), keys, st.integers(-5, 300),
            st.sampled_from((20, 130, 513)),
        ),
        st.builds(_exchange, _connections, keys, keys),
    ),
    min_size=1,
    max_size=30,
)  # fmt: skip


@pytest.fixture(scope="module", params=["followed", "cluster"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both servers: with a replica attached, and in cluster mode."""
    with CollectionPair(cluster=request.param == "cluster") as servers:
        for side in servers.sides:  # The two compress alike, but not to the same bytes.
            side.observer.ask(b"CONFIG", b"SET", b"rdbcompression", b"no")
        yield servers


@given(steps=_steps)
def test_any_requests_have_the_same_effect(pair: Pair, steps: list[Step]) -> None:
    pair.begin()
    for step in steps:
        step(pair)
    pair.compare_state()
