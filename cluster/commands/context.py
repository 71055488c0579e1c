"""What a command handler sees: the client that asked (:class:`Session`) and the server (:class:`ServerContext`).

Both are completed in cluster/node (the socket, the process); nothing here knows about sockets or trio. A handler gets
the session as its first argument and reaches everything else through ``client.server`` and ``client.db``.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from cluster.keyspace.database import Database, Keyspace
from cluster.resp.encode import RESP2, Encoder
from cluster.settings import Settings

if TYPE_CHECKING:
    from cluster.acl.access import AccessControl
    from cluster.acl.checks import Reason
    from cluster.acl.users import User
    from cluster.commands.blocking import BlockingTable
    from cluster.commands.channels import ChannelTable, Subscriptions
    from cluster.commands.registry import Command, CommandTable
    from cluster.commands.statistics import Statistics
    from cluster.commands.tracking import Tracking, TrackingTable
    from cluster.commands.transactions import WatchTable
    from cluster.failover.engine import ClusterEngine
    from cluster.gossip.bus import ClusterBus
    from cluster.gossip.state import ClusterState
    from cluster.persistence.aof import AppendOnlyFile
    from cluster.replication.feed import ReplicationFeed
    from cluster.replication.manager import Replication
    from cluster.replication.state import ReplicationState


REPLY_BUFFER_KEPT_MS: Final = 5000  # REPLY_BUFFER_DEFAULT_PEAK_RESET_TIME
"""After how long without a request Redis shrinks a client's reply buffer."""


class Transaction:
    """The commands queued since MULTI."""

    __slots__ = ("broken", "queue")

    def __init__(self) -> None:
        self.queue: list[tuple[Command, list[bytes]]] = []
        self.broken = False
        """A command was refused while queueing: EXEC answers EXECABORT (CLIENT_DIRTY_EXEC)."""


UNBLOCKABLE: Final = frozenset({"wait", "list", "zset", "stream"})
"""The kinds of :class:`Parked` that CLIENT UNBLOCK may end: those whose time-out has a reply."""


@attrs.define(eq=False)
class Parked:
    """Why a client waits, and how the wait may end.

    ``on_timeout`` gives the encoded reply when ``deadline_ms`` (monotonic, None: never) passes; ``on_cancel`` is called
    when the wait ends for another reason (the client left, CLIENT UNBLOCK, failover), to leave the queues it stands in.
    """

    kind: str
    """What it waits for: ``wait``, ``list``, ``zset``, ``stream`` (UNBLOCKABLE), ``postponed`` (the end of a pause), or
    ``resuming``: for nothing any more, it goes on before the loop sleeps."""
    deadline_ms: int | None
    on_timeout: Callable[[], bytes | None]
    on_cancel: Callable[[], None] = lambda: None
    keys: tuple[bytes, ...] = ()
    timer: Any = attrs.field(default=None, init=False)
    """Ends the wait at ``deadline_ms``; set by :meth:`ServerContext.park`."""

    def cancel(self) -> None:
        """The wait ends for another reason than its time-out."""
        if self.timer is not None:
            self.timer.cancel()
        self.on_cancel()


