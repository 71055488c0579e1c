"""A client that follows redirections, and a writer that never stops and remembers everything.

`RedirectingClient` does exactly what the specification asks of a client: MOVED is followed and remembered, ASK is
followed once after ASKING, TRYAGAIN is asked again; every other error reaches the caller. `ContinuousWriter` uses it
from a thread and keeps an account: what was acknowledged, which errors came back, and how long it went without an
acknowledgement. Units: seconds, monotonic.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import attrs

from tests.support.waiting import PATIENCE, eventually
from tests.support.wire import Argument, RawConnection, ReplyError

REDIRECTIONS_MAX = 16
TRYAGAIN_PAUSE = 0.005
RETRY_PAUSE = 0.01


class RedirectingClient:
    """A cluster client as the specification describes it, single-threaded."""

    def __init__(self, ports: Iterable[int], *, timeout: float = PATIENCE) -> None:
        self.seeds = list(ports)
        self.timeout = timeout
        self.redirections = 0
        self._connections: dict[int, RawConnection] = {}
        self._owners: dict[int, int] = {}  # slot → port, learned from MOVED

    def call(self, key: str, *command: Argument, slot: int) -> Any:
        """Run a command about `key`, which hashes to `slot`; raises ReplyError or OSError."""
        port, asking = self._owners.get(slot, self.seeds[0]), False
        for _ in range(REDIRECTIONS_MAX):
            connection = self._connection(port)
            try:
                if asking:
                    connection.call("ASKING")
                return connection.call(*command)
            except ReplyError as error:
                words = str(error).split(" ")
                if words[0] == "TRYAGAIN":
                    time.sleep(TRYAGAIN_PAUSE)
                elif words[0] in ("MOVED", "ASK"):
                    self.redirections += 1
                    port, asking = int(words[2].rpartition(":")[2]), words[0] == "ASK"
                    if not asking:
                        self._owners[int(words[1])] = port
                else:
                    raise
            except OSError:
                self._forget(port)
                raise
        raise ReplyError(f"more than {REDIRECTIONS_MAX} redirections for {key}")

    def try_another_seed(self) -> None:
        """After a failure: ask the next node, knowing nothing."""
        self.seeds.append(self.seeds.pop(0))
        self._owners.clear()

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _connection(self, port: int) -> RawConnection:
        if port not in self._connections:
            self._connections[port] = RawConnection(port, timeout=self.timeout)
        return self._connections[port]

    def _forget(self, port: int) -> None:
        if connection := self._connections.pop(port, None):
            connection.close()


@attrs.frozen
class Failure:
    """A write that was answered by an error, or not at all."""

    at: float
    key: str
    text: str


@attrs.define
class Account:
    """What the writer has to say afterwards."""

    acknowledged: dict[str, str] = attrs.field(factory=dict)  # Key → the last value answered by OK.
    uncertain: dict[str, str] = attrs.field(factory=dict)  # Sent, never answered: may or may not be there.
    failures: list[Failure] = attrs.field(factory=list)
    writes: int = 0
    longest_gap: float = 0.0  # Between two acknowledgements next to each other.


class ContinuousWriter:
    """Writes `key → value` for as long as the block lasts, following redirections.

    `keys` is cycled. An error is noted and the same key is tried again through another node, as an application does
    that waits for a failover; a test that allows no error looks at `account.failures` afterwards.
    """

    def __init__(
        self,
        ports: Iterable[int],
        keys: Iterable[str],
        slot_of: Callable[[bytes], int],
        *,
        timeout: float = PATIENCE,
        pause: float = 0.0,
    ) -> None:
        self.account = Account()
        self._client = RedirectingClient(ports, timeout=timeout)
        self._keys = [(key, slot_of(key.encode())) for key in keys]
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self.account.writes > 0, message="the writer's first write")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> Account:
        self._stop.set()
        self._thread.join(2 * PATIENCE)  # It may be waiting for an answer.
        assert not self._thread.is_alive(), "the writer hangs"
        self._client.close()
        return self.account

    def wait_for_writes(self, count: int, timeout: float = PATIENCE) -> None:
        """Return when `count` more writes have been acknowledged."""
        goal = self.account.writes + count
        eventually(lambda: self.account.writes >= goal, timeout, message=f"{count} more writes")

    def _run(self) -> None:
        account = self.account
        last = time.monotonic()
        for number, (key, slot) in enumerate(itertools.cycle(self._keys)):
            value = f"{key}:{number}"
            written = False
            while not written and not self._stop.is_set():
                try:
                    answer = self._client.call(key, "SET", key, value, slot=slot)
                    assert answer == b"OK", answer
                    written = True
                except (OSError, ReplyError, AssertionError) as error:
                    if not isinstance(error, ReplyError):
                        account.uncertain[key] = value
                    account.failures.append(Failure(time.monotonic(), key, repr(error)))
                    self._client.try_another_seed()
                    time.sleep(RETRY_PAUSE)
            if not written:
                return
            now = time.monotonic()
            account.acknowledged[key] = value
            account.uncertain.pop(key, None)
            account.writes += 1
            account.longest_gap = max(account.longest_gap, now - last)
            last = now
            if self._pause:
                self._stop.wait(self._pause)
