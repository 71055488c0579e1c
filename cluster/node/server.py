"""The server: what commands see as ``client.server``, put together from its parts.

Role        Owns the keyspace, the sessions and the gates' answers; keeps the flags that let the hot path be short
            (``plain``, ``accepts_writes``) in step with what they stand for. No sockets (reactor.py), no start-up
            (process.py), no periodic work (cron.py) here.
Invariants  ``plain`` is False whenever a request could need a gate that the hot path does not have; whoever changes
            something that the gates read calls :meth:`refresh_plain`.
Units       ``now_ms`` monotonic, as of the beginning of the pass.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import trio

from cluster import clock, errors
from cluster.acl.access import AccessControl
from cluster.acl.checks import Reason
from cluster.commands.blocking import BlockingTable
from cluster.commands.channels import ChannelTable
from cluster.commands.context import REPLY_BUFFER_KEPT_MS, UNBLOCKABLE, Parked, ServerContext, Session
from cluster.commands.key_positions import key_positions_or_none
from cluster.commands.keyspace_events import KeyspaceEvents
from cluster.commands.registry import Command, Flag, load_command_table, read_records
from cluster.commands.statistics import RateMeter, Statistics
from cluster.commands.tracking import TrackingTable
from cluster.commands.transactions import WatchTable, unwatch_all
from cluster.errors import CommandError, ProtocolError
from cluster.gossip.sockets import prepare_connection
from cluster.keyspace.database import Keyspace
from cluster.keyspace.effects import FileOnly
from cluster.keyspace.reclaim import RECLAIMER
from cluster.node.access_host import AccessHost
from cluster.node.admission import address_of
from cluster.node.append_only import AofRole, AofShell
from cluster.node.client import Client
from cluster.node.client_info import describe
from cluster.node.client_memory import ClientLimit
from cluster.node.collector import Collector
from cluster.node.dispatch import Dispatcher
from cluster.node.latency_monitor import LatencyMonitor
from cluster.node.logging import panic
from cluster.node.memory import MemoryMeter, MemoryOverview, overview
from cluster.node.memory_limit import MemoryLimit
from cluster.node.monitors import MonitorFeed
from cluster.node.oom_score import OomScore
from cluster.node.pauses import ClientPauses
from cluster.node.reactor import Reactor
from cluster.node.replication_host import ReplicationHost
from cluster.node.saving import Saving
from cluster.node.script_host import Scripting
from cluster.node.slow_log import SlowLog
from cluster.node.stopping import Stopping
from cluster.node.supervision import Supervisor
from cluster.node.timers import Timers
from cluster.node.watchdog import Watchdog
from cluster.persistence.aof import AppendOnlyFile
from cluster.persistence.collection_types import register_collections
from cluster.replication.manager import Replication
from cluster.resp.encode import error
from cluster.resp.parser import ParserLimits
from cluster.slots.routing import EndpointType, RoutingPolicy

if TYPE_CHECKING:
    from cluster.failover.engine import ClusterEngine
    from cluster.gossip.bus import ClusterBus
    from cluster.gossip.state import ClusterState
    from cluster.node.config import Config
    from cluster.node.logging import Log

KEEP_ALIVE_MS: Final = 10
"""How often, at the most, the cluster's engine is told that the process runs; it minds half a second."""
SLOTS_PER_TABLE: Final = 32
"""Without cluster mode."""
DISK_ERROR_LOG_INTERVAL_MS = 10_000
_RESUMING = Parked("resuming", None, lambda: None)
"""A wait that is over; what the client asked meanwhile runs before the loop sleeps."""


