"""The master side of the stream: what is replicated, and how it reaches every replica.

Role        Turns the effects of commands into the replication stream, keeps it in the backlog, hands it to the replicas
            that are ready for it, and keeps account of what they acknowledged (WAIT, lag, time-outs).
Invariants  ``state.master_repl_offset`` counts every byte of the stream at once, also those not yet settled into the
            backlog. While there are replicas there is a backlog. A replica of another master never encodes anything: it
            passes on its master's bytes, so that all of a chain share one history, id and offsets. ``active`` is False
            when nobody wants effects; the dispatcher then need not even collect them.
Source      Redis 7.0 replication.c (replicationFeedSlaves, replicationCron, WAIT), server.c (propagatePendingCommands,
            beforeSleep), networking.c (client-output-buffer-limit).      Units  ``*_ms`` monotonic; offsets bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from cluster.replication.backlog import MIN_SIZE_BYTES, Backlog, object_bytes
from cluster.replication.host import FeedHost
from cluster.replication.replica import Announcement, Replica, ReplicaState
from cluster.replication.state import ReplicationState
from cluster.replication.unit_encoding import NO_DATABASE, encode_requests, encode_unit
from cluster.settings import Settings

PUSH_BYTES_MAX = 1 << 20
"""How much of the shared stream one connection is given at a time, and not before it has sent what it was given.

