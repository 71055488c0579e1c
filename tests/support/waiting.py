"""Waiting for a condition instead of sleeping for a guess.

Every wait in the tests goes through `eventually`: it polls, returns as soon as the condition holds, and on a deadline
fails with what it last saw. Units: seconds, monotonic.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

PATIENCE: Final = 60.0
"""How long a test waits for what must come: a machine with a dozen servers may be late, and no test is about that."""


class Timeout(AssertionError):
    """A condition that should have come true did not, within its deadline."""


def eventually(
    predicate: Callable[[], T],
    timeout: float = PATIENCE,
    *,
    interval: float = 0.02,
    message: str | Callable[[], str] = "",
    ignore: tuple[type[Exception], ...] = (OSError, AssertionError),
) -> T:
    """Poll `predicate` until it returns something true and return that; raise `Timeout` after `timeout` seconds.

    Exceptions listed in `ignore` count as "not yet": a node that is starting refuses connections, and a predicate may
    hold assertions of its own. The last one is chained to the Timeout, so the failure says what was missing.
    """
    deadline = time.monotonic() + timeout
    last_error: Exception | None = None
    last_value: T | None = None
    while True:
        try:
            last_value = predicate()
            last_error = None
            if last_value:
                return last_value
        except ignore as error:
            last_error = error
        if time.monotonic() >= deadline:
            text = message() if callable(message) else message
            seen = f"last error: {last_error!r}" if last_error else f"last value: {last_value!r}"
            raise Timeout(
                f"not within {timeout} s: {text or getattr(predicate, '__qualname__', predicate)} ({seen})"
            ) from (last_error)
        time.sleep(interval)
