"""The only reader of the clocks; everything below the shell gets time as an argument.

``monotonic_ms`` is for elapsed time (time-outs, gossip, links); ``unix_ms``/``unix_us`` are for what is meaningful
across restarts and machines (expiry, CLUSTER NODES, LASTSAVE).
"""

from __future__ import annotations

import time


def monotonic_ms() -> int:
    """Milliseconds on a clock that never jumps; its zero means nothing."""
    return time.monotonic_ns() // 1_000_000


def monotonic_us() -> int:
    """Microseconds on the same clock as :func:`monotonic_ms`."""
    return time.monotonic_ns() // 1_000


def unix_ms() -> int:
    """Milliseconds since 1970, as expiry times are written in files and on the wire."""
    return time.time_ns() // 1_000_000


def unix_us() -> int:
    """Microseconds since 1970, for TIME and the slow log."""
    return time.time_ns() // 1_000


def stand_still(seconds: float) -> None:
    """Stop the whole process for so long (DEBUG SLEEP); nothing but a test wants that."""
    time.sleep(seconds)