class Session:
    """One client as commands see it. The connection itself is cluster.node.client.Client."""

    __slots__ = (
        "address",
        "asking",
        "authenticated",
        "close_after_reply",
        "created_ms",
        "db",
        "effects",
        "executing",
        "has_big_output",
        "id",
        "in_exec",
        "is_master_link",
        "is_monitor",
        "is_script",
        "last_active_ms",
        "last_command",
        "lib_name",
        "lib_version",
        "local_address",
        "name",
        "no_evict",
        "no_touch",
        "out",
        "parked",
        "plain",
        "prevent_propagation",
        "proto",
        "queued",
        "readonly",
        "redacted",
        "replica",
        "reply_mode",
        "request",
        "server",
        "slot",
        "subscriptions",
        "tracking",
        "transaction",
        "user",
        "watch_broken",
        "watching",
        "write_offset",
    )

    def __init__(self, server: ServerContext, session_id: int) -> None:
        self.server = server
        self.id = session_id
        self.db: Database = server.keyspace.databases[0]
        self.proto: Encoder = RESP2
        self.slot = 0
        """Hash slot of the request's first key, computed once by the dispatcher."""
        self.out: list[bytes] = []
        """Encoded replies of this pass; the reactor sends them in one piece."""
        self.has_big_output = False
        """``out`` holds values as they are stored: to be sent from there, not joined to one piece."""
        self.plain = False
        """The hot path's one question about this client, see :meth:`refresh_plain`."""
        self.name = b""
        self.lib_name = b""
        self.lib_version = b""
        self.user: User = server.acl.default
        self.authenticated = False
        self.asking = False
        self.readonly = False
        self.in_exec = False
        self.transaction: Transaction | None = None
        self.executing: Transaction | None = None
        """The transaction that EXEC is running: CLIENT LIST and ACL LOG show it as one that is still open."""
        self.watching: list[tuple[Database, bytes, bool]] = []
        """(database, key, was already expired when WATCH was called)"""
        self.watch_broken = False
        """A watched key changed: EXEC answers null (CLIENT_DIRTY_CAS)."""
        self.effects: list[list[bytes]] | None = None
        """What to replicate instead of the request; None: the request itself; []: nothing. Reset per command."""
        self.prevent_propagation = False
        self.request: list[bytes] | None = None
        """What is being run past the gates, or what it waits for; None between requests, and always on the hot path."""
        self.redacted: list[bytes] | None = None
        """How MONITOR and SLOWLOG show the command that is running, where it holds a secret. Reset after it."""
        self.reply_mode = b"on"
        """on, off, skip (drop the reply of the next command), skipping (that next command is running)."""
        self.replica: Any = None
        """The replica's record (cluster.replication.feed) once it sent PSYNC/SYNC; None for ordinary clients."""
        self.is_master_link = False
        self.is_monitor = False
        self.is_script = False
        """The session whose commands are those that scripts run."""
        self.subscriptions: Subscriptions | None = None
        """What it is subscribed to; None: to nothing."""
        self.tracking: Tracking | None = None
        """What CLIENT TRACKING asked for; None: it is off."""
        self.no_evict = False
        self.no_touch = False
        self.parked: Parked | None = None
        self.queued: deque[list[bytes]] = deque()
        """Requests that were read but must wait, because the client is parked."""
        self.close_after_reply = False
        self.write_offset = 0
        """Replication offset right after this client's last write: what WAIT waits for."""
        self.last_command = b"NULL"
        self.created_ms = 0
        self.last_active_ms = 0
        self.address = ""
        self.local_address = ""

    def write(self, data: bytes) -> None:
        """Add encoded bytes to the output, unless CLIENT REPLY says not to."""
        if self.reply_mode == b"on":
            self.out.append(data)
            self.server.schedule_write(self)

    def push(self, data: bytes) -> None:
        """Add an out-of-band message: like write, but not subject to CLIENT REPLY."""
        self.out.append(data)
        self.server.schedule_write(self)

    def begin_command(self) -> None:
        """Forget how the command before was to be replicated."""
        self.effects = None
        self.prevent_propagation = False

    def redact(self, argv: list[bytes], *positions: int) -> None:
        """Keep the arguments at ``positions`` of the running command out of MONITOR and SLOWLOG."""
        if self.redacted is None:
            self.redacted = list(argv)
        for position in positions:
            self.redacted[position] = b"(redacted)"

    def is_blocked(self) -> bool:
        """True while a command of this client waits for something."""
        return self.parked is not None and self.parked.kind != "resuming"

    def client_type(self) -> str:
        """normal, pubsub, replica or master: the class of CLIENT LIST TYPE, CLIENT KILL TYPE and the output limits."""
        if self.is_master_link:
            return "master"
        if self.replica is not None:
            return "replica"
        return "normal" if self.subscriptions is None else "pubsub"

    def refresh_plain(self) -> None:
        """Decide again whether requests may take the hot path; call after changing any state named here."""
        self.plain = (
            self.authenticated
            and self.user.is_unrestricted
            and self.transaction is None
            and not self.asking
            and not self.readonly
            and not self.no_touch
            and self.reply_mode == b"on"
            and self.replica is None
            and not self.is_master_link
            and not self.is_monitor
            and self.tracking is None
            and (self.subscriptions is None or self.proto.version > 2)
            and self.parked is None
            and not self.close_after_reply
        )


class MigrateConnection(Protocol):
    """A blocking connection to the target of MIGRATE (cluster.node.migrate_connections)."""

    selected_database: int | None
    """The database that the connection is known to have selected."""

    def send(self, data: bytes, timeout_ms: int) -> None:
        """Write everything. Raises OSError, TimeoutError among them."""

    def read_line(self, timeout_ms: int) -> bytes:
        """The next line without its end. Raises OSError, TimeoutError among them."""
        ...


