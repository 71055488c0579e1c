"""One replica as its master sees it.

Role        The record behind ``slave0:ip=…`` in INFO: what the replica announced, how far its synchronisation is,
            what it acknowledged, and where in the stream it reads.
Invariants  ``cursor`` is the offset of the next stream byte to hand to the connection; it is None exactly while the
            replica gets no stream (waiting for a snapshot to begin, or wanting nothing but the snapshot).
Source      Redis 7.0 server.h (SLAVE_STATE_*, client.slave_*).
Units       ``*_ms`` monotonic milliseconds; offsets in bytes.
"""

from __future__ import annotations

import enum

import attrs

from cluster.replication.host import ReplicaSession


class ReplicaState(enum.Enum):
    """How far a replica's synchronisation is."""

    WAIT_BGSAVE_START = enum.auto()
    WAIT_BGSAVE_END = enum.auto()
    SEND_BULK = enum.auto()
    ONLINE = enum.auto()
    RDB_TRANSMITTED = enum.auto()
    """The snapshot is all it wanted; about to be disconnected."""

    @property
    def info_name(self) -> str:
        """The word in INFO; empty: the replica is not listed."""
        return _INFO_NAMES[self]


_INFO_NAMES = {
    ReplicaState.WAIT_BGSAVE_START: "wait_bgsave",
    ReplicaState.WAIT_BGSAVE_END: "wait_bgsave",
    ReplicaState.SEND_BULK: "send_bulk",
    ReplicaState.ONLINE: "online",
    ReplicaState.RDB_TRANSMITTED: "",
}


class Capability(enum.Flag):
    """What a replica said it understands (REPLCONF capa)."""

    NONE = 0
    EOF = enum.auto()
    PSYNC2 = enum.auto()


class RdbRequirement(enum.Flag):
    """What a replica wants left out of its snapshot (REPLCONF rdb-filter-only)."""

    NONE = 0
    EXCLUDE_DATA = enum.auto()
    EXCLUDE_FUNCTIONS = enum.auto()


@attrs.define
class Announcement:
    """What a connection told with REPLCONF, before or while being a replica."""

    listening_port: int = 0
    ip: str = ""
    capabilities: Capability = Capability.NONE
    requirement: RdbRequirement = RdbRequirement.NONE
    rdb_only: bool = False


@attrs.define(eq=False)
class Replica:
    """A connection that sent PSYNC or SYNC."""

    session: ReplicaSession
    announced: Announcement
    state: ReplicaState
    since_ms: int
    """When it asked: the diskless delay counts from here."""
    ack_ms: int
    """When it last gave a sign of life that counts for lag and time-out."""
    acknowledged_offset: int = 0
    initial_offset: int = 0
    """The offset that +FULLRESYNC named."""
    cursor: int | None = None
    pre_psync: bool = False
    """It used SYNC: it knows no offsets and never acknowledges, so it is never timed out for silence."""
    start_stream_on_ack: bool = False
    """The snapshot was streamed; its end is recognised more simply if nothing follows before the replica says ACK."""
    acknowledged_early: bool = False
    """It has loaded its snapshot before we knew that the snapshot was complete."""
    soft_limit_since_ms: int | None = None
    partial_write_since_ms: int | None = None
    """Diskless: since when the replica has not taken the bytes that all the others wait to go past."""
    leaving: bool = False
    """Its disconnection has been ordered."""

    @property
    def host(self) -> str:
        """Where the replica can be reached, as announced or else as connected."""
        return self.announced.ip or peer_ip(self.session.address)

    @property
    def name(self) -> str:
        """The replica in log lines: ``ip:port``, by its listening port."""
        return replica_name(self.session, self.announced)

    @property
    def is_synchronising(self) -> bool:
        """Whether it is on its way through a full synchronisation."""
        return self.state in (ReplicaState.WAIT_BGSAVE_START, ReplicaState.WAIT_BGSAVE_END, ReplicaState.SEND_BULK)


def peer_ip(address: str) -> str:
    """The host part of ``ip:port`` (an IPv6 address may stand in brackets); a Unix socket's path as it is."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit():
        return address
    return host.removeprefix("[").removesuffix("]")


def replica_name(session: ReplicaSession, announced: Announcement) -> str:
    """A connection's name in log lines, also before it is a replica."""
    host = announced.ip or peer_ip(session.address)
    if not host:
        return f"client id #{session.id}"
    if not announced.listening_port:
        return f"{host}:<unknown-replica-port>"
    return f"[{host}]:{announced.listening_port}" if ":" in host else f"{host}:{announced.listening_port}"
