"""Requests that belong to no type, among some that do, to one of our nodes and to a real server: the same replies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.differential import administration, keyspace, lists, strings
from tests.support.differential.pair import CONNECTIONS, Pair
from tests.support.differential.vocabulary import Request, Requests

pytestmark = pytest.mark.real_redis


class AdministrationPair(Pair):
    """Both forget scripts, functions and what was counted between two runs."""

    def begin(self) -> None:
        super().begin()
        for side in self.sides:
            for words in ((b"SCRIPT", b"FLUSH"), (b"FUNCTION", b"FLUSH"), (b"CONFIG", b"RESETSTAT")):
                side.observer.ask(*words)


@pytest.fixture(scope="module", params=["alone", "cluster"])
def pair(request: pytest.FixtureRequest) -> Iterator[AdministrationPair]:
    with AdministrationPair(cluster=request.param == "cluster", followed=False) as servers:
        yield servers


def _requests(*, cluster: bool) -> Requests:
    ordinary = st.one_of(strings.requests, lists.requests, keyspace.requests)
    own = administration.requests
    choices = [own, own, own, ordinary] if cluster else [own, own, own, ordinary, administration.without_cluster]
    return st.one_of(choices)


@given(data=st.data())
def test_any_requests_have_the_same_replies(pair: AdministrationPair, data: st.DataObject) -> None:
    requests: list[tuple[int, Request]] = data.draw(
        st.lists(st.tuples(st.integers(0, CONNECTIONS - 1), _requests(cluster=pair.cluster)), min_size=1, max_size=25)
    )
    pair.begin()
    for connection, request in requests:
        pair.ask(connection, request)
