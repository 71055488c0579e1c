"""Who this server is in a replication chain: role, history (replication ids and offsets), and the link to its master.

Role        The record that every other part of replication reads and changes; no I/O, no clock.
Invariants  ``master_host is None`` means "I am a master". ``replid`` plus ``master_repl_offset`` name a point in one
            history of the data set; ``replid2`` names the same history under its former name, valid for requests up to
            ``second_repl_offset``. At most one of ``master`` (live link) and ``cached_master`` (a lost link that may be
            taken up again) is set.
Source      Redis 7.0 replication.c (shiftReplicationId, replicationCacheMaster…), server.h.
Units       ``*_ms`` monotonic milliseconds; offsets in bytes.
"""

from __future__ import annotations

import enum
from random import Random

import attrs

REPLICATION_ID_LENGTH = 40
NO_REPLICATION_ID = "0" * REPLICATION_ID_LENGTH
NO_OFFSET = -1


class LinkState(enum.IntEnum):
    """How far the link to our master has come; the order is the order of the handshake."""

    NONE = 0
    CONNECT = 1
    CONNECTING = 2
    RECEIVE_PING_REPLY = 3
    SEND_HANDSHAKE = 4
    RECEIVE_AUTH_REPLY = 5
    RECEIVE_PORT_REPLY = 6
    RECEIVE_IP_REPLY = 7
    RECEIVE_CAPA_REPLY = 8
    SEND_PSYNC = 9
    RECEIVE_PSYNC_REPLY = 10
    TRANSFER = 11
    CONNECTED = 12

    @property
    def is_handshake(self) -> bool:
        return LinkState.RECEIVE_PING_REPLY <= self <= LinkState.RECEIVE_PSYNC_REPLY

    @property
    def role_name(self) -> str:
        """The word that ROLE uses for this state."""
        return "handshake" if self.is_handshake else _ROLE_NAMES[self]


_ROLE_NAMES = {
    LinkState.NONE: "none",
    LinkState.CONNECT: "connect",
    LinkState.CONNECTING: "connecting",
    LinkState.TRANSFER: "sync",
    LinkState.CONNECTED: "connected",
}


class FailoverState(enum.Enum):
    """Progress of the FAILOVER command; the values are what INFO shows."""

    NONE = "no-failover"
    WAIT_FOR_SYNC = "waiting-for-sync"
    IN_PROGRESS = "failover-in-progress"


@attrs.define
class MasterClient:
    """What has to survive of a link to a master for a partial resynchronisation."""

    replid: str
    applied_offset: int
    """Offset of the last byte of the stream whose command has been executed here."""
    read_offset: int
    """Offset of the last byte received; the difference is an incomplete command or an open MULTI."""
    last_interaction_ms: int
    database: int = 0
    """The database that the stream has selected."""

    @property
    def acknowledges(self) -> bool:
        """False for a master that knows no offsets (the old SYNC protocol), which must not be sent any ACK."""
        return self.applied_offset != NO_OFFSET


@attrs.define
class Transfer:
    """A snapshot on its way from our master."""

    started_ms: int
    last_io_ms: int
    total_bytes: int = -1
    """-1: the header has not arrived; 0: a stream of unknown length."""
    read_bytes: int = 0