The rest stays shared. If the kernel takes all of it at once there is more right away (``flush_soon``); if it does not,
its room for more wakes us.
"""

_VIEW_BYTES = 320
"""A memoryview: what is left of a piece of which the kernel has taken some."""

_OVERCOMING = "overcoming of output buffer limits."
_PING = b"*1\r\n$4\r\nPING\r\n"
_GETACK = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"


@attrs.define(eq=False)
class AckWaiter:
    """A client in WAIT."""

    offset: int
    replicas: int
    resume: Callable[[int], None]
    """Called with the number of replicas once there are enough."""


class ReplicationFeed:
    """The stream of one server, and the replicas that read it."""

    def __init__(self, state: ReplicationState, settings: Settings, host: FeedHost) -> None:
        self.state = state
        self.settings = settings
        self.host = host
        self.backlog: Backlog | None = None
        self.replicas: list[Replica] = []
        self.waiters: list[AckWaiter] = []
        self.active = False
        self.good_replicas = 0
        self.no_replicas_since_ms = 0
        self.selected_database = NO_DATABASE
        self._announcements: dict[int, Announcement] = {}
        self._unsettled: list[bytes] = []
        self._limits_checked_at = 0
        """The end of the stream when the replicas' limits were last looked at before sleeping."""
        self._ack_requested = False
        # As if the first round had come with the start, before any replica: the first ping is not at once.
        self._cron_loops = 1

    # --- producing the stream ----------------------------------------------------------------------------------------

    def feed(self, commands: Sequence[tuple[int, list[bytes]]]) -> None:
        """Replicate the effects of one unit (a command, a transaction, a script) as (database, command) pairs.

        Several effects of one unit become one transaction for the replicas, because nobody may see half of it.
        """
        if not self.active or not commands:
            return
        data = encode_unit(commands, self.selected_database)
        self.selected_database = commands[-1][0]
        self._unsettled.append(data)
        self.state.master_repl_offset += len(data)

    def feed_requests(self, requests: Sequence[tuple[int, list[bytes]]]) -> None:
        """Replicate requests that are units of their own."""
        if not self.active:
            return
        data = encode_requests(requests, self.selected_database)
        self.selected_database = requests[-1][0]
        self._unsettled.append(data)
        self.state.master_repl_offset += len(data)

    def feed_without_database(self, data: bytes) -> None:
        """Replicate a command that touches no key, already encoded (PING, REPLCONF GETACK)."""
        if self.active:
            self._unsettled.append(data)
            self.state.master_repl_offset += len(data)

    def proxy(self, data: bytes) -> None:
        """Pass on what our master sent and we have applied, byte for byte. Does nothing without a backlog."""
        if self.backlog is not None and data:
            self._unsettled.append(data)
            self.state.master_repl_offset += len(data)

    def settle(self) -> None:
        """Move what was produced into the backlog; needed before anybody looks at the backlog or at cursors."""
        unsettled = self._unsettled
        if not unsettled:
            return
        data = unsettled[0] if len(unsettled) == 1 else b"".join(unsettled)
        unsettled.clear()
        if self.backlog is not None:
            self.backlog.append(data)
            self.backlog.trim(self._slowest_cursor())

    def _slowest_cursor(self) -> int | None:
        slowest: int | None = None
        for replica in self.replicas:
            if replica.cursor is not None and (slowest is None or replica.cursor < slowest):
                slowest = replica.cursor
        return slowest

    # --- the step before the loop sleeps -----------------------------------------------------------------------------

    def before_sleep(self, now_ms: int) -> None:
        """Let waiting clients go, ask for acknowledgements, and hand the stream to every replica that is ready."""
        if self.waiters:
            self._resume_waiters()
        if self._ack_requested and not self.host.writes_paused():
            self._ack_requested = False
            if self.replicas:
                self.feed_without_database(_GETACK)
        if self._unsettled:
            self.settle()
        if self.replicas:
            self._serve_replicas(now_ms)

    def _serve_replicas(self, now_ms: int) -> None:
        backlog = self.backlog
        assert backlog is not None
        moved = behind = False
        end = backlog.next_offset
        has_grown = end != self._limits_checked_at
        self._limits_checked_at = end
        for replica in tuple(self.replicas):
            cursor = replica.cursor
            if cursor is None or cursor == end or replica.leaving:
                continue
            if has_grown and self._exceeds_limits(replica, now_ms):
                client = self.host.describe_session(replica.session)
                self._drop(replica, f"Client {client} scheduled to be closed ASAP for {_OVERCOMING}")
                continue
            if replica.state is ReplicaState.ONLINE and not replica.start_stream_on_ack and not replica.session.unsent:
                if self._push_stream(replica, backlog):
                    moved = True
                    behind = behind or replica.cursor != end
        if moved:
            backlog.trim(self._slowest_cursor())
        if behind:
            self.host.flush_soon()

    @staticmethod
    def _push_stream(replica: Replica, backlog: Backlog) -> bool:
        session = replica.session
        cursor = replica.cursor
        assert cursor is not None
        room = PUSH_BYTES_MAX - session.output_bytes()
        start = cursor
        while room > 0:
            data = backlog.read(cursor, room)
            if not data:
                break
            session.push(data)
            cursor += len(data)
            room -= len(data)
        replica.cursor = cursor
        return cursor != start

    def stream_bytes_for(self, replica: Replica) -> int:
        """How much of the shared stream is kept for a replica and not yet with its connection."""
        if self.backlog is None or replica.cursor is None:
            return 0
        return max(0, self.backlog.next_offset - replica.cursor)

    def _exceeds_limits(self, replica: Replica, now_ms: int) -> bool:
        """Whether a replica holds more than client-output-buffer-limit allows, or the soft limit for too long."""
        limits = self.settings.client_output_buffer_limit["replica"]
        held = self.stream_bytes_for(replica) + replica.session.output_bytes()
        # A hard limit below the backlog would only drop replicas that may come back with a partial resync at once.
        if limits.hard_bytes and held >= max(limits.hard_bytes, self.settings.repl_backlog_size):
            return True
        if not limits.soft_bytes or held < limits.soft_bytes:
            replica.soft_limit_since_ms = None
            return False
        if replica.soft_limit_since_ms is None:
            replica.soft_limit_since_ms = now_ms
            return False
        return (now_ms - replica.soft_limit_since_ms) // 1000 > limits.soft_seconds

    # --- replicas come and go ----------------------------------------------------------------------------------------

    def announcement(self, session_id: int) -> Announcement:
        """What this connection told with REPLCONF; kept until :meth:`forget`."""
        return self._announcements.setdefault(session_id, Announcement())

    def add(self, replica: Replica) -> None:
        self.replicas.append(replica)
        self._refresh_active()

    def remove(self, replica: Replica, now_ms: int) -> None:
        """The replica's connection is gone (or it never became a replica after all)."""
        if replica not in self.replicas:
            return
        self.replicas.remove(replica)
        replica.cursor = None
        if self.backlog is not None:
            # Now, not with the next write: it must not come back at once to all that it was dropped for.
            self.backlog.trim(self._slowest_cursor())
        if not self.replicas:
            self.no_replicas_since_ms = now_ms
        self.refresh_good_replicas(now_ms)
        self._refresh_active()

    def forget(self, session_id: int) -> None:
        """A connection closed: drop what it announced."""
        self._announcements.pop(session_id, None)

    def put_online(self, replica: Replica, now_ms: int) -> bool:
        """The snapshot has been sent. False: the replica wanted nothing else and has to be disconnected."""
        if replica.announced.rdb_only:
            replica.state = ReplicaState.RDB_TRANSMITTED
            self.host.log(
                "notice",
                f"RDB transfer completed, rdb only replica ({replica.name}) should be disconnected asap",
            )
            return False
        replica.state = ReplicaState.ONLINE
        replica.ack_ms = now_ms  # Loading took its time: do not count that as silence.
        self.refresh_good_replicas(now_ms)
        self.host.log("notice", f"Synchronization with replica {replica.name} succeeded")
        return True

    def disconnect_replicas(self) -> None:
        """Have every replica connect anew: the history it follows has another name, or is another one."""
        for replica in tuple(self.replicas):
            replica.leaving = True
            self.host.close_replica(replica)

    def find(self, host: str, port: int) -> Replica | None:
        """The replica at this address, as announced."""
        for replica in self.replicas:
            if replica.host.lower() == host.lower() and replica.announced.listening_port == port:
                return replica
        return None

    # --- backlog -----------------------------------------------------------------------------------------------------

    def create_backlog(self) -> None:
        """Begin to keep the stream, from the next byte on."""
        if self.backlog is None:
            self.backlog = Backlog.starting_after(self.state.master_repl_offset, self.settings.repl_backlog_size)
            self._refresh_active()

    def free_backlog(self) -> None:
        """Stop keeping the stream. Only when nobody reads it."""
        self._unsettled.clear()
        self.backlog = None
        for replica in self.replicas:
            replica.cursor = None
        self._refresh_active()

    @property
    def buffer_bytes(self) -> int:
        """The memory of the stream that is kept, for the backlog and for all replicas together."""
        size = self.backlog.memory_bytes if self.backlog is not None else 0
        counted: set[int] = set()
        for replica in self.replicas:
            size += self._own_bytes(replica, counted)
        return size

    def _own_bytes(self, replica: Replica, counted: set[int]) -> int:
        """What a replica's output takes, without what the backlog or one of the replicas ``counted`` holds as well."""
        size = replica.session.output_bytes()
        backlog, end = self.backlog, replica.cursor
        # The last piece ends where the replica is to go on reading, unless it is no part of the stream.
        for piece in reversed(replica.session.unsent):
            size -= len(piece)
            whole: object = piece
            if isinstance(piece, memoryview):
                size += _VIEW_BYTES
                whole = piece.obj
            assert isinstance(whole, bytes)
            is_shared = id(whole) in counted
            if end is not None and backlog is not None:
                is_shared = is_shared or backlog.shares(whole, end)
                end -= len(whole)
            if not is_shared:
                counted.add(id(whole))
                size += object_bytes(len(whole))
        return size

    def resize_backlog(self) -> None:
        """CONFIG SET repl-backlog-size."""
        self.settings.repl_backlog_size = max(self.settings.repl_backlog_size, MIN_SIZE_BYTES)
        self.settle()
        if self.backlog is not None:
            self.backlog.resize(self.settings.repl_backlog_size, self._slowest_cursor())

    def role_changed(self) -> None:
        """``state.is_replica`` has another value: we begin, or cease, to produce a stream of our own."""
        self._refresh_active()

    def _refresh_active(self) -> None:
        active = self.backlog is not None and not self.state.is_replica
        if active != self.active:
            self.active = active
            self.host.feed_activity_changed(active)

    # --- acknowledgements --------------------------------------------------------------------------------------------

    def acknowledge(self, replica: Replica, offset: int, now_ms: int) -> None:
        """REPLCONF ACK: the replica has processed the stream up to ``offset``."""
        replica.acknowledged_offset = max(replica.acknowledged_offset, offset)
        replica.ack_ms = now_ms
        if replica.state is ReplicaState.ONLINE:
            replica.start_stream_on_ack = False
        elif replica.state is ReplicaState.WAIT_BGSAVE_END:
            replica.acknowledged_early = True

    def replicas_acked(self, offset: int) -> int:
        """How many online replicas have acknowledged the stream up to ``offset``."""
        return sum(
            replica.state is ReplicaState.ONLINE and replica.acknowledged_offset >= offset for replica in self.replicas
        )

    def request_acks(self) -> None:
        """Ask all replicas, before the loop sleeps, what they have processed; once for all who want to know."""
        self._ack_requested = True

    def wait_for_acks(self, waiter: AckWaiter) -> None:
        self.waiters.append(waiter)
        self.request_acks()

    def stop_waiting(self, waiter: AckWaiter) -> None:
        if waiter in self.waiters:
            self.waiters.remove(waiter)

    def _resume_waiters(self) -> None:
        for waiter in tuple(self.waiters):
            acked = self.replicas_acked(waiter.offset)
            if acked >= waiter.replicas:
                self.stop_waiting(waiter)
                waiter.resume(acked)

    # --- min-replicas-to-write ---------------------------------------------------------------------------------------

    def refresh_good_replicas(self, now_ms: int) -> None:
        """Count the online replicas that were heard of within min-replicas-max-lag."""
        settings = self.settings
        if not settings.min_replicas_to_write or not settings.min_replicas_max_lag:
            return
        self.good_replicas = sum(
            replica.state is ReplicaState.ONLINE and (now_ms - replica.ack_ms) // 1000 <= settings.min_replicas_max_lag
            for replica in self.replicas
        )

    def enough_good_replicas(self) -> bool:
        """Whether a write may be accepted (NOREPLICAS otherwise)."""
        settings = self.settings
        return (
            self.state.is_replica
            or not settings.min_replicas_to_write
            or not settings.min_replicas_max_lag
            or self.good_replicas >= settings.min_replicas_to_write
        )

    # --- once a second -----------------------------------------------------------------------------------------------

    def cron(self, now_ms: int, stream_snapshot_is_running: bool, *, stood_still: bool = False) -> None:
        """Keep replicas alive, drop the dead ones, and free a backlog that nobody has needed for long.

        ``stood_still``: we ourselves have been silent for long, so that nothing is known of the replicas.
        """
        if self.replicas and self._cron_loops % self.settings.repl_ping_replica_period == 0:
            self._ping()
        self._cron_loops += 1
        if not stood_still:
            for replica in tuple(self.replicas):
                self._keep_alive_or_drop(replica, now_ms, stream_snapshot_is_running)
            self.refresh_good_replicas(now_ms)
        self._expire_backlog(now_ms)

    def _ping(self) -> None:
        # In the last phase of a manual failover the offsets of master and replica are being compared: leave them be.
        holding_still = self.host.manual_failover_in_progress() or self.state.failover_deadline_ms is not None
        if not (holding_still and self.host.writes_paused()):
            self.feed_without_database(_PING)

    def _keep_alive_or_drop(self, replica: Replica, now_ms: int, streaming: bool) -> None:
        if replica.leaving:
            return
        if self._exceeds_limits(replica, now_ms):
            client = self.host.describe_session(replica.session)
            replica.leaving = True
            self.host.close_replica(replica)
            self.host.log("warning", f"Client {client} closed for {_OVERCOMING}")
            return
        timeout_ms = self.settings.repl_timeout * 1000
        if replica.state is ReplicaState.WAIT_BGSAVE_START or (
            replica.state is ReplicaState.WAIT_BGSAVE_END and not streaming
        ):
            # A bare newline is no part of the stream: it only says that we are there.
            replica.session.push(b"\n")
        elif replica.state is ReplicaState.ONLINE:
            # While it loads a snapshot it sends line ends, which are no commands.
            replica.ack_ms = max(replica.ack_ms, replica.session.last_active_ms)
            if not replica.pre_psync and now_ms - replica.ack_ms > timeout_ms:
                self._drop(replica, f"Disconnecting timedout replica (streaming sync): {replica.name}")
        elif (
            replica.state is ReplicaState.WAIT_BGSAVE_END
            and replica.partial_write_since_ms is not None
            and now_ms - replica.partial_write_since_ms > timeout_ms
        ):
            # A replica that reads a file of its own may be as slow as it likes; this one holds up all the others.
            self._drop(replica, f"Disconnecting timedout replica (full sync): {replica.name}")

    def _drop(self, replica: Replica, reason: str) -> None:
        self.host.log("warning", reason)
        replica.leaving = True
        self.host.close_replica(replica)

    def _expire_backlog(self, now_ms: int) -> None:
        ttl_s = self.settings.repl_backlog_ttl
        if self.replicas or not ttl_s or self.backlog is None or self.state.is_replica:
            return
        if now_ms - self.no_replicas_since_ms <= ttl_s * 1000:
            return
        # Without a backlog the offset stands still while writes go on. Whoever shared our history up to here must not
        # believe that it still does: the id is given up together with the backlog.
        self.state.change_replication_id()
        self.state.clear_replication_id2()
        self.free_backlog()
        self.host.log("notice", f"Replication backlog freed after {ttl_s} seconds without connected replicas.")