class Server(ServerContext):
    """One running node."""

    def __init__(self, config: Config, log: Log) -> None:
        self.config = config
        self.settings = config.settings
        self.log = log
        self.supervisor = Supervisor(log)
        self.rng = random.Random(os.urandom(16))
        self.run_id = f"{self.rng.getrandbits(160):040x}"
        self.started_ms = clock.monotonic_ms()
        self.now_ms = self.started_ms
        self.commands = load_command_table()
        self.memory = MemoryMeter()
        self.keyspace = (
            Keyspace(1)
            if self.settings.cluster_enabled
            else Keyspace(self.settings.databases, slots_per_table=SLOTS_PER_TABLE)
        )
        self.keyspace.now_ms = clock.unix_ms()
        self.collector = Collector(self.keyspace)
        self.acl = AccessControl(self.settings, read_records, key_positions_or_none)
        self.access = AccessHost(self)
        register_collections(self.settings)
        self.statistics = Statistics()
        self.meters = {name: RateMeter() for name in ("commands", "input", "output", "input_repl", "output_repl")}
        self.slow_log = SlowLog(self.settings.slowlog_max_len)
        self.latency = LatencyMonitor(self.settings)
        self.slow_us = self.latency.slow_us()
        """From how many microseconds on a command's duration concerns LATENCY or the slow log."""
        self.tracks_latency = self.settings.latency_tracking
        self.unlimited_output_bytes = sys.maxsize
        """Up to this size nobody's output is beyond a hard limit."""
        self.sessions: dict[int, Client] = {}
        self._last_session_id = 0
        self.parser_limits = ParserLimits(max_bulk_bytes=self.settings.proto_max_bulk_len)
        self.timers = Timers(self.report_exception)
        self.reactor = Reactor(self)
        self.dispatcher = Dispatcher(self)
        self.scripting: Scripting = Scripting(self)
        self.nursery: trio.Nursery
        """Where tasks of this server run; set when the process serves."""
        self.cron: Any = None
        self.monitors = MonitorFeed(self)
        self.watches = WatchTable(self)
        self.blocking = BlockingTable(self, self.dispatcher.end_unit)
        self.channels = ChannelTable()
        self.tracking = TrackingTable(self)
        self.keyspace_events = KeyspaceEvents(self.keyspace, self.channels, self.settings)
        self.loading = False
        self.cluster: ClusterState | None = None
        self.engine: ClusterEngine | None = None
        self.bus: ClusterBus | None = None
        self.replication_host = ReplicationHost(self)
        self.replication = Replication(self.settings, self.replication_host, self.rng, clock.monotonic_ms)
        self.replication_state = self.replication.state
        self.feed = self.replication.feed
        self.saving: Saving = Saving(self)
        self.aof = AppendOnlyFile(self.keyspace, self.settings, self.saving.saver, AofShell(self))
        self.aof_role = AofRole(self, self.aof)
        self.stopping: Stopping = Stopping(self)
        self.pauses: ClientPauses = ClientPauses(self)
        self._resuming: list[Session] = []
        self._disk_error_logged_ms = -DISK_ERROR_LOG_INTERVAL_MS
        self.exit_requested = trio.Event()
        self.exit_code = 0
        self.reply_buffer_kept_ms: int | None = REPLY_BUFFER_KEPT_MS
        self.skip_checksum_validation = False
        """DEBUG SET-SKIP-CHECKSUM-VALIDATION."""
        self.active_expire = True
        """DEBUG SET-ACTIVE-EXPIRE."""
        self.oom_score = OomScore(self)
        self.watchdog = Watchdog(self)
        self.memory_limit = MemoryLimit(self)
        self.client_limit = ClientLimit(self)
        self.plain = False
        """True when any ordinary client may take the hot path."""
        self.accepts_writes = False
        """True when the hot path may run commands that write."""
        config.on_change("notify-keyspace-events", self.keyspace_events.settings_changed)
        self.has_loose_ends = True
        self._kept_alive_ms = 0
        self.refresh_plain()

    # Passes -------------------------------------------------------------------------------------------------

    def begin_pass(self) -> None:
        """Fix "now" for the commands of a pass, and let the cluster engine notice if the process stood still."""
        self.keyspace.now_ms = clock.unix_ms()
        self.now_ms = clock.monotonic_ms()
        if self.bus is not None and self.now_ms - self._kept_alive_ms >= KEEP_ALIVE_MS:
            self._kept_alive_ms = self.now_ms
            self.bus.keep_alive(self.now_ms)
        self.dispatcher.begin_pass()

    def before_sleep(self) -> None:
        """What must happen before replies leave: cluster state to disk, the stream to replicas."""
        if not self.scripting.is_busy:  # Else in the midst of a script: nothing new may begin.
            if self.blocking.ready:
                self.blocking.serve()
            self._resume_unparked()
            if self.tracking.prefixes:
                self.tracking.broadcast()
            if self.client_limit.limit_bytes:
                self.client_limit.enforce()
        if self.has_loose_ends or self.keyspace.followed:
            self.has_loose_ends = False
            if self.bus is not None:
                self.bus.before_sleep()
            self.replication.before_sleep(clock.monotonic_ms())
        if self.aof.wants_effects:
            self.aof.flush()

    def replicate(self, effects: list[tuple[int, list[bytes]]]) -> None:
        """Hand the effects of one unit of execution to whoever follows this node."""
        if self.aof.wants_effects:
            self.aof.feed(effects)
        if not self.replication_state.is_replica:
            if self.keyspace.has_file_only_effects:
                effects = [effect for effect in effects if type(effect[1]) is not FileOnly]
            self.feed.feed(effects)

    def replicate_requests(self, requests: list[tuple[int, list[bytes]]]) -> None:
        """The same for requests of which each is a unit, and its own effect."""
        if self.aof.wants_effects:
            self.aof.feed_requests(requests)
        if not self.replication_state.is_replica:
            self.feed.feed_requests(requests)

    def refresh_plain(self) -> None:
        settings = self.settings
        # Also a pause of writes: PUBLISH, which is none, would reach replicas.
        paused = self.pauses.holds_writes()
        self.plain = (
            not self.loading
            and not self.scripting.is_busy
            and not self.monitors
            and not paused
            and self.disk_error() is None  # PING tells.
            and not 0 <= settings.slowlog_log_slower_than < 2000
            and not self.client_limit.limit_bytes
            and (self.replication_state.serves_fresh_data or settings.replica_serve_stale_data)
        )
        self.accepts_writes = (
            not (self.replication_state.is_replica and settings.replica_read_only)
            and not self.memory_limit.is_near
            and not (settings.min_replicas_to_write and settings.min_replicas_max_lag)
            and self.disk_error() is None
            and not paused
        )
        self.slow_us = self.latency.slow_us()
        self.tracks_latency = settings.latency_tracking
        limits = settings.client_output_buffer_limit
        self.unlimited_output_bytes = min(limits[name].hard_bytes or sys.maxsize for name in ("normal", "pubsub"))
        self.keyspace.is_replica = self.replication_state.is_replica
        self.keyspace.is_writable = not settings.replica_read_only
        self.keyspace.deletion_word = b"UNLINK" if settings.lazyfree_lazy_expire else b"DEL"
        self.keyspace.writes_paused = paused
        self.keyspace.followed = (self.feed.active or self.aof.wants_effects) and not self.loading

    # Sessions -----------------------------------------------------------------------------------------------

    def prepare_socket(self, sock: socket.socket) -> None:
        """Options of an accepted connection. Raises OSError when the peer is gone already."""
        if sock.family == socket.AF_UNIX:
            sock.setblocking(False)
        else:
            prepare_connection(sock, keepalive_seconds=self.settings.tcp_keepalive)

    def new_client(self, sock: socket.socket) -> Client:
        """The session of an admitted connection."""
        self._last_session_id += 1
        client = Client(self, self._last_session_id, sock, self.parser_limits)
        client.address = address_of(sock, self.settings.unixsocket, peer=True)
        client.local_address = address_of(sock, self.settings.unixsocket, peer=False)
        client.created_ms = client.last_active_ms = clock.monotonic_ms()
        self.set_authenticated(client, authenticated=self.acl.default.needs_no_password)
        self.sessions[client.id] = client
        self.statistics.connections_received += 1
        return client

    def set_authenticated(self, client: Client, *, authenticated: bool) -> None:
        """Log a client in or out, the parser's limits included."""
        client.authenticated = authenticated
        client.parser.authenticated = authenticated or not self.requires_authentication()
        client.refresh_plain()

    def requires_authentication(self) -> bool:
        return not self.acl.default.needs_no_password

    def note_denial(
        self, session: Session, reason: Reason, subject: bytes, *, context: str = "", user_name: bytes | None = None
    ) -> None:
        self.access.note_denial(session, reason, subject, context=context, user_name=user_name)

    def client_gone(self, client: Client) -> None:
        """The reactor closed the connection: leave every place where the session is known."""
        self.sessions.pop(client.id, None)
        self.client_limit.forget(client)
        parked, client.parked = client.parked, None
        if parked is not None:
            parked.cancel()
        self.unwatch_all(client)
        self.monitors.remove(client)
        self.channels.remove_all(client)
        self.tracking.disable(client)
        self.stopping.forget(client)
        self.replication.session_closed(client.id, client.replica)

    def schedule_write(self, session: Session) -> None:
        self.reactor.schedule_write(session)  # type: ignore[arg-type]

    def close_session(self, session: Session, *, after_reply: bool = False) -> None:
        if session.is_master_link:
            self.replication.link_lost()
            return
        if after_reply:
            session.close_after_reply = True
            session.refresh_plain()
            self.reactor.schedule_write(session)  # type: ignore[arg-type]
        else:
            self.reactor.disconnect(session)  # type: ignore[arg-type]

    def describe_client(self, session: Session) -> str:
        """The session as one line of CLIENT LIST."""
        return describe(session, self.now_ms)  # type: ignore[arg-type]

    def info(self, sections: set[bytes]) -> bytes:
        """The text of INFO for the named sections."""
        from cluster.node.info import info_text

        return info_text(self, sections)

    def memory_overview(self) -> MemoryOverview:
        """What memory is used for."""
        return overview(self)

    def exceeds_output_limit(self, client: Client, now_ms: int) -> bool:
        """True when the client's unsent output is beyond client-output-buffer-limit for its class.

        Not for replicas: the feed, which knows what else waits for them, looks after theirs.
        """
        if client.replica is not None or client.is_master_link:
            return False
        limit = self.settings.client_output_buffer_limit[client.client_type()]
        size = client.unsent_bytes
        if self.exceeds_hard_limit(client, size):
            return True
        if not limit.soft_bytes or size < limit.soft_bytes:
            client.soft_limit_since_ms = None
            return False
        if client.soft_limit_since_ms is None:
            client.soft_limit_since_ms = now_ms
            return False
        return now_ms - client.soft_limit_since_ms > limit.soft_seconds * 1000

    def exceeds_hard_limit(self, client: Client, size: int) -> bool:
        """True when that much unsent output is beyond what the client's class may never exceed."""
        if client.replica is not None or client.is_master_link:
            return False
        hard_bytes = self.settings.client_output_buffer_limit[client.client_type()].hard_bytes
        return 0 < hard_bytes <= size

    def protocol_error(self, client: Client, failure: ProtocolError) -> None:
        """Tell a client that its bytes make no sense, and close."""
        if self.log.level_enabled("verbose"):
            self.log.verbose(f"Protocol error ({failure.message.decode(errors='replace')}) from client: {client.id}")
        message = b"ERR Protocol error: " + failure.message
        self.statistics.count_error(message)
        client.out.append(error(message))
        self.close_session(client, after_reply=True)

    def drop_replying_replica(self, client: Client, reply: bytes) -> None:
        """A replica asked something that has an answer: no replica of ours does that."""
        name = client.last_command.decode("latin-1")
        if reply[:1] == b"-":
            self.statistics.internal_errors += 1
            text = reply[1:].split(b"\r\n", 1)[0].decode("utf-8", "backslashreplace")
            self.log.warning(
                f"== CRITICAL == This master is sending an error to its replica: '{text}' after processing the command "
                f"'{name}'"
            )
        self.log.warning(
            f"Replica generated a reply to command '{name}', disconnecting it: {self.describe_client(client)}"
        )
        self.reactor.disconnect(client)

    def query_buffer_exceeded(self, client: Client) -> None:
        """Drop a client whose unfinished request is larger than client-query-buffer-limit."""
        self.log.warning(
            f"Closing client that reached max query buffer length: {self.describe_client(client)} (qbuf initial bytes:"
            " not shown)"
        )
        self.reactor.disconnect(client)

    def security_warning(self, client: Client) -> None:
        """Somebody speaks HTTP to us: probably a page that attacks through a browser. Close without a word."""
        self.log.warning(
            "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. "
            "This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis "
            f"instance. Connection from {client.address} aborted."
        )
        self.reactor.disconnect(client)

    # Waiting ------------------------------------------------------------------------------------------------

    def park(self, session: Session, parked: Parked) -> None:
        session.parked = parked
        session.refresh_plain()
        if parked.deadline_ms is not None:
            parked.timer = self.timers.call_at(parked.deadline_ms, lambda: self._parked_timeout(session, parked))

    def _parked_timeout(self, session: Session, parked: Parked) -> None:
        if session.parked is parked:
            parked.on_cancel()
            self.unpark(session, parked.on_timeout())

    def unpark(self, session: Session, reply: bytes | None) -> None:
        # What it asked meanwhile must not run in the midst of whatever ended its wait (EXEC, say).
        parked = session.parked
        if parked is not None and parked.timer is not None:
            parked.timer.cancel()
        if parked is not None and parked.kind in UNBLOCKABLE and session.request is not None:
            if self.settings.slowlog_log_slower_than == 0:  # The wait does not count, serving took next to nothing.
                self.slow_log.add(session, session.request, 0)
        session.parked = _RESUMING
        session.request = None
        self._resuming.append(session)
        if reply is not None:
            session.write(reply)
            if session.reply_mode == b"skipping":
                session.reply_mode = b"on"
        self.reactor.request_flush()

    def _resume_unparked(self) -> None:
        """Run what clients asked while they waited (processUnblockedClients)."""
        while self._resuming:
            resuming, self._resuming = self._resuming, []
            for session in resuming:
                if session.parked is _RESUMING:
                    session.parked = None
                    session.refresh_plain()
                    self.dispatcher.resume(session)  # type: ignore[arg-type]

    def unblock_all(self) -> None:
        """The role changed under blocked clients: they are told, and closed, as Redis does."""
        for client in list(self.sessions.values()):
            parked = client.parked
            if parked is not None and parked.kind != "postponed" and parked is not _RESUMING:
                parked.cancel()
                client.parked = None
                client.write(
                    error(
                        b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
                    )
                )
                self.close_session(client, after_reply=True)

    # What the gates ask -------------------------------------------------------------------------------------

    def check_memory(self, client: Client, row: Command, queued_flags: Flag) -> None:
        """maxmemory-clients and maxmemory: refuse what would need more."""
        if self.client_limit.limit_bytes:
            self.client_limit.check(client)
        if self.settings.maxmemory and not self.scripting.is_busy:
            self.memory_limit.check(client, row, queued_flags)

    @property
    def is_out_of_memory(self) -> bool:
        """When the command that runs began, maxmemory was exceeded and nothing could be evicted."""
        return self.memory_limit.is_out_of_memory

    def check_disk(self, client: Client, row: Command, *, is_write: bool) -> None:
        """Refuse writes (and tell PING) while nothing can be made durable."""
        error_text = self.disk_error()
        if error_text is None:
            return
        if not client.is_master_link:
            raise CommandError(error_text)
        if not self.settings.replica_ignore_disk_write_errors and row.name != b"ping":
            panic(self.log, "Replica was unable to write command to disk.")
        if self.now_ms - self._disk_error_logged_ms > DISK_ERROR_LOG_INTERVAL_MS:
            self._disk_error_logged_ms = self.now_ms
            self.log.warning("Replica is applying a command even though it is unable to write to disk.")

    def disk_error(self) -> bytes | None:
        """Why writes are refused, if they are (writeCommandsDeniedByDiskError)."""
        if self.saving.writes_refused:
            return errors.MISCONF
        if self.aof.write_error:
            return b"MISCONF Errors writing to the AOF file: %b" % os.strerror(self.aof.write_error).encode()
        return None

    def has_enough_good_replicas(self) -> bool:
        """min-replicas-to-write."""
        return self.feed.enough_good_replicas()

    def is_subscriber(self, session: Session) -> bool:
        return session.subscriptions is not None and session.proto.version == 2

    def allows_protected(self, client: Client, row: Command) -> bool:
        """enable-debug-command and enable-module-command: no, yes, or local connections only."""
        name = row.name
        allowed = self.settings.enable_debug_command if name == b"debug" else self.settings.enable_module_command
        return allowed == "yes" or (allowed == "local" and self.is_local(client))

    def is_local(self, session: Client) -> bool:
        return session.sock.family == socket.AF_UNIX or session.address.startswith(("127.", "[::1]"))

    def reset_statistics(self) -> None:
        """Forget what INFO counts (CONFIG RESETSTAT)."""
        self.statistics.reset()
        for row in self.commands.all_rows():
            row.reset_statistics()
        keyspace = self.keyspace
        self.memory_limit.reset_statistics()
        RECLAIMER.freed_objects = 0
        keyspace.hits = keyspace.misses = keyspace.expired_keys = keyspace.evicted_keys = 0
        self.aof.reset_statistics()
        self.saving.saver.saves = 0
        self.replication.full_sync.count = 0
        self.replication.sync_partial_ok = self.replication.sync_partial_err = 0

    @staticmethod
    def protected_text(row: Command) -> bytes:
        """How a protected command is refused."""
        name = row.name.partition(b"|")[0]
        return (
            b'ERR %b command not allowed. If the enable-%b-command option is set to "local", you can run it from a '
            b"local connection, otherwise you need to set this option in the configuration file, and then restart the "
            b"server." % (name.upper(), name)
        )

    def routing_policy(self) -> RoutingPolicy:
        """The cluster-allow-* settings, as routing wants them."""
        settings = self.settings
        return RoutingPolicy(settings.cluster_allow_reads_when_down, settings.cluster_allow_pubsubshard_when_down)

    def endpoint_type(self) -> EndpointType:
        """How redirections name nodes."""
        return EndpointType(self.settings.cluster_preferred_endpoint_type)

    def discard_transaction(self, client: Session) -> None:
        """Forget what MULTI queued and what WATCH watches."""
        client.transaction = None
        self.unwatch_all(client)
        client.refresh_plain()

    def unwatch_all(self, client: Session) -> None:
        """Forget every watched key of a client."""
        unwatch_all(client)

    def report_exception(self) -> None:
        """Log the exception that is being handled, which is a bug of ours; the node goes on."""
        import traceback

        self.statistics.internal_errors += 1
        for line in traceback.format_exc().splitlines():
            self.log.warning(line)

    def feed_monitors(self, client: Client, argv: list[bytes]) -> None:
        """Show a request to MONITOR clients."""
        self.monitors.feed(client, argv)

    def run(self, session: Session, row: Command, argv: list[bytes]) -> bytes | None:
        return self.dispatcher.run(session, row, argv)  # type: ignore[arg-type]

    def restart(self, delay_ms: int) -> None:
        """DEBUG RESTART: let a new process with the same arguments take this one's place."""
        self.log.warning("Restarting, as asked by DEBUG")
        self.watchdog.stop()
        self.reactor.close()
        if self.bus is not None:
            self.bus.close()
        time.sleep(delay_ms / 1000)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def request_exit(self) -> None:
        """End the process once the loop gets its turn; everything that had to be done before is done."""
        self.exit_requested.set()
