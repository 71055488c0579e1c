"""LATENCY's memory: spikes by event, and what the histograms of commands are read from (latency.c).

Events      ``command``, ``fast-command``, ``fork``, ``expire-cycle``: noted when they took at least
            latency-monitor-threshold. Of a second only the worst sample is kept, of an event the last 160.
Units       samples: Unix seconds and milliseconds.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from cluster import clock
from cluster.settings import Settings

SAMPLES_MAX: Final = 160  # LATENCY_TS_LEN
NEVER_US: Final = 1 << 62


@attrs.define
class Spikes:
    """The samples of one event, oldest first: [Unix second, ms]."""

    samples: deque[list[int]] = attrs.field(factory=lambda: deque(maxlen=SAMPLES_MAX))
    worst_ms: int = 0


class LatencyMonitor:
    """What one server has noted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.events: dict[bytes, Spikes] = {}

    def note(self, event: bytes, duration_us: int) -> None:
        """Remember a duration if it reaches the threshold."""
        threshold_ms = self._settings.latency_monitor_threshold
        duration_ms = duration_us // 1000
        if not threshold_ms or duration_ms < threshold_ms:
            return
        spikes = self.events.setdefault(event, Spikes())
        spikes.worst_ms = max(spikes.worst_ms, duration_ms)
        second = clock.unix_ms() // 1000
        if spikes.samples and spikes.samples[-1][0] == second:
            spikes.samples[-1][1] = max(spikes.samples[-1][1], duration_ms)
        else:
            spikes.samples.append([second, duration_ms])

    def reset(self, event: bytes | None = None) -> int:
        """Forget one event, in any case, or all; returns how many were known."""
        gone = [name for name in self.events if event is None or name.lower() == event.lower()]
        for name in gone:
            del self.events[name]
        return len(gone)

    def slow_us(self) -> int:
        """The duration from which a command concerns the slow log or this monitor."""
        settings = self._settings
        slow_log_us = settings.slowlog_log_slower_than if settings.slowlog_log_slower_than >= 0 else NEVER_US
        spike_us = settings.latency_monitor_threshold * 1000 if settings.latency_monitor_threshold else NEVER_US
        return min(slow_log_us, spike_us)
