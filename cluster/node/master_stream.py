"""Applying our master's command stream: the part of the link that runs commands.

Role        Cuts the stream into commands, runs each as the master's will (past the gates for clients), and says how
            much of the stream has been applied, so that it can be passed on and acknowledged.
Invariants  What is passed on is exactly what was run: whole commands, whole transactions, byte for byte. A command that
            fails here counts as applied, as in Redis: our master has run it.
Source      networking.c (commandProcessed for CLIENT_MASTER).     Units  bytes; ns of perf_counter where so named.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cluster import clock
from cluster.errors import CommandError
from cluster.node.logging import panic
from cluster.replication.stream import StreamParser
from cluster.resp.encode import error
from cluster.slots.hashing import key_slot

if TYPE_CHECKING:
    from cluster.node.client import Client
    from cluster.node.server import Server

SLICE_NS = 2_000_000
"""How long commands may run before the other tasks get a turn."""
_LOOK_AT_CLOCK_EVERY = 16
_SHOWN_STREAM_BYTES = 256


class MasterStream:
    """The stream of one established link; ``session`` is the master as commands see it."""

    def __init__(self, server: Server, session: Client) -> None:
        self._server = server
        self._session = session
        self._parser = StreamParser()
        self._held: list[bytes] | None = None
        """The command that a pause holds back, and with it everything behind it in the stream."""

    @property
    def is_held(self) -> bool:
        """True while a pause holds the stream: :meth:`apply_slice` is then to be tried again from time to time."""
        return self._held is not None

    def receive(self, data: bytes) -> None:
        """Take what arrived. The commands in it run in :meth:`apply_slice`."""
        now_ms = clock.monotonic_ms()
        self._session.last_active_ms = now_ms
        master = self._server.replication_state.master
        if master is not None:
            master.last_interaction_ms = now_ms
            master.read_offset += len(data)
        self._parser.feed(data)

    def apply_slice(self) -> bool:
        """Run commands for a while; True when there may be more. Raises StreamError when the bytes make no sense."""
        server = self._server
        if self._held is not None and self._must_wait(self._held):
            return False
        keyspace = server.keyspace
        keyspace.now_ms = clock.unix_ms()
        server.now_ms = clock.monotonic_ms()
        parser = self._parser
        paused = server.pauses.holds_writes()
        deadline_ns = time.perf_counter_ns() + SLICE_NS
        count = 0
        more = True
        keyspace.obeying_master = True
        try:
            while True:
                argv, self._held = self._held or parser.take(), None
                if argv is None:
                    more = False
                    break
                if paused and self._must_wait(argv):
                    self._held = argv
                    more = False
                    break
                self._run(argv)
                if self._session.closed:
                    return False  # The command ended the link, or the server's being a replica.
                count += 1
                if count % _LOOK_AT_CLOCK_EVERY == 0 and time.perf_counter_ns() > deadline_ns:
                    break
        finally:
            keyspace.obeying_master = False
        if self._session.transaction is None:
            self._applied(parser.release() if self._held is None else parser.release_before_last())
        self._session.out.clear()
        server.reactor.request_flush()
        return more

    def _must_wait(self, argv: list[bytes]) -> bool:
        """CLIENT PAUSE holds a replica's data still, too."""
        row = self._server.commands.resolve(argv)
        return self._server.pauses.holds(may_replicate=row is not None and row.is_may_replicate)

    def _applied(self, data: bytes) -> None:
        replication = self._server.replication
        master = replication.state.master
        if not data or master is None:
            return
        if master.acknowledges:
            master.applied_offset += len(data)
        master.database = self._session.db.index
        replication.applied(data)

    def _run(self, argv: list[bytes]) -> None:
        server = self._server
        session = self._session
        row = server.commands.by_spelling.get(argv[0])
        if (
            row is not None
            and row.quick
            and row.is_write
            and row.single_key
            and session.transaction is None
            and row.accepts(len(argv))
            and not server.keyspace.followed
            and not server.monitors
        ):
            session.slot = key_slot(argv[1])
            row.calls += 1
            server.statistics.commands += 1
            try:
                reply = row.handler(session, argv)  # type: ignore[misc]
            except CommandError as refusal:
                reply = error(refusal.message)
            if reply is not None and reply[:1] == b"-":
                self._report(argv, reply)
            return
        if row is not None and row.name in (b"replconf", b"multi") and session.transaction is None:
            # The master wants to know how far we were when it asked; and what came before a transaction has been
            # applied, whenever the rest of that may come.
            self._applied(self._parser.release_before_last())
        server.dispatcher.process(session, argv)
        for reply in session.out:
            if reply[:1] == b"-":
                self._report(argv, reply)
        session.out.clear()

    def _report(self, argv: list[bytes], reply: bytes) -> None:
        """Our data differs from our master's, or its commands are not ours: nothing can be done but say so."""
        name = argv[0].decode("utf-8", "backslashreplace")
        text = reply[1:].split(b"\r\n", 1)[0].decode("utf-8", "backslashreplace")
        self._server.log.warning(
            f"== CRITICAL == This replica is sending an error to its master: '{text}' after processing the command "
            f"'{name}'"
        )
        self._server.statistics.internal_errors += 1
        self._log_latest_stream()
        settings = self._server.settings
        if settings.replica_read_only and settings.propagation_error_behavior in ("panic", "panic-on-replicas"):
            # The operator prefers no replica to one whose data differs.
            text = f"This replica panicked sending an error to its master after processing the command '{name}'"
            panic(self._server.log, text)

    def _log_latest_stream(self) -> None:
        backlog = self._server.feed.backlog
        if backlog is not None and backlog.histlen:
            start = max(backlog.next_offset - _SHOWN_STREAM_BYTES, backlog.first_byte_offset)
            shown = repr(backlog.read(start, _SHOWN_STREAM_BYTES))[2:-1]
            self._server.log.warning(f"Latest backlog is: '{shown}'")
