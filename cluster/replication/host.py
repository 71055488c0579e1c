"""What replication needs from the server around it.

Role        The seams: the sans-IO parts call these protocols, cluster.node implements them, tests fake them. Nothing in
            cluster.replication opens a socket, starts a process or reads a clock; it asks the host.
Invariants  Every call returns at once. ``close_replica`` may come while the caller walks ``feed.replicas``; the host
            reports the end of the connection through ``Replication.session_closed``, at once or later.
Units       ``*_ms`` monotonic milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import attrs

if TYPE_CHECKING:
    from cluster.replication.replica import RdbRequirement, Replica

LogLevel = Literal["debug", "verbose", "notice", "warning"]


@attrs.frozen
class LogLine:
    """A line that a decision wants logged, in Redis's words."""

    level: LogLevel
    text: str


class ReplicaSession(Protocol):
    """The connection of a replica (or of a client that may become one)."""

    id: int
    address: str
    """``ip:port`` of the peer, or the path of a Unix socket."""
    last_active_ms: int
    """When the peer last sent anything."""

    def push(self, data: bytes) -> None:
        """Send bytes, after those pushed before."""

    def output_bytes(self) -> int:
        """How many pushed bytes the kernel has not taken yet."""

    @property
    def unsent(self) -> Sequence[bytes | memoryview]:
        """The pieces that they are in."""


@attrs.frozen
class SaveInfo:
    """The place in the stream that a snapshot stands for, as written into its auxiliary fields."""

    replid: str
    offset: int
    stream_database: int


class FeedHost(Protocol):
    """What the master side needs to serve its replicas."""

    def log(self, level: LogLevel, text: str) -> None:
        """Write a line to the server's log."""

    def flush_soon(self) -> None:
        """Have the step before sleeping done again soon: a replica can be given more as soon as it took what it has."""

    def close_replica(self, replica: Replica) -> None:
        """Disconnect a replica, dropping what it has not read."""

    def describe_session(self, session: ReplicaSession) -> str:
        """The client as CLIENT LIST shows it, for log lines."""

    def feed_activity_changed(self, active: bool) -> None:
        """From now on somebody (or nobody) wants the effects of commands."""

    def writes_paused(self) -> bool:
        """Whether clients are paused now: the stream must stand still then."""

    def manual_failover_in_progress(self) -> bool:
        """Whether a cluster's manual failover holds this master still."""


class SnapshotHost(Protocol):
    """Child processes that write snapshots. At most one child of any kind runs at a time."""

    def child_is_active(self) -> bool:
        """Whether any child process (snapshot, AOF rewrite) runs, or its remains are not dealt with yet."""

    def disk_snapshot_is_running(self) -> bool:
        """Whether that child writes a snapshot file (BGSAVE, or for replicas)."""

    def stream_snapshot_is_running(self) -> bool:
        """Whether that child streams a snapshot to replicas."""

    def start_disk_snapshot(self, info: SaveInfo) -> bool:
        """Fork a child that writes ``dbfilename``; False when that failed (it is logged)."""

    def start_stream_snapshot(self, info: SaveInfo, replicas: list[Replica], requirement: RdbRequirement) -> bool:
        """Fork a child whose snapshot, framed by an EOF mark, goes to these replicas as it is made."""

    def send_snapshot_file(self, replica: Replica) -> bool:
        """Begin to send the finished snapshot file; False when it cannot be opened (it is logged)."""

    def remove_snapshot_file(self) -> None:
        """Delete ``dbfilename``: it exists only because replicas needed it."""

    def delay_small_packets(self, replica: Replica) -> None:
        """Switch TCP_NODELAY off for this connection (repl-disable-tcp-nodelay)."""

    def kill_snapshot_child(self) -> None:
        """Stop the child: nobody waits for its snapshot any more."""

    def close_when_sent(self, replica: Replica) -> None:
        """Disconnect once everything pushed so far has left."""

    def refuse_replica(self, replica: Replica, message: bytes) -> None:
        """Answer ``-message`` and disconnect: there will be no snapshot."""


class RoleHost(Protocol):
    """What a change of role, or of master, means for the rest of the server."""

    def connect_to_master(self) -> None:
        """Begin to connect to ``state.master_host``; the link goes on by itself."""

    def drop_master_link(self) -> None:
        """Close the connection to the master, whatever its state; nothing more is heard from it."""

    def notice_end_of_link(self) -> None:
        """If the master has hung up and we were not told yet, deal with it now: somebody asks."""

    def send_to_master(self, data: bytes) -> None:
        """Send bytes over the established link; ignored when there is none."""

    def role_changed(self) -> None:
        """``state.is_replica`` or ``state.serves_fresh_data`` may have changed: expiry and the gates depend on them."""

    def unblock_clients(self) -> None:
        """We became a replica: clients that wait for data or for replicas get -UNBLOCKED."""

    def pause_writes(self) -> None:
        """Hold writes back until :meth:`resume_writes`, for a coordinated failover."""

    def resume_writes(self) -> None:
        """End that pause."""


class ReplicationHost(FeedHost, SnapshotHost, RoleHost, Protocol):
    """Everything together: what cluster.node provides."""
