"""Readiness of the client sockets: epoll itself on Linux, the platform's selector elsewhere.

Both forms expose one file descriptor that a trio task can wait for, and a non-blocking ``poll``.
"""

from __future__ import annotations

import select
import selectors
from typing import Final, Protocol

READ: Final = 1
WRITE: Final = 4
"""The numbers are EPOLLIN and EPOLLOUT, so that epoll's answers need no translation."""


class Poller(Protocol):
    """What the reactor asks of either form."""

    def fileno(self) -> int: ...

    def register(self, fd: int, mask: int) -> None: ...

    def modify(self, fd: int, mask: int) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """(fd, mask) pairs that are ready; any bit beyond READ and WRITE means an error or a hang-up."""
        ...

    def close(self) -> None: ...


class SelectorPoller:
    """kqueue (or whatever the platform has best) behind the same face."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def fileno(self) -> int:
        return self._selector.fileno()

    def register(self, fd: int, mask: int) -> None:
        self._selector.register(fd, _to_selector(mask))

    def modify(self, fd: int, mask: int) -> None:
        self._selector.modify(fd, _to_selector(mask))

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        ready = self._selector.select(timeout)
        return [
            (key.fd, (READ if events & selectors.EVENT_READ else 0) | (WRITE if events & selectors.EVENT_WRITE else 0))
            for key, events in ready[:maxevents]
        ]

    def close(self) -> None:
        self._selector.close()


def _to_selector(mask: int) -> int:
    return (selectors.EVENT_READ if mask & READ else 0) | (selectors.EVENT_WRITE if mask & WRITE else 0)


def new_poller() -> Poller:
    """The best poller of this platform."""
    return select.epoll() if hasattr(select, "epoll") else SelectorPoller()
