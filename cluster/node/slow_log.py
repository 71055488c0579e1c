"""SLOWLOG: the last requests that took longer than slowlog-log-slower-than. Units: microseconds, Unix seconds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

from cluster import clock

if TYPE_CHECKING:
    from cluster.commands.context import Session

ARGUMENTS_MAX = 32  # SLOWLOG_ENTRY_MAX_ARGC
ARGUMENT_BYTES_MAX = 128  # SLOWLOG_ENTRY_MAX_STRING
_NO_ADDRESS = "?:0"
"""Of a command that a script calls; the script itself is logged with its client's."""


@attrs.frozen
class SlowEntry:
    """One slow request, shortened as Redis shortens it."""

    entry_id: int
    unix_seconds: int
    duration_us: int
    argv: tuple[bytes, ...]
    address: str
    client_name: bytes


class SlowLog:
    """Newest first; as many as slowlog-max-len says."""

    def __init__(self, max_entries: int) -> None:
        self.entries: deque[SlowEntry] = deque()
        self.max_entries = max_entries
        self._next_id = 0

    def add(self, client: Session, argv: list[bytes], duration_us: int) -> None:
        """Note a slow request of ``client``."""
        address = _NO_ADDRESS if client.is_script else client.address
        entry = SlowEntry(self._next_id, clock.unix_ms() // 1000, duration_us, shortened(argv), address, client.name)
        self._next_id += 1
        self.entries.appendleft(entry)
        self.trim()

    def trim(self) -> None:
        """Forget the oldest entries beyond the limit."""
        while len(self.entries) > self.max_entries:
            self.entries.pop()


def shortened(argv: list[bytes]) -> tuple[bytes, ...]:
    """At most 32 arguments of at most 128 bytes, saying what was left out."""
    kept = argv if len(argv) <= ARGUMENTS_MAX else argv[: ARGUMENTS_MAX - 1]
    words = [
        argument
        if len(argument) <= ARGUMENT_BYTES_MAX
        else argument[:ARGUMENT_BYTES_MAX] + b"... (%d more bytes)" % (len(argument) - ARGUMENT_BYTES_MAX)
        for argument in kept
    ]
    if len(argv) > ARGUMENTS_MAX:
        words.append(b"... (%d more arguments)" % (len(argv) - ARGUMENTS_MAX + 1))
    return tuple(words)
