"""Counters behind INFO's stats section. Added to per pass where the hot path is concerned, never read there."""

from __future__ import annotations

from collections import deque

import attrs

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


@attrs.define
class Statistics:
    """What CONFIG RESETSTAT forgets."""

    commands: int = 0
    connections_received: int = 0
    rejected_connections: int = 0
    net_input_bytes: int = 0
    net_output_bytes: int = 0
    error_replies: int = 0
    errors_by_code: dict[bytes, int] = attrs.field(factory=dict)
    internal_errors: int = 0
    expired_time_cap_reached: int = 0
    expire_cycle_us: int = 0
    net_repl_input_bytes: int = 0
    net_repl_output_bytes: int = 0
    dump_payload_sanitizations: int = 0
    reads_processed: int = 0
    writes_processed: int = 0
    output_limit_disconnections: int = 0
    evicted_clients: int = 0

    def count_error(self, message: bytes) -> None:
        """Count an error reply under its code word (errorstats); 128 codes at most are told apart."""
        self.error_replies += 1
        code = message.split(b" ", 1)[0].split(b"\r", 1)[0]
        if code in self.errors_by_code or len(self.errors_by_code) < 128:
            self.errors_by_code[code] = self.errors_by_code.get(code, 0) + 1

    def reset(self) -> None:
        """Begin to count anew (CONFIG RESETSTAT)."""
        fresh = Statistics()
        for field in attrs.fields(Statistics):
            setattr(self, field.name, getattr(fresh, field.name))
