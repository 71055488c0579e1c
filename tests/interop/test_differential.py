"""The same requests to one of our nodes and to a real server: every reply, and what is left behind, must be the same.

A type of value takes part by a module of requests in tests/support/differential/ and a line in ``_REQUESTS``.
`make compat` runs many more examples (the hypothesis profile "compat").
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.differential import keyspace, strings, transactions
from tests.support.differential.pair import CONNECTIONS, Pair
from tests.support.differential.steps import Described, Step, ask
from tests.support.differential.vocabulary import KEYS, Request, Requests, keys, words

pytestmark = pytest.mark.real_redis

_REQUESTS: list[Requests] = [strings.requests, keyspace.requests, transactions.requests, transactions.of_the_connection]


def _mangled(requests: Requests) -> Requests:
    """Requests with a word too few, too many or out of place."""
    stray = st.one_of(words("GET NX XX EX 1 REPLACE COUNT MATCH"), keys)

    def mangle(request: Request, cut: int, stray_word: bytes | None) -> Request:
        kept = request[: max(1, len(request) - cut)]
        return kept if stray_word is None else (*kept, stray_word)

    return st.builds(mangle, requests, st.integers(0, 3), st.none() | stray)


def _steps(*, cluster: bool) -> st.SearchStrategy[list[Step]]:
    requests = st.one_of(*_REQUESTS) if cluster else st.one_of(*_REQUESTS, keyspace.across_databases)
    connections = st.integers(0, CONNECTIONS - 1)
    asking = st.builds(ask, connections, requests)
    steps = st.one_of(
        asking,
        asking,
        asking,
        asking,
        st.builds(ask, connections, _mangled(requests)),
        st.builds(_let_expire, connections, keys),
        st.builds(_exchange, connections, keys, keys),
        st.builds(_scan, connections, st.sampled_from(_SCAN_OPTIONS)),
    )
    return st.lists(steps, min_size=1, max_size=25)


_SCAN_OPTIONS = (
    (),
    (b"MATCH", b"{t}*"),
    (b"COUNT", b"1"),
    (b"TYPE", b"string"),
    (b"TYPE", b"list", b"COUNT", b"100"),
    (b"count", b"0"),
    (b"COUNT", b"x"),
    (b"MATCH",),
)


def _let_expire(connection: int, key: bytes) -> Step:
    return Described(f"let_expire({connection}, {key!r})", lambda pair: pair.let_expire(connection, key))


def _exchange(connection: int, source: bytes, target: bytes) -> Step:
    return Described(
        f"exchange_payloads({connection}, {source!r}, {target!r})",
        lambda pair: pair.exchange_payloads(connection, source, target),
    )


def _scan(connection: int, options: Request) -> Step:
    return Described(f"scan({connection}, {options!r})", lambda pair: pair.scan(connection, *options))


@pytest.fixture(scope="module", params=["followed", "alone", "cluster"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both servers: with a replica attached, without, and in cluster mode."""
    with Pair(cluster=request.param == "cluster", followed=request.param != "alone") as servers:
        yield servers


@given(data=st.data())
def test_any_requests_have_the_same_effect(pair: Pair, data: st.DataObject) -> None:
    steps = data.draw(_steps(cluster=pair.cluster))
    pair.begin()
    for step in steps:
        step(pair)
    pair.compare_state()


def test_the_vocabulary_meets_every_slot_case() -> None:
    """In cluster mode some requests must cross slots, and most must not."""
    from cluster.slots.hashing import key_slot

    slots = [key_slot(key) for key in KEYS]
    assert slots[0] == slots[1] == slots[2] and len(set(slots)) > 1
