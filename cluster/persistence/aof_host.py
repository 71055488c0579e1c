"""What an append only file asks of its server; implemented by cluster.node.append_only.AofShell."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NoReturn, Protocol


class AofState(enum.Enum):
    """Whether commands are logged."""

    OFF = "off"
    ON = "on"
    WAIT_REWRITE = "wait for the first rewrite"


class AofHost(Protocol):
    """What an append only file needs of its server."""

    def log(self, level: str, text: str) -> None:
        """A line for the log."""

    def child_is_active(self) -> bool:
        """A child of any kind runs."""

    def is_in_transaction(self) -> bool:
        """A transaction or a script is running, and its effects are not complete."""

    def sync_in_background(self, descriptor: int, done: Callable[[int], None]) -> None:
        """fdatasync ``descriptor`` in a thread, then call ``done`` in the loop with the error's number, or 0."""

    def in_background(self, work: Callable[[], None]) -> None:
        """Do in a thread what may take long and matters to nobody."""

    def note_latency(self, event: bytes, duration_us: int) -> None:
        """LATENCY."""

    def writes_refused_changed(self) -> None:
        """Whether writes must be refused, or whether effects are wanted, may have changed."""

    def watch_child(self) -> None:
        """A rewrite has been forked."""

    def die(self) -> NoReturn:
        """End the process at once; nothing may be said to anybody any more."""
