"""From a parsed request to its reply: the hot path, the way through the gates, and the unit of execution.

``receive`` takes the bytes of one read. A client and a server with nothing unusual about them (``plain``, decided when
that state changes and not per command) take :meth:`Dispatcher._run_quick`; everything else goes through
:meth:`Dispatcher.process` and the gates (gates.py).

Invariants  One request runs to completion before the next; its effects are handed to replication as one unit.
            An exception that is not a CommandError is our bug: it is logged with its trace and the client told so.
"""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Final

from cluster import clock
from cluster.commands.context import Session
from cluster.commands.key_positions import keys_of
from cluster.commands.registry import Command, Flag
from cluster.errors import CommandError
from cluster.keyspace.access import unnoticed
from cluster.node.gates import Gates, Redirected
from cluster.resp.encode import QUEUED, error
from cluster.slots.hashing import SLOT_COUNT, key_slot, through_hash_tag
from cluster.slots.routing import build_fast_map

if TYPE_CHECKING:
    from cluster.node.client import Client
    from cluster.node.server import Server

_ALL_SLOTS: Final = b"\x01" * SLOT_COUNT
_TRANSACTION_CONTROL: Final = frozenset({b"exec", b"discard", b"multi", b"watch", b"quit", b"reset"})
_TOUCHES_ARBITRARY_KEYS: Final = frozenset({b"scan", b"randomkey"})


