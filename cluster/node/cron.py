"""Housekeeping, ``hz`` times a second and once a second (serverCron in server.c).

Each job is one row of a table with its period; a job that raises is logged and the others go on. Units: ms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from cluster import clock
from cluster.keyspace.expiry import Left, expire_due
from cluster.keyspace.reclaim import RECLAIMER
from cluster.keyspace.slot_scan import SLOT_SCANS

if TYPE_CHECKING:
    from cluster.node.server import Server
    from cluster.node.timers import Timer

EXPIRE_SLICE_US = 2500
EXPIRE_SHARE = 25
"""Percent of the time that due keys may take (ACTIVE_EXPIRE_CYCLE_SLOW_TIME_PERC); 2 more for each step of effort."""
EXPIRE_FREE_US = 22_000
"""Without lazyfree-lazy-expire, for how long large values are freed before their keys go: a cycle of Redis may take
25 ms. Here it is done in slices, too."""
_RECLAIM_US = 1000
_RECLAIM_PAUSE_MS = 2


class Cron:
    """The periodic jobs of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._jobs: list[tuple[int, Callable[[], None]]] = [
            (0, server.watchdog.tick),
            (100, self._expire),
            (100, self._sample_rates),
            (100, server.saving.check_child),
            (100, server.aof.cron),
            (100, server.scripting.debugging.reap),
            (100, server.stopping.check),
            (100, server.blocking.redirect),
            (100, self._limit_tracking),
            (100, server.memory_limit.tick),
            (100, self._reclaim),
            (1000, self._drop_idle_clients),
            (100, server.saving.check_save_points),
            (1000, server.aof.retry_write),
            (1000, server.replication.cron),
            (1000, self._note_memory),
            (1000, server.collector.tick),
            (1000, server.client_limit.note_all),
            (1000, lambda: server.migrate_connections.close_idle(clock.monotonic_ms())),
            (1000, lambda: SLOT_SCANS.forget_idle(clock.monotonic_ms())),
            (1000, server.refresh_plain),
        ]
        self._due_ms = [0] * len(self._jobs)
        self._reclaiming: Timer | None = None
        self._expiring: Timer | None = None
        self._free_left_us = 0
        """For how long what large values leave is still to be freed before their keys go."""
        self._freed_us = 0
        """What has gone into that: the expire-cycle of those keys."""
        self.paused = False
        """DEBUG PAUSE-CRON."""

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await trio.sleep(1 / max(1, min(self._server.settings.hz, 500)))
            if not self.paused:
                self.run_due(clock.monotonic_ms())

    def run_due(self, now_ms: int) -> None:
        """Run the jobs whose time has come."""
        server = self._server
        server.keyspace.now_ms = clock.unix_ms()
        server.now_ms = now_ms
        for index, (period_ms, job) in enumerate(self._jobs):
            if now_ms < self._due_ms[index]:
                continue
            self._due_ms[index] = now_ms + period_ms - 5  # A round that comes a little early still counts.
            try:
                job()
            except Exception:
                server.report_exception()
        if server.keyspace.effects:
            server.dispatcher.end_unit(is_atomic=False)
        server.reactor.request_flush()

    def _expire(self) -> None:
        """Delete due keys; when that takes longer, in slices between which the loop serves clients.

        The slices take the share of the time that active-expire-effort allows, as Redis's longer cycles do.
        """
        if self._expiring is not None and self._expiring.is_pending:
            self._server.statistics.expired_time_cap_reached += 1
            return
        self._expire_slice()

    def _expire_slice(self) -> None:
        server = self._server
        if not server.active_expire or server.pauses.holds_writes() or server.loading:
            return
        server.keyspace.now_ms = clock.unix_ms()
        began_us = clock.monotonic_us()
        earlier_us = 0
        if self._free_left_us > 0:
            left = Left.BURIED if RECLAIMER.drain(min(EXPIRE_SLICE_US, self._free_left_us)) else Left.KEYS
        else:
            left = expire_due(server.keyspace, EXPIRE_SLICE_US)
            earlier_us, self._freed_us = self._freed_us, 0
            if left is Left.BURIED:
                self._free_left_us = EXPIRE_FREE_US
        if left is not Left.NOTHING:
            share = EXPIRE_SHARE + 2 * (server.settings.active_expire_effort - 1)
            pause_ms = (clock.monotonic_us() - began_us) * (100 - share) // (share * 1000)
            self._expiring = server.timers.call_at(clock.monotonic_ms() + pause_ms, self._expire_slice)
        if server.keyspace.effects:
            server.dispatcher.end_unit(is_atomic=False)
            server.reactor.request_flush()
        elapsed_us = clock.monotonic_us() - began_us
        server.statistics.expire_cycle_us += elapsed_us
        if self._free_left_us > 0:
            self._freed_us += elapsed_us
            self._free_left_us = self._free_left_us - elapsed_us if left is Left.BURIED else 0
        else:
            server.latency.note(b"expire-cycle", earlier_us + elapsed_us)

    def _limit_tracking(self) -> None:
        if self._server.tracking.clients:
            self._server.tracking.limit()

    def _sample_rates(self) -> None:
        server = self._server
        now_ms = clock.monotonic_ms()
        server.meters["commands"].sample(server.statistics.commands, now_ms)
        server.meters["input"].sample(server.statistics.net_input_bytes, now_ms)
        server.meters["output"].sample(server.statistics.net_output_bytes, now_ms)

    def _drop_idle_clients(self) -> None:
        server = self._server
        now_ms = clock.monotonic_ms()
        seconds = server.settings.timeout
        for client in list(server.sessions.values()):
            if client.replica is not None or client.is_master_link:
                continue
            client.large_value_bytes //= 2
            waits = client.parked is not None or client.subscriptions is not None or client.is_monitor
            if seconds and not waits and now_ms - client.last_active_ms > seconds * 1000:
                server.log.verbose("Closing idle client")
                server.reactor.disconnect(client)
            elif client.unsent_bytes and server.exceeds_output_limit(client, now_ms):
                server.log.warning(
                    f"Client {server.describe_client(client)} scheduled to be closed ASAP for overcoming of output "
                    "buffer limits."
                )
                server.reactor.disconnect(client)

    def _reclaim(self) -> None:
        """Free what large values have left, a little in each turn of the loop."""
        if RECLAIMER.drain(_RECLAIM_US) and not (self._reclaiming and self._reclaiming.is_pending):
            self._reclaiming = self._server.timers.call_at(clock.monotonic_ms() + _RECLAIM_PAUSE_MS, self._reclaim)

    def _note_memory(self) -> None:
        self._server.memory.used_bytes()  # Which notes the peak.
