"""Clients that wait for keys: who waits for what, and in which order they are served (BLPOP and its like).

Role        A command that finds nothing has its client wait here. While anybody waits, the table observes the keyspace;
            a key that changed and is waited for becomes *ready*, and after the command, transaction or script that
            changed it :meth:`BlockingTable.serve` gives its waiters what they came for, one unit of replication each.
Invariants  Whoever is in the table is parked, and who stops being parked leaves it. Clients are served in the order in
            which they came to the key, keys in the order in which they became ready. Nobody waits, nothing is called.
Source      blocked.c (handleClientsBlockedOnKeys, blockForKeys), timeout.c.      Units  monotonic ms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import attrs

from cluster import clock
from cluster.commands.context import Parked, ServerContext, Session
from cluster.errors import CommandError
from cluster.keyspace.database import Database
from cluster.keyspace.long_double import parse_long_double, round_to_mantissa
from cluster.keyspace.strings import INT64_MAX
from cluster.resp.encode import error
from cluster.slots.hashing import key_slot
from cluster.slots.routing import EndpointType, refusal_text, route_blocked

_BAD_TIMEOUT: Final = b"ERR timeout is not a float or out of range"


@attrs.define(eq=False)
class KeyWaiter:
    """A client that waits for any of ``keys``.

    ``serve(key, value)`` is called when a key holds a value of ``value_type``: it does what the command would have
    done, leaves what replicas must know in the keyspace's effects, and returns the reply; None: the client goes on
    waiting. A CommandError is the reply, too.
    """

    client: Session
    database: Database
    kind: str
    """One of the UNBLOCKABLE kinds of :class:`Parked`."""
    keys: tuple[bytes, ...]
    value_type: type
    serve: Callable[[bytes, Any], bytes | None]
    is_write: bool = True
    if_gone: bytes | None = None
    """How it is refused when a key that changed is no longer of ``value_type``; None: it goes on waiting."""


class BlockingTable:
    """All clients of one server that wait for keys."""

    def __init__(self, server: ServerContext, end_unit: Callable[[], None]) -> None:
        self._server = server
        self._keyspace = server.keyspace
        self._end_unit = end_unit
        self.waiters: dict[tuple[int, bytes], dict[KeyWaiter, None]] = {}
        self._attached = 0
        """How many of the waiters have something to say if their keys go."""
        self._routing_version = -1
        self.ready: dict[tuple[int, bytes], None] = {}
        """What :meth:`serve` must look at, the key that changed first coming first. Always this object."""

    def __bool__(self) -> bool:
        return bool(self.waiters)

    # Waiting --------------------------------------------------------------------------------------------------

    def wait(self, waiter: KeyWaiter, deadline_ms: int | None) -> None:
        """Park the client until a key is there, or ``deadline_ms`` (None: never) has passed."""
        client = waiter.client
        for key in waiter.keys:
            self.waiters.setdefault((waiter.database.index, key), {})[waiter] = None
        self._attached += waiter.if_gone is not None
        self._keyspace.observe(self.key_changed)
        client.asking = False  # It was for this command alone.
        self._server.park(
            client,
            Parked(
                kind=waiter.kind,
                deadline_ms=deadline_ms,
                on_timeout=lambda: client.proto.null_array,
                on_cancel=lambda: self._remove(waiter),
                keys=waiter.keys,
            ),
        )

    def _remove(self, waiter: KeyWaiter) -> None:
        self._attached -= waiter.if_gone is not None
        for key in waiter.keys:
            place = (waiter.database.index, key)
            queue = self.waiters.get(place)
            if queue is None:
                continue
            queue.pop(waiter, None)
            if not queue:
                del self.waiters[place]
        if not self.waiters:
            self._keyspace.unobserve(self.key_changed)

    def _release(self, waiter: KeyWaiter, reply: bytes) -> None:
        self._remove(waiter)
        self._server.unpark(waiter.client, reply)

    # Serving --------------------------------------------------------------------------------------------------

    def key_changed(self, database: Database, key: bytes) -> None:
        """The observer of the keyspace."""
        place = (database.index, key)
        if place in self.waiters:
            self.ready[place] = None

    def contents_replaced(self, database: Database) -> None:
        """After SWAPDB and FLUSHALL: every key of the database may be one that is waited for, or has gone."""
        for index, key in self.waiters:
            if index == database.index and (self._attached or key in database.slots[key_slot(key)]):
                self.ready[index, key] = None

    def serve(self) -> None:
        """Serve those who wait for keys that are ready. To be called between units of execution."""
        ready = self.ready
        while ready:
            place = next(iter(ready))
            del ready[place]
            if place in self.waiters:
                self._serve_key(*place)

    def _serve_key(self, index: int, key: bytes) -> None:
        database = self._keyspace.databases[index]
        slot = key_slot(key)
        value = database.peek(key, slot)
        for waiter in list(self.waiters[index, key]):
            if value is None:
                break
            if type(value) is not waiter.value_type:
                continue
            tracking = self._server.tracking
            tracking.begin_command(waiter.client)
            try:
                reply = waiter.serve(key, value)
            except CommandError as refusal:
                reply = self._refuse(waiter, refusal.message)
            self._finish_unit()
            if reply is not None:
                self._release(waiter, reply)
                waiter.client.write_offset = self._server.replication_state.master_repl_offset
            tracking.end_command(waiter.client)
            value = database.stored(key, slot)
        self._finish_unit()  # An expired key was deleted instead.
        if self._attached:
            for waiter in list(self.waiters.get((index, key), ())):
                if waiter.if_gone is not None and type(value) is not waiter.value_type:
                    self._release(waiter, self._refuse(waiter, waiter.if_gone))

    def _refuse(self, waiter: KeyWaiter, message: bytes) -> bytes:
        """The command for which a client waited has failed after all."""
        self._server.statistics.count_error(message)
        row = self._server.commands.find(waiter.client.last_command)
        if row is not None:
            row.failed_calls += 1
        return error(message)

    def _finish_unit(self) -> None:
        if self._keyspace.effects:
            self._end_unit()

    # Elsewhere ------------------------------------------------------------------------------------------------

    def redirect(self) -> None:
        """In cluster mode, tell those whose keys are no longer served here; to be called from time to time."""
        server = self._server
        cluster = server.cluster
        if cluster is None or not self.waiters or cluster.routing_version == self._routing_version:
            return
        self._routing_version = cluster.routing_version
        endpoint_type = EndpointType(server.settings.cluster_preferred_endpoint_type)
        for waiter in {waiter: None for queue in self.waiters.values() for waiter in queue}:
            outcome = route_blocked(
                cluster, waiter.keys[0], is_readonly_session=waiter.client.readonly, is_write=waiter.is_write
            )
            if outcome is not None:
                message = refusal_text(outcome, endpoint_type)
                server.statistics.count_error(message)
                self._release(waiter, error(message))


def may_block(client: Session) -> bool:
    """False where a command that finds nothing must answer as if its time were over: in transactions and scripts."""
    return not (client.in_exec or client.is_master_link or client.is_script)


def parse_deadline(text: bytes) -> int | None:
    """When a time-out in seconds, given now, is over; None for 0: never. Raises CommandError."""
    try:
        seconds = parse_long_double(text)
    except OverflowError:
        seconds = None
    if seconds is None:
        raise CommandError(_BAD_TIMEOUT)
    # What is too much for 64 bits becomes the least integer of all in Redis, whatever its sign.
    timeout_ms = -1 if isinstance(seconds, float) else math.ceil(round_to_mantissa(seconds * 1000))
    if not 0 <= timeout_ms <= INT64_MAX:
        raise CommandError(b"ERR timeout is negative")
    return clock.monotonic_ms() + timeout_ms if timeout_ms else None