class Dispatcher:
    """Runs requests for one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._keyspace = server.keyspace
        self._rows = server.commands.by_spelling
        self._clock_ns = time.perf_counter_ns
        self._knows_routing = False
        """``_fast_slots`` is true: nothing ran since the last look that could have changed the routing."""
        self._fast_slots = _ALL_SLOTS
        self._fast_slots_version = -1
        self._depth = 0
        self._gates = Gates(server)

    @property
    def is_in_transaction(self) -> bool:
        """A command runs inside of another: a transaction or a script, whose effects are not complete."""
        return self._depth > 1

    # What arrives -------------------------------------------------------------------------------------------

    def receive(self, client: Client, data: bytes) -> None:
        """Run everything that ``data`` completes; replies are added to ``client.out``.

        What most reads hold, one quick request of a client and a server with nothing unusual about them, goes through
        here from top to bottom. Anything else is left to the longer ways, which would do the same with it.
        """
        server = self._server
        client.last_active_ms = server.now_ms
        if not client.plain:
            self._receive_any(client, data)
            return
        parser = client.parser
        requests = parser.feed(data)
        if len(requests) != 1 or parser.pending or not server.plain:
            self._run_parsed(client, requests)
            return
        argv = requests[0]
        row = self._rows.get(argv[0])
        if row is None or not row.quick or (len(argv) != row.arity and not row.accepts(len(argv))):
            self._run_parsed(client, requests)
            return
        if row.single_key:
            slot = key_slot(argv[1])
            if not self._knows_routing:
                self.fast_slots()
            if not self._fast_slots[slot]:
                self._run_parsed(client, requests)
                return
            client.slot = slot
        elif row.has_keys and not self._share_a_fast_slot(client, row, argv, self.fast_slots()):
            self._run_parsed(client, requests)
            return
        keyspace = self._keyspace
        if row.is_write and (keyspace.followed or server.blocking.waiters or not server.accepts_writes):
            self._run_parsed(client, requests)
            return
        clock_ns = self._clock_ns
        began_ns = clock_ns()
        try:
            reply = row.handler(client, argv)  # type: ignore[misc]
        except CommandError as refusal:
            reply = self._refuse(row, refusal)
        except Exception:
            reply = self._report_bug(client, argv)
        elapsed_ns = clock_ns() - began_ns
        if reply is not None:
            client.out.append(reply)
        if keyspace.effects:
            self.end_unit()
        row.calls += 1
        row.note_durations(elapsed_ns, 1, server.tracks_latency)
        client.last_command = row.name
        server.statistics.commands += 1
        # Less than a millisecond is nowhere slow: see Server.plain and latency-monitor-threshold.
        if elapsed_ns > 1_000_000 and elapsed_ns >= server.slow_us * 1000:
            self.note_slow(client, row, argv, elapsed_ns // 1000)

    def _receive_any(self, client: Client, data: bytes) -> None:
        """:meth:`receive` for a client with something unusual about it."""
        parser = client.parser
        if client.parked is not None:
            parser.receive(data)
            self._check_input(client)
        elif client.authenticated:
            self._run_parsed(client, parser.feed(data))
        else:
            request = parser.next(data)
            while request is not None and not client.closed:
                self.run_requests(client, [request])
                if client.close_after_reply:
                    return
                request = parser.next()
            self._check_input(client)

    def _run_parsed(self, client: Client, requests: list[list[bytes]]) -> None:
        if requests:
            self.run_requests(client, requests)
        self._check_input(client)

    def _check_input(self, client: Client) -> None:
        """Close on a client whose bytes make no sense, or who sends more than it may without completing a request."""
        parser = client.parser
        if parser.error is not None and not client.closed and not client.close_after_reply:
            if client.parked is None:
                self._server.protocol_error(client, parser.error)
        elif parser.pending:
            if parser.buffered_bytes > self._server.settings.client_query_buffer_limit:
                self._server.query_buffer_exceeded(client)
            else:
                self._server.client_limit.note(client)

    def run_requests(self, client: Client, requests: list[list[bytes]]) -> None:
        """Run parsed requests in order, until the client is parked (the rest waits) or closed (the rest is lost)."""
        server = self._server
        index = 0
        while index < len(requests):
            if client.parked is not None:
                client.queued.extend(requests[index:])
                return
            if client.plain and server.plain:
                index = self._run_quick(client, requests, index)
                if index == len(requests):
                    return
            elif client.close_after_reply:
                return  # It said QUIT in an earlier read; its last reply has not left yet.
            self.process(client, requests[index])
            if client.close_after_reply or client.closed:
                return
            index += 1

    def resume(self, client: Client) -> None:
        """Go on with what a client asked while it was parked."""
        self._knows_routing = False
        while client.queued and client.parked is None and not client.closed and not client.close_after_reply:
            self.process(client, client.queued.popleft())
        if client.parked is None and not client.closed and not client.close_after_reply:
            self.receive(client, b"")
            if client.out:
                self._server.schedule_write(client)

    # The hot path -------------------------------------------------------------------------------------------

    def _run_quick(self, client: Client, requests: list[list[bytes]], index: int) -> int:
        """Run requests from ``index`` on as long as nothing about them is unusual; returns where it stopped."""
        server = self._server
        keyspace = server.keyspace
        rows = self._rows
        fast_slots = self.fast_slots()
        accepts_writes = server.accepts_writes
        ready = server.blocking.ready
        is_attended = keyspace.followed or bool(server.blocking.waiters)
        out = client.out
        clock_ns = time.perf_counter_ns
        tracks_latency = server.tracks_latency
        began_ns = clock_ns()
        running: Command | None = None
        running_since = index
        count = len(requests)
        first_index = index
        units: list[tuple[int, list[bytes]]] = []
        """Requests that replicas and the log are told as they are, each a unit of its own; handed over together."""
        while index < count:
            argv = requests[index]
            row = rows.get(argv[0])
            if row is None or not row.quick:
                break
            words = len(argv)
            arity = row.arity
            if words != arity and (arity > 0 or words < -arity):
                break
            if row.single_key:
                slot = key_slot(argv[1])
                if not fast_slots[slot]:
                    break
                client.slot = slot
            elif row.has_keys and not self._share_a_fast_slot(client, row, argv, fast_slots):
                break
            if row is not running:
                if running is not None:
                    now_ns = clock_ns()
                    elapsed_ns = now_ns - began_ns
                    began_ns = now_ns
                    running.note_durations(elapsed_ns, index - running_since, tracks_latency)
                running = row
                running_since = index
            row.calls += 1
            try:
                if not row.is_write:
                    reply = row.handler(client, argv)  # type: ignore[misc]
                    if keyspace.effects:
                        self._end_units(client, units)
                        self.end_unit()
                elif not accepts_writes:
                    row.calls -= 1
                    break
                elif is_attended:
                    client.begin_command()
                    dirty_before = keyspace.dirty
                    reply = row.handler(client, argv)  # type: ignore[misc]
                    if keyspace.dirty != dirty_before and keyspace.followed:
                        if client.effects is None and not keyspace.effects:
                            units.append((client.db.index, argv))
                        else:
                            self._collect(client, argv)
                    if keyspace.effects:
                        self._end_units(client, units)
                        self.end_unit()
                        client.write_offset = server.replication_state.master_repl_offset
                    if ready:
                        self._end_units(client, units)
                        server.blocking.serve()
                else:
                    reply = row.handler(client, argv)  # type: ignore[misc]
            except CommandError as refusal:
                reply = self._refuse(row, refusal)
                if keyspace.effects:
                    self._end_units(client, units)
                    self.end_unit()
            except Exception:
                reply = self._report_bug(client, argv)
            if reply is not None:
                out.append(reply)
            index += 1
        self._end_units(client, units)
        if running is not None:
            elapsed_ns = clock_ns() - began_ns
            client.last_command = running.name
            server.statistics.commands += index - first_index
            calls = index - running_since
            running.note_durations(elapsed_ns, calls, tracks_latency)
            if calls:
                each_ns = elapsed_ns // calls
                if each_ns >= server.slow_us * 1000:
                    self.note_slow(client, running, requests[index - 1], each_ns // 1000)
        return index

    def _end_units(self, client: Client, units: list[tuple[int, list[bytes]]]) -> None:
        """Hand over requests that are units of their own, before anything that came after them."""
        if units:
            self._server.replicate_requests(units)
            units.clear()
            client.write_offset = self._server.replication_state.master_repl_offset

    def note_slow(self, client: Session, row: Command, shown: list[bytes], elapsed_us: int) -> None:
        """A command lasted long enough for LATENCY, the slow log, or both."""
        server = self._server
        server.latency.note(b"fast-command" if row.flags & Flag.FAST else b"command", elapsed_us)
        threshold_us = server.settings.slowlog_log_slower_than
        if elapsed_us >= threshold_us >= 0 and not row.flags & Flag.SKIP_SLOWLOG and row.name != b"exec":
            server.slow_log.add(client, shown, elapsed_us)

    def fast_slots(self) -> bytes:
        """1 for each slot that any client may use here without a further look; drawn anew when routing changed."""
        cluster = self._server.cluster
        if cluster is not None and cluster.routing_version != self._fast_slots_version:
            self._fast_slots = build_fast_map(cluster)
            self._fast_slots_version = cluster.routing_version
        self._knows_routing = True
        return self._fast_slots

    def begin_pass(self) -> None:
        """Others than clients may have changed the routing since the last pass."""
        self._knows_routing = False

    def _share_a_fast_slot(self, client: Client, row: Command, argv: list[bytes], fast_slots: bytes) -> bool:
        """True when the keys of a multi-key request may be used here: one slot in cluster mode, any otherwise."""
        first, last, step = row.first_key, row.last_key, row.key_step
        if first == 0:
            return False
        key = argv[first]
        slot = key_slot(key)
        if not fast_slots[slot]:
            return False
        client.slot = slot
        if self._server.cluster is None:
            return True
        others = argv[first + step : last + 1 if last >= 0 else len(argv) + last + 1 : step]
        head = through_hash_tag(key)
        for other in others:  # noqa: SIM110 - A generator would cost more than the loop.
            if not (head and other.startswith(head)) and key_slot(other) != slot:
                return False
        return True

    # Through the gates --------------------------------------------------------------------------------------

    def process(self, client: Client, argv: list[bytes]) -> None:
        """Run one request through every gate; its reply, if any, is added to the client's output."""
        server = self._server
        server.keyspace.now_ms = clock.unix_ms()
        client.request = argv
        server.tracking.begin_command(client)
        try:
            row = self._gates.admit(client, argv)
            reply = None if row is None else self._queue_or_run(client, row, argv)
        except CommandError as refusal:
            reply = self._refuse_at_gate(client, refusal)
        self._knows_routing = False
        server.has_loose_ends = True
        if client.parked is None:
            client.request = None
        if client.asking and client.transaction is None and client.parked is None and argv[0].lower() != b"asking":
            client.asking = False  # Good for one command, served or refused, or for one whole transaction.
            client.refresh_plain()
        if client.reply_mode != b"on":
            reply = self._apply_reply_mode(client, argv, reply)
        if reply is not None:
            if client.replica is not None:
                # Its connection carries a snapshot and a stream; a reply in between would ruin both.
                server.drop_replying_replica(client, reply)
            else:
                client.out.append(reply)
                server.schedule_write(client)
        server.tracking.end_command(client)
        if server.keyspace.effects:
            self.end_unit()
        if server.blocking.ready and not server.scripting.is_busy:
            server.blocking.serve()

    def _refuse_at_gate(self, client: Client, refusal: CommandError) -> bytes:
        """A transaction does not survive a request that cannot be queued, and ends with an EXEC that is refused."""
        message = refusal.message
        if client.transaction is not None:
            client.transaction.broken = True
        if client.last_command == b"exec" and not isinstance(refusal, Redirected):
            self._server.discard_transaction(client)
            message = b"EXECABORT Transaction discarded because of: " + message.removeprefix(b"ERR ")
        self._server.statistics.count_error(message)
        return error(message)

    @staticmethod
    def _apply_reply_mode(client: Client, argv: list[bytes], reply: bytes | None) -> bytes | None:
        """CLIENT REPLY OFF and SKIP: SKIP silences itself and the one request after it."""
        if client.reply_mode == b"off" or client.parked is not None:
            return None
        if client.reply_mode == b"skip":
            client.reply_mode = b"skipping"
            return None
        client.reply_mode = b"on"
        client.refresh_plain()
        return None

    def _queue_or_run(self, client: Client, row: Command, argv: list[bytes]) -> bytes | None:
        """What passed the gates runs, or waits for EXEC."""
        transaction = client.transaction
        if transaction is not None and row.name not in _TRANSACTION_CONTROL:
            if not (transaction.broken or client.watch_broken):  # Else it will never run: nothing to remember.
                transaction.queue.append((row, argv))
            return QUEUED
        return self.run(client, row, argv)

    # Running ------------------------------------------------------------------------------------------------

    def run(self, client: Client, row: Command, argv: list[bytes]) -> bytes | None:
        """Run one command that passed the gates: handler, effects, statistics. Errors come back encoded."""
        server = self._server
        keyspace = server.keyspace
        client.begin_command()
        dirty_before = keyspace.dirty
        began_ns = time.perf_counter_ns()
        self._depth += 1
        failed = False
        put_back = None
        if client.no_touch and row.has_keys and row.name != b"touch":
            put_back = unnoticed(client.db, list(keys_of(row, argv)))
        try:
            reply = row.handler(client, argv)  # type: ignore[misc]
        except CommandError as refusal:
            failed = True
            reply = self._refuse(row, refusal)
        except Exception:
            failed = True
            reply = self._report_bug(client, argv)
        finally:
            self._depth -= 1
            if put_back is not None:
                put_back()
        if client.tracking is not None:
            server.tracking.remember(client, row, argv)
        elapsed_ns = time.perf_counter_ns() - began_ns
        elapsed_us = elapsed_ns // 1000
        row.calls += 1
        row.note_durations(elapsed_ns, 1, server.tracks_latency)
        server.statistics.commands += 1
        shown, client.redacted = client.redacted or argv, None
        if elapsed_us >= server.slow_us:
            self.note_slow(client, row, shown, elapsed_us)
        # Only now: the handler knows what is secret, and EXEC is shown behind what it ran.
        if server.monitors and not row.flags & (Flag.SKIP_MONITOR | Flag.ADMIN):
            server.feed_monitors(client, shown)
        if keyspace.followed and not failed and not client.prevent_propagation:
            if keyspace.dirty != dirty_before or client.effects is not None:
                self._collect(client, argv, row)
        if self._depth == 0 and keyspace.effects:
            self.end_unit(is_atomic=row.name not in _TOUCHES_ARBITRARY_KEYS)
            client.write_offset = server.replication_state.master_repl_offset
        return reply

    def _collect(self, client: Client, argv: list[bytes], row: Command | None = None) -> None:
        """Add what the command just run changed to the effects of the unit."""
        effects = client.effects
        keyspace = self._server.keyspace
        index = client.db.index
        if effects is None:
            if row is None or row.is_write:
                keyspace.effects.append((index, argv))
        else:
            keyspace.effects.extend((index, effect) for effect in effects)

    def end_unit(self, *, is_atomic: bool = True) -> None:
        """Hand the effects of the unit of execution that just ended to replication and the AOF.

        Keys that expire by the way (``is_atomic`` False) have nothing to do with one another.
        """
        keyspace = self._server.keyspace
        effects, keyspace.effects = keyspace.effects, []
        if is_atomic:
            self._server.replicate(effects)
        else:
            for effect in effects:
                self._server.replicate([effect])

    def _refuse(self, row: Command, refusal: CommandError) -> bytes:
        row.failed_calls += 1
        self._server.statistics.count_error(refusal.message)
        return error(refusal.message)

    def _report_bug(self, client: Client, argv: list[bytes]) -> bytes:
        """A handler raised what it must not: say so in the log, in full, and go on serving."""
        self._server.statistics.internal_errors += 1
        self._server.log.warning(f"Internal error while running {argv[0]!r} for client id={client.id}:")
        for line in traceback.format_exc().splitlines():
            self._server.log.warning(line)
        return error(b"ERR internal error, see the server's log")
