"""Counters behind INFO's stats section. Added to per pass where the hot path is concerned, never read there."""

from __future__ import annotations

from collections import deque

SAMPLE_COUNT = 16  # STATS_METRIC_SAMPLES


class RateMeter:
    """A per-second rate from the last 16 samples of a growing counter (trackInstantaneousMetric)."""

    __slots__ = ("_last_ms", "_last_value", "_samples")

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLE_COUNT)
        self._last_ms = 0
        self._last_value = 0

    def sample(self, value: int, now_ms: int) -> None:
        """Note the counter's present value; call every 100 ms or so."""
        if self._last_ms and now_ms > self._last_ms:
            self._samples.append((value - self._last_value) * 1000 / (now_ms - self._last_ms))
        self._last_ms = now_ms
        self._last_value = value

    def per_second(self) -> float:
        """The mean of the samples."""
        return sum(self._samples) / len(self._samples) if self._samples else 0.0


class Statistics:
    """What CONFIG RESETSTAT forgets."""

    def __init__(self) -> None:
        self.errors_by_code: dict[bytes, int] = {}
        self.reset()

    def reset(self) -> None:
        """Begin to count anew (CONFIG RESETSTAT)."""
        self.commands = 0
        self.connections_received = 0
        self.rejected_connections = 0
        self.net_input_bytes = 0
        self.net_output_bytes = 0
        self.error_replies = 0
        self.errors_by_code.clear()
        self.internal_errors = 0
        self.expired_time_cap_reached = 0
        self.expire_cycle_us = 0
        self.net_repl_input_bytes = 0
        self.net_repl_output_bytes = 0
        self.dump_payload_sanitizations = 0
        self.reads_processed = 0
        self.writes_processed = 0
        self.output_limit_disconnections = 0
        self.evicted_clients = 0

    def count_error(self, message: bytes) -> None:
        """Count an error reply under its code word (errorstats); 128 codes at most are told apart."""
        self.error_replies += 1
        code = message.split(b" ", 1)[0].split(b"\r", 1)[0]
        if code in self.errors_by_code or len(self.errors_by_code) < 128:
            self.errors_by_code[code] = self.errors_by_code.get(code, 0) + 1
