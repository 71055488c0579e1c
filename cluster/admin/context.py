"""What every operation is given: the person, a way to reach nodes, and the time.

Role        The one argument that the operations share; the tests put a model of a cluster and of the time into it.
Invariants  Operations reach nodes, clocks and the terminal only through it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from cluster.admin.address import Address
from cluster.admin.connection import Credentials, Link, connect
from cluster.admin.console import Console
from cluster.clock import monotonic_ms


@attrs.define
class Context:
    """An operation's surroundings."""

    console: Console
    credentials: Credentials = attrs.field(factory=Credentials)
    open_link: Callable[[Address, Credentials], Link] = connect
    now_ms: Callable[[], int] = monotonic_ms
    sleep_s: Callable[[float], None] = time.sleep
    _links: list[Link] = attrs.field(factory=list)

    def connect(self, address: Address) -> Link:
        """Connect to a node and log in; the connection is closed with the context."""
        link = self.open_link(address, self.credentials)
        self._links.append(link)
        return link

    def close(self) -> None:
        """Close every connection made."""
        for link in self._links:
            link.close()
        self._links.clear()

    def wait_until(
        self, condition: Callable[[], bool], timeout_ms: int, poll_ms: int, on_wait: Callable[[int], None]
    ) -> bool:
        """Poll until ``condition`` holds; False when it did not in ``timeout_ms``.

        ``on_wait`` is told the milliseconds waited so far, after every poll that failed.
        """
        started_ms = self.now_ms()
        while not condition():
            waited_ms = self.now_ms() - started_ms
            if waited_ms >= timeout_ms:
                return False
            on_wait(waited_ms)
            self.sleep_s(poll_ms / 1000)
        return True
