"""Servers of either kind, and a master played by hand, for the tests of replication."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.replication import HandMaster, Start
from tests.support.servers import Kind, Server, make_server


@pytest.fixture
def start() -> Iterator[Start]:
    """``start(kind, **directives)``: a running server that is gone after the test."""
    with ExitStack() as stack:

        def run(kind: Kind, **directives: object) -> Server:
            return stack.enter_context(make_server(kind, **directives))  # type: ignore[arg-type]

        yield run


@pytest.fixture
def by_hand() -> Iterator[HandMaster]:
    master = HandMaster()
    yield master
    master.close()