@attrs.define
class ReplicationState:
    """The replication record of one server."""

    random: Random = attrs.field(repr=False)
    replid: str = ""
    replid2: str = NO_REPLICATION_ID
    master_repl_offset: int = 0
    second_repl_offset: int = NO_OFFSET

    master_host: str | None = None
    master_port: int = 0
    link: LinkState = LinkState.NONE
    master: MasterClient | None = None
    cached_master: MasterClient | None = None
    transfer: Transfer | None = None
    link_last_io_ms: int = 0
    """While connecting or shaking hands: when the master last gave a sign of life."""
    down_since_ms: int | None = None
    """When a link that had been up was lost; None before the first and while up."""

    failover: FailoverState = FailoverState.NONE
    failover_deadline_ms: int | None = None

    def __attrs_post_init__(self) -> None:
        if not self.replid:
            self.change_replication_id()

    @property
    def is_replica(self) -> bool:
        return self.master_host is not None

    @property
    def link_up(self) -> bool:
        return self.link is LinkState.CONNECTED

    @property
    def serves_fresh_data(self) -> bool:
        """False for a replica without its master: what it has may be old (MASTERDOWN, refused PSYNC)."""
        return self.master_host is None or self.link is LinkState.CONNECTED

    @property
    def replica_offset(self) -> int:
        """How much of its master's stream this replica has processed; 0 for a master."""
        if self.master_host is None:
            return 0
        client = self.master or self.cached_master
        return max(client.applied_offset, 0) if client is not None else 0

    # --- histories ---------------------------------------------------------------------------------------------------

    def change_replication_id(self) -> None:
        """Start a new history: nobody who followed the old one may continue with this server."""
        self.replid = new_replication_id(self.random)

    def clear_replication_id2(self) -> None:
        self.replid2 = NO_REPLICATION_ID
        self.second_repl_offset = NO_OFFSET

    def shift_replication_id(self) -> str:
        """Start a new history that is a continuation of the present one; the text to log.

        A replica that becomes master does this: those who shared its history up to here may continue with it. They ask
        for the first byte they lack, hence the limit is one more than the offset.
        """
        self.replid2 = self.replid
        self.second_repl_offset = self.master_repl_offset + 1
        self.change_replication_id()
        return (
            f"Setting secondary replication ID to {self.replid2}, valid up to offset: {self.second_repl_offset}. "
            f"New replication ID is {self.replid}"
        )

    # --- links -------------------------------------------------------------------------------------------------------

    def cache_master_using_myself(self, now_ms: int, database: int = 0) -> None:
        """Remember our own history as if it were a master's: our next master may have been our replica.

        The database does not matter then, because a promoted master starts its stream with SELECT; it does after a
        restart, when the history comes from a snapshot.
        """
        self.master = None
        self.cached_master = MasterClient(
            replid=self.replid,
            applied_offset=self.master_repl_offset,
            read_offset=self.master_repl_offset,
            last_interaction_ms=now_ms,
            database=database,
        )

    def cache_master(self) -> None:
        """The live link is gone: keep what a partial resynchronisation needs, drop what was not applied."""
        if self.master is None:
            return
        self.master.read_offset = self.master.applied_offset
        self.cached_master, self.master = self.master, None

    def resurrect_cached_master(self, now_ms: int) -> None:
        """The master accepted a partial resynchronisation: go on where the cached link stopped."""
        assert self.cached_master is not None
        self.master, self.cached_master = self.cached_master, None
        self.master.last_interaction_ms = now_ms
        self.link = LinkState.CONNECTED
        self.down_since_ms = None

    def adopt_full_sync(self, replid: str, offset: int, database: int, now_ms: int) -> None:
        """The master's snapshot is loaded: its history is now ours, and there is no earlier one."""
        self.master = MasterClient(
            replid=replid,
            applied_offset=offset,
            read_offset=offset,
            last_interaction_ms=now_ms,
            database=database,
        )
        self.cached_master = None
        self.transfer = None
        self.link = LinkState.CONNECTED
        self.down_since_ms = None
        if offset == NO_OFFSET:
            # A master that names no history (the old protocol): ours begins here.
            self.change_replication_id()
        else:
            self.replid = replid
            self.master_repl_offset = offset
        self.clear_replication_id2()

    def adopt_continued_history(self, new_replid: str) -> bool:
        """Our master goes on under ``new_replid``; whether that is a change that our own replicas must hear of."""
        assert self.cached_master is not None
        if new_replid == self.cached_master.replid:
            return False
        self.replid2 = self.cached_master.replid
        self.second_repl_offset = self.master_repl_offset + 1
        self.replid = new_replid
        self.cached_master.replid = new_replid
        return True


def new_replication_id(random: Random) -> str:
    """40 random lower-case hexadecimal digits."""
    return f"{random.getrandbits(160):040x}"


def is_replication_id(text: str) -> bool:
    return len(text) == REPLICATION_ID_LENGTH
