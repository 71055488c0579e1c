"""A clock that stands still until the test moves it, for all in the test's own process that asks `cluster.clock`.

Who looks at the time twice gets the same answer twice, however busy the machine is; the fixture `still_time` puts it in
place for one test. Units: ms.
"""

from __future__ import annotations

UNIX_START_MS = 1_700_000_000_000
MONOTONIC_START_MS = 1_000_000


class StillTime:
    """Stands in for the module `time`, as far as `cluster.clock` needs it."""

    def __init__(self) -> None:
        self._passed_ns = 0
        self.per_look_ms = 0
        """What passes whenever somebody looks."""

    @property
    def unix_ms(self) -> int:
        """Unix time now; asking for it lets no time pass."""
        return UNIX_START_MS + self._passed_ns // 1_000_000

    def pass_ms(self, duration_ms: int) -> None:
        """Let time pass."""
        self._passed_ns += duration_ms * 1_000_000

    def monotonic_ns(self) -> int:
        """What `time.monotonic_ns` is."""
        self.pass_ms(self.per_look_ms)
        return MONOTONIC_START_MS * 1_000_000 + self._passed_ns

    def time_ns(self) -> int:
        """What `time.time_ns` is."""
        self.pass_ms(self.per_look_ms)
        return UNIX_START_MS * 1_000_000 + self._passed_ns

    def sleep(self, seconds: float) -> None:
        """What `time.sleep` is, but at once."""
        self.pass_ms(round(seconds * 1000))
