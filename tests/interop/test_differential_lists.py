"""Lists, here and in a real server: every reply, what replicas are told, and what is left behind must be the same.

A list of more than one node is cut elsewhere here, so such a value is compared by DEBUG DIGEST-VALUE instead of DUMP.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.differential import keyspace, lists, transactions
from tests.support.differential.pair import CONNECTIONS, Pair
from tests.support.differential.steps import Described, Step, ask
from tests.support.differential.vocabulary import Request, keys

pytestmark = pytest.mark.real_redis


class ListPair(Pair):
    """Two servers whose lists may be cut into different nodes."""

    def ask(self, connection: int, request: Request) -> bytes:
        if request[0].upper() == b"DUMP":
            return b""
        return super().ask(connection, request)

    def restore_on_both(self, connection: int, source: bytes, target: bytes, *, ours: bool) -> None:
        """Both get what one of them has dumped."""
        # Both are asked, so that both count it.
        dumped = [side.observer.ask(b"DUMP", source) for side in self.sides][0 if ours else 1]
        if dumped.startswith(b"$") and dumped != b"$-1\r\n":
            payload = dumped[dumped.index(b"\r\n") + 2 : -2]
            super().ask(connection, (b"RESTORE", target, b"0", payload, b"REPLACE"))

    def _compare_database(self, index: int) -> None:
        observers = [side.observer for side in self.sides]
        for key in self.same_keys(index):
            asked: list[Request] = [
                (b"TYPE", key),
                (b"OBJECT", b"ENCODING", key),
                (b"LRANGE", key, b"0", b"-1"),
                (b"DEBUG", b"DIGEST-VALUE", key),
            ]
            for words in asked:
                self.same(f"{words!r} in database {index}", *(observer.ask(*words) for observer in observers))


def _fill(connection: int, name: bytes, key: bytes, first: int, count: int) -> Step:
    """Enough elements for several nodes."""
    words = [b"%d" % (number % 40) for number in range(first, first + count)]
    return Described(
        f"fill({name!r}, {key!r}, {first}, {count})", lambda pair: pair.ask(connection, (name, key, *words))
    )


def _restore(connection: int, source: bytes, target: bytes, ours: bool) -> Step:
    def act(pair: Pair) -> None:
        assert isinstance(pair, ListPair)
        pair.restore_on_both(connection, source, target, ours=ours)

    return Described(f"restore_on_both({connection}, {source!r}, {target!r}, ours={ours})", act)


_connections = st.integers(0, CONNECTIONS - 1)
_asking = st.builds(ask, _connections, lists.requests)
_steps = st.lists(
    st.one_of(
        _asking,
        _asking,
        _asking,
        _asking,
        st.builds(ask, _connections, lists.waiting),
        st.builds(ask, _connections, keyspace.requests),
        st.builds(ask, _connections, transactions.requests),
        st.builds(
            _fill, _connections, st.sampled_from((b"LPUSH", b"RPUSH")), keys, st.integers(0, 300),
            st.sampled_from((20, 130, 600, 2000)),
        ),
        st.builds(_restore, _connections, keys, keys, st.booleans()),
    ),
    min_size=1,
    max_size=30,
)  # fmt: skip


@pytest.fixture(scope="module", params=["followed", "cluster"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both servers: with a replica attached, and in cluster mode."""
    with ListPair(cluster=request.param == "cluster") as servers:
        yield servers


@given(steps=_steps)
def test_any_requests_have_the_same_effect(pair: Pair, steps: list[Step]) -> None:
    pair.begin()
    for step in steps:
        step(pair)
    pair.compare_state()
