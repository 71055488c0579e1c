"""Bits, HyperLogLogs and SORT, here and in a real server: every reply, and what is left behind, must be the same.

What is stored is compared byte by byte (DUMP), so a HyperLogLog's registers and its cache are, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.persistence.collection_types import register_collections
from cluster.settings import Settings
from tests.support.differential import bits, keyspace, sorting, transactions
from tests.support.differential.pair import CONNECTIONS, Pair
from tests.support.differential.vocabulary import Request, Requests

pytestmark = pytest.mark.real_redis

_connections = st.integers(0, CONNECTIONS - 1)


def _steps(*requests: Requests) -> st.SearchStrategy[list[tuple[int, Request]]]:
    return st.lists(st.tuples(_connections, st.one_of(*requests)), min_size=1, max_size=30)


@pytest.fixture(scope="module", params=["followed", "cluster"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both servers: with a replica attached, and in cluster mode."""
    register_collections(Settings())  # Payloads are compared by what they hold.
    with Pair(cluster=request.param == "cluster") as servers:
        for side in servers.sides:  # The two compress alike, but not to the same bytes.
            side.observer.ask(b"CONFIG", b"SET", b"rdbcompression", b"no")
        yield servers


def _run(pair: Pair, steps: list[tuple[int, Request]]) -> None:
    pair.begin()
    for connection, request in steps:
        pair.ask(connection, request)
    pair.compare_state()


@given(steps=_steps(bits.requests, bits.requests, bits.requests, keyspace.requests, transactions.requests))
def test_bits(pair: Pair, steps: list[tuple[int, Request]]) -> None:
    _run(pair, steps)


@given(steps=_steps(bits.hyperloglogs, bits.hyperloglogs, bits.hyperloglogs, keyspace.requests))
def test_hyperloglogs(pair: Pair, steps: list[tuple[int, Request]]) -> None:
    _run(pair, steps)


@given(steps=_steps(sorting.requests, sorting.requests, sorting.of_what_is_sorted, sorting.of_what_is_sorted))
def test_sort(pair: Pair, steps: list[tuple[int, Request]]) -> None:
    _run(pair, steps)