class MigrateTargets(Protocol):
    """The connections that MIGRATE keeps."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def get(self, host: bytes, port: bytes, timeout_ms: int, now_ms: int) -> MigrateConnection:
        """A connection to a target, new or kept from before. Raises OSError."""
        ...

    def close(self, host: bytes, port: bytes) -> None:
        """Drop the connection to a target."""

    def close_idle(self, now_ms: int) -> None:
        """Drop what was not used for a while; to be called about once a second."""


class ServerContext(ABC):
    """The server as commands see it; implemented by cluster.node.server.Server."""

    settings: Settings
    config: Any
    """cluster.node.config.Config: get/set/rewrite of directives."""
    keyspace: Keyspace
    commands: CommandTable
    scripting: Any
    """cluster.node.script_host.Scripting: scripts, functions, and the one that runs."""
    acl: AccessControl
    """Users and what they may do; its ``check`` is the one question."""
    access: Any
    """cluster.node.access_host.AccessHost: the users' file (ACL LOAD, ACL SAVE)."""
    watches: WatchTable
    blocking: BlockingTable
    """Clients that wait for keys."""
    channels: ChannelTable
    """Who is subscribed to what."""
    tracking: TrackingTable
    """Client-side caching."""
    cluster: ClusterState | None
    """The cluster as this node sees it, or None when cluster mode is off."""
    engine: ClusterEngine | None
    bus: ClusterBus | None
    """The shell around the engine: performs its effects, saves nodes.conf."""
    replication: Replication
    replication_state: ReplicationState
    """``replication.state``, for the gates."""
    feed: ReplicationFeed
    """``replication.feed``, for the gates."""
    migrate_connections: MigrateTargets
    sessions: dict[int, Any]
    """Every connected client by id."""
    rng: random.Random
    log: Any
    run_id: str
    statistics: Statistics
    has_loose_ends: bool
    """To be set by what leaves work for the step before sleeping, of the bus or of replication."""
    aof: AppendOnlyFile
    aof_role: Any
    """cluster.node.append_only.AofRole: DEBUG LOADAOF."""
    pauses: Any
    """cluster.node.pauses.ClientPauses: CLIENT PAUSE."""
    stopping: Any
    """cluster.node.stopping.Stopping: SHUTDOWN."""
    saving: Any
    """cluster.node.saving.Saving: SAVE, BGSAVE and what INFO says of them."""
    slow_log: Any
    latency: Any
    """cluster.node.latency_monitor.LatencyMonitor."""
    monitors: Any
    memory: Any
    """cluster.node.memory.MemoryMeter: how much is used."""
    collector: Any
    """cluster.node.collector.Collector: when cycles are looked for."""
    cron: Any
    active_expire: bool
    reply_buffer_kept_ms: int | None
    """After how long without a request Redis would have shrunk a client's reply buffer; None: never."""
    skip_checksum_validation: bool
    loading: bool

    @property
    @abstractmethod
    def is_out_of_memory(self) -> bool:
        """maxmemory was exceeded, and nothing could be evicted, when the command that runs began."""

    @abstractmethod
    def schedule_write(self, session: Session) -> None:
        """See that the session's output is sent before the loop sleeps."""

    @abstractmethod
    def close_session(self, session: Session, *, after_reply: bool = False) -> None:
        """Disconnect a client; with ``after_reply``, once everything written has been sent."""

    @abstractmethod
    def exceeds_hard_limit(self, session: Any, size: int) -> bool:
        """True when that much unsent output is beyond what the client's class may never exceed."""

    @abstractmethod
    def park(self, session: Session, parked: Parked) -> None:
        """Let a client wait: its further requests queue up until :meth:`unpark`."""

    @abstractmethod
    def unpark(self, session: Session, reply: bytes | None) -> None:
        """End a wait: send ``reply`` (if any); the client's queued requests run before the loop sleeps."""

    @abstractmethod
    def run(self, session: Session, row: Command, argv: list[bytes]) -> bytes | None:
        """Run one command that passed the gates (EXEC's queue, scripts), with statistics and effects."""

    @abstractmethod
    def is_local(self, session: Any) -> bool:
        """True for a client on this machine: what \"local\" means in enable-debug-command and its like."""

    @abstractmethod
    def restart(self, delay_ms: int) -> None:
        """Let a new process with the same arguments take this one's place."""

    @abstractmethod
    def reset_statistics(self) -> None:
        """CONFIG RESETSTAT."""

    @abstractmethod
    def describe_client(self, session: Session) -> str:
        """The session as one line of CLIENT LIST."""

    @abstractmethod
    def set_authenticated(self, session: Any, *, authenticated: bool) -> None:
        """Log a client in or out (as ``session.user``, to be set before), the parser's limits included."""

    @abstractmethod
    def requires_authentication(self) -> bool:
        """Whether a client that has not authenticated is refused: while the default user has a password, or is off."""

    @abstractmethod
    def note_denial(
        self, session: Session, reason: Reason, subject: bytes, *, context: str = "", user_name: bytes | None = None
    ) -> None:
        """An entry for ACL LOG; ``context`` as it shows there, by default toplevel or, while MULTI queues, multi."""

    @abstractmethod
    def is_subscriber(self, session: Session) -> bool:
        """True for a RESP2 client that has subscribed: it may only use the Pub/Sub commands, and its PING differs."""

    @abstractmethod
    def info(self, sections: set[bytes]) -> bytes:
        """The text of INFO for the named sections (lower case; default, all and everything are known too)."""

    @abstractmethod
    def memory_overview(self) -> Any:
        """What memory is used for: a cluster.node.memory.MemoryOverview."""

    @abstractmethod
    def refresh_plain(self) -> None:
        """Decide again whether the server as a whole allows the hot path."""
