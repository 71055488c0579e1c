"""Times in which requests are held back: CLIENT PAUSE, a failover that hands over, the wait before a shutdown.

A request that must wait is parked as "postponed" by the dispatcher, and goes through the gates again when a pause may
have ended. While writes are held back the data set holds still: nothing expires, nothing is evicted.

Source      networking.c (pauseClients, checkClientPauseTimeoutAndReturnIfPaused).      Units  monotonic ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import clock

if TYPE_CHECKING:
    from cluster.node.server import Server


class ClientPauses:
    """Which requests have to wait now."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._all_until_ms = 0
        self._writes_until_ms = 0
        self._failover_until_ms = 0
        self._before_shutdown = False

    def pause(self, until_ms: int, *, writes_only: bool) -> None:
        """CLIENT PAUSE: a shorter one never shortens one that runs; pausing everything is the stronger of the kinds."""
        running = max(self._all_until_ms, self._writes_until_ms)
        until_ms = max(until_ms, running)
        if writes_only and self._all_until_ms <= clock.monotonic_ms():
            self._writes_until_ms = until_ms
        else:
            self._all_until_ms = self._writes_until_ms = until_ms
        self._server.refresh_plain()
        self._server.timers.call_at(until_ms, self._may_have_ended)

    def end(self) -> None:
        """CLIENT UNPAUSE."""
        self._all_until_ms = self._writes_until_ms = 0
        self._may_have_ended()

    def pause_for_failover(self, until_ms: int | None) -> None:
        """Hold writes back while a replica takes over; None ends that pause and leaves CLIENT PAUSE alone."""
        self._failover_until_ms = until_ms or 0
        if until_ms is not None:
            self._server.timers.call_at(until_ms, self._may_have_ended)
        self._may_have_ended()

    def pause_for_shutdown(self, *, paused: bool) -> None:
        """Hold writes back while replicas catch up before the end."""
        self._before_shutdown = paused
        self._may_have_ended()

    def holds(self, *, may_replicate: bool) -> bool:
        """Whether a request, one that replicas could be told of or not, must wait for the end of a pause."""
        if self._before_shutdown:
            return may_replicate
        if not (self._all_until_ms or self._writes_until_ms or self._failover_until_ms):
            return False
        now_ms = clock.monotonic_ms()
        if now_ms < self._all_until_ms:
            return True
        return may_replicate and now_ms < max(self._writes_until_ms, self._failover_until_ms)

    def holds_writes(self) -> bool:
        """True while no write may be executed: expiry and eviction must hold still too."""
        return self.holds(may_replicate=True)

    def _may_have_ended(self) -> None:
        server = self._server
        server.refresh_plain()
        for client in list(server.sessions.values()):
            if client.parked is not None and client.parked.kind == "postponed":
                server.unpark(client, None)
